"""Model folders: what is written is what is read, and damaged ones are refused."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import pathlib

import pytest
import torch
from safetensors.torch import save_file

from bdflow_rt.errors import (
    ArgumentError,
    CorruptModelError,
    ModelExistsError,
    UnwritableOutputError,
    WeightsHashError,
)
from bdflow_rt.models.bdflow import BDFlow
from bdflow_rt.models.io import load_model, save_model
from bdflow_rt.zoo.card import CARD_FILE, WEIGHTS_FILE, ModelCard
from bdflow_rt.zoo.config import ModelConfig

CONFIG = ModelConfig(scale=2, blocks=(1,), hidden=(4,))


def _model() -> BDFlow:
    torch.manual_seed(1)
    model = BDFlow(CONFIG)
    model.reset_parameters(zero_last=False)
    return model


def _save(folder: pathlib.Path) -> ModelCard:
    return save_model(_model(), folder, name="tiny", version=3, details={"seed": 1})


def test_a_saved_model_comes_back_rounded_to_float16_and_with_its_gain_whole(tmp_path: pathlib.Path) -> None:
    card = _save(tmp_path / "a" / "b")
    assert ModelCard.read(tmp_path / "a" / "b") == card
    assert card.id == "tiny@3"
    loaded = load_model(card)
    assert not loaded.training
    original = _model().state_dict()
    for name, value in loaded.state_dict().items():
        wanted = original[name] if name == "quantizer.gain" else original[name].half().float()
        assert torch.equal(value, wanted), name


def test_saving_twice_gives_the_same_bytes(tmp_path: pathlib.Path) -> None:
    assert _save(tmp_path / "a").weights_sha256 == _save(tmp_path / "b").weights_sha256


def test_nothing_but_the_two_files_is_left(tmp_path: pathlib.Path) -> None:
    _save(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([CARD_FILE, WEIGHTS_FILE])


def test_altered_weights_are_refused(tmp_path: pathlib.Path) -> None:
    card = _save(tmp_path)
    data = bytearray(card.weights_path.read_bytes())
    data[-1] ^= 1
    card.weights_path.write_bytes(data)
    with pytest.raises(WeightsHashError, match="altered or damaged"):
        load_model(card)


def test_missing_weights_are_refused(tmp_path: pathlib.Path) -> None:
    card = _save(tmp_path)
    card.weights_path.unlink()
    with pytest.raises(CorruptModelError, match="cannot be read"):
        load_model(card)


def test_weights_of_another_structure_are_refused(tmp_path: pathlib.Path) -> None:
    _save(tmp_path)
    data = json.loads((tmp_path / CARD_FILE).read_text())
    data["config"]["hidden"] = [5]
    (tmp_path / CARD_FILE).write_text(json.dumps(data))
    with pytest.raises(CorruptModelError, match="do not fit"):
        load_model(ModelCard.read(tmp_path))


@pytest.mark.parametrize("data", [b"", b"\xff" * 64, (1 << 60).to_bytes(8, "little") + b"{}"])
def test_weights_that_are_no_safetensors_are_refused(tmp_path: pathlib.Path, data: bytes) -> None:
    card = _save(tmp_path)
    card.weights_path.write_bytes(data)
    with pytest.raises(CorruptModelError, match="do not fit"):
        load_model(dataclasses.replace(card, weights_sha256=hashlib.sha256(data).hexdigest()))


def test_superfluous_weights_are_refused(tmp_path: pathlib.Path) -> None:
    card = _save(tmp_path)
    save_file({**_model().state_dict(), "extra": torch.zeros(1)}, card.weights_path)
    sha256 = hashlib.sha256(card.weights_path.read_bytes()).hexdigest()
    with pytest.raises(CorruptModelError, match="extra"):
        load_model(dataclasses.replace(card, weights_sha256=sha256))


@pytest.mark.parametrize(
    ("name", "version"), [("Tiny", 1), ("../x", 1), ("", 1), ("a" * 65, 1), ("a", 0), ("a", 10**6)]
)
def test_names_and_versions_that_no_packet_can_hold_are_refused(
    tmp_path: pathlib.Path, name: str, version: int
) -> None:
    with pytest.raises(ArgumentError, match="allowed"):
        save_model(_model(), tmp_path / "m", name=name, version=version, details={})
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize("value", [1e6, float("nan")])
def test_weights_beyond_float16_are_refused(tmp_path: pathlib.Path, value: float) -> None:
    model = _model()
    with torch.no_grad():
        model.levels[0][0].phi.conv1.bias[0] = value  # type: ignore[index]
    with pytest.raises(ArgumentError, match=r"levels\.0\.0\.phi\.conv1\.bias"):
        save_model(model, tmp_path / "m", name="tiny", version=1, details={})
    assert not (tmp_path / "m").exists()


def test_a_module_of_another_kind_is_refused(tmp_path: pathlib.Path) -> None:
    with pytest.raises(ArgumentError, match="takes a BDFlow"):
        save_model(torch.nn.Linear(1, 1), tmp_path, name="tiny", version=1, details={})  # type: ignore[arg-type]


def test_a_file_in_the_way_of_the_folder_raises(tmp_path: pathlib.Path) -> None:
    (tmp_path / "m").write_bytes(b"mine")
    with pytest.raises(UnwritableOutputError):
        _save(tmp_path / "m")
    assert (tmp_path / "m").read_bytes() == b"mine"


def test_other_weights_are_not_saved_over_a_model(tmp_path: pathlib.Path) -> None:
    _save(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    model = _model()
    with torch.no_grad():
        model.levels[0][0].phi.conv1.bias[0] += 1  # type: ignore[index]
    for version in (3, 4):
        with pytest.raises(ModelExistsError, match="tiny@3"):
            save_model(model, tmp_path, name="tiny", version=version, details={})
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    _save(tmp_path)
