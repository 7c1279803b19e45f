"""Locally normalised contrast (MSCN): what both blind metrics, NIQE and PIQE, look at instead of the pixels."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_WINDOW, _SIGMA = 7, 7 / 6


def normalised_contrast(luma: NDArray[np.float64]) -> NDArray[np.float64]:
    """(I - mean)/(deviation + 1) under a 7 x 7 Gaussian window of sigma 7/6, the edge repeated.

    Args:
        luma: (H, W) float64 in 0..255.

    Returns:
        (H, W) float64.

    Source: Mittal et al. 2013, equations 1 to 3; Venkatanath et al. 2015, equation 1.
    """
    mean = _blur(luma)
    deviation = np.sqrt(np.abs(_blur(luma * luma) - mean * mean))
    return (luma - mean) / (deviation + 1)


def blocks_of(image: NDArray[Any], side: int) -> NDArray[Any]:
    """(blocks, side, side): the blocks of an image whose sides are multiples of `side`, row by row."""
    height, width = image.shape
    tiles = image.reshape(height // side, side, width // side, side)
    return tiles.transpose(0, 2, 1, 3).reshape(-1, side, side)


def _blur(image: NDArray[np.float64]) -> NDArray[np.float64]:
    import cv2

    kernel = cv2.getGaussianKernel(_WINDOW, _SIGMA)
    return np.asarray(cv2.sepFilter2D(image, cv2.CV_64F, kernel, kernel, borderType=cv2.BORDER_REPLICATE))
