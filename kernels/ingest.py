"""From decoded frames to first-level Haar planes: on GPU arrays kernels/cuda/ingest.cuh, on NumPy arrays its twins.

Frames are padded at the bottom and right by replication to a multiple of `multiple`, the model's scale, so the planes
of an H x W frame are h x w with h = ceil(H/multiple)*multiple/2, and likewise w.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from bdflow_rt.errors import ArgumentError, DTypeError
from bdflow_rt.kernels.arrays import BYTES, check_array, check_result, check_rows, check_shape, whole_number
from bdflow_rt.kernels.colour import Levels, Matrix, check_colour, rgb_of_nv12, to_rgb
from bdflow_rt.kernels.compile import Kernel
from bdflow_rt.kernels.device import Output, run
from bdflow_rt.kernels.haar import haar_forward_reference
from bdflow_rt.kernels.launch import PLANE_TYPES, Launch, address, rows_aligned, strides

PlaneType = Literal["float16", "float32"]

_MULTIPLES = (2, 4, 8, 16, 32, 64)
KERNELS = tuple(
    Kernel("ingest.cuh", f"bdflow::{name}<{scalar}, {cells}>")
    for name in ("ingest", "ingest_nv12")
    for scalar, choices in PLANE_TYPES.values()
    for cells in choices
)


def ingest(frames: Any, *, multiple: int = 2, dtype: PlaneType = "float16", out: Any = None, stream: Any = None) -> Any:
    """Decoded RGB frames to the first-level Haar planes of x/255, in one pass.

    Args:
        frames: (N, H, W, 3) uint8 RGB, NumPy's or on the GPU; any H, W and strides. Rows at addresses that are
            multiples of 8 bytes (4 for float32) are read fastest.
        multiple: power of two, 2 to 64, to which the frames are padded by replication: the model's scale.
        dtype: of the planes, "float16" or "float32".
        out: contiguous array for the planes, on the same side; None allocates one.
        stream: CUDA stream to work on: of CuPy, PyTorch or PyCUDA, or its address; None is the current one.

    Returns:
        (N, 12, h, w), h = ceil(H/multiple)*multiple/2 and likewise w, band-major: R, G, B of A, then of H, V and D.
        The sums of the 8-bit levels are exact; one multiplication by float32(1/255) rounds them, the dtype once more.

    Raises:
        ShapeError, EmptyImageError, DTypeError, ArrayTooLargeError, ArgumentError: as `check_ingest`, or of `out`.
        LayoutError, OverlapError: `out` is not contiguous, or shares memory with the frames.
        DeviceMismatchError, BackendUnavailableError: as `haar_forward`.
    """
    multiple = whole_number("multiple", multiple)
    check, twin = (
        functools.partial(function, multiple=multiple, dtype=dtype) for function in (check_ingest, ingest_reference)
    )
    return run({"frames": frames}, {"out": out}, stream, check=check, plan=ingest_launch, twin=twin)[0]


def ingest_nv12(
    luma: Any,
    chroma: Any,
    *,
    matrix: Matrix = "bt709",
    levels: Levels = "limited",
    multiple: int = 2,
    dtype: PlaneType = "float16",
    out: Any = None,
    stream: Any = None,
) -> Any:
    """Decoded NV12 frames to the first-level Haar planes of their RGB picture, in one pass.

    Args:
        luma: (N, H, W) uint8; rows may lie apart, as in a decoder's surface.
        chroma: (N, ceil(H/2), ceil(W/2), 2) uint8, Cb before Cr, replicated over 2x2 pixels.
        matrix: "bt601" or "bt709".
        levels: "limited" (luma 16..235, chroma 16..240) or "full".
        multiple, dtype, out, stream: as for `ingest`.

    Returns:
        (N, 12, h, w), as `ingest`; RGB is clamped to [0, 1] and not rounded to 8 bits.

    Raises:
        ShapeError, EmptyImageError, DTypeError, LayoutError, ArrayTooLargeError, ArgumentError: as
            `check_ingest_nv12`, or of `out`.
        OverlapError, DeviceMismatchError, BackendUnavailableError: as `ingest`.

    Source: ITU-R BT.601-7 and BT.709-6; ranges of ITU-T H.273, section 8.3.
    """
    multiple = whole_number("multiple", multiple)
    check, twin = (
        functools.partial(function, multiple=multiple, matrix=matrix, levels=levels, dtype=dtype)
        for function in (check_ingest_nv12, ingest_nv12_reference)
    )
    plan = functools.partial(ingest_nv12_launch, matrix=matrix, levels=levels)
    return run({"luma": luma, "chroma": chroma}, {"out": out}, stream, check=check, plan=plan, twin=twin)[0]


def ingest_reference(
    frames: NDArray[np.uint8], *, multiple: int, dtype: PlaneType = "float16"
) -> NDArray[np.float16] | NDArray[np.float32]:
    """NumPy twin of `ingest`. Its arguments were checked."""
    planes = _padded(np.moveaxis(frames, -1, 1).astype(np.float32), multiple)
    return (haar_forward_reference(planes) * np.float32(1 / 255)).astype(dtype)


def ingest_nv12_reference(
    luma: NDArray[np.uint8],
    chroma: NDArray[np.uint8],
    *,
    multiple: int,
    matrix: Matrix,
    levels: Levels,
    dtype: PlaneType = "float16",
) -> NDArray[np.float16] | NDArray[np.float32]:
    """NumPy twin of `ingest_nv12`. Its arguments were checked."""
    rgb = rgb_of_nv12(luma, chroma, matrix=matrix, levels=levels)
    return haar_forward_reference(_padded(rgb, multiple)).astype(dtype)


def ingest_launch(frames: Any, out: Any) -> Launch:
    """The launch that writes the planes of `frames` to `out`, whose size says how much is padded; both were checked."""
    n, height, width, _ = frames.shape
    steps = strides(frames)
    contiguous = steps[3] == 1 and (steps[2] == 3 or width == 1)
    cells, aligned = _cells(out, lambda size: contiguous and rows_aligned(frames, size))
    sizes = (n, height, width, *out.shape[2:], aligned)
    return _launch("ingest", out, cells, (frames, out, *map(np.int32, sizes), *steps))


def ingest_nv12_launch(luma: Any, chroma: Any, out: Any, *, matrix: Matrix, levels: Levels) -> Launch:
    """The launch that writes the planes of luma and chroma to `out`; all were checked."""
    cells, aligned = _cells(out, lambda size: rows_aligned(luma, size) and rows_aligned(chroma, size))
    sizes = (*luma.shape, *out.shape[2:], aligned)
    steps = (*strides(luma)[:2], *strides(chroma)[:2])
    arguments = (luma, chroma, out, *map(np.int32, sizes), *steps, *to_rgb(matrix=matrix, levels=levels))
    return _launch("ingest_nv12", out, cells, arguments)


def ingest_shape(count: int, height: int, width: int, *, multiple: int) -> tuple[int, int, int, int]:
    """(N, 12, h, w) of the planes of N frames of height x width."""
    return count, 12, -(-height // multiple) * multiple // 2, -(-width // multiple) * multiple // 2


def check_ingest(frames: Any, *, multiple: int, dtype: PlaneType = "float16") -> list[Output]:
    """Refuse what `ingest` does not take, and return what its output has to be.

    Raises:
        ShapeError, EmptyImageError, DTypeError: frames are not (N, H, W, 3) uint8, or empty; dtype is no plane type.
        ArrayTooLargeError: frames or their planes have more than 2^31 - 1 elements.
        ArgumentError: multiple is none of 2, 4, ..., 64.
    """
    check_array("frames", frames, axes="(N, H, W, 3)", dtypes=BYTES)
    return _output(frames.shape[:3], multiple, dtype)


def check_ingest_nv12(
    luma: Any, chroma: Any, *, multiple: int, matrix: str, levels: str, dtype: PlaneType = "float16"
) -> list[Output]:
    """Refuse what `ingest_nv12` does not take, and return what its output has to be.

    Raises:
        ShapeError, EmptyImageError, DTypeError: luma is not (N, H, W) uint8, or chroma does not fit it; dtype is no
            plane type.
        LayoutError: the pixels of a row do not follow one another; rows may lie apart.
        ArrayTooLargeError: an array or the planes have more than 2^31 - 1 elements.
        ArgumentError: multiple, matrix or levels is not an allowed one.
    """
    check_colour(matrix=matrix, levels=levels)
    check_array("luma", luma, axes="(N, H, W)", dtypes=BYTES)
    check_array("chroma", chroma, axes="(N, h, w, 2)", dtypes=BYTES)
    n, height, width = luma.shape
    check_shape("chroma", chroma, (n, (height + 1) // 2, (width + 1) // 2, 2))
    check_rows("luma", luma)
    check_rows("chroma", chroma)
    return _output(luma.shape, multiple, dtype)


def _output(size: tuple[int, int, int], multiple: int, dtype: Any) -> list[Output]:
    if multiple not in _MULTIPLES:
        raise ArgumentError(f"multiple is {multiple!r}; it must be one of {', '.join(map(str, _MULTIPLES))}.")
    for kind in PLANE_TYPES:
        if kind == dtype:
            shape = ingest_shape(*size, multiple=multiple)
            check_result("out", shape)
            return [Output(shape, kind)]
    raise DTypeError(f"dtype is {dtype!r}; planes are 'float16' or 'float32'.")


def _padded(planes: NDArray[np.float32], multiple: int) -> NDArray[np.float32]:
    height, width = planes.shape[2:]
    return np.pad(planes, ((0, 0), (0, 0), (0, -height % multiple), (0, -width % multiple)), mode="edge")


def _cells(out: Any, rows_aligned: Callable[[int], bool]) -> tuple[int, bool]:
    """Cells per thread, and whether frames are read 2 * cells bytes at a time; byte by byte wants few of them."""
    size = out.dtype.itemsize
    choices = [
        cells
        for cells in PLANE_TYPES[np.dtype(out.dtype)][1]
        if out.shape[3] % cells == 0 and address(out) % (cells * size) == 0
    ]
    return next(((cells, True) for cells in choices if rows_aligned(2 * cells)), (min(2, choices[0]), False))


def _launch(name: str, out: Any, cells: int, arguments: tuple[Any, ...]) -> Launch:
    n, _, height, width = out.shape
    kernel = Kernel("ingest.cuh", f"bdflow::{name}<{PLANE_TYPES[np.dtype(out.dtype)][0]}, {cells}>")
    return Launch.over(kernel, height * (width // cells), n, arguments)
