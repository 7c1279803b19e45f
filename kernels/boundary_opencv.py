"""The boundary-aware mask on the CPU: OpenCV does what it does best, NumPy the levels of the few edge pixels."""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

from bdflow_rt.kernels.boundary_definition import GRADIENT_BOUND, Norm, level_table

_LOOK_UP_MAX = 1024
"""Saturation up to which levels are looked up by measure, in a table of at most 1 MB; above it, searched for."""


def picture_mask(
    image: NDArray[np.uint8], *, threshold: int, bits: int, norm: Norm, saturation: int
) -> NDArray[np.uint8]:
    """The mask of one picture, (H, W, 3) RGB or (H, W) grey, uint8; options were checked. See `boundary_mask`."""
    if bits == 1:
        import cv2

        limit = min(threshold, GRADIENT_BOUND)  # OpenCV's thresholds overflow at 2^31
        edges = cv2.Canny(_blurred_luma(image), limit, limit, L2gradient=norm == 2)
        return np.bitwise_and(edges, 1, out=edges)
    mask, position, measure = _edge_pixels(image, threshold=threshold, norm=norm)
    if saturation <= _LOOK_UP_MAX:
        levels = _level_of_measure(threshold=threshold, bits=bits, norm=norm, saturation=saturation)
        mask.reshape(-1)[position] = np.take(levels, measure, mode="clip")
    else:
        table = level_table(threshold=threshold, bits=bits, norm=norm, saturation=saturation)
        mask.reshape(-1)[position] = 1 + np.searchsorted(table, measure, side="right")
    return mask


def picture_magnitude(image: NDArray[np.uint8], *, threshold: int, norm: Norm) -> NDArray[np.float32]:
    """The gradient's magnitude on the edges of one picture, (H, W) float32. See `sparse_magnitude`."""
    mask, position, measure = _edge_pixels(image, threshold=threshold, norm=norm)
    magnitude = np.zeros(mask.shape, np.float32)
    values = measure.astype(np.float32)
    magnitude.reshape(-1)[position] = values if norm == 1 else np.sqrt(values)
    return magnitude


@functools.lru_cache(maxsize=8)
def _level_of_measure(*, threshold: int, bits: int, norm: Norm, saturation: int) -> NDArray[np.uint8]:
    """Level of an edge by its measure, up to the measure of the highest level; four times as fast as a search."""
    table = level_table(threshold=threshold, bits=bits, norm=norm, saturation=saturation)
    levels = np.cumsum(np.bincount(table), dtype=np.uint8) + np.uint8(1)
    levels.flags.writeable = False
    return levels


def _blurred_luma(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    import cv2

    image = np.ascontiguousarray(image)
    grey = image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    return cv2.GaussianBlur(grey, (5, 5), 0)  # type: ignore[return-value]


def _edge_pixels(
    image: NDArray[np.uint8], *, threshold: int, norm: Norm
) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int32]]:
    """Canny's mask (H, W), and of its edge pixels alone, about one in ten, the flat position and the measure."""
    import cv2

    smooth = _blurred_luma(image)
    gx = cv2.Sobel(smooth, cv2.CV_16S, 1, 0, borderType=cv2.BORDER_REPLICATE)
    gy = cv2.Sobel(smooth, cv2.CV_16S, 0, 1, borderType=cv2.BORDER_REPLICATE)
    limit = min(threshold, GRADIENT_BOUND)
    mask = cv2.Canny(gx, gy, limit, limit, L2gradient=norm == 2)
    position = np.flatnonzero(mask)
    x = gx.reshape(-1)[position].astype(np.int32)
    y = gy.reshape(-1)[position].astype(np.int32)
    return mask, position, np.abs(x) + np.abs(y) if norm == 1 else x * x + y * y  # type: ignore[return-value]
