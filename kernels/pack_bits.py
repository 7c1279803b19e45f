"""Levels of 1 to 8 bits without gaps: on GPU arrays kernels/cuda/pack_bits.cuh, on NumPy arrays its twins.

A picture's levels follow one another row by row, most significant bit first; the unused last bits of its last byte are
0. These are the bytes of the containers.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bdflow_rt.errors import ArgumentError, ShapeError, check_whole
from bdflow_rt.kernels.arrays import BYTES, check_array, check_contiguous, check_result, check_shape, whole_number
from bdflow_rt.kernels.compile import Kernel
from bdflow_rt.kernels.device import Output, run
from bdflow_rt.kernels.launch import Launch, address

_GROUP = 8
"""Levels per thread: the fewest that fill whole bytes at every number of bits."""
_BLOCK = 1 << 20
"""Levels per step on the CPU; a multiple of 8, so each step ends on a whole byte. Bounds the memory to 8 bytes each."""
KERNELS = tuple(
    Kernel("pack_bits.cuh", f"bdflow::{name}<{bits}>") for name in ("pack_bits", "unpack_bits") for bits in range(1, 9)
)


def pack_bits(levels: Any, *, bits: int, out: Any = None, stream: Any = None) -> Any:
    """Pack levels of 1 to 8 bits without gaps, into the bytes that the containers hold.

    Args:
        levels: (N, h, w) uint8, contiguous, below 2^bits, NumPy's or on the GPU.
        bits: per level, 1 to 8.
        out: contiguous array for the bytes, on the same side; None allocates one.
        stream: CUDA stream to work on: of CuPy, PyTorch or PyCUDA, or its address; None is the current one.

    Returns:
        (N, ceil(h*w*bits/8)) uint8, row-major, most significant bit first; unused last bits are 0.

    Raises:
        ShapeError, EmptyImageError, DTypeError, LayoutError, ArrayTooLargeError, ArgumentError: as `check_pack_bits`,
            or of `out`. ArgumentError also for a NumPy level of 2^bits or more; on a GPU its low bits are kept,
            since looking at the values would make the host wait.
        OverlapError, DeviceMismatchError, BackendUnavailableError: as `haar_forward`.
    """
    bits = whole_number("bits", bits)
    check, plan, twin = (
        functools.partial(function, bits=bits) for function in (check_pack_bits, pack_bits_launch, pack_bits_reference)
    )
    return run({"levels": levels}, {"out": out}, stream, check=check, plan=plan, twin=twin)[0]


def unpack_bits(packed: Any, *, bits: int, height: int, width: int, out: Any = None, stream: Any = None) -> Any:
    """Undo `pack_bits`; unused last bits are ignored.

    Args:
        packed: (N, ceil(height*width*bits/8)) uint8, contiguous, NumPy's or on the GPU.
        bits: per level, 1 to 8.
        height, width: of a picture.
        out, stream: as for `pack_bits`.

    Returns:
        (N, height, width) uint8, below 2^bits.

    Raises:
        ShapeError, EmptyImageError, DTypeError, LayoutError, ArrayTooLargeError, ArgumentError: as
            `check_unpack_bits`, or of `out`.
        OverlapError, DeviceMismatchError, BackendUnavailableError: as `haar_forward`.
    """
    bits, height, width = (
        whole_number(name, value) for name, value in (("bits", bits), ("height", height), ("width", width))
    )
    check, twin = (
        functools.partial(function, bits=bits, height=height, width=width)
        for function in (check_unpack_bits, unpack_bits_reference)
    )
    plan = functools.partial(unpack_bits_launch, bits=bits)
    return run({"packed": packed}, {"out": out}, stream, check=check, plan=plan, twin=twin)[0]


def pack_bits_reference(levels: NDArray[np.uint8], *, bits: int) -> NDArray[np.uint8]:
    """NumPy twin of `pack_bits`, but that it refuses levels of which the kernel keeps the low bits.

    Raises:
        ArgumentError: a level is 2^bits or more. All else was checked.
    """
    if (largest := int(levels.max())) >> bits:
        raise ArgumentError(
            f"levels has the value {largest}; {bits} bits hold 0 to {2**bits - 1}. Quantise to fewer levels, or pack "
            "with more bits."
        )
    return np.stack([pack_picture(picture, bits=bits) for picture in levels])


def unpack_bits_reference(packed: NDArray[np.uint8], *, bits: int, height: int, width: int) -> NDArray[np.uint8]:
    """NumPy twin of `unpack_bits`. Its arguments were checked."""
    return np.stack([unpack_picture(data, bits=bits, height=height, width=width) for data in packed])


def pack_picture(levels: NDArray[np.uint8], *, bits: int) -> NDArray[np.uint8]:
    """The bytes of (h, w) uint8 levels below 2^bits, of any size; nothing is checked."""
    flat = levels.reshape(-1, 1)
    packed = np.empty(packed_size(flat.size, bits), np.uint8)
    for start in range(0, flat.size, _BLOCK):
        block = np.packbits(np.unpackbits(flat[start : start + _BLOCK], axis=1)[:, 8 - bits :])
        packed[start * bits // 8 :][: block.size] = block
    return packed


def unpack_picture(packed: NDArray[np.uint8], *, bits: int, height: int, width: int) -> NDArray[np.uint8]:
    """Undo `pack_picture`; unused last bits are ignored, and nothing is checked."""
    levels = np.empty(height * width, np.uint8)
    for start in range(0, levels.size, _BLOCK):
        block = levels[start : start + _BLOCK]
        binary = np.unpackbits(packed[start * bits // 8 :], count=block.size * bits)
        block[:] = np.packbits(binary.reshape(-1, bits), axis=1)[:, 0] >> (8 - bits)
    return levels.reshape(height, width)


def packed_size(pixels: int, bits: int) -> int:
    """Bytes that `pixels` levels of `bits` bits take."""
    return (pixels * bits + 7) // 8


def pack_bits_launch(levels: Any, out: Any, *, bits: int) -> Launch:
    """The launch that packs `levels` into `out`, contiguous, of `packed_shape`; both were checked."""
    return _launch("pack_bits", levels, out, (levels, out), bits)


def unpack_bits_launch(packed: Any, out: Any, *, bits: int) -> Launch:
    """The launch that unpacks into `out`, contiguous, (N, height, width); both were checked."""
    return _launch("unpack_bits", out, packed, (packed, out), bits)


def packed_shape(count: int, height: int, width: int, *, bits: int) -> tuple[int, int]:
    """Of the bytes of N pictures of height x width."""
    return count, packed_size(height * width, bits)


def check_pack_bits(levels: Any, *, bits: int) -> list[Output]:
    """Refuse what `pack_bits` does not take, and return what its output has to be; values are not looked at.

    Raises:
        ShapeError, EmptyImageError, DTypeError: levels are not (N, h, w) uint8, or empty.
        ArrayTooLargeError: more than 2^31 - 1 elements.
        LayoutError: levels are not contiguous.
        ArgumentError: bits is not 1 to 8.
    """
    check_whole("bits", bits, 1, 8)
    check_array("levels", levels, axes="(N, h, w)", dtypes=BYTES)
    check_contiguous("levels", levels)
    return [Output(packed_shape(*levels.shape, bits=bits), np.dtype(np.uint8))]


def check_unpack_bits(packed: Any, *, bits: int, height: int, width: int) -> list[Output]:
    """Refuse what `unpack_bits` does not take, and return what its output has to be.

    Raises:
        ShapeError, EmptyImageError, DTypeError: packed is not (N, bytes) uint8, or has not as many bytes as height x
            width levels take, or there are none.
        ArrayTooLargeError: more than 2^31 - 1 bytes or levels.
        LayoutError: packed is not contiguous.
        ArgumentError: bits is not 1 to 8.
    """
    check_whole("bits", bits, 1, 8)
    check_array("packed", packed, axes="(N, bytes)", dtypes=BYTES)
    if height < 1 or width < 1:
        raise ShapeError(f"A picture of {height} x {width} has no levels; both must be at least 1.")
    check_shape("packed", packed, packed_shape(packed.shape[0], height, width, bits=bits))
    shape = packed.shape[0], height, width
    check_result("out", shape)
    check_contiguous("packed", packed)
    return [Output(shape, np.dtype(np.uint8))]


def _launch(name: str, levels: Any, packed: Any, arrays: tuple[Any, Any], bits: int) -> Launch:
    n, height, width = levels.shape
    pixels = height * width
    aligned = address(levels) % _GROUP == 0 and (n == 1 or pixels % _GROUP == 0)
    kernel = Kernel("pack_bits.cuh", f"bdflow::{name}<{bits}>")
    arguments = *arrays, *map(np.int32, (n, pixels, packed.shape[1], aligned))
    return Launch.over(kernel, -(-pixels // _GROUP), n, arguments)
