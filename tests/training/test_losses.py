"""Each loss against its closed form; the sum against its parts; gradients."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from bdflow_rt.errors import ArgumentError, TrainingConfigError
from bdflow_rt.metrics.lpips import Lpips
from bdflow_rt.training.losses import (
    LossWeights,
    latent_loss,
    luma_loss,
    reconstruction_loss,
    total_loss,
)
from tests.support import data_dir, needs_data


def inputs(seed=0):
    generator = torch.Generator().manual_seed(seed)
    hr, restored = torch.rand(2, 2, 3, 64, 40, generator=generator).unbind()
    lr, lr_reference = torch.rand(2, 2, 3, 16, 10, generator=generator).unbind()
    value, target = torch.rand(2, 2, 1, 16, 10, generator=generator).unbind()
    latent = torch.randn(2, 44, 16, 10, generator=generator)
    names = ("hr", "restored", "lr", "lr_reference", "boundary_value", "boundary_target", "latent")
    return dict(zip(names, (hr, restored, lr, lr_reference, value, target, latent), strict=True))


def distance(a, b):
    return (a - b).square().mean(dim=(1, 2, 3))


def forbidden(*_):
    raise AssertionError("a loss of weight 0 was computed")


def test_defaults_are_the_papers():
    weights = LossWeights()
    assert (weights.lr, weights.reconstruction, weights.lpips, weights.boundary, weights.latent) == (2, 2, 1, 16, 4)


@pytest.mark.parametrize("shape", [(1, 3, 1, 1), (4, 3, 7, 13)])
def test_constant_differences_give_the_closed_forms_at_every_size(shape):
    zero, quarter = torch.zeros(shape), torch.full(shape, 0.25)
    assert reconstruction_loss(zero, quarter, 3.0).item() == 0.75
    assert latent_loss(quarter).item() == pytest.approx(1 / 16 / 0.4)


def test_latent_loss_is_the_negative_log_likelihood_but_for_a_constant():
    z = inputs()["latent"].double()
    prior = torch.distributions.Normal(0.0, math.sqrt(0.2))
    expected = prior.log_prob(torch.zeros(())) - prior.log_prob(z).mean()
    assert latent_loss(z).item() == pytest.approx(expected.item())


def test_reconstruction_weighs_each_pixel():
    hr, weight = torch.zeros(1, 3, 2, 2), torch.tensor([[[[2.0, 3.0], [2.0, 2.5]]]])
    restored = torch.tensor([[0.1, 0.2], [0.3, 0.4]]).expand(1, 3, 2, 2)
    assert reconstruction_loss(restored, hr, weight).item() == pytest.approx((0.2 + 0.6 + 0.6 + 1.0) / 4)


def test_luma_loss_sees_brightness_and_not_hue() -> None:
    hr = torch.rand(2, 3, 8, 6)
    brighter = hr + torch.tensor([0.1, 0.2, 0.3]).view(1, 3, 1, 1)
    assert luma_loss(brighter, hr).item() == pytest.approx(0.299 * 0.1 + 0.587 * 0.2 + 0.114 * 0.3, rel=1e-5)
    hue = hr + torch.tensor([0.114, 0.0, -0.299]).view(1, 3, 1, 1)
    assert luma_loss(hue, hr).item() == pytest.approx(0, abs=1e-7)


def test_total_is_the_weighted_sum_of_the_parts():
    data = inputs()
    loss, parts = total_loss(LossWeights(), **data, lpips=distance)
    assert set(parts) == {"lr", "reconstruction", "lpips", "boundary", "latent"}
    weights = {"lr": 2, "reconstruction": 2, "lpips": 1, "boundary": 16, "latent": 4}
    assert loss.item() == pytest.approx(sum(weights[name] * part.item() for name, part in parts.items()))
    assert parts["lr"].item() == pytest.approx(torch.nn.functional.mse_loss(data["lr"], data["lr_reference"]).item())
    squared = (data["boundary_value"] - data["boundary_target"]).square().mean()
    assert parts["boundary"].item() == pytest.approx(squared.item())
    assert parts["reconstruction"].item() == pytest.approx((data["hr"] - data["restored"]).abs().mean().item())


def test_baw_replaces_the_weight_of_the_reconstruction_and_not_its_reported_part():
    data, weights = inputs(), LossWeights(lr=0, lpips=0, boundary=0, latent=0)
    plain, parts = total_loss(weights, **data)
    same, same_parts = total_loss(weights, **data, baw=torch.full((2, 1, 64, 40), 2.0))
    more, more_parts = total_loss(weights, **data, baw=torch.full((2, 1, 64, 40), 3.0))
    assert same.item() == pytest.approx(plain.item())
    assert more.item() == pytest.approx(1.5 * plain.item())
    assert parts == same_parts == more_parts


@pytest.mark.parametrize("name", ["lr", "reconstruction", "lpips", "boundary", "latent"])
def test_weight_zero_leaves_the_loss_out(name):
    data = inputs()
    if name == "latent":
        data["latent"] = None
    if name == "boundary":
        data["boundary_target"] = None
    _, parts = total_loss(
        LossWeights(**{**dataclasses.asdict(LossWeights()), name: 0}),
        **data,
        lpips=forbidden if name == "lpips" else distance,
    )
    assert set(parts) == {"lr", "reconstruction", "lpips", "boundary", "latent"} - {name}


def test_network_without_boundary_has_no_boundary_loss():
    data = {**inputs(), "boundary_value": None, "boundary_target": None}
    _, parts = total_loss(LossWeights(lpips=0), **data)
    assert set(parts) == {"lr", "reconstruction", "latent"}


@pytest.mark.parametrize("name", ["lpips", "latent", "boundary_value", "boundary_target"])
def test_input_missing_for_a_loss_with_weight_raises(name):
    data = {**inputs(), "lpips": distance, name: None}
    with pytest.raises(ArgumentError, match=f"{name} is None"):
        total_loss(LossWeights(), **data)


def test_nothing_to_train_raises():
    with pytest.raises(ArgumentError, match="All loss weights are 0"):
        total_loss(LossWeights(0, 0, 0, 0, 0), **inputs())


@pytest.mark.parametrize("value", [-1.0, math.nan, math.inf])
def test_impossible_weight_raises(value):
    with pytest.raises(TrainingConfigError, match="boundary"):
        LossWeights(boundary=value)


@needs_data
def test_gradients_are_finite_and_reach_every_input_also_where_pictures_agree():
    folder = data_dir()
    assert folder is not None
    lpips = Lpips(path=folder / "metrics" / "lpips_alex_v0.1.npz")
    for perfect in (False, True):
        data = inputs()
        if perfect:
            pairs = {"restored": "hr", "lr": "lr_reference", "boundary_value": "boundary_target"}
            data |= {name: data[other].clone() for name, other in pairs.items()}
        leaves = {name: data[name].requires_grad_() for name in ("restored", "lr", "boundary_value", "latent")}
        loss, parts = total_loss(LossWeights(), **data, lpips=lpips)
        loss.backward()
        assert not any(part.requires_grad for part in parts.values())
        for name, leaf in leaves.items():
            assert leaf.grad is not None
            assert leaf.grad.isfinite().all(), name
            assert leaf.grad.any() or perfect, name
