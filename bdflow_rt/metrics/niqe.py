"""NIQE, the distance of a picture's statistics from those of natural pictures (Mittal, Soundararajan and Bovik, 2013).

It needs no reference. The statistics of natural pictures, as the authors fitted them, are not part of the package:
they are read from `niqe_pris_params.npz` (keys `mu_pris_param` (1, 36) and `cov_pris_param` (36, 36)).
"""

from __future__ import annotations

import functools
import math
import os

import numpy as np
from numpy.typing import NDArray

from bdflow_rt.errors import CorruptModelError, ShapeError
from bdflow_rt.metrics.bicubic import bicubic_resize
from bdflow_rt.metrics.contrast import blocks_of, normalised_contrast
from bdflow_rt.metrics.parameters import find_parameters, read_parameters
from bdflow_rt.metrics.psnr import rgb_to_y

MIN_SIZE = 192
"""Smallest height and width: four blocks. The covariance of fewer is noise."""
_BLOCK = 96
_FILE, _WHAT = "niqe_pris_params.npz", "NIQE parameters"
_ROUNDING = 1e-6
"""A block of no larger contrast is flat; its features would be those of floating-point noise."""
_NEIGHBOURS = ((0, 1), (1, 0), (1, 1), (1, -1))
"""Shifts in (rows, columns) to the horizontal, vertical and the two diagonal neighbours."""
_FEATURES = 2 * (2 + 4 * len(_NEIGHBOURS))


class Niqe:
    """The metric with the statistics of natural pictures it compares with.

    Args:
        path: the .npz file; None looks for metrics/niqe_pris_params.npz in the folder that BDFLOW_DATA names.

    Raises:
        MissingFileError: the file does not exist, or `path` is None and BDFLOW_DATA is not set.
        CorruptModelError: the file does not hold these parameters.
    """

    def __init__(self, *, path: str | os.PathLike[str] | None = None) -> None:
        found = find_parameters(_FILE, path, what=_WHAT)
        arrays = read_parameters(found, what=_WHAT)
        for name, shape in (("mu_pris_param", (1, _FEATURES)), ("cov_pris_param", (_FEATURES, _FEATURES))):
            if name not in arrays or arrays[name].shape != shape:
                raise CorruptModelError(f"{found} does not hold the {_WHAT}: {name} is missing or of another shape.")
        self._mean: NDArray[np.float64] = arrays["mu_pris_param"][0].astype(np.float64)
        self._covariance: NDArray[np.float64] = arrays["cov_pris_param"].astype(np.float64)

    def __call__(self, image: NDArray[np.uint8]) -> float:
        """NIQE on luma; lower is more natural, photographs have about 2 to 6.

        Where areas are exactly flat, clipped skies for example, the definition counts the signs of rounding errors:
        there two implementations in float64 were seen to differ by up to 0.13, and by 1e-5 where there are none.

        Args:
            image: (H, W, 3) uint8 RGB or (H, W) uint8 grey, both sides at least 192. Only whole blocks of 96 x 96
                pixels count, from the top left. The luma (`rgb_to_y`) is rounded, as published numbers have it.

        Returns:
            The distance; NaN where fewer than two blocks have a texture that could be described.

        Raises:
            ShapeError, DTypeError: the image is smaller or of another kind.

        Source: equations 1 to 10 and the authors' MATLAB code, `computequality` with blocks of 96 and no overlap.
        """
        luma = np.round(rgb_to_y(image))
        if min(luma.shape) < MIN_SIZE:
            raise ShapeError(
                f"The picture has {luma.shape[1]} x {luma.shape[0]} pixels; NIQE needs at least "
                f"{MIN_SIZE} x {MIN_SIZE}: what it says of smaller ones is noise."
            )
        height, width = (length // _BLOCK * _BLOCK for length in luma.shape)
        luma = luma[:height, :width]
        features = np.hstack(
            [
                _block_features(blocks_of(normalised_contrast(luma), _BLOCK)),
                _block_features(blocks_of(normalised_contrast(bicubic_resize(luma, scale=0.5)), _BLOCK // 2)),
            ]
        )
        described = features[~np.isnan(features).any(axis=1)]
        if len(described) < 2:
            return math.nan
        # As the authors' nanmean and nancov: a block that lacks one feature still counts for the mean of the others.
        away = self._mean - np.nanmean(features, axis=0)
        pooled = (self._covariance + np.cov(described, rowvar=False)) / 2
        return math.sqrt(float(away @ np.linalg.pinv(pooled) @ away))


def _block_features(blocks: NDArray[np.float64]) -> NDArray[np.float64]:
    """(blocks, 18): shape and width of the contrast, then shape, mean and both widths of each neighbours' product."""
    alpha, _, left, right = _asymmetric_gaussian(blocks)
    columns = [alpha, (left + right) / 2]
    for shift in _NEIGHBOURS:
        columns += _asymmetric_gaussian(blocks * np.roll(blocks, shift, axis=(1, 2)))
    features = np.stack(columns, axis=1)
    features[np.abs(blocks).max(axis=(1, 2)) < _ROUNDING] = np.nan
    return features


def _asymmetric_gaussian(blocks: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    """Shape, mean, left and right width of an asymmetric generalised Gaussian fitted to each block by its moments.

    A side without values leaves NaN in its width, and then the smallest shape: what the authors' search finds.
    """
    squares = blocks * blocks
    with np.errstate(divide="ignore", invalid="ignore"):
        left, right = (
            np.sqrt((squares * side).sum(axis=(1, 2)) / side.sum(axis=(1, 2))) for side in (blocks < 0, blocks > 0)
        )
        skew = left / right
        spread = np.abs(blocks).mean(axis=(1, 2)) ** 2 / squares.mean(axis=(1, 2))
        spread *= (skew**3 + 1) * (skew + 1) / (skew**2 + 1) ** 2
    shapes, spreads, widths, means = _shape_table()
    nearest = np.searchsorted((spreads[1:] + spreads[:-1]) / 2, np.where(np.isnan(spread), -1, spread))
    left, right = left * widths[nearest], right * widths[nearest]
    return [shapes[nearest], (right - left) * means[nearest], left, right]


@functools.cache
def _shape_table() -> tuple[NDArray[np.float64], ...]:
    """For shapes 0.2, 0.201 ... 10: the shape, G(2/a)^2/(G(1/a)G(3/a)), sqrt(G(1/a)/G(3/a)) and G(2/a)/G(1/a)."""
    shapes = np.arange(200, 10001) / 1000
    first, second, third = (np.array([math.gamma(k / shape) for shape in shapes]) for k in (1, 2, 3))
    return shapes, second**2 / (first * third), np.sqrt(first / third), second / first
