"""The two quantisers between the directions, with straight-through gradients."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bdflow_rt.zoo.interface import ModelInterface

INITIAL_GAIN = 0.04
"""The size of the Haar band that becomes the boundary channel, on photographs in [0, 1]."""


def bound_levels(y: Tensor, mean: Tensor, bound: int | None) -> Tensor:
    """Y in levels, no further in any channel than `bound` levels from the mean of the HR pixels it stands for.

    Args:
        y: (N, 3, h, w), where white is 1.
        mean: of the HR pixels of each LR pixel, of the same shape and units.
        bound: in levels of 255; None is no bound.

    Returns:
        (N, 3, h, w), where white is 255, not rounded; values that are not finite are hidden, so look for them before.
    """
    levels = y * 255
    if bound is None:
        return levels
    # In levels, for the bound has no exact float16 value in units of white.
    centre = mean * 255
    return torch.minimum(torch.maximum(levels, centre - bound), centre + bound)


def quantize_lr(y: Tensor, mean: Tensor, bound: int | None) -> Tensor:
    """Bound Y, clamp it to [0, 1] and round it to 8 bits; its gradient passes as if nothing had been done.

    Bound and clamp pass the gradient too: a pixel that left the range has to find its way back.
    """
    return y + (bound_levels(y, mean, bound).clamp(0, 255).round() / 255 - y).detach()


class BoundaryQuantizer(nn.Module):
    """k-bit quantiser of the boundary channel with a learned gain g.

    level q = clamp(round(b/g + o), 0, 2^k - 1), o = (2^k - 1)/2; what enters the inverse is (q - o)*g. Centring on
    zero and scaling to the band's own size keeps a small Haar band small, without which training collapses.
    """

    def __init__(self, interface: ModelInterface) -> None:
        super().__init__()
        self.max_level = interface.max_level
        self.offset = interface.boundary_offset
        self.gain = nn.Parameter(torch.tensor(INITIAL_GAIN))

    def position(self, b: Tensor) -> Tensor:
        """b/g + o: the level before rounding, (N, 1, h, w)."""
        return b / self.gain + self.offset

    def value(self, levels: Tensor) -> Tensor:
        """Whole levels to what enters the inverse: (q - o)*g."""
        return (levels - self.offset) * self.gain

    def forward(self, b: Tensor) -> Tensor:
        """The value of the nearest level, with the gradients of learned step size quantisation (Esser et al. 2020).

        Within the range of the levels the gradient passes to b; outside it b gets none. Passing it there too lets b
        run away from a level that cannot follow: training was seen to diverge after 200 steps.
        """
        clamped = self.position(b).clamp(0, self.max_level)
        return self.value(clamped + (clamped.round() - clamped).detach())
