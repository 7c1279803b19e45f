"""Differentiable twin of `metrics.bicubic` for training: the LR guidance compares the network's LR picture with it."""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from bdflow_rt.errors import ArgumentError, DTypeError, ShapeError
from bdflow_rt.metrics.bicubic import bicubic_taps


def bicubic_downscale(x: Tensor, scale: int) -> Tensor:
    """Shrink by a whole factor as `metrics.bicubic.bicubic_resize(x, scale=1/scale)`, antialiased, not clamped.

    Args:
        x: (N, C, H, W) float32 or float64; H and W are multiples of `scale`.
        scale: whole number >= 1.

    Returns:
        (N, C, H/scale, W/scale), same dtype and device; values may leave [0, 1] a little at sharp edges.

    Raises:
        ShapeError: x is not four-dimensional or its size is not a multiple of `scale`.
        DTypeError: x is not float32 or float64; half precision would be coarser than the 8 bits compared.
        ArgumentError: `scale` is not a whole number >= 1.
    """
    if not isinstance(scale, int) or scale < 1:
        raise ArgumentError(f"scale is {scale!r}; it must be a whole number of at least 1.")
    if x.ndim != 4 or 0 in x.shape or x.shape[2] % scale or x.shape[3] % scale:
        raise ShapeError(f"x has shape {tuple(x.shape)}; it must be (N, C, H, W), H and W multiples of {scale}.")
    if x.dtype not in (torch.float32, torch.float64):
        raise DTypeError(f"x is {x.dtype}; it must be torch.float32 or torch.float64.")
    rows = _weight_matrix(x.shape[2], scale, x.dtype, x.device)
    columns = _weight_matrix(x.shape[3], scale, x.dtype, x.device)
    # Autocast would run the products in half precision.
    with torch.autocast(x.device.type, enabled=False):
        return rows @ (x @ columns.T)


@functools.lru_cache(maxsize=32)
def _weight_matrix(length: int, scale: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """(length/scale, length): one row of weights per output sample. At crop sizes a dense product beats a gather."""
    indices, weights = bicubic_taps(length, length // scale, 1 / scale)
    matrix = torch.zeros(length // scale, length, dtype=torch.float64)
    # Near the border two taps can fall on one sample: they add up.
    matrix.scatter_add_(1, torch.tensor(indices), torch.tensor(weights))
    return matrix.to(dtype=dtype, device=device)
