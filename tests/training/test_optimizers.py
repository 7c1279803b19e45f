"""Adam and Muon on a network: what is updated, by how much, and that the state comes back."""

from __future__ import annotations

import pathlib

import pytest
import torch

from bdflow_rt.errors import CheckpointError
from bdflow_rt.models.bdflow import BDFlow
from bdflow_rt.training.config import OptimizerName
from bdflow_rt.training.optimizers import VECTOR_RATE, Optimizer
from tests.training.small import MODEL, assert_same_run, small_config, trainer


def _network() -> BDFlow:
    torch.manual_seed(3)
    model = BDFlow(MODEL)
    for parameter in model.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
        parameter.grad = torch.randn_like(parameter)
    return model


def test_muon_takes_steps_of_equal_size_in_every_direction() -> None:
    """The update of a matrix is nearly orthogonal: its singular values lie close together, the gradient's do not."""
    model = _network()
    weight = model.get_parameter("levels.0.0.phi.conv2.weight")  # (8, 8, 3, 3)
    before = weight.detach().clone()
    assert weight.grad is not None
    gradient = weight.grad.reshape(8, -1)
    gradient[0] *= 100
    Optimizer("muon", model, learning_rate=0.01).step(0.01)
    update = (before - weight.detach()).permute(0, 2, 3, 1).reshape(8, -1)
    stretched, even = torch.linalg.svdvals(gradient), torch.linalg.svdvals(update)
    assert stretched[0] > 50 * stretched[-1]
    assert even[0] < 2.5 * even[-1]
    # Moonlight's scaling: each of the 72 columns' share of an orthogonal matrix, times 0.2 * sqrt(72).
    assert even.mean().item() == pytest.approx(0.01 * 0.2 * 72**0.5, rel=0.3)


def test_muon_gives_biases_and_the_gain_adams_first_step() -> None:
    model = _network()
    bias, gain = model.get_parameter("levels.0.0.eta.conv1.bias"), model.get_parameter("quantizer.gain")
    before = bias.detach().clone(), gain.detach().clone()
    Optimizer("muon", model, learning_rate=0.01).step(0.01)
    for old, new in zip(before, (bias, gain), strict=True):
        torch.testing.assert_close(
            (old - new.detach()).abs(), torch.full_like(old, VECTOR_RATE * 0.01), rtol=1e-4, atol=0
        )


@pytest.mark.parametrize("name", ["adam", "muon"])
def test_every_parameter_moves(name: OptimizerName) -> None:
    model = _network()
    before = {key: value.detach().clone() for key, value in model.named_parameters()}
    Optimizer(name, model, learning_rate=0.01).step(0.01)
    assert [key for key, value in model.named_parameters() if torch.equal(value, before[key])] == []


def test_muon_refuses_weights_it_could_only_copy() -> None:
    """An update of a copy would leave the network as it was."""
    model = BDFlow(MODEL)
    with pytest.raises(RuntimeError, match="view"):
        Optimizer("muon", model, learning_rate=0.01)


def test_a_resumed_run_with_muon_is_the_unbroken_one_bit_for_bit(tmp_path: pathlib.Path) -> None:
    config = small_config(optimizer="muon")
    trainer(tmp_path, config, "whole").train()
    first = trainer(tmp_path, config, "parts")
    first.train(stop=lambda: first.step >= 5)
    trainer(tmp_path, config, "parts", resume=True).train()
    assert_same_run(tmp_path / "whole" / "checkpoint.pt", tmp_path / "parts" / "checkpoint.pt")


def test_a_run_does_not_resume_with_the_other_optimizer(tmp_path: pathlib.Path) -> None:
    trainer(tmp_path, small_config(iterations=1), "run").train()
    with pytest.raises(CheckpointError, match="its optimiser is adam"):
        trainer(tmp_path, small_config(iterations=2, optimizer="muon"), "run", resume=True)
