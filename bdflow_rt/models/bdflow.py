"""The BDFlow network: a Haar pyramid with invertible blocks on every level."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from bdflow_rt.errors import ShapeError
from bdflow_rt.latent import latent_rows
from bdflow_rt.models.coupling import InvBlock, Transform
from bdflow_rt.models.haar import haar_forward, haar_inverse
from bdflow_rt.models.quantize import BoundaryQuantizer, quantize_lr
from bdflow_rt.zoo.config import ModelConfig


class FlowOutput(NamedTuple):
    """What the down direction returns, not yet quantised, at H/scale x W/scale."""

    lr: Tensor
    """Y, (N, 3, h, w): the LR image, near [0, 1]."""
    boundary: Tensor | None
    """B, (N, 1, h, w): the boundary channel; None for a model with 0 bits."""
    latent: Tensor
    """Z, (N, 3*4^n - 4, h, w), or one channel more with 0 bits."""


class BDFlow(nn.Module):
    """Invertible rescaling network.

    Args:
        config: the structure; `paper_config(scale)` gives the paper's.

    `checkpoint_gradients`: set to True to recompute each block in the backward pass instead of keeping its
    activations; memory then grows with one block instead of all.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.checkpoint_gradients = False
        self.levels = nn.ModuleList(
            nn.ModuleList(InvBlock(config.channels(level), width, config.coupling) for _ in range(count))
            for level, (count, width) in enumerate(zip(config.blocks, config.hidden, strict=True), 1)
        )
        self.quantizer = BoundaryQuantizer(config) if config.bits else None

    def reset_parameters(self, *, zero_last: bool = True) -> None:
        """Start every transform again; with `zero_last=False` the zero-started convolutions too are random."""
        for module in self.modules():
            if isinstance(module, Transform):
                module.reset_parameters(zero_last=zero_last)

    def forward(self, x: Tensor) -> FlowOutput:
        """Down: (N, 3, H, W) in [0, 1] to Y, B and Z, before quantisation.

        Raises:
            ShapeError: x is not (N, 3, H, W) with H and W multiples of the scale.
        """
        scale = self.config.scale
        if x.ndim != 4 or x.shape[1] != 3 or x.shape[2] % scale or x.shape[3] % scale:
            raise ShapeError(
                f"BDFlow x{scale} got shape {tuple(x.shape)}; (N, 3, H, W) with H and W multiples of {scale} is needed."
            )
        return self.down(haar_forward(x))

    def down(self, planes: Tensor) -> FlowOutput:
        """`forward` from the first-level Haar planes (N, 12, H/2, W/2), as the kernel `ingest` makes them."""
        x = planes
        for level, blocks in enumerate(self._blocks()):
            x = haar_forward(x) if level else x
            u1, u2 = x[:, :3], x[:, 3:]
            for block in blocks:
                u1, u2 = self._apply_block(block, u1, u2)
            x = torch.cat((u1, u2), dim=1)
        boundary = u2[:, :1] if self.quantizer is not None else None
        return FlowOutput(u1, boundary, u2[:, 1:] if self.quantizer is not None else u2)

    def inverse(self, lr: Tensor, boundary: Tensor | None = None, latent: Tensor | None = None) -> Tensor:
        """Up: what `forward` returned, or its quantised stand-ins, back to (N, 3, H, W).

        Args:
            lr: (N, 3, h, w).
            boundary: (N, 1, h, w) channel values (not levels); None where the model has 0 bits.
            latent: (N, config.latent_channels, h, w); None is Z = 0.

        Raises:
            ShapeError: a boundary is missing or superfluous, or the sizes differ.
        """
        return haar_inverse(self.up(lr, boundary, latent))

    def up(self, lr: Tensor, boundary: Tensor | None = None, latent: Tensor | None = None) -> Tensor:
        """`inverse` up to the first-level Haar planes (N, 12, H/2, W/2), as the kernel `egress` takes them."""
        n, _, h, w = lr.shape
        if (boundary is None) != (self.quantizer is None):
            raise ShapeError(
                f"A model with {self.config.bits} bits takes {'a' if self.quantizer is not None else 'no'} boundary."
            )
        if latent is None:
            latent = lr.new_zeros(n, self.config.latent_channels, h, w)
        x = torch.cat((lr, latent) if boundary is None else (lr, boundary, latent), dim=1)
        for level, blocks in reversed(list(enumerate(self._blocks()))):
            u1, u2 = x[:, :3], x[:, 3:]
            for block in reversed(blocks):
                u1, u2 = self._apply_block(block.inverse, u1, u2)
            x = torch.cat((u1, u2), dim=1)
            x = haar_inverse(x) if level else x
        return x

    def quantize(self, output: FlowOutput, hr: Tensor) -> tuple[Tensor, Tensor | None]:
        """What crosses the wire, as values: Y in steps of 1/255, B as (q - o)*g; gradients pass straight through.

        Args:
            output: what `forward` made of `hr`.
            hr: (N, 3, H, W) in [0, 1], to which Y is bound.
        """
        lr = quantize_lr(output.lr, hr)
        if self.quantizer is None or output.boundary is None:
            return lr, None
        return lr, self.quantizer(output.boundary)

    def sample_latent(self, lr: Tensor, *, temperature: float, seed: int) -> Tensor:
        """Z ~ N(0, temperature^2) for an LR batch; the paper's prior N(0, 0.2) has temperature sqrt(0.2).

        The Z that a packet with that seed gets, see `bdflow_rt.latent`; picture i of the batch gets seed + i.
        """
        n, _, h, w = lr.shape
        channels = self.config.latent_channels
        drawn = [
            latent_rows(range(h), columns=range(w), width=w, channels=channels, temperature=temperature, seed=seed + i)
            for i in range(n)
        ]
        return torch.from_numpy(np.stack(drawn)).to(lr)

    def _blocks(self) -> list[list[InvBlock]]:
        # A module list is untyped to a type checker; this says what is in it.
        return [list(cast(Iterable[InvBlock], blocks)) for blocks in self.levels]

    def _apply_block(
        self, function: Callable[..., tuple[Tensor, Tensor]], u1: Tensor, u2: Tensor
    ) -> tuple[Tensor, Tensor]:
        if self.checkpoint_gradients and torch.is_grad_enabled():
            return checkpoint(function, u1, u2, use_reentrant=False, preserve_rng_state=False)
        return function(u1, u2)
