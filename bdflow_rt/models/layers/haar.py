"""The Haar transform between the levels, without parameters and exactly invertible up to rounding."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.overrides import handle_torch_function, has_torch_function_unary

from bdflow_rt.errors import ShapeError


def haar_forward(x: Tensor) -> Tensor:
    """One level of Haar analysis, the four bands grouped band-major.

    Args:
        x: (N, C, H, W) floating point; H and W even.

    Returns:
        (N, 4C, H/2, W/2): all averages A = (a+b+c+d)/4, then all H = (a-b+c-d)/4, V = (a+b-c-d)/4 and
        D = (a-b-c+d)/4 of each 2x2 cell a b / c d.

    Raises:
        ShapeError: x is not four-dimensional, or H or W is odd.

    Source: convention of IRN, so its checkpoints fit.
    """
    if has_torch_function_unary(x):
        return handle_torch_function(haar_forward, (x,), x)
    if x.ndim != 4 or x.shape[2] % 2 or x.shape[3] % 2:
        raise ShapeError(f"haar_forward got shape {tuple(x.shape)}; (N, C, H, W) with even H and W is needed.")
    a, b = x[:, :, 0::2, 0::2], x[:, :, 0::2, 1::2]
    c, d = x[:, :, 1::2, 0::2], x[:, :, 1::2, 1::2]
    top, bottom, left, right = a + b, c + d, a - b, c - d
    return torch.cat((top + bottom, left + right, top - bottom, left - right), dim=1) * 0.25


def haar_inverse(bands: Tensor) -> Tensor:
    """Haar synthesis: a = A+H+V+D, b = A-H+V-D, c = A+H-V-D, d = A-H-V+D.

    Args:
        bands: (N, 4C, h, w), band-major as `haar_forward` returns them.

    Returns:
        (N, C, 2h, 2w), same dtype.

    Raises:
        ShapeError: bands is not four-dimensional, or its channels are not a multiple of 4.
    """
    if has_torch_function_unary(bands):
        return handle_torch_function(haar_inverse, (bands,), bands)
    if bands.ndim != 4 or bands.shape[1] % 4:
        raise ShapeError(f"haar_inverse got shape {tuple(bands.shape)}; (N, 4C, h, w) is needed.")
    n, channels, h, w = bands.shape
    average, horizontal, vertical, diagonal = bands.chunk(4, dim=1)
    top, bottom = average + vertical, average - vertical
    left, right = horizontal + diagonal, horizontal - diagonal
    cells = torch.stack((top + left, top - left, bottom + right, bottom - right), dim=2)
    cells = cells.view(n, channels // 4, 2, 2, h, w).permute(0, 1, 4, 2, 5, 3)
    return cells.reshape(n, channels // 4, 2 * h, 2 * w)
