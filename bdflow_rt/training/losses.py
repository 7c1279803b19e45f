"""The five losses of the paper (eq. 7-11) and their weighted sum.

The paper gives no reductions. Here each loss is the mean over all its values, batch included, so that the weights
mean the same for every crop, batch and scale.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from bdflow_rt.errors import ArgumentError, TrainingConfigError
from bdflow_rt.metrics.psnr import LUMA

_T = TypeVar("_T")

LATENT_VARIANCE = 0.2
"""Variance of the prior of Z (paper, section 3.3)."""


@dataclass(frozen=True)
class LossWeights:
    """Weights l1..l5 of the total loss; the defaults are the paper's (section 4.2). A loss of weight 0 is not computed.

    Attributes:
        lr: LR guidance, L2 between the LR picture and the bicubic one.
        reconstruction: L1 between the HR picture and the restored one; also the base of BAW.
        lpips: perceptual distance of the restored picture.
        boundary: L2 between the boundary channel and the mask.
        latent: negative log-likelihood of Z.
        baw: whether edges weigh more in the reconstruction loss once the warm-up is over (eq. 4).
        luma: L1 between the lumas of the HR picture and the restored one, on top of it: what the eye sees most, and
            what PSNR-Y measures. Not in the paper.
    """

    lr: float = 2.0
    reconstruction: float = 2.0
    lpips: float = 1.0
    boundary: float = 16.0
    latent: float = 4.0
    baw: bool = True
    luma: float = 0.0

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name == "baw":
                if type(value) is not bool:
                    raise TrainingConfigError(f"loss.baw is {value!r}; it must be true or false.")
            elif type(value) not in (int, float) or not (math.isfinite(value) and value >= 0):
                raise TrainingConfigError(f"Loss weight {field.name} is {value!r}; it must be finite and at least 0.")


def reconstruction_loss(restored: Tensor, hr: Tensor, weight: Tensor | float) -> Tensor:
    """Mean of weight * |difference|, both (N, 3, H, W) in [0, 1].

    Args:
        weight: BAW, (N, 1, H, W), or one number. It is not normalised: the loss carries its own weight.
    """
    return ((restored - hr).abs() * weight).mean()


def luma_loss(restored: Tensor, hr: Tensor) -> Tensor:
    """Mean |difference| of the luma of BT.601 in full range, both (N, 3, H, W) in [0, 1]."""
    return ((restored - hr) * _luma_weights(restored.device, restored.dtype)).sum(dim=1).abs().mean()


@functools.cache
def _luma_weights(device: torch.device, dtype: torch.dtype) -> Tensor:
    # Made once: a copy from the host has no place in a CUDA graph.
    return torch.tensor(LUMA, device=device, dtype=dtype).view(1, 3, 1, 1)


def latent_loss(latent: Tensor) -> Tensor:
    """-log N(Z; 0, 0.2) but for its constant: mean(Z^2) / 0.4."""
    return latent.square().mean() / (2 * LATENT_VARIANCE)


def total_loss(
    weights: LossWeights,
    *,
    hr: Tensor,
    restored: Tensor,
    lr: Tensor,
    lr_reference: Tensor,
    boundary_value: Tensor | None = None,
    boundary_target: Tensor | None = None,
    latent: Tensor | None = None,
    baw: Tensor | None = None,
    lpips: Callable[[Tensor, Tensor], Tensor] | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """The weighted sum of the losses.

    Args:
        weights: of the losses.
        hr, restored: (N, 3, H, W) in [0, 1].
        lr, lr_reference: (N, 3, h, w) in [0, 1], the network's LR picture before quantisation and the bicubic one.
        boundary_value, boundary_target: (N, 1, h, w): (b/g + o)/(2^k - 1) and level/(2^k - 1). Both None for a
            network without a boundary channel: the loss is then left out.
        latent: Z of any shape; needed unless its weight is 0.
        baw: (N, 1, H, W) weight of the reconstruction, in place of `weights.reconstruction`; None during warm-up.
        lpips: perceptual distance of two pictures in [0, 1], (N,) or a scalar; needed unless its weight is 0.

    Returns:
        The loss, a scalar; and its parts by name, without gradient, before the weight: "lr" and "boundary" are mean
        squares, the others as the functions above give them, "reconstruction" without BAW.

    Raises:
        ArgumentError: an input that a weight asks for is missing.
    """
    terms: list[Tensor] = []
    parts: dict[str, Tensor] = {}

    def add(name: str, value: Tensor, weight: float) -> None:
        terms.append(weight * value)
        parts[name] = value.detach()

    if weights.lr:
        add("lr", (lr - lr_reference).square().mean(), weights.lr)
    if weights.reconstruction:
        if baw is None:
            add("reconstruction", reconstruction_loss(restored, hr, 1.0), weights.reconstruction)
        else:
            terms.append(reconstruction_loss(restored, hr, baw))
            parts["reconstruction"] = reconstruction_loss(restored.detach(), hr, 1.0)
    if weights.luma:
        add("luma", luma_loss(restored, hr), weights.luma)
    if weights.lpips:
        add("lpips", _required("lpips", lpips)(restored, hr).mean(), weights.lpips)
    if weights.boundary and (boundary_value is not None or boundary_target is not None):
        value, target = _required("boundary_value", boundary_value), _required("boundary_target", boundary_target)
        add("boundary", (value - target).square().mean(), weights.boundary)
    if weights.latent:
        add("latent", latent_loss(_required("latent", latent)), weights.latent)
    if not terms:
        raise ArgumentError("All loss weights are 0, so nothing would be trained; set at least one above 0.")
    return sum(terms[1:], start=terms[0]), parts


def _required(name: str, value: _T | None) -> _T:
    if value is None:
        raise ArgumentError(f"{name} is None, but its loss has a weight; pass it, or set the weight to 0.")
    return value
