"""SSIM as the super-resolution literature computes it: with a Gaussian window, where the window fits."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bdflow_rt.errors import ArgumentError
from bdflow_rt.metrics.psnr import check_pair, crop_border, rgb_to_y

WINDOW = 11
"""Side of the window in pixels."""
_SIGMA = 1.5
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2


def ssim(a: NDArray[np.uint8], b: NDArray[np.uint8], *, border: int = 0) -> float:
    """Structural similarity, range 255, averaged over all whole windows of every channel.

    Args:
        a, b: (H, W) or (H, W, C) uint8 of one shape.
        border: pixels left out on every side first.

    Returns:
        At most 1, which identical pictures have.

    Raises:
        ShapeError, DTypeError: the two do not fit together, or are not uint8 pictures.
        ArgumentError: `border` is negative, or leaves less than 11 x 11 pixels.

    Source: Wang et al. 2004 and its MATLAB code `ssim_index`, without the optional shrinking.
    """
    _check_windows(a, b, border)
    return _similarity(crop_border(a, border).astype(np.float64), crop_border(b, border).astype(np.float64))


def ssim_y(a: NDArray[np.uint8], b: NDArray[np.uint8], *, border: int) -> float:
    """`ssim` of the luma (`rgb_to_y`).

    Args:
        a, b: (H, W, 3) uint8 RGB or (H, W) uint8 grey, of one shape.
        border: pixels left out on every side first. Of published numbers some leave out none, some `scale` pixels.

    Raises:
        ShapeError, DTypeError, ArgumentError: as `ssim`.
    """
    _check_windows(a, b, border)
    return _similarity(crop_border(rgb_to_y(a), border), crop_border(rgb_to_y(b), border))


def _check_windows(a: NDArray[Any], b: NDArray[Any], border: int) -> None:
    check_pair(a, b, border=border)
    if min(a.shape[:2]) - 2 * border < WINDOW:
        raise ArgumentError(
            f"A border of {border} leaves less than {WINDOW} x {WINDOW} pixels of a picture of "
            f"{a.shape[0]} x {a.shape[1]}; SSIM is not defined there."
        )


def _similarity(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    mean_x, mean_y = _window_mean(x), _window_mean(y)
    variance_x = _window_mean(x * x) - mean_x * mean_x
    variance_y = _window_mean(y * y) - mean_y * mean_y
    covariance = _window_mean(x * y) - mean_x * mean_y
    numerator = (2 * mean_x * mean_y + _C1) * (2 * covariance + _C2)
    denominator = (mean_x * mean_x + mean_y * mean_y + _C1) * (variance_x + variance_y + _C2)
    return float(np.mean(numerator / denominator))


def _window_mean(x: NDArray[Any]) -> NDArray[Any]:
    """Gaussian mean of every window that fits: (H - 10, W - 10[, C])."""
    import cv2

    offset = np.arange(WINDOW) - WINDOW // 2
    weights = np.exp(-(offset**2) / (2 * _SIGMA**2))
    weights /= math.fsum(weights)
    return crop_border(cv2.sepFilter2D(x, cv2.CV_64F, weights, weights), WINDOW // 2)
