"""PIQE, how much of a picture's active blocks is spoilt by artefacts or noise (Venkatanath et al., 2015).

It needs neither a reference nor parameters, and follows MATLAB's `piqe`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bdflow_rt.errors import DTypeError, EmptyImageError, ShapeError
from bdflow_rt.metrics.contrast import blocks_of, normalised_contrast

_BLOCK = 16
_SEGMENT = 6
"""Length in pixels of the pieces of a block's edge that are looked at."""
_ACTIVE_VARIANCE = 0.1
_FLAT_DEVIATION = 0.1
_STABILISER = 1.0
_RGB_TO_GREY = np.array([0.298936021293776, 0.587043074451121, 0.114020904255103])
"""MATLAB's rgb2gray."""
_CENTRE = (_BLOCK // 2 - 1, _BLOCK // 2)
_SURROUND = tuple(column for column in range(_BLOCK) if column not in (_BLOCK // 2 - 1, _BLOCK // 2 + 1))
"""MATLAB removes the second centre column after the first, when it has moved by one; its numbers are the published."""


def piqe(image: NDArray[np.uint8]) -> float:
    """PIQE; 0 is best, 100 worst, which a picture without any active block has too.

    Args:
        image: (H, W, 3) uint8 RGB or (H, W) uint8 grey, of any size; sides are padded to multiples of 16 by
            repeating the edge.

    Raises:
        ShapeError, EmptyImageError, DTypeError: the image is of another kind.

    Source: equations 1 to 13; where paper and MATLAB's `piqe` differ, the latter.
    """
    contrast = normalised_contrast(_grey(image))
    blocks = blocks_of(contrast, _BLOCK)
    variance = blocks.var(axis=(1, 2), ddof=1)
    active = variance > _ACTIVE_VARIANCE
    blocks, variance = blocks[active], variance[active]
    spoilt = _has_flat_segment(blocks) * (1 - variance) + _is_noisy(blocks, variance) * variance
    return float((spoilt.sum() + _STABILISER) / (len(blocks) + _STABILISER) * 100)


def _grey(image: NDArray[np.uint8]) -> NDArray[np.float64]:
    """(H, W) float64 of whole numbers, padded to multiples of the block."""
    if image.ndim != 2 and (image.ndim != 3 or image.shape[2] != 3):
        raise ShapeError(f"The image has shape {image.shape}; it must be (H, W, 3) RGB or (H, W) grey.")
    if image.dtype != np.uint8:
        raise DTypeError(f"The image is {image.dtype}; it must be uint8.")
    if 0 in image.shape:
        raise EmptyImageError(f"The image has shape {image.shape} and so no pixels.")
    grey = image.astype(np.float64) if image.ndim == 2 else np.floor(image @ _RGB_TO_GREY + 0.5)
    return np.pad(grey, [(0, -length % _BLOCK) for length in grey.shape], mode="edge")


def _has_flat_segment(blocks: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which blocks have, on one of their four edges, six neighbours that hardly differ: an artefact's mark."""
    edges = np.stack([blocks[:, 0], blocks[:, -1], blocks[:, :, 0], blocks[:, :, -1]], axis=1)
    segments = np.lib.stride_tricks.sliding_window_view(edges, _SEGMENT, axis=2)
    return (segments.std(axis=3, ddof=1) < _FLAT_DEVIATION).any(axis=(1, 2))


def _is_noisy(blocks: NDArray[np.float64], variance: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which blocks deviate more than twice what their centre columns differ from the rest."""
    deviation = np.sqrt(variance)
    centre, surround = (blocks[:, :, columns].std(axis=(1, 2), ddof=1) for columns in (_CENTRE, _SURROUND))
    # An active block can lack variance in its surround only if all of it lies in the two columns left out.
    ratio = np.divide(centre, surround, out=np.full_like(centre, np.inf), where=surround > 0)
    with np.errstate(invalid="ignore"):
        beta = np.abs(deviation - ratio) / np.maximum(deviation, ratio)
    return deviation > 2 * beta
