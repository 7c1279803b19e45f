"""How far a pixel reaches: the halo of the configuration against gradients of the real network.

All weights are made positive, so that no two paths cancel and the support of the gradient is the true reach.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from bdflow_rt.models.bdflow import BDFlow
from bdflow_rt.zoo.arch.bdflow import BDFlowConfig

CONFIGS = [
    BDFlowConfig(scale=2, blocks=(1,), hidden=(2,)),
    BDFlowConfig(scale=2, blocks=(3,), hidden=(2,), coupling="additive"),
    BDFlowConfig(scale=4, blocks=(2, 2), hidden=(2, 2)),
    BDFlowConfig(scale=4, blocks=(1, 2), hidden=(2, 2), coupling="additive", bits=0),
    BDFlowConfig(scale=8, blocks=(2, 1, 1), hidden=(2, 2, 2)),
]


def _positive(config: BDFlowConfig) -> BDFlow:
    torch.manual_seed(1)
    model = BDFlow(config).double()
    model.reset_parameters(zero_last=False)
    with torch.no_grad():
        for name, value in model.named_parameters():
            if name != "quantizer.gain":
                value.abs_().mul_(0.2)
    return model


def _reach(gradient: Tensor, centre: int, size: int) -> int:
    """Greatest distance, in cells of `size` pixels, of a changed cell from the cell `centre`."""
    changed = gradient.abs().sum(dim=(0, 1)) > 0
    rows = changed.any(dim=1).nonzero().flatten() // size
    columns = changed.any(dim=0).nonzero().flatten() // size
    assert rows.numel() > 0
    return int(max((rows - centre).abs().max(), (columns - centre).abs().max()))


@pytest.mark.parametrize("config", CONFIGS)
def test_down_an_lr_pixel_depends_on_the_halo_and_on_nothing_beyond(config: BDFlowConfig) -> None:
    model, scale = _positive(config), config.scale
    centre = config.receptive_field() + 2
    side = scale * (2 * centre + 1)
    x = torch.rand(1, 3, side, side, dtype=torch.float64, generator=torch.Generator().manual_seed(2)).requires_grad_()
    output = model(x)
    value = output.lr[0, :, centre, centre].sum()
    if output.boundary is not None:
        value = value + output.boundary[0, 0, centre, centre]
    value.backward()
    assert x.grad is not None
    reach = _reach(x.grad, centre, scale)
    assert reach <= config.receptive_field()
    # The last transforms of a block act on what Y and B do not need, which may save a few pixels; no more.
    assert reach >= config.receptive_field() - 4


@pytest.mark.parametrize("config", CONFIGS)
def test_up_a_cell_of_hr_pixels_depends_on_the_halo_and_on_nothing_beyond(config: BDFlowConfig) -> None:
    model, scale = _positive(config), config.scale
    centre = config.receptive_field() + 2
    side = 2 * centre + 1
    generator = torch.Generator().manual_seed(3)
    lr = torch.rand(1, 3, side, side, dtype=torch.float64, generator=generator)
    boundary = torch.rand(1, 1, side, side, dtype=torch.float64, generator=generator) if config.bits else None
    latent = torch.rand(1, config.latent_channels, side, side, dtype=torch.float64, generator=generator) * 0.01
    inputs = [value.requires_grad_() for value in (lr, boundary, latent) if value is not None]
    restored = model.inverse(lr, boundary, latent)
    cell = restored[0, :, centre * scale : (centre + 1) * scale, centre * scale : (centre + 1) * scale]
    cell.sum().backward()
    reaches = [_reach(value.grad, centre, 1) for value in inputs if value.grad is not None]
    assert len(reaches) == len(inputs)
    assert max(reaches) <= config.receptive_field()
    assert max(reaches) >= config.receptive_field() - 1
