"""An architecture that the package does not know: lifting on RGB planes, x2, with a boundary map of 2 bits."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from bdflow_rt.models.layers.haar import haar_forward, haar_inverse
from bdflow_rt.models.network import Network, NetworkOutput
from bdflow_rt.zoo.architecture import Architecture, architecture
from bdflow_rt.zoo.interface import ModelInterface


@architecture("toy", module="tests.toy:Toy")
@dataclass(frozen=True)
class ToyConfig(Architecture):
    """`width` hidden channels in each of two steps."""

    width: int = 8

    def interface(self) -> ModelInterface:
        return ModelInterface(
            scale=2, activation_bytes=4 * (24 + 3 * self.width), halo=self.receptive_field(), bits=2,
            latent_channels=8, core_input="rgb",
        )  # fmt: skip

    def parameters(self) -> int:
        return 2 * (9 * 12 * self.width) + 2 * self.width + 12

    def macs(self, height: int, width: int) -> int:
        return height * width // 4 * 18 * 12 * self.width

    def receptive_field(self) -> int:
        return 4


class Toy(Network):
    """u1 += 0.1 f(u2), u2 += 0.1 g(u1) on the Haar bands of the picture."""

    def __init__(self, config: ToyConfig) -> None:
        super().__init__(config)
        conv = partial(nn.Conv2d, kernel_size=3, padding=1)
        self.f, self.g = (
            nn.Sequential(conv(i, config.width), nn.LeakyReLU(0.2), conv(config.width, 12 - i)) for i in (9, 3)
        )

    def down(self, planes: Tensor) -> NetworkOutput:
        bands = haar_forward(planes)
        lr = bands[:, :3] + 0.1 * self.f(bands[:, 3:])
        rest = bands[:, 3:] + 0.1 * self.g(lr)
        return NetworkOutput(lr, rest[:, :1], rest[:, 1:])

    def up(self, lr, boundary=None, latent=None):
        n, _, h, w = lr.shape
        latent = lr.new_zeros(n, 8, h, w) if latent is None else latent
        rest = torch.cat((boundary, latent), dim=1) - 0.1 * self.g(lr)
        return haar_inverse(torch.cat((lr - 0.1 * self.f(rest), rest), dim=1))
