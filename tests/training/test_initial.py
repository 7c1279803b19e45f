"""A trained network as the start of a larger one."""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Any

import pytest
import torch

from bdflow_rt.errors import TrainingConfigError, UnknownModelError
from bdflow_rt.models.bdflow import BDFlow
from bdflow_rt.models.io import load_model, save_model
from bdflow_rt.training.initial import start_from
from bdflow_rt.training.publish import publish
from bdflow_rt.zoo.arch.bdflow import BDFlowConfig
from bdflow_rt.zoo.card import ModelCard
from tests.training.small import small_config, trainer

SMALL = BDFlowConfig(scale=2, blocks=(1,), hidden=(8,))


@pytest.fixture(params=["float16", "int8"])
def trained(request: pytest.FixtureRequest, narrow_int8: None, tmp_path: pathlib.Path) -> pathlib.Path:
    """A model folder with weights that are nowhere at their start."""
    torch.manual_seed(5)
    model = BDFlow(SMALL)
    model.reset_parameters(zero_last=False)
    with torch.no_grad():
        model.get_parameter("quantizer.gain").fill_(0.07)
    folder = tmp_path / "trained"
    return save_model(model, folder, name="small", version=1, details={}, storage=request.param).folder


def test_more_blocks_start_as_the_very_same_function(trained: pathlib.Path) -> None:
    large = BDFlow(dataclasses.replace(SMALL, blocks=(3,)))
    start_from(large, str(trained))
    x = torch.rand(2, 3, 12, 10)
    with torch.no_grad():
        for ours, theirs in zip(large(x), load_model(ModelCard.read(trained))(x), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=0)
    assert large.get_parameter("quantizer.gain").item() == pytest.approx(0.07)


def test_more_levels_start_with_the_haar_average_of_the_smaller_lr(trained: pathlib.Path) -> None:
    large = BDFlow(BDFlowConfig(scale=4, blocks=(2, 1), hidden=(8, 16)))
    start_from(large, str(trained))
    x = torch.rand(1, 3, 16, 24)
    with torch.no_grad():
        small = load_model(ModelCard.read(trained))(x).lr
        torch.testing.assert_close(large(x).lr, torch.nn.functional.avg_pool2d(small, 2), rtol=0, atol=1e-6)
    assert large.get_parameter("quantizer.gain").item() == pytest.approx(0.04)  # of another band


@pytest.mark.parametrize("bits", [0, 2])
def test_other_bits_start_with_a_gain_of_their_own(trained: pathlib.Path, bits: int) -> None:
    large = BDFlow(dataclasses.replace(SMALL, bits=bits))
    fresh = BDFlow(large.config).state_dict().get("quantizer.gain")
    start_from(large, str(trained))
    assert large.state_dict().get("quantizer.gain") == fresh
    x = torch.rand(1, 3, 8, 6)
    with torch.no_grad():
        torch.testing.assert_close(large(x).lr, load_model(ModelCard.read(trained))(x).lr, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"hidden": (16,)}, "cannot start from small@1, which has hidden width 8 at level 1"),
        ({"coupling": "additive"}, "cannot start from small@1, which has coupling 'scaled'"),
    ],
)
def test_a_model_that_does_not_fit_is_named(trained: pathlib.Path, changes: dict[str, Any], named: str) -> None:
    with pytest.raises(TrainingConfigError, match=named):
        start_from(BDFlow(dataclasses.replace(SMALL, **changes)), str(trained))


def test_a_larger_model_cannot_start_a_smaller_one(tmp_path: pathlib.Path) -> None:
    for name, config in (("k", dataclasses.replace(SMALL, blocks=(2,))), ("l", BDFlowConfig(4, (1, 1), (8, 8)))):
        save_model(BDFlow(config), tmp_path / name, name=name, version=1, details={})
        with pytest.raises(TrainingConfigError, match="cannot start from"):
            start_from(BDFlow(SMALL), str(tmp_path / name))


def test_an_unknown_model_is_named() -> None:
    with pytest.raises(UnknownModelError, match="bdflow-x3"):
        start_from(BDFlow(SMALL), "bdflow-x3")


def test_a_run_starts_from_the_model_and_its_card_says_so(trained: pathlib.Path, tmp_path: pathlib.Path) -> None:
    config = small_config(start_from=str(trained), iterations=1, learning_rate=1e-9, final_learning_rate=1e-9)
    run = trainer(tmp_path, config, "run")
    run.train()
    for ours, theirs in zip(run.averaged.parameters(), load_model(ModelCard.read(trained)).parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-8)
    trained.rename(tmp_path / "moved")
    trainer(tmp_path, config, "run", resume=True)  # has its own weights, and does not miss the others
    card = publish(run.checkpoint, tmp_path / "model", name="grown", version=1)
    assert card.details["training"]["start_from"] == "small@1"  # with its version, and no path
