"""The BDFlow network: a Haar pyramid with invertible blocks on every level."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Literal, cast

import torch
from torch import Tensor, nn

from bdflow_rt.models.layers.coupling import InvBlock, Transform
from bdflow_rt.models.layers.haar import haar_forward, haar_inverse
from bdflow_rt.models.network import Network, NetworkOutput
from bdflow_rt.zoo.arch.bdflow import BDFlowConfig


class BDFlow(Network):
    """Invertible rescaling network.

    Args:
        config: the structure; `paper_config(scale)` gives the paper's.
    """

    config: BDFlowConfig

    def __init__(self, config: BDFlowConfig) -> None:
        super().__init__(config)
        quantizer = self.quantizer
        del self.quantizer  # Behind the levels: optimizers number parameters in their order.
        self.levels = nn.ModuleList(
            nn.ModuleList(InvBlock(config.channels(level), width, config.coupling) for _ in range(count))
            for level, (count, width) in enumerate(zip(config.blocks, config.hidden, strict=True), 1)
        )
        self.quantizer = quantizer

    def reset_parameters(self, *, zero_last: bool = True) -> None:
        """Start every transform again; with `zero_last=False` the zero-started convolutions too are random."""
        for module in self.modules():
            if isinstance(module, Transform):
                module.reset_parameters(zero_last=zero_last)

    def float32_modules(self, way: Literal["down", "up"]) -> Collection[nn.Module]:
        """The block that is computed last."""
        blocks = self._blocks()
        return (blocks[-1][-1],) if way == "down" else (blocks[0][0],)

    def down(self, planes: Tensor) -> NetworkOutput:
        x = planes
        for level, blocks in enumerate(self._blocks()):
            x = haar_forward(x) if level else x
            u1, u2 = x[:, :3], x[:, 3:]
            for block in blocks:
                u1, u2 = self.checkpointed(block, u1, u2)
            x = torch.cat((u1, u2), dim=1)
        boundary = u2[:, :1] if self.quantizer is not None else None
        return NetworkOutput(u1, boundary, u2[:, 1:] if self.quantizer is not None else u2)

    def up(self, lr: Tensor, boundary: Tensor | None = None, latent: Tensor | None = None) -> Tensor:
        if latent is None:
            n, _, h, w = lr.shape
            latent = lr.new_zeros(n, self.interface.latent_channels, h, w)
        x = torch.cat((lr, latent) if boundary is None else (lr, boundary, latent), dim=1)
        for level, blocks in reversed(list(enumerate(self._blocks()))):
            u1, u2 = x[:, :3], x[:, 3:]
            for block in reversed(blocks):
                u1, u2 = self.checkpointed(block, u1, u2, "up")
            x = torch.cat((u1, u2), dim=1)
            x = haar_inverse(x) if level else x
        return x

    def _blocks(self) -> list[list[InvBlock]]:
        # A module list is untyped to a type checker; this says what is in it.
        return [list(cast(Iterable[InvBlock], blocks)) for blocks in self.levels]
