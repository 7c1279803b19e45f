"""Bicubic resizing as MATLAB's `imresize` does it: the baseline of every table in this field, and our LR reference.

Keys' cubic with a = -0.5, widened by 1/scale when shrinking (antialiasing), weights normalised to sum to one, and a
symmetric border (the edge pixel is repeated once: c b a | a b c).
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bdflow_rt.errors import ArgumentError, DTypeError, EmptyImageError, ShapeError

_SUPPORT = 4
"""Width in pixels of Keys' cubic."""


def bicubic_resize(
    image: NDArray[Any], *, scale: float | None = None, size: tuple[int, int] | None = None
) -> NDArray[Any]:
    """Resize as `imresize(image, scale)` or `imresize(image, [height width])` in MATLAB.

    One difference: MATLAB rounds 8-bit pictures after the first axis and again after the second; here the rounding is
    done once, at the end, which is what MATLAB gives for `im2double` pictures. The two differ by at most one level.

    Args:
        image: (H, W) or (H, W, C), uint8, float32 or float64 of any range.
        scale: one factor > 0 for both axes; the result has ceil(H*scale) x ceil(W*scale) pixels.
        size: (height, width) of the result instead; each axis then has its own factor.

    Returns:
        (h, w) or (h, w, C) of the same dtype: uint8 is clamped and rounded half up, floats are left as computed.

    Raises:
        ArgumentError: neither or both of `scale` and `size` are given, or a value is not positive.
        ShapeError, EmptyImageError, DTypeError: the image is of a kind not listed.
    """
    _check_image(image)
    if (scale is None) == (size is None):
        raise ArgumentError(f"scale is {scale!r} and size is {size!r}; give exactly one of them.")
    height, width = image.shape[:2]
    if scale is not None:
        if not (math.isfinite(scale) and scale > 0):
            raise ArgumentError(f"scale is {scale!r}; it must be a finite number above 0.")
        # Products such as 50 * 1.1 lie a hair above the whole number that is meant.
        out_size = (math.ceil(height * scale - 1e-9), math.ceil(width * scale - 1e-9))
        factors = (scale, scale)
    elif size is not None and min(size) >= 1:
        out_size = size
        factors = (size[0] / height, size[1] / width)
    else:
        raise ArgumentError(f"size is {size!r}; it must be (height, width), both at least 1.")
    result: NDArray[Any] = image
    for axis in sorted((0, 1), key=lambda axis: factors[axis]):
        result = _resize_axis(result, *bicubic_taps(image.shape[axis], out_size[axis], factors[axis]), axis=axis)
    if image.dtype == np.uint8:
        return np.floor(np.clip(result, 0, 255) + 0.5).astype(np.uint8)
    return result.astype(image.dtype)


def bicubic_downscale(image: NDArray[Any], *, scale: int) -> NDArray[Any]:
    """The LR reference: shrink by a whole factor after padding bottom and right by replication to a multiple of it.

    This is what the network sees for sizes that do not divide. The result has the same size as
    `bicubic_resize(image, scale=1/scale)`, and the same pixels where the size divides; else only the last few rows
    and columns differ, because there MATLAB mirrors the picture where this repeats its edge first.

    Args:
        image: (H, W) or (H, W, C), uint8, float32 or float64.
        scale: whole number >= 1.

    Returns:
        (ceil(H/scale), ceil(W/scale)[, C]) of the same dtype.

    Raises:
        ArgumentError: `scale` is not a whole number >= 1.
        ShapeError, EmptyImageError, DTypeError: as `bicubic_resize`.
    """
    _check_image(image)
    if not isinstance(scale, int) or scale < 1:
        raise ArgumentError(f"scale is {scale!r}; it must be a whole number of at least 1.")
    return bicubic_resize(_whole_cells(image, scale), scale=1 / scale)


def cell_means(image: NDArray[np.uint8], *, scale: int) -> NDArray[np.float32]:
    """The mean of each cell of scale x scale pixels, after padding as `bicubic_downscale` does.

    Args:
        image: (H, W, C) uint8.
        scale: whole number >= 1.

    Returns:
        (ceil(H/scale), ceil(W/scale), C), in levels of 255.
    """
    whole = _whole_cells(image, scale)
    rows, columns = (side // scale for side in whole.shape[:2])
    return whole.reshape(rows, scale, columns, scale, -1).mean(axis=(1, 3), dtype=np.float32)


@functools.lru_cache(maxsize=64)
def bicubic_taps(length: int, out_length: int, scale: float) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Which input samples make each output sample of one axis, and with what weights.

    Returns:
        indices: (out_length, taps) int64 into the input, already mirrored at the border. Read-only, as `weights`.
        weights: (out_length, taps) float64, each row sums to one.
    """
    widening = min(scale, 1.0)
    support = _SUPPORT / widening
    # Pixel centres: output x sits over input (x + 1/2)/scale - 1/2.
    centre = (np.arange(out_length) + 0.5) / scale - 0.5
    first = np.floor(centre - support / 2)
    taps = first[:, None] + np.arange(math.ceil(support) + 2)
    weights = _keys_cubic((centre[:, None] - taps) * widening)
    weights /= weights.sum(axis=1, keepdims=True)
    used = weights.any(axis=0)
    period = taps[:, used].astype(np.int64) % (2 * length)
    indices = np.where(period < length, period, 2 * length - 1 - period)
    weights = np.ascontiguousarray(weights[:, used])
    indices.flags.writeable = weights.flags.writeable = False
    return indices, weights


def _whole_cells(image: NDArray[Any], scale: int) -> NDArray[Any]:
    """The image with its last row and column repeated up to a multiple of the scale."""
    bottom, right = (-length % scale for length in image.shape[:2])
    if not (bottom or right):
        return image
    return np.pad(image, [(0, bottom), (0, right)] + [(0, 0)] * (image.ndim - 2), mode="edge")


def _keys_cubic(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Keys 1981 with a = -0.5."""
    x = np.abs(x)
    inner = (1.5 * x - 2.5) * x * x + 1
    outer = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return np.where(x <= 1, inner, np.where(x <= 2, outer, 0.0))


def _resize_axis(
    image: NDArray[Any], indices: NDArray[np.int64], weights: NDArray[np.float64], *, axis: int
) -> NDArray[np.float64]:
    """Weighted sum of the taps along an axis; one gather per tap keeps memory at the size of the result."""
    shape = [1] * image.ndim
    shape[axis] = -1
    total = np.zeros((*image.shape[:axis], len(indices), *image.shape[axis + 1 :]))
    term = np.empty_like(total)
    for column in range(indices.shape[1]):
        samples = np.take(image, indices[:, column], axis=axis)
        np.multiply(samples, weights[:, column].reshape(shape), out=term, casting="unsafe")
        total += term
    return total


def _check_image(image: NDArray[Any]) -> None:
    if image.ndim not in (2, 3):
        raise ShapeError(f"The image has shape {image.shape}; it must be (H, W) or (H, W, C).")
    if 0 in image.shape:
        raise EmptyImageError(f"The image has shape {image.shape} and so no pixels.")
    if image.dtype not in (np.uint8, np.float32, np.float64):
        raise DTypeError(f"The image is {image.dtype}; it must be uint8, float32 or float64. Convert it first.")
