"""The boundary-aware mask on batches of tensors, and what training makes of it.

On a GPU with CuPy and NVRTC it is the fused kernel of `bdflow_rt.kernels`, else torch's own operators. Everything up to
the levels is integer arithmetic, so all agree on every bit.
"""

from __future__ import annotations

import functools
import warnings
from typing import NamedTuple

import torch
from torch import Tensor

from bdflow_rt.errors import BackendUnavailableError, DTypeError, EmptyImageError, ShapeError
from bdflow_rt.interop import has_cuda
from bdflow_rt.kernels import boundary_mask as fused_mask
from bdflow_rt.kernels import sparse_magnitude as fused_magnitude
from bdflow_rt.kernels.boundary_definition import (
    BLUR_SHIFT,
    BLUR_WEIGHTS,
    LUMA_SHIFT,
    LUMA_WEIGHTS,
    SECTOR_SHIFT,
    TAN_22_5,
    Norm,
    check_options,
    level_table,
)
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
    """
    check_options(threshold=config.threshold, bits=bits, norm=config.norm, saturation=config.saturation)
    _check_batch(x)
    options = {"threshold": config.threshold, "norm": config.norm, "saturation": config.saturation}
    if _takes_kernel(x):
        return fused_mask(x, bits=bits, cell=cell, layout="CHW", **options)
    edges = _edges(x, config)
    level = edges.mask.to(torch.int32)
    if bits > 1:
        table = _level_table(x.device, bits=bits, **options)
        level += level * torch.bucketize(edges.measure, table, out_int32=True, right=True)
    count, height, width = level.shape
    masks = level.to(torch.uint8)
    return masks if cell == 1 else masks.view(count, height // cell, cell, width // cell, cell).amax(dim=(2, 4))


def sparse_boundary(x: Tensor, config: BoundaryConfig) -> Tensor:
    """B_s of the paper for a batch: gradient magnitude on edges, else 0; equal to `kernels.sparse_magnitude`.

    Args:
        x: (N, 3, H, W) uint8 RGB.
        config: threshold and norm.

    Returns:
        (N, H, W) float32.

    Raises:
        ShapeError, EmptyImageError, DTypeError: x is of another kind.
    """
    _check_batch(x)
    if _takes_kernel(x):
        return fused_magnitude(x, threshold=config.threshold, norm=config.norm, layout="CHW")
    edges = _edges(x, config)
    measure = edges.measure * edges.mask
    # In double, because torch's vectorised float32 root is off by one unit in the last place on some CPUs.
    return measure.float() if config.norm == 1 else measure.double().sqrt().float()


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
        ShapeError, EmptyImageError, DTypeError: hr is of another kind.
    """
    sparse = sparse_boundary(hr, config).unsqueeze(1)
    low = sparse.amin(dim=(2, 3), keepdim=True)
    span = sparse.amax(dim=(2, 3), keepdim=True) - low
    return base + (sparse - low) / torch.where(span > 0, span, 1)


class _Edges(NamedTuple):
    mask: Tensor
    """(N, H, W) bool: a local maximum above the threshold."""
    measure: Tensor
    """(N, H, W) int32: |gx| + |gy| for norm 1, gx^2 + gy^2 for norm 2."""


def _takes_kernel(x: Tensor) -> bool:
    return x.is_cuda and has_cuda() and _kernels_compile()


@functools.cache
def _kernels_compile() -> bool:
    try:
        fused_mask(torch.zeros(1, 3, 2, 2, dtype=torch.uint8, device="cuda"), layout="CHW")
    except BackendUnavailableError as error:
        warnings.warn(f"Masks are made by PyTorch's operators, which are slower: {error}", RuntimeWarning, stacklevel=2)
        return False
    return True


@torch.no_grad()
def _edges(x: Tensor, config: BoundaryConfig) -> _Edges:
    gx, gy = _sobel(_blur(_luma(x)))
    measure = gx.abs() + gy.abs() if config.norm == 1 else gx * gx + gy * gy
    # The largest measure is below 2^22: a huge threshold must not overflow the comparison.
    limit = min(config.threshold**config.norm, 1 << 22)
    return _Edges(_local_maximum(gx, gy, measure).logical_and_(measure > limit), measure)


def _luma(x: Tensor) -> Tensor:
    red, green, blue = (x[:, channel].int() * weight for channel, weight in enumerate(LUMA_WEIGHTS))
    return (red + green + blue + (1 << (LUMA_SHIFT - 1))) >> LUMA_SHIFT


def _blur(grey: Tensor) -> Tensor:
    height, width = grey.shape[1:]
    padded = _mirrored(_mirrored(grey, 1), 2)
    rows = _weighted([padded[:, tap : tap + height] for tap in range(5)])
    total = _weighted([rows[:, :, tap : tap + width] for tap in range(5)])
    return (total + (1 << (BLUR_SHIFT - 1))) >> BLUR_SHIFT


def _weighted(taps: list[Tensor]) -> Tensor:
    total = taps[0] * BLUR_WEIGHTS[0]
    for tap, weight in zip(taps[1:], BLUR_WEIGHTS[1:], strict=True):
        total.add_(tap, alpha=weight)
    return total


def _sobel(smooth: Tensor) -> tuple[Tensor, Tensor]:
    padded = _repeated(_repeated(smooth, 1), 2)
    across = padded[:, :, 2:] - padded[:, :, :-2]
    along = padded[:, :, 2:] + padded[:, :, :-2] + 2 * padded[:, :, 1:-1]
    return across[:, :-2] + 2 * across[:, 1:-1] + across[:, 2:], along[:, 2:] - along[:, :-2]


def _local_maximum(gx: Tensor, gy: Tensor, measure: Tensor) -> Tensor:
    """Suppression of non-maxima with OpenCV's sectors and ties: of two equal neighbours the left or upper one wins."""
    height, width = measure.shape[1:]
    padded = torch.nn.functional.pad(measure, (1, 1, 1, 1))

    def neighbour(down: int, right: int) -> Tensor:
        return padded[:, 1 + down : 1 + down + height, 1 + right : 1 + right + width]

    x, y = gx.abs(), gy.abs() << SECTOR_SHIFT
    low, high = x * TAN_22_5, x * (TAN_22_5 + (2 << SECTOR_SHIFT))
    horizontal = (measure > neighbour(0, -1)) & (measure >= neighbour(0, 1))
    vertical = (measure > neighbour(-1, 0)) & (measure >= neighbour(1, 0))
    falling = (measure > neighbour(-1, -1)) & (measure > neighbour(1, 1))
    rising = (measure > neighbour(-1, 1)) & (measure > neighbour(1, -1))
    diagonal = torch.where((gx ^ gy) < 0, rising, falling)
    return torch.where(y < low, horizontal, torch.where(y > high, vertical, diagonal))


def _mirrored(x: Tensor, axis: int) -> Tensor:
    """Two more samples at both ends of an axis, mirrored at the edge pixel: c b | a b c | b a."""
    length = x.shape[axis]
    period = max(2 * (length - 1), 1)
    # Computed where the pictures lie: a copy from the host has no place in a CUDA graph.
    position = torch.arange(-2, length + 2, device=x.device) % period
    return x.index_select(axis, torch.minimum(position, period - position))


def _repeated(x: Tensor, axis: int) -> Tensor:
    """One more sample at both ends of an axis, equal to its neighbour."""
    length = x.shape[axis]
    return x.index_select(axis, torch.arange(-1, length + 1, device=x.device).clamp(0, length - 1))


@functools.cache
def _level_table(device: torch.device, *, threshold: int, bits: int, norm: Norm, saturation: int) -> Tensor:
    table = level_table(threshold=threshold, bits=bits, norm=norm, saturation=saturation)
    return torch.tensor(table, device=device)


def _check_batch(x: Tensor) -> None:
    if x.ndim != 4 or x.shape[1] != 3:
        raise ShapeError(f"The batch has shape {tuple(x.shape)}; it must be (N, 3, H, W).")
    if 0 in x.shape:
        raise EmptyImageError(f"The batch has shape {tuple(x.shape)} and so no pixels.")
    if x.dtype != torch.uint8:
        raise DTypeError(f"The batch is {x.dtype}; it must be torch.uint8.")
