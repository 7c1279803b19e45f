"""PSNR as the super-resolution literature computes it: on the luma of 8-bit pictures, with a border left out."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bdflow_rt.errors import ArgumentError, DTypeError, ShapeError

LUMA = (0.299, 0.587, 0.114)
"""Weights of R, G and B (BT.601) in full range, as losses take them; PSNR-Y's luma is the same in limited range."""
RGB_TO_Y = np.array([65.481, 128.553, 24.966]) / 255
"""Weights of R, G and B in the luma of `rgb_to_y`, whose offset is 16."""
RGB_TO_Y.flags.writeable = False


def rgb_to_y(image: NDArray[np.uint8]) -> NDArray[np.float64]:
    """BT.601 luma as MATLAB's rgb2ycbcr, in 16..235 and not rounded.

    Args:
        image: (H, W, 3) uint8 RGB; or (H, W) uint8 grey, which is its own luma in 0..255. Published tables treat the
            grey picture of Set14, "bridge", in the second way: as three equal channels it would gain 1.3 dB.

    Returns:
        (H, W) float64.

    Raises:
        ShapeError, DTypeError: the image is of another kind.
    """
    if image.ndim != 2 and (image.ndim != 3 or image.shape[2] != 3):
        raise ShapeError(f"The image has shape {image.shape}; it must be (H, W, 3) RGB or (H, W) grey.")
    if image.dtype != np.uint8:
        raise DTypeError(f"The image is {image.dtype}; it must be uint8.")
    return image.astype(np.float64) if image.ndim == 2 else 16 + image @ RGB_TO_Y


def psnr(a: NDArray[np.uint8], b: NDArray[np.uint8], *, border: int = 0) -> float:
    """Peak signal-to-noise ratio in dB over all values, peak 255; identical pictures give infinity.

    Args:
        a, b: (H, W) or (H, W, C) uint8 of one shape.
        border: pixels left out on every side.

    Raises:
        ShapeError, DTypeError: the two do not fit together, or are not uint8 pictures.
        ArgumentError: `border` is negative or leaves no pixel.
    """
    check_pair(a, b, border=border)
    return decibels(_mean_square(crop_border(a, border).astype(np.float64) - crop_border(b, border)))


def psnr_y(a: NDArray[np.uint8], b: NDArray[np.uint8], *, border: int) -> float:
    """PSNR of the luma (`rgb_to_y`) in dB, peak 255; identical pictures give infinity.

    Args:
        a, b: (H, W, 3) uint8 RGB or (H, W) uint8 grey, of one shape.
        border: pixels left out on every side; published numbers leave out `scale` pixels.

    Raises:
        ShapeError, DTypeError, ArgumentError: as `psnr`.
    """
    check_pair(a, b, border=border)
    return decibels(_mean_square(crop_border(rgb_to_y(a), border) - crop_border(rgb_to_y(b), border)))


def check_pair(a: NDArray[Any], b: NDArray[Any], *, border: int) -> None:
    """Raise unless `a` and `b` are uint8 pictures of one shape with at least one pixel inside the border."""
    if a.shape != b.shape or a.ndim not in (2, 3):
        raise ShapeError(f"The pictures have shapes {a.shape} and {b.shape}; both must be the same (H, W[, C]).")
    if a.dtype != np.uint8 or b.dtype != np.uint8:
        raise DTypeError(f"The pictures are {a.dtype} and {b.dtype}; both must be uint8.")
    if border < 0 or min(a.shape[:2]) <= 2 * border:
        raise ArgumentError(
            f"border is {border}, which leaves no pixel of a picture of {a.shape[0]} x {a.shape[1]}; "
            f"0 to {(min(a.shape[:2]) - 1) // 2} is allowed here."
        )


def crop_border(image: NDArray[Any], border: int) -> NDArray[Any]:
    """A view without `border` pixels on every side."""
    return image[border : image.shape[0] - border, border : image.shape[1] - border]


def decibels(mean_square: float) -> float:
    """A mean square error in levels as PSNR in dB, peak 255; 0 gives infinity."""
    return 10 * math.log10(255**2 / mean_square) if mean_square else math.inf


def _mean_square(difference: NDArray[np.float64]) -> float:
    return float(np.mean(np.square(difference)))
