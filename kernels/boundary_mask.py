"""The boundary-aware mask (BAM): where a picture has edges, in k bits per pixel, in exact integer arithmetic.

`boundary_mask` is the CPU implementation on OpenCV; `boundary_mask_reference` is its NumPy twin, written as the
definition reads, that every other implementation is tested against. For one bit the mask is
`cv2.Canny(cv2.GaussianBlur(grey, (5, 5), 0), T, T)`.

Source: paper, section 3.2; the choices it leaves open (blur, sectors, ties, levels) follow OpenCV's Canny.
"""

from __future__ import annotations

import functools
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from bdflow_rt.errors import ArgumentError, DTypeError, EmptyImageError, ShapeError

LUMA_WEIGHTS = (9798, 19235, 3735)
"""Red, green and blue of OpenCV's RGB2GRAY, in units of 2^-15."""
LUMA_SHIFT = 15
BLUR_WEIGHTS = (1, 4, 6, 4, 1)
"""Binomial kernel per axis (sigma = 1); the two axes together sum to 2^BLUR_SHIFT."""
BLUR_SHIFT = 8
TAN_22_5 = 13573
"""tan(22.5 deg) in units of 2^-SECTOR_SHIFT, as OpenCV rounds it; tan(67.5 deg) is this plus 2."""
SECTOR_SHIFT = 15
_MEASURE_MAX = np.iinfo(np.int32).max

Norm = Literal[1, 2]


def boundary_mask(
    image: NDArray[np.uint8], *, threshold: int = 50, bits: int = 1, norm: Norm = 2, saturation: int = 255
) -> NDArray[np.uint8]:
    """The BAM of a picture.

    Args:
        image: (H, W, 3) uint8 RGB or (H, W) uint8 grey, any size from 1 x 1.
        threshold: gradient magnitudes up to this count as no edge; 0 or more.
        bits: bits per pixel, 1 to 8.
        norm: of the gradient; 1 is |gx| + |gy|, 2 is sqrt(gx^2 + gy^2).
        saturation: magnitude from which an edge has the highest level; above `threshold`. Without effect for one bit.

    Returns:
        (H, W) uint8 levels: 0 away from edges, 1 to 2^bits - 1 on them, in equal steps of magnitude.

    Raises:
        ArgumentError: an option has a value not listed.
        ShapeError, EmptyImageError, DTypeError: the image is of another kind.
    """
    check_options(threshold=threshold, bits=bits, norm=norm, saturation=saturation)
    if bits == 1:
        import cv2

        edges = cv2.Canny(_blurred_luma(image), threshold, threshold, L2gradient=norm == 2)
        return np.bitwise_and(edges, 1, out=edges)
    mask, position, measure = _edge_pixels(image, threshold=threshold, norm=norm)
    table = level_table(threshold=threshold, bits=bits, norm=norm, saturation=saturation)
    mask.reshape(-1)[position] = 1 + np.searchsorted(table, measure, side="right")
    return mask


def sparse_magnitude(image: NDArray[np.uint8], *, threshold: int = 50, norm: Norm = 2) -> NDArray[np.float32]:
    """B_s of the paper: the gradient's magnitude on edges, 0 elsewhere, before it is reduced to levels.

    Args:
        image, threshold, norm: as for `boundary_mask`.

    Returns:
        (H, W) float32: 0, or above `threshold`. Whole numbers for norm 1, correctly rounded roots for norm 2.

    Raises:
        ArgumentError, ShapeError, EmptyImageError, DTypeError: as `boundary_mask`.
    """
    check_options(threshold=threshold, norm=norm)
    mask, position, measure = _edge_pixels(image, threshold=threshold, norm=norm)
    magnitude = np.zeros(mask.shape, np.float32)
    values = measure.astype(np.float32)
    magnitude.reshape(-1)[position] = values if norm == 1 else np.sqrt(values)
    return magnitude


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


@functools.lru_cache(maxsize=64)
def level_table(*, threshold: int, bits: int, norm: Norm, saturation: int) -> NDArray[np.int32]:
    """Smallest measure (|gx|+|gy|, or gx^2+gy^2 for norm 2) of the levels 2, 3, ..., 2^bits - 1, ascending.

    Level of an edge = 1 + number of entries that its measure reaches. Both sides of
    (2^k - 1)*magnitude >= (2^k - 1)*threshold + j*(saturation - threshold) are whole numbers, so nothing is rounded.
    """
    steps = (1 << bits) - 1
    bounds = [steps * threshold + j * (saturation - threshold) for j in range(1, steps)]
    smallest = [-(-(bound**norm) // steps**norm) for bound in bounds]
    table = np.array([min(value, _MEASURE_MAX) for value in smallest], np.int32)
    table.flags.writeable = False
    return table


def check_options(*, threshold: int, bits: int = 1, norm: int = 2, saturation: int | None = None) -> None:
    """Raise ArgumentError unless the options of `boundary_mask` are allowed."""
    if not isinstance(threshold, int) or threshold < 0:
        raise ArgumentError(f"threshold is {threshold!r}; it must be a whole number of at least 0.")
    if not isinstance(bits, int) or not 1 <= bits <= 8:
        raise ArgumentError(f"bits is {bits!r}; it must be 1 to 8.")
    if norm not in (1, 2):
        raise ArgumentError(f"norm is {norm!r}; it must be 1 or 2.")
    if saturation is not None and (not isinstance(saturation, int) or saturation <= threshold):
        raise ArgumentError(f"saturation is {saturation!r}; it must be a whole number above threshold, {threshold}.")


def boundary_mask_reference(
    image: NDArray[np.uint8], *, threshold: int = 50, bits: int = 1, norm: Norm = 2, saturation: int = 255
) -> NDArray[np.uint8]:
    """NumPy twin of `boundary_mask`: the definition step by step, without OpenCV. Same arguments, same bits."""
    check_options(threshold=threshold, bits=bits, norm=norm, saturation=saturation)
    _check_image(image)
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


def _blurred_luma(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    import cv2

    _check_image(image)
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
    mask = cv2.Canny(gx, gy, threshold, threshold, L2gradient=norm == 2)
    position = np.flatnonzero(mask)
    x = gx.reshape(-1)[position].astype(np.int32)
    y = gy.reshape(-1)[position].astype(np.int32)
    return mask, position, np.abs(x) + np.abs(y) if norm == 1 else x * x + y * y  # type: ignore[return-value]


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


def _check_image(image: NDArray[Any]) -> None:
    if image.ndim != 2 and (image.ndim != 3 or image.shape[2] != 3):
        raise ShapeError(f"The image has shape {image.shape}; it must be (H, W, 3) RGB or (H, W) grey.")
    if 0 in image.shape:
        raise EmptyImageError(f"The image has shape {image.shape} and so no pixels.")
    if image.dtype != np.uint8:
        raise DTypeError(f"The image is {image.dtype}; it must be uint8. Convert it first.")
