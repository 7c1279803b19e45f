"""Convolution kernels as int8 with one scale per output channel, of which every product is an exact float16 value.

A scale has at most 4 significant bits and an int8 at most 7, so their product has at most the 11 that float16 holds.
The same numbers come out in float16 and in float32, whoever multiplies and however often it rounds: no backend can
compute another function. For that, scales are up to 1/8 larger than the finest ones, and the error 5 % on average.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bdflow_rt.zoo.weights import FINEST_SCALE, LARGEST_SCALE, SCALE_BITS

_LARGEST = 127  # not -128, so that a kernel and its negative are stored alike
LARGEST_WEIGHT = _LARGEST * LARGEST_SCALE


def to_int8(kernel: Tensor) -> tuple[Tensor, Tensor]:
    """Round a kernel to multiples of one scale per output channel.

    Pictures are smooth, so it is a kernel's sum that matters most, and errors that add up in it are a tint. Each value
    is a neighbour of what was rounded, in most cases the nearest, such that the sum over (h, w) is the nearest too.

    Args:
        kernel: (O, I, h, w), any float type, finite and within `LARGEST_WEIGHT`: otherwise a scale is not finite, or
            larger than `LARGEST_SCALE`.

    Returns:
        (O, I, h, w) int8 in -127..127, and (O,) float16: the smallest scales that clip nothing, 1 for a channel of
        zeros.
    """
    wide = kernel.double()
    largest = wide.abs().amax(dim=(1, 2, 3))
    scale = torch.where(largest == 0, 1.0, _rounded_up(largest / _LARGEST))
    return _rounded(wide / scale[:, None, None, None]).to(torch.int8), scale.half()


def from_int8(values: Tensor, scale: Tensor) -> Tensor:
    """The float32 kernel that (O, I, h, w) int8 and (O,) float16 stand for."""
    return values.float() * scale.float()[:, None, None, None]


def _rounded(steps: Tensor) -> Tensor:
    """(O, I, h, w) to whole numbers that are neighbours, with the nearest sums over (h, w)."""
    given = steps.flatten(2)
    nearest = given.round()
    rest = given - nearest
    missing = rest.sum(dim=2, keepdim=True).round()
    up = rest.argsort(dim=2, descending=True, stable=True).argsort(dim=2) < missing
    down = rest.argsort(dim=2, stable=True).argsort(dim=2) < -missing
    # Where d are missing, the d largest rests are positive: what was rounded down goes up, and never past 127.
    return (nearest + up.double() - down.double()).reshape(steps.shape)


def _rounded_up(scale: Tensor) -> Tensor:
    """The next values with 4 significant bits that float16 has."""
    _, exponent = torch.frexp(scale)
    step = torch.ldexp(torch.ones_like(scale), exponent - SCALE_BITS).clamp(min=FINEST_SCALE)
    return (scale / step).ceil() * step
