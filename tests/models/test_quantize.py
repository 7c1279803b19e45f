"""Both quantisers: levels, values, and gradients in closed form."""

from __future__ import annotations

import pytest
import torch

from bdflow_rt.models.bdflow import BDFlow
from bdflow_rt.models.layers.haar import haar_forward
from bdflow_rt.models.layers.quantize import INITIAL_GAIN, BoundaryQuantizer, bound_levels, quantize_lr
from bdflow_rt.models.wire import ToLevels
from bdflow_rt.zoo.arch.bdflow import BDFlowConfig, paper_config
from bdflow_rt.zoo.interface import LR_BOUND

ALL_BITS = range(1, 9)


def test_lr_values_are_whole_8_bit_levels_clamped_to_the_range() -> None:
    y = torch.linspace(-0.2, 1.2, 1409, dtype=torch.float64).view(1, 1, 1, -1)
    wanted = (y * 255).round().clamp(0, 255) / 255
    torch.testing.assert_close(quantize_lr(y, y, LR_BOUND), wanted, rtol=0, atol=1e-15)


def test_every_8_bit_level_survives_float32() -> None:
    levels = torch.arange(256).view(1, 1, 1, -1)
    values = levels.float() / 255
    assert torch.equal((quantize_lr(values, values, LR_BOUND) * 255).round().long(), levels)


def test_lr_is_bounded_to_the_mean_of_its_hr_pixels_before_it_is_clamped() -> None:
    mean = torch.tensor([0.0, 100.0, 100.0, 100.0, 250.0], dtype=torch.float64).view(1, 1, 1, -1) / 255
    y = torch.tensor([500.0, -3.0, 163.5, 1e9, -1e9], dtype=torch.float64).view(1, 1, 1, -1) / 255
    wanted = torch.tensor([64.0, 36.0, 164.0, 164.0, 186.0], dtype=torch.float64).view(1, 1, 1, -1)
    torch.testing.assert_close(quantize_lr(y, mean, LR_BOUND) * 255, wanted, rtol=0, atol=1e-6)


@pytest.mark.parametrize("scale", [2, 4, 16])
def test_lr_is_bounded_by_the_picture_and_by_its_haar_averages_alike(scale: int) -> None:
    hr, y = torch.rand(2, 3, 3 * scale, 5 * scale, dtype=torch.float64), torch.rand(2, 3, 3, 5, dtype=torch.float64)
    mean = hr.unfold(2, scale, scale).unfold(3, scale, scale).mean(dim=(4, 5))
    wanted = y.clamp(mean - LR_BOUND / 255, mean + LR_BOUND / 255)
    network = BDFlow(paper_config(scale))
    torch.testing.assert_close(bound_levels(y, network.cell_means(haar_forward(hr)), LR_BOUND) / 255, wanted)


def test_lr_without_a_bound_is_left_as_it_is() -> None:
    y = torch.tensor([-5.0, 0.5, 9.0]).view(1, 1, 1, -1)
    assert torch.equal(bound_levels(y, torch.zeros_like(y), None), y * 255)


def test_lr_gradient_passes_straight_through_also_outside_the_range() -> None:
    y = torch.tensor([-0.5, 0.0, 0.3, 1.0, 1.7]).view(1, 1, 1, -1).requires_grad_()
    weight = torch.tensor([1.0, -2.0, 3.0, 4.0, 5.0]).view(1, 1, 1, -1)
    (quantize_lr(y, torch.full_like(y, 0.5), LR_BOUND) * weight).sum().backward()
    assert y.grad is not None
    assert torch.equal(y.grad, weight)


@pytest.mark.parametrize("bits", ALL_BITS)
def test_boundary_levels_and_values_are_the_definition(bits: int) -> None:
    quantizer = BoundaryQuantizer(BDFlowConfig(bits=bits).interface())
    gain, top = INITIAL_GAIN, 2**bits - 1
    b = torch.linspace(-(top + 2) * gain, (top + 2) * gain, 1009).view(1, 1, 1, -1)
    levels = ToLevels()(b, quantizer)[:, None]
    assert levels.min() == 0
    assert levels.max() == top
    assert torch.equal(levels, (b / quantizer.gain.detach() + top / 2).round().clamp(0, top))
    value = quantizer(b).detach()
    torch.testing.assert_close(value, (levels - top / 2) * gain, rtol=0, atol=1e-6)
    inside = b.abs() <= top / 2 * gain
    assert (value - b)[inside].abs().max() <= gain / 2 * (1 + 1e-4)


@pytest.mark.parametrize("bits", ALL_BITS)
def test_each_level_is_found_again_from_its_value(bits: int) -> None:
    quantizer = BoundaryQuantizer(BDFlowConfig(bits=bits).interface())
    levels = torch.arange(2**bits).float().view(1, 1, 1, -1)
    assert torch.equal(ToLevels()(quantizer.value(levels), quantizer)[:, None], levels)


@pytest.mark.parametrize("bits", ALL_BITS)
def test_boundary_gradients_are_the_closed_form(bits: int) -> None:
    quantizer = BoundaryQuantizer(BDFlowConfig(bits=bits).interface()).double()
    generator = torch.Generator().manual_seed(bits)
    b = (torch.randn(2, 1, 5, 7, dtype=torch.float64, generator=generator) * 0.02 * 2**bits).requires_grad_()
    weight = torch.randn(2, 1, 5, 7, dtype=torch.float64, generator=generator)
    (quantizer(b) * weight).sum().backward()
    assert b.grad is not None
    assert quantizer.gain.grad is not None
    gain = quantizer.gain.detach()
    position = b.detach() / gain + (2**bits - 1) / 2
    inside = (position >= 0) & (position <= 2**bits - 1)
    assert 0 < inside.sum() < inside.numel()
    torch.testing.assert_close(b.grad, torch.where(inside, weight, 0), rtol=1e-12, atol=0)
    # d value / d gain: q - o, less what the gain does to the position, b/g, where b is within the range.
    level = ToLevels()(b.detach(), quantizer)[:, None] - (2**bits - 1) / 2
    wanted = (weight * (level - torch.where(inside, b.detach() / gain, 0))).sum()
    torch.testing.assert_close(quantizer.gain.grad, wanted, rtol=1e-10, atol=1e-10)


def test_position_reaches_the_gain_and_the_channel() -> None:
    quantizer = BoundaryQuantizer(BDFlowConfig(bits=2).interface()).double()
    b = torch.full((1, 1, 1, 1), 0.1, dtype=torch.float64, requires_grad=True)
    quantizer.position(b).sum().backward()
    assert b.grad is not None
    assert quantizer.gain.grad is not None
    torch.testing.assert_close(b.grad.item(), 1 / INITIAL_GAIN, rtol=1e-6, atol=0)
    torch.testing.assert_close(quantizer.gain.grad.item(), -0.1 / INITIAL_GAIN**2, rtol=1e-6, atol=0)


def test_zero_bits_have_no_quantiser_and_one_channel_more_of_latent() -> None:
    model = BDFlow(BDFlowConfig(hidden=(4, 4), bits=0))
    assert model.quantizer is None
    x = torch.rand(1, 3, 8, 12)
    output = model(x)
    assert output.boundary is None
    assert output.latent.shape == (1, 45, 2, 3)
    lr, boundary = model.quantize(output, x)
    assert boundary is None
    assert model.inverse(lr).shape == (1, 3, 8, 12)
