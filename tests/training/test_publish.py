"""From a checkpoint to a model folder: what the card says of the run, and checkpoints that are none of a run."""

from __future__ import annotations

import json
import math
import pathlib
from typing import Any

import pytest
import torch

from bdflow_rt.errors import ArgumentError, CheckpointError
from bdflow_rt.models.bdflow import BDFlow
from bdflow_rt.models.io import Storage, load_model
from bdflow_rt.training.checkpoint import save_checkpoint
from bdflow_rt.training.publish import publish
from bdflow_rt.zoo.card import CARD_FILE
from tests.training.small import MODEL, small_config

_LEFT_OUT = object()


def _checkpoint(folder: pathlib.Path, *, training: dict[str, Any] | None = None, **changes: Any) -> pathlib.Path:
    """Of a run of seven steps, as the trainer writes it but for what only a trainer reads; `_LEFT_OUT` leaves one out.

    `training` are changes to the configuration.
    """
    torch.manual_seed(4)
    model = BDFlow(MODEL)
    model.reset_parameters(zero_last=False)
    state = {
        "config": small_config(**(training or {})).to_dict(), "averaged": model.state_dict(), "step": 7,
        "elapsed_s": 90.0, "pixels_seen": 5, "setbacks": 0, "data": None, "validation": None,
    }  # fmt: skip
    path = folder / "checkpoint.pt"
    save_checkpoint(path, {name: value for name, value in {**state, **changes}.items() if value is not _LEFT_OUT})
    return path


def _strict(text: str) -> Any:
    """JSON as other readers than Python's take it, without NaN and infinity."""
    return json.loads(text, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))


@pytest.mark.usefixtures("narrow_int8")
@pytest.mark.parametrize("storage", ["float16", "int8"])
def test_the_averaged_weights_are_published_as_they_are_stored(tmp_path: pathlib.Path, storage: Storage) -> None:
    path = _checkpoint(tmp_path)
    card = publish(path, tmp_path / "model", name="m", version=2, storage=storage)
    assert (card.id, card.config) == ("m@2", MODEL)
    assert (card.details["iterations"], card.details["training_minutes"]) == (7, 1.5)
    found, wanted = load_model(card).state_dict(), torch.load(path, weights_only=True)["averaged"]
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=0.01 * float(value.abs().max()))


def test_an_infinite_psnr_is_null_in_the_card(tmp_path: pathlib.Path) -> None:
    path = _checkpoint(tmp_path, validation={"psnr_y": math.inf, "lr_psnr": 40.123456})
    publish(path, tmp_path / "model", name="m", version=1)
    card = _strict((tmp_path / "model" / CARD_FILE).read_text())
    assert card["details"]["validation"] == {"psnr_y": None, "lr_psnr": 40.1235}


def test_the_codec_of_the_validation_is_in_the_card(tmp_path: pathlib.Path) -> None:
    figures = {"psnr_y": 30.0, "lr_psnr": 40.0}
    for index, (through, expected) in enumerate([(None, figures), ("jpeg:75", {**figures, "through": "jpeg:75"})]):
        (tmp_path / str(index)).mkdir()
        path = _checkpoint(tmp_path / str(index), validation={**figures, "through": through})
        assert publish(path, tmp_path / f"model-{index}", name="m", version=1).details["validation"] == expected


def test_no_path_of_the_machine_is_in_the_card(tmp_path: pathlib.Path) -> None:
    path = _checkpoint(tmp_path, training={"start_from": "/some/first", "lpips_weights": "/some/alex.npz"})
    card = publish(path, tmp_path / "model", name="m", version=1)
    training = card.details["training"]
    assert (training["start_from"], training["loss"]["lpips_weights"]) == ("first", "alex.npz")
    assert "training_earlier" not in card.details
    assert "/some/" not in (tmp_path / "model" / CARD_FILE).read_text()


def test_what_earlier_parts_of_a_run_were_told_is_in_the_card_without_paths(tmp_path: pathlib.Path) -> None:
    parts: list[dict[str, Any]] = [
        {"until_step": 3, "seed": 4, "start_from": "/some/first"},
        {"until_step": 5, "start_from": None},
    ]
    card = publish(_checkpoint(tmp_path, earlier=parts), tmp_path / "model", name="m", version=1)
    assert card.details["training_earlier"] == [{**parts[0], "start_from": "first"}, parts[1]]


@pytest.mark.parametrize(
    "changes",
    [
        {"config": _LEFT_OUT}, {"averaged": _LEFT_OUT}, {"averaged": {}}, {"averaged": None}, {"step": _LEFT_OUT},
        {"elapsed_s": None}, {"setbacks": _LEFT_OUT}, {"validation": {"psnr_y": "high"}}, {"validation": [3]},
        {"pixels_seen": _LEFT_OUT},
        {"averaged": {"levels.0.0.phi.conv1.weight": torch.zeros(1)}},
    ],
    ids=lambda changes: next(iter(changes)),
)  # fmt: skip
def test_a_checkpoint_that_lacks_something_is_refused(tmp_path: pathlib.Path, changes: dict[str, Any]) -> None:
    path = _checkpoint(tmp_path, **changes)
    with pytest.raises(CheckpointError, match="not a checkpoint of a run"):
        publish(path, tmp_path / "model", name="m", version=1)
    assert not (tmp_path / "model").exists()


def test_averaged_weights_that_are_not_finite_are_not_published(tmp_path: pathlib.Path) -> None:
    state = {name: value * math.nan for name, value in BDFlow(MODEL).state_dict().items()}
    with pytest.raises(ArgumentError, match="cannot be stored"):
        publish(_checkpoint(tmp_path, averaged=state), tmp_path / "model", name="m", version=1)
    assert not (tmp_path / "model").exists()
