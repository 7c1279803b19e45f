"""NumPy twin of `boundary_mask`: the definition step by step, that every other implementation is tested against."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bdflow_rt.kernels.arrays import BYTES, check_array
from bdflow_rt.kernels.boundary_definition import (
    BLUR_SHIFT,
    BLUR_WEIGHTS,
    LUMA_SHIFT,
    LUMA_WEIGHTS,
    SECTOR_SHIFT,
    TAN_22_5,
    Norm,
    check_options,
)


def boundary_mask_reference(
    image: NDArray[np.uint8], *, threshold: int = 50, bits: int = 1, norm: Norm = 2, saturation: int = 255
) -> NDArray[np.uint8]:
    """NumPy twin of `boundary_mask`: the definition step by step, without OpenCV. One picture, uint8; same bits."""
    check_options(threshold=threshold, bits=bits, norm=norm, saturation=saturation)
    check_array("The image", image, axes="(H, W)" if image.ndim == 2 else "(H, W, 3)", dtypes=BYTES)
    gx, gy = _sobel_reference(_blur_reference(_luma_reference(image)))
    measure = np.abs(gx) + np.abs(gy) if norm == 1 else gx * gx + gy * gy
    edge = _local_maximum(gx, gy, measure) & (measure > threshold**norm)
    steps = (1 << bits) - 1
    level = np.ones(measure.shape, np.int64)
    for j in range(1, steps):
        level += steps**norm * measure >= (steps * threshold + j * (saturation - threshold)) ** norm
    return np.where(edge, level, 0).astype(np.uint8)


def reflect_101(length: int, margin: int) -> NDArray[np.int64]:
    """Indices that extend an axis by `margin` to both sides, mirrored at the edge pixel: c b | a b c | b a."""
    period = max(2 * (length - 1), 1)
    position = np.arange(-margin, length + margin) % period
    return np.minimum(position, period - position) if length > 1 else np.zeros_like(position)


def _luma_reference(image: NDArray[np.uint8]) -> NDArray[np.int64]:
    if image.ndim == 2:
        return image.astype(np.int64)
    half = 1 << (LUMA_SHIFT - 1)
    return (image.astype(np.int64) @ np.array(LUMA_WEIGHTS) + half) >> LUMA_SHIFT


def _blur_reference(grey: NDArray[np.int64]) -> NDArray[np.int64]:
    height, width = grey.shape
    padded = grey[np.ix_(reflect_101(height, 2), reflect_101(width, 2))]
    weights = np.array(BLUR_WEIGHTS)
    rows = np.tensordot(weights, [padded[tap : tap + height] for tap in range(5)], axes=1)
    total = np.tensordot(weights, [rows[:, tap : tap + width] for tap in range(5)], axes=1)
    return (total + (1 << (BLUR_SHIFT - 1))) >> BLUR_SHIFT


def _sobel_reference(smooth: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    padded = np.pad(smooth, 1, mode="edge")
    across = padded[:, 2:] - padded[:, :-2]
    along = padded[:, 2:] + 2 * padded[:, 1:-1] + padded[:, :-2]
    return across[:-2] + 2 * across[1:-1] + across[2:], along[2:] - along[:-2]


def _local_maximum(gx: NDArray[np.int64], gy: NDArray[np.int64], measure: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Suppression of non-maxima with OpenCV's sectors and ties: of two equal neighbours the left or upper one wins."""
    padded = np.pad(measure, 1)
    height, width = measure.shape

    def neighbour(down: int, right: int) -> NDArray[np.int64]:
        return padded[1 + down : 1 + down + height, 1 + right : 1 + right + width]

    x, y = np.abs(gx), np.abs(gy) << SECTOR_SHIFT
    low, high = x * TAN_22_5, x * (TAN_22_5 + (2 << SECTOR_SHIFT))
    horizontal = (measure > neighbour(0, -1)) & (measure >= neighbour(0, 1))
    vertical = (measure > neighbour(-1, 0)) & (measure >= neighbour(1, 0))
    falling = (measure > neighbour(-1, -1)) & (measure > neighbour(1, 1))
    rising = (measure > neighbour(-1, 1)) & (measure > neighbour(1, -1))
    diagonal = np.where((gx ^ gy) < 0, rising, falling)
    return np.where(y < low, horizontal, np.where(y > high, vertical, diagonal))
