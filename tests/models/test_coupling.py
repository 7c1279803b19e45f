"""The bounded scale of the couplings, and one block against equation 6 written out."""

from __future__ import annotations

import math

import pytest
import torch

from bdflow_rt.models.layers.coupling import InvBlock, Scale


def test_the_logarithm_of_the_scale_is_the_sigmoid_form_to_the_last_digits() -> None:
    h = torch.cat((torch.linspace(-40, 40, 4001, dtype=torch.float64), torch.tensor([1e-9, -1e-9, 0.0]).double()))
    torch.testing.assert_close(Scale()(h).log(), 2 * torch.sigmoid(h) - 1, rtol=0, atol=1e-15)


def test_the_reciprocal_is_that_of_the_scale() -> None:
    h = torch.linspace(-40, 40, 401, dtype=torch.float64)
    torch.testing.assert_close(Scale()(h, power=-1) * Scale()(h), torch.ones_like(h))


def test_scale_is_bounded_for_any_input() -> None:
    scale = Scale()(torch.tensor([-1e30, -50.0, 50.0, 1e30], dtype=torch.float64))
    assert scale.min() >= 1 / math.e - 1e-12
    assert scale.max() <= math.e + 1e-12


@pytest.mark.parametrize("coupling", ["scaled", "additive"])
def test_block_is_equation_6(coupling: str) -> None:
    torch.manual_seed(3)
    block = InvBlock(12, 8, coupling).double()  # type: ignore[arg-type]
    for transform in (block.phi, block.rho, block.eta):
        transform.reset_parameters(zero_last=False)
    u1, u2 = torch.randn(2, 3, 7, 5).double(), torch.randn(2, 9, 7, 5).double()
    shift = block.phi(u2)
    factor = torch.exp(2 * torch.sigmoid(shift) - 1) if coupling == "scaled" else 1.0
    wanted1 = u1 * factor + shift
    wanted2 = u2 * torch.exp(2 * torch.sigmoid(block.rho(wanted1)) - 1) + block.eta(wanted1)
    got1, got2 = block(u1, u2)
    torch.testing.assert_close(got1, wanted1, rtol=0, atol=1e-12)
    torch.testing.assert_close(got2, wanted2, rtol=0, atol=1e-12)
    back1, back2 = block(got1, got2, "up")
    torch.testing.assert_close(back1, u1, rtol=0, atol=1e-11)
    torch.testing.assert_close(back2, u2, rtol=0, atol=1e-11)
    assert (got1 - u1).abs().max() > 0.01
    assert (got2 - u2).abs().max() > 0.01
