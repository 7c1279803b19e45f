"""The invertible block and the transform inside it (paper, eq. 6)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from bdflow_rt.zoo.arch.bdflow import LEAKY_SLOPE, Coupling


class Transform(nn.Module):
    """T(i, o): three biased 3x3 convolutions with LeakyReLU(0.2) between them, plus a 3x3 shortcut.

    Maps (N, i, H, W) to (N, o, H, W). The last convolution and the shortcut start at zero, so a new block is the
    identity and a new network exactly the Haar pyramid.
    """

    def __init__(self, inputs: int, outputs: int, hidden: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, hidden, 3, padding=1)
        self.conv2 = nn.Conv2d(hidden, hidden, 3, padding=1)
        self.conv3 = nn.Conv2d(hidden, outputs, 3, padding=1)
        self.shortcut = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.reset_parameters()

    def reset_parameters(self, *, zero_last: bool = True) -> None:
        """Start again at PyTorch's default initialisation, the last convolution and the shortcut at zero."""
        for conv in (self.conv1, self.conv2, self.conv3, self.shortcut):
            conv.reset_parameters()
        if zero_last:
            for parameter in (*self.conv3.parameters(), *self.shortcut.parameters()):
                nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        h = functional.leaky_relu(self.conv1(x), LEAKY_SLOPE)
        h = functional.leaky_relu(self.conv2(h), LEAKY_SLOPE)
        return self.conv3(h) + self.shortcut(x)


class Scale(nn.Module):
    """s(h) = exp(2*sigmoid(h) - 1), within (1/e, e), so that the inverse never divides by zero; or its reciprocal."""

    float32 = True

    def forward(self, h: Tensor, *, power: Literal[1, -1] = 1) -> Tensor:
        # tanh(h/2) is the same exponent and, unlike the difference, does not cancel for small h.
        exponent = torch.tanh(h * 0.5)
        return torch.exp(exponent if power == 1 else -exponent)


class InvBlock(nn.Module):
    """One coupling of the LR branch u1 (3 channels) with the rest u2 (paper, eq. 6).

    u1' = u1*s(phi(u2)) + phi(u2)   (coupling "scaled"), or u1 + phi(u2) ("additive");
    u2' = u2*s(rho(u1')) + eta(u1').
    """

    def __init__(self, channels: int, hidden: int, coupling: Coupling) -> None:
        super().__init__()
        self.coupling = coupling
        self.phi = Transform(channels - 3, 3, hidden)
        self.rho = Transform(3, channels - 3, hidden)
        self.eta = Transform(3, channels - 3, hidden)
        self.scale = Scale()

    def forward(self, u1: Tensor, u2: Tensor, way: Literal["down", "up"] = "down") -> tuple[Tensor, Tensor]:
        """(N, 3, H, W) and (N, C - 3, H, W) to the same shapes; "up" is the inverse of "down"."""
        return self._down(u1, u2) if way == "down" else self._up(u1, u2)

    def _down(self, u1: Tensor, u2: Tensor) -> tuple[Tensor, Tensor]:
        shift = self.phi(u2).to(u1.dtype)
        u1 = u1 * self.scale(shift) + shift if self.coupling == "scaled" else u1 + shift
        u2 = u2 * self.scale(self.rho(u1).to(u2.dtype)) + self.eta(u1)
        return u1, u2

    def _up(self, u1: Tensor, u2: Tensor) -> tuple[Tensor, Tensor]:
        u2 = (u2 - self.eta(u1)) * self.scale(self.rho(u1).to(u2.dtype), power=-1)
        shift = self.phi(u2).to(u1.dtype)
        u1 = (u1 - shift) * self.scale(shift, power=-1) if self.coupling == "scaled" else u1 - shift
        return u1, u2
