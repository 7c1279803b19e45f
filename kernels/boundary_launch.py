"""The launches of kernels/cuda/boundary_mask.cuh: the boundary-aware mask and its magnitude, on the GPU."""

from __future__ import annotations

from typing import Any

import numpy as np

from bdflow_rt.errors import ArrayTooLargeError, ShapeError
from bdflow_rt.kernels.arrays import check_array
from bdflow_rt.kernels.boundary_definition import GRADIENT_BOUND, Norm
from bdflow_rt.kernels.compile import Kernel
from bdflow_rt.kernels.launch import Launch, address, strides

CELLS = (1, 2, 4, 8, 16, 32, 64)
"""Sides of the cells whose maximum the kernel can write."""
_TILE, _THREADS = 64, 128
_TYPES = {np.dtype(np.uint8): "unsigned char", np.dtype(np.float16): "__half"}
_MEASURE_BOUND = 2**21
"""Above every measure: gx^2 + gy^2 is at most 2 * 1020^2."""
_MAX_SIDE = 2**30
_STRIDED, _PACKED, _LOOSE, _ROWS = range(4)
"""Layout of boundary_luma.cuh."""


def _kernel(pixels: str, norm: int, out: str) -> Kernel:
    return Kernel("boundary_mask.cuh", f"bdflow::boundary_mask<{pixels}, {norm}, {out}>", _THREADS)


KERNELS = tuple(
    _kernel(pixels, norm, out) for pixels in _TYPES.values() for norm in (1, 2) for out in ("unsigned char", "float")
)


def mask_launch(
    pixels: Any, out: Any, *, threshold: int, bits: int, norm: Norm, saturation: int, cell: int = 1
) -> Launch:
    """The launch that writes the boundary-aware mask of a batch. All was checked: `check_pixels`, `check_options`.

    Args:
        pixels: (N, H, W, C) uint8 or float16 in [0, 1], C = 3 for RGB or 1 for grey, any strides; a planar batch comes
            as its transpose. A float16 x stands for rint(255 * clamp(x, 0, 1)), NaN for 0.
        out: (N, ceil(H/cell), ceil(W/cell)) uint8, contiguous; gets levels 0 to 2^bits - 1.
        threshold, bits, norm, saturation: as for `boundary_mask`.
        cell: one of CELLS; above 1, `out` gets the maximum of each cell x cell pixels.
    """
    steps = (1 << bits) - 1
    # With a larger range, level 2 would already start at steps * threshold + steps * bound, above steps * magnitude.
    reach = min(saturation - threshold, steps * GRADIENT_BOUND)
    return _launch(pixels, out, threshold=threshold, norm=norm, steps=steps, reach=reach, shift=cell.bit_length() - 1)


def magnitude_launch(pixels: Any, out: Any, *, threshold: int, norm: Norm) -> Launch:
    """The launch that writes the gradient's magnitude on edges and 0 elsewhere, as `sparse_magnitude`.

    Args:
        pixels: as for `mask_launch`.
        out: (N, H, W) float32, contiguous.
        threshold, norm: as for `boundary_mask`.
    """
    return _launch(pixels, out, threshold=threshold, norm=norm, steps=1, reach=1, shift=0)


def check_pixels(pixels: Any) -> None:
    """Refuse what `mask_launch` does not take.

    Raises:
        ShapeError, EmptyImageError, DTypeError, LayoutError, ArrayTooLargeError: it is of another kind.
    """
    if pixels.ndim != 4 or pixels.shape[3] not in (1, 3):
        raise ShapeError(
            f"The image has shape {tuple(pixels.shape)}; it must be (N, H, W, 3) RGB or (N, H, W, 1) grey."
        )
    check_array("The image", pixels, axes="(N, H, W, C)", dtypes=("uint8", "float16"))
    if max(pixels.shape) > _MAX_SIDE:
        raise ArrayTooLargeError(
            f"The image has shape {tuple(pixels.shape)}; a side has at most {_MAX_SIDE} pixels. Cut the picture."
        )


def _launch(pixels: Any, out: Any, *, threshold: int, norm: int, steps: int, reach: int, shift: int) -> Launch:
    n, height, width, channels = pixels.shape
    threshold = min(threshold, GRADIENT_BOUND)
    across, down = -(-width // _TILE), -(-height // _TILE)
    levels = (min(threshold**norm, _MEASURE_BOUND), threshold, reach, steps)
    whole = width % 4 == 0 and address(out) % (4 * out.dtype.itemsize) == 0
    return Launch(
        kernel=_kernel(_TYPES[np.dtype(pixels.dtype)], norm, "float" if out.dtype == np.float32 else "unsigned char"),
        grid=(n * down * across, 1, 1),
        block=(_THREADS, 1, 1),
        arguments=(
            pixels,
            out,
            *(np.int32(size) for size in (height, width, channels)),
            *strides(pixels),
            np.int32(_layout(pixels)),
            *(np.int32(value) for value in levels),
            np.float32(steps / reach),
            np.int32(shift),
            np.int32(whole),
            *_divisor(across),
            *_divisor(down),
        ),
    )


def _divisor(tiles: int) -> tuple[np.int32, np.uint32, np.int32]:
    """The number, and multiplier and shift that divide every index below 2^31 by it: Granlund and Montgomery, 1994."""
    shift = 31 + (tiles - 1).bit_length()
    return np.int32(tiles), np.uint32((1 << shift) // tiles + 1), np.int32(shift)


def _layout(pixels: Any) -> int:
    in_n, in_y, in_x, in_c = strides(pixels)
    size = pixels.dtype.itemsize
    aligned = in_n % 4 == 0 and in_y % 4 == 0 and address(pixels) % (4 * size) == 0
    if size == 1 and in_x == 3 and in_c == 1:
        return _PACKED if aligned else _LOOSE
    return _ROWS if aligned and in_x == 1 and in_c % 4 == 0 else _STRIDED
