"""Model folders: what is written is what is read, and damaged ones are refused."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import pathlib
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from bdflow_rt.errors import (
    ArgumentError,
    CorruptModelError,
    ModelExistsError,
    UnwritableOutputError,
    WeightsHashError,
)
from bdflow_rt.models.bdflow import BDFlow
from bdflow_rt.models.int8 import LARGEST_WEIGHT, from_int8, to_int8
from bdflow_rt.models.io import LEAST_AVERAGED, Storage, load_model, save_model
from bdflow_rt.zoo.arch.bdflow import BDFlowConfig
from bdflow_rt.zoo.card import CARD_FILE, WEIGHTS_FILE, ModelCard
from bdflow_rt.zoo.weights import are_exact

pytestmark = pytest.mark.usefixtures("narrow_int8")

CONFIG = BDFlowConfig(scale=2, blocks=(1,), hidden=(4,))
STEPS = 1
"""How many steps of an int8 kernel's scale it is from what was rounded, at most."""


def _model() -> BDFlow:
    torch.manual_seed(1)
    model = BDFlow(CONFIG)
    model.reset_parameters(zero_last=False)
    return model


def _save(folder: pathlib.Path, storage: Storage = "float16") -> ModelCard:
    return save_model(_model(), folder, name="tiny", version=3, details={"seed": 1}, storage=storage)


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


def test_a_model_saved_in_int8_comes_back_within_a_step_and_takes_half_the_bytes(tmp_path: pathlib.Path) -> None:
    card = _save(tmp_path / "int8", "int8")
    original, stored = _model().state_dict(), load_file(card.weights_path)
    loaded = load_model(card).state_dict()
    assert loaded.keys() == original.keys()
    for name, value in loaded.items():
        if value.ndim == 4:
            scales = stored[f"{name}.scale"].float()
            error = (value - original[name]).abs().amax(dim=(1, 2, 3))
            assert bool((error <= STEPS * scales).all()), name
            assert value.half().float().equal(value), name
            assert stored[name].dtype == torch.int8
        else:
            assert torch.equal(value, original[name] if name == "quantizer.gain" else original[name].half().float())
    kernels = sum(value.numel() for value in original.values() if value.ndim == 4)
    sizes = [sum(value.nbytes for value in load_file(one.weights_path).values())
             for one in (card, _save(tmp_path / "float16"))]  # fmt: skip
    channels = sum(len(value) for value in original.values() if value.ndim == 4)
    assert sizes[1] - sizes[0] == kernels - 2 * channels


def test_an_int8_model_saved_in_float16_keeps_its_values(tmp_path: pathlib.Path) -> None:
    card = _save(tmp_path / "a", "int8")
    model = load_model(card)
    again = save_model(model, tmp_path / "b", name="tiny", version=3, details={}, storage="float16")
    for name, value in load_model(again).state_dict().items():
        assert torch.equal(value, model.state_dict()[name]), name


@pytest.mark.parametrize("storage", ["float16", "int8"])
def test_saving_twice_gives_the_same_bytes(tmp_path: pathlib.Path, storage: Storage) -> None:
    assert _save(tmp_path / "a", storage).weights_sha256 == _save(tmp_path / "b", storage).weights_sha256


@pytest.mark.parametrize("storage", ["float16", "int8"])
def test_how_weights_lie_in_memory_does_not_change_the_file(tmp_path: pathlib.Path, storage: Storage) -> None:
    options: dict[str, Any] = {"name": "tiny", "version": 3, "details": {}, "storage": storage}
    model = _model().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    assert not model.get_parameter("levels.0.0.phi.conv1.weight").is_contiguous()
    card = save_model(model, tmp_path / "b", **options)
    assert card.weights_sha256 == _save(tmp_path / "a", storage).weights_sha256


def test_a_storage_there_is_not_is_refused(tmp_path: pathlib.Path) -> None:
    with pytest.raises(ArgumentError, match="'int4'; it must be one of float16, int8"):
        _save(tmp_path / "m", "int4")  # type: ignore[arg-type]
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize("size", [1e-12, 1e-7, 1e-4, 1.0, LARGEST_WEIGHT])
def test_every_value_of_an_int8_kernel_is_a_float16_and_nothing_is_clipped(size: float) -> None:
    kernel = torch.randn(64, 3, 3, 3, generator=torch.Generator().manual_seed(2))
    kernel *= torch.linspace(0, 1, 64).reshape(-1, 1, 1, 1)
    kernel *= size / kernel.abs().max()
    values, scales = to_int8(kernel)
    found = from_int8(values, scales)
    assert are_exact(scales.tolist())
    assert torch.equal(found.half().float(), found)
    assert torch.equal(values.half() * scales.reshape(-1, 1, 1, 1), found.half())
    assert values.abs().max() <= 127
    assert not values[0].any()
    assert bool(((found - kernel).abs() <= STEPS * scales.float().reshape(-1, 1, 1, 1)).all())
    # No finer scale would do: of those that float16 has with 4 significant bits, the next lower one is too small.
    finest = 2.0**-24
    steps = scales[1:].double()
    lower = torch.where(
        steps.frexp().mantissa == 0.5, steps * 15 / 16, steps - torch.exp2(steps.frexp().exponent - 4.0)
    )
    assert bool(((lower * 127 < kernel[1:].abs().amax(dim=(1, 2, 3))) | (steps < 16 * finest)).all())


def test_int8_kernels_do_to_flat_pictures_what_those_did_that_were_rounded() -> None:
    kernel = torch.randn(40, 7, 3, 3, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    values, scales = to_int8(kernel)
    steps = scales.double().reshape(-1, 1, 1, 1)
    sums = ((values * steps - kernel) / steps).sum(dim=(2, 3)).abs()
    assert sums.max() <= 0.5 + 1e-9
    assert (values - kernel / steps).abs().max() < 1
    # Rounding each by itself, 9 errors of up to half a step add up.
    nearest = ((kernel / steps).round() - kernel / steps).sum(dim=(2, 3)).abs()
    assert sums.square().mean() < nearest.square().mean() / 4


def test_kernels_of_few_inputs_stay_float16(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    model = BDFlow(BDFlowConfig(scale=4, blocks=(1, 1), hidden=(LEAST_AVERAGED, 8)))
    stored = load_file(save_model(model, tmp_path, name="m", version=1, details={}, storage="int8").weights_path)
    for name, kernel in model.state_dict().items():
        is_wide = kernel.ndim == 4 and kernel.shape[1] >= LEAST_AVERAGED
        assert (stored[name].dtype == torch.int8) == (f"{name}.scale" in stored) == is_wide, name
    # 9, 45 and 3 inputs; what is called wide is what has as many as the first level's hidden channels, or more.
    narrow, wide = "levels.0.0.phi.conv1.weight", ("levels.0.0.phi.conv2.weight", "levels.1.0.phi.conv1.weight")
    assert stored[narrow].dtype == torch.float16
    assert {stored[name].dtype for name in wide} == {torch.int8}


def test_int8_scales_that_are_not_sound_are_refused(tmp_path: pathlib.Path) -> None:
    card = _save(tmp_path, "int8")
    state = load_file(card.weights_path)
    scales = next(name for name in state if name.endswith(".scale"))
    for change in ({scales: state[scales] * np.nan}, {scales: state[scales][:1]}, {scales: None}):
        save_file({name: value for name, value in {**state, **change}.items() if value is not None}, card.weights_path)
        sha256 = hashlib.sha256(card.weights_path.read_bytes()).hexdigest()
        with pytest.raises(CorruptModelError, match="int8"):
            load_model(dataclasses.replace(card, weights_sha256=sha256))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1.01 * LARGEST_WEIGHT, 65504.0])
def test_weights_beyond_int8_and_its_scales_are_refused(tmp_path: pathlib.Path, value: float) -> None:
    model = _model()
    with torch.no_grad():
        model.levels[0][0].phi.conv1.weight[0, 0, 0, 0] = value  # type: ignore[index]
    with pytest.raises(ArgumentError, match=r"levels\.0\.0\.phi\.conv1\.weight holds values beyond 60960"):
        save_model(model, tmp_path / "m", name="tiny", version=1, details={}, storage="int8")
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize("storage", ["float16", "int8"])
def test_a_boundary_gain_of_0_is_refused(tmp_path: pathlib.Path, storage: Storage) -> None:
    model = _model()
    torch.nn.init.zeros_(model.get_parameter("quantizer.gain"))
    with pytest.raises(ArgumentError, match=r"quantizer\.gain is 0"):
        save_model(model, tmp_path / "m", name="tiny", version=1, details={}, storage=storage)
    assert not (tmp_path / "m").exists()


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


def test_a_network_that_needs_more_than_the_weights_is_refused_before_it_takes_memory(tmp_path: pathlib.Path) -> None:
    card = _save(tmp_path)
    config = dataclasses.replace(CONFIG, blocks=(64,), hidden=(1024,))  # 7 GB; a card may ask for a terabyte
    with pytest.raises(CorruptModelError, match=rf"needs {config.parameters()} values, and they have 2524"):
        load_model(dataclasses.replace(card, config=config))


def test_weights_of_many_other_names_are_refused_in_few_words(tmp_path: pathlib.Path) -> None:
    card = _save(tmp_path)
    state = {f"levels.7.{index}": torch.zeros(10) for index in range(1000)}
    save_file(state, card.weights_path)
    sha256 = hashlib.sha256(card.weights_path.read_bytes()).hexdigest()
    with pytest.raises(CorruptModelError, match="do not fit") as caught:
        load_model(dataclasses.replace(card, weights_sha256=sha256))
    assert len(str(caught.value)) < 1000


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
    ("name", "version"),
    [("Tiny", 1), ("../x", 1), ("", 1), ("a" * 65, 1), (7, 1), (None, 1),
     ("a", 0), ("a", 10**6), ("a", True), ("a", 1.0), ("a", "1"), ("a", None)],
)  # fmt: skip
def test_names_and_versions_that_no_packet_can_hold_are_refused(
    tmp_path: pathlib.Path, name: Any, version: Any
) -> None:
    with pytest.raises(ArgumentError, match="allowed"):
        save_model(_model(), tmp_path / "m", name=name, version=version, details={})
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize(
    "details", [{"psnr": float("nan")}, {"psnr": [float("inf")]}, {"psnr": torch.ones(1)}, {"path": pathlib.Path("a")}]
)
def test_details_that_are_not_json_are_refused_before_anything_is_written(
    tmp_path: pathlib.Path, details: dict[str, Any]
) -> None:
    with pytest.raises(ArgumentError, match="details cannot be written as JSON"):
        save_model(_model(), tmp_path / "m", name="tiny", version=1, details=details)
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize("storage", ["float16", "int8"])
@pytest.mark.parametrize("value", [1e6, float("nan")])
def test_weights_beyond_float16_are_refused(tmp_path: pathlib.Path, value: float, storage: Storage) -> None:
    model = _model()
    with torch.no_grad():
        model.levels[0][0].phi.conv1.bias[0] = value  # type: ignore[index]
    with pytest.raises(ArgumentError, match=r"levels\.0\.0\.phi\.conv1\.bias holds values beyond 65504, which cannot"):
        save_model(model, tmp_path / "m", name="tiny", version=1, details={}, storage=storage)
    assert not (tmp_path / "m").exists()


def test_a_module_of_another_kind_is_refused(tmp_path: pathlib.Path) -> None:
    with pytest.raises(ArgumentError, match="takes a Network"):
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


@pytest.mark.parametrize("changes", [{"coupling": "additive"}, {"bits": 3}])
def test_the_same_weights_in_another_network_are_not_saved_over_a_model(
    tmp_path: pathlib.Path, changes: dict[str, Any]
) -> None:
    card = _save(tmp_path)
    other = BDFlow(dataclasses.replace(CONFIG, **changes))
    other.load_state_dict(_model().state_dict())
    with pytest.raises(ModelExistsError, match=r"holds tiny@3 .* packets may need the other"):
        save_model(other, tmp_path, name="tiny", version=3, details={})
    assert ModelCard.read(tmp_path) == card


def test_saving_a_model_again_keeps_its_graphs_and_what_bfloat16_costs_it(tmp_path: pathlib.Path) -> None:
    card = dataclasses.replace(_save(tmp_path), graphs_sha256={"upscale": "0" * 64}, precisions={"bf16": 0.25})
    (tmp_path / CARD_FILE).write_text(card.to_json())
    assert _save(tmp_path) == card
    assert ModelCard.read(tmp_path) == card
