"""The boundary-aware mask (BAM): where a picture has edges, in k bits per pixel, in exact integer arithmetic.

GPU arrays take kernels/cuda/boundary_mask.cuh, one launch; NumPy arrays take OpenCV. For one bit the mask is
`cv2.Canny(cv2.GaussianBlur(grey, (5, 5), 0), T, T)`.

Source: paper, section 3.2; the choices it leaves open (blur, sectors, ties, levels) follow OpenCV's Canny.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from bdflow_rt.errors import ArgumentError, EmptyImageError, ShapeError
from bdflow_rt.kernels.arrays import whole_number
from bdflow_rt.kernels.boundary_definition import Norm, check_options
from bdflow_rt.kernels.boundary_launch import CELLS, check_pixels, magnitude_launch, mask_launch
from bdflow_rt.kernels.boundary_opencv import picture_magnitude, picture_mask
from bdflow_rt.kernels.device import Output, run
from bdflow_rt.kernels.launch import Launch

Layout = Literal["HWC", "CHW"]


def boundary_mask(
    image: Any,
    *,
    threshold: int = 50,
    bits: int = 1,
    norm: Norm = 2,
    saturation: int = 255,
    cell: int = 1,
    layout: Layout | None = None,
    out: Any = None,
    stream: Any = None,
) -> Any:
    """The BAM of a picture or a batch of them.

    Args:
        image: uint8 RGB, or float16 in [0, 1], of which x stands for rint(255 * clamp(x, 0, 1)) and NaN for 0;
            NumPy's or on the GPU. (H, W) grey; (H, W, C) or a batch (N, H, W, C) with C = 3 or 1; or (C, H, W) and
            (N, C, H, W). Any size from 1 x 1, any strides.
        threshold: gradient magnitudes up to this count as no edge; 0 or more.
        bits: bits per pixel, 1 to 8.
        norm: of the gradient; 1 is |gx| + |gy|, 2 is sqrt(gx^2 + gy^2).
        saturation: magnitude from which an edge has the highest level; above `threshold`. Without effect for one bit.
        cell: 1, 2, 4, 8, 16, 32 or 64; above 1 the result is the largest level of each cell x cell pixels.
        layout: "HWC" or "CHW", for batches too; None is "HWC" for uint8 and "CHW" for float16.
        out: contiguous array for the result, on the same side; None allocates one.
        stream: CUDA stream to work on: of CuPy, PyTorch or PyCUDA, or its address. None is the current one of the
            library that `image` comes from. Nothing waits for it.

    Returns:
        (h, w) or (N, h, w) uint8 levels, h = ceil(H/cell), w = ceil(W/cell): 0 away from edges, 1 to 2^bits - 1 on
        them, in equal steps of magnitude. `out`, or a new array: a PyTorch tensor for one, NumPy's for NumPy's, else
        CuPy's.

    Raises:
        ArgumentError: an option has a value not listed.
        ShapeError, EmptyImageError, DTypeError, ArrayTooLargeError: the image is of another kind, or `out` misfits.
        LayoutError, OverlapError, DeviceMismatchError, BackendError: as `haar_forward`.
    """
    threshold, bits, saturation, cell = (
        whole_number(name, value)
        for name, value in (("threshold", threshold), ("bits", bits), ("saturation", saturation), ("cell", cell))
    )
    check_options(threshold=threshold, bits=bits, norm=norm, saturation=saturation)
    if cell not in CELLS:
        raise ArgumentError(f"cell is {cell!r}; it must be one of {', '.join(map(str, CELLS))}.")

    def twin(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        mask = picture_mask(picture, threshold=threshold, bits=bits, norm=norm, saturation=saturation)
        return mask if cell == 1 else cell_maximum(mask, cell)

    def plan(pixels: Any, target: Any) -> Launch:
        return mask_launch(pixels, target, threshold=threshold, bits=bits, norm=norm, saturation=saturation, cell=cell)

    return _run(image, out, stream, layout=layout, cell=cell, dtype=np.dtype(np.uint8), twin=twin, plan=plan)


def sparse_magnitude(
    image: Any,
    *,
    threshold: int = 50,
    norm: Norm = 2,
    layout: Layout | None = None,
    out: Any = None,
    stream: Any = None,
) -> Any:
    """B_s of the paper: the gradient's magnitude on edges, 0 elsewhere, before it is reduced to levels.

    Args:
        image, threshold, norm, layout, out, stream: as for `boundary_mask`.

    Returns:
        (H, W) or (N, H, W) float32: 0, or above `threshold`. Whole numbers for norm 1, correctly rounded roots for 2.

    Raises:
        As `boundary_mask`.
    """
    threshold = whole_number("threshold", threshold)
    check_options(threshold=threshold, norm=norm)

    def twin(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
        return picture_magnitude(picture, threshold=threshold, norm=norm)

    def plan(pixels: Any, target: Any) -> Launch:
        return magnitude_launch(pixels, target, threshold=threshold, norm=norm)

    return _run(image, out, stream, layout=layout, cell=1, dtype=np.dtype(np.float32), twin=twin, plan=plan)


def cell_maximum(mask: NDArray[Any], scale: int) -> NDArray[Any]:
    """The largest value of each scale x scale cell; cells at the bottom and right may be partly outside.

    Args:
        mask: (H, W) of any real dtype, not negative.
        scale: whole number >= 1.

    Returns:
        (ceil(H/scale), ceil(W/scale)), same dtype.

    Raises:
        ArgumentError: `scale` is not a whole number >= 1.
        ShapeError, EmptyImageError: the mask is not two-dimensional, or has no pixels.
    """
    if not isinstance(scale, int) or scale < 1:
        raise ArgumentError(f"scale is {scale!r}; it must be a whole number of at least 1.")
    if mask.ndim != 2:
        raise ShapeError(f"The mask has shape {mask.shape}; it must be (H, W).")
    if 0 in mask.shape:
        raise EmptyImageError(f"The mask has shape {mask.shape} and so no pixels.")
    rows = np.maximum.reduceat(mask, np.arange(0, mask.shape[0], scale), axis=0)
    return np.maximum.reduceat(rows, np.arange(0, mask.shape[1], scale), axis=1)


def _run(
    image: Any,
    out: Any,
    stream: Any,
    *,
    layout: Layout | None,
    cell: int,
    dtype: np.dtype[Any],
    twin: Callable[[NDArray[np.uint8]], NDArray[Any]],
    plan: Callable[[Any, Any], Launch],
) -> Any:
    def check(source: Any) -> list[Output]:
        n, height, width, _ = _as_pixels(source, layout).shape
        size = -(-height // cell), -(-width // cell)
        return [Output((n, *size) if source.ndim == 4 else size, dtype)]

    def launch_plan(source: Any, target: Any) -> Launch:
        return plan(_as_pixels(source, layout), target if source.ndim == 4 else target[None])

    def maps(source: Any) -> NDArray[Any]:
        found = [twin(picture) for picture in _pictures(_as_pixels(source, layout))]
        return np.stack(found) if source.ndim == 4 else found[0]

    return run({"image": image}, {"out": out}, stream, check=check, plan=launch_plan, twin=maps)[0]


def _as_pixels(image: Any, layout: Layout | None) -> Any:
    """A view (N, H, W, C) of any picture or batch, of NumPy or CuPy."""
    if layout not in (None, *get_args(Layout)):
        raise ArgumentError(f"layout is {layout!r}; it must be 'HWC', 'CHW' or None.")
    first = layout == "CHW" or (layout is None and image.dtype == np.float16)
    axes = {2: "(H, W)", 3: "(C, H, W)" if first else "(H, W, C)", 4: "(N, C, H, W)" if first else "(N, H, W, C)"}
    count = 1 if image.ndim == 2 else image.shape[-3 if first else -1] if image.ndim in axes else 0
    if count not in (1, 3):
        raise ShapeError(
            f"The image has shape {tuple(image.shape)}; it must be {', '.join(axes.values())} with C = 3 or 1. "
            "`layout` says which axis C is."
        )
    pixels = image[..., None] if image.ndim == 2 else image
    pixels = pixels[None] if pixels.ndim == 3 else pixels
    pixels = pixels.transpose(0, 2, 3, 1) if first and image.ndim > 2 else pixels
    check_pixels(pixels)
    return pixels


def _pictures(pixels: NDArray[Any]) -> list[NDArray[np.uint8]]:
    """(H, W, 3) or (H, W) uint8 for every picture of (N, H, W, C)."""
    if pixels.dtype != np.uint8:
        values = np.fmin(np.fmax(pixels.astype(np.float32), 0), 1)  # a NaN becomes 0
        pixels = np.rint(values * 255).astype(np.uint8)
    return list(pixels if pixels.shape[3] == 3 else pixels[..., 0])
