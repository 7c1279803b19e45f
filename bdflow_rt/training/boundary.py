"""The boundary-aware mask on batches of tensors, and what training makes of it.

It is the mask of `bdflow_rt.kernels`: OpenCV's over a view of tensors on the CPU, the fused kernel for those on a GPU,
with the same bits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from bdflow_rt.errors import DTypeError, EmptyImageError, ShapeError
from bdflow_rt.kernels import boundary_mask as mask_of_arrays
from bdflow_rt.kernels import sparse_magnitude
from bdflow_rt.zoo.architecture import Architecture
from bdflow_rt.zoo.boundary import BoundaryConfig


def boundary_mask(x: Tensor, config: BoundaryConfig, bits: int, *, cell: int = 1) -> Tensor:
    """The BAM of every picture of a batch; same bits as `kernels.boundary_mask`.

    Args:
        x: (N, 3, H, W) uint8 RGB, any size from 1 x 1.
        config: threshold, norm and saturation; `source` is not looked at.
        bits: bits per pixel, 1 to 8.
        cell: power of two up to 64 that divides H and W; the result is the maximum of each cell x cell pixels.

    Returns:
        (N, H/cell, W/cell) uint8 levels, 0 to 2^bits - 1.

    Raises:
        ArgumentError: `bits` is out of range.
        ShapeError, EmptyImageError, DTypeError: x is of another kind.
        BackendError: x is on a GPU, and CuPy is missing or the kernel does not compile.
    """
    options = {"threshold": config.threshold, "norm": config.norm, "saturation": config.saturation}
    return _from_kernel(mask_of_arrays, x, bits=bits, cell=cell, **options)


def sparse_boundary(x: Tensor, config: BoundaryConfig) -> Tensor:
    """B_s of the paper for a batch: gradient magnitude on edges, else 0; equal to `kernels.sparse_magnitude`.

    Args:
        x: (N, 3, H, W) uint8 RGB.
        config: threshold and norm.

    Returns:
        (N, H, W) float32.

    Raises:
        ShapeError, EmptyImageError, DTypeError, BackendError: as `boundary_mask`.
    """
    return _from_kernel(sparse_magnitude, x, threshold=config.threshold, norm=config.norm)


def boundary_target(hr: Tensor, lr: Tensor, config: Architecture) -> Tensor:
    """What the network's boundary channel is trained towards: `boundary_levels` divided by 2^bits - 1.

    Arguments and errors are those of `boundary_levels`; (N, 1, H/scale, W/scale) float32 in [0, 1].
    """
    return boundary_levels(hr, lr, config) / config.interface().max_level


def boundary_levels(hr: Tensor, lr: Tensor, config: Architecture) -> Tensor:
    """The BAM at LR size.

    Args:
        hr: (N, 3, H, W) uint8, H and W multiples of the scale.
        lr: (N, 3, H/scale, W/scale) float in [0, 1], the LR picture; looked at only where the source is "lr".
        config: of the network: scale, bits and how the mask is made. With the mask's source "hr" every LR pixel gets
            the maximum of its cell of the HR mask, with "lr" the mask of the 8-bit LR picture.

    Returns:
        (N, 1, H/scale, W/scale) float32, whole levels 0..2^bits - 1, without gradient.

    Raises:
        ArgumentError: the network has no boundary channel (bits = 0).
        ShapeError, EmptyImageError, DTypeError: a picture is of another kind, or the sizes do not fit.
        BackendError: as `boundary_mask`.
    """
    _check_batch(hr)
    mask, interface = config.mask(), config.interface()
    scale, (count, _, height, width) = interface.scale, hr.shape
    if height % scale or width % scale or lr.shape != (count, 3, height // scale, width // scale):
        raise ShapeError(
            f"hr has shape {tuple(hr.shape)} and lr {tuple(lr.shape)}; for this x{scale} network they must be "
            f"(N, 3, {scale}h, {scale}w) and (N, 3, h, w)."
        )
    if mask.source == "hr":
        level = boundary_mask(hr, mask, interface.bits, cell=scale)
    else:
        pixels = lr.detach().mul(255).round().clamp(0, 255).to(torch.uint8)
        level = boundary_mask(pixels, mask, interface.bits)
    return level.unsqueeze(1).float()


def boundary_aware_weight(hr: Tensor, config: BoundaryConfig, *, base: float = 2.0) -> Tensor:
    """BAW, the weight of the reconstruction loss that is larger on edges (paper, eq. 4, after its warm-up).

    Args:
        hr: (N, 3, H, W) uint8.
        config: threshold and norm of B_s.
        base: the paper's l2, the weight away from edges.

    Returns:
        (N, 1, H, W) float32: `base`, plus B_s scaled per picture to 0..1. A picture whose B_s is the same
        everywhere, so one without any edge, has `base` everywhere.

    Raises:
        ShapeError, EmptyImageError, DTypeError, BackendError: as `boundary_mask`.
    """
    sparse = sparse_boundary(hr, config).unsqueeze(1)
    low = sparse.amin(dim=(2, 3), keepdim=True)
    span = sparse.amax(dim=(2, 3), keepdim=True) - low
    return base + (sparse - low) / torch.where(span > 0, span, 1)


def _from_kernel(kernel: Callable[..., Any], x: Tensor, **options: Any) -> Tensor:
    _check_batch(x)
    if x.is_cuda:
        return kernel(x, layout="CHW", **options)
    return torch.from_numpy(kernel(x.numpy(), layout="CHW", **options))


def _check_batch(x: Tensor) -> None:
    if x.ndim != 4 or x.shape[1] != 3:
        raise ShapeError(f"The batch has shape {tuple(x.shape)}; it must be (N, 3, H, W).")
    if 0 in x.shape:
        raise EmptyImageError(f"The batch has shape {tuple(x.shape)} and so no pixels.")
    if x.dtype != torch.uint8:
        raise DTypeError(f"The batch is {x.dtype}; it must be torch.uint8.")
