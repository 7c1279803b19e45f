"""Adam and Muon on a network: what is updated, by how much, and that the state comes back."""

from __future__ import annotations

import copy
import pathlib
from typing import Any

import pytest
import torch

from bdflow_rt.errors import CheckpointError
from bdflow_rt.models.bdflow import BDFlow
from bdflow_rt.training.config import OptimizerName
from bdflow_rt.training.optimizers import MOMENTUM, VECTOR_RATE, Optimizer, StackedMuon
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


def test_muon_is_torchs_own_with_its_state() -> None:
    """A checkpoint of the one goes on with the other, which computes in bfloat16."""
    shapes = [(8, 72), (8, 72), (30, 8), (4, 4), (30, 8)]
    networks = [[torch.nn.Parameter(torch.ones(shape)) for shape in shapes] for _ in range(2)]
    options: dict[str, Any] = {"lr": 0.01, "weight_decay": 0.0, "momentum": MOMENTUM, "adjust_lr_fn": "match_rms_adamw"}
    reference, stacked = torch.optim.Muon(networks[0], **options), StackedMuon(networks[1], options["lr"])
    for step in range(3):
        torch.manual_seed(step)
        for ours, theirs in zip(*networks, strict=True):
            ours.grad = theirs.grad = torch.randn_like(ours)
        reference.step()
        stacked.step()
        if step == 1:
            stacked.load_state_dict(copy.deepcopy(reference.state_dict()))
    for one, other in zip(*networks, strict=True):
        assert (one - other).norm() < 0.03 * (other - 1).norm()
    for index, state in reference.state_dict()["state"].items():
        torch.testing.assert_close(stacked.state_dict()["state"][index], state, rtol=1e-5, atol=1e-6)


def test_muon_leaves_a_matrix_without_a_gradient() -> None:
    still, moved = (torch.nn.Parameter(torch.ones(4, 9)) for _ in range(2))
    moved.grad = torch.randn(4, 9)
    StackedMuon([still, moved], 0.1).step()
    assert torch.equal(still, torch.ones(4, 9))
    assert not torch.equal(moved, still)


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
