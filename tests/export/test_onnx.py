"""The exported files: what a reader of ONNX finds in them, and where their weights are."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import struct
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest

from bdflow_rt.cli.main import main
from bdflow_rt.errors import CorruptModelError, ModelExistsError, UnwritableOutputError, WeightsHashError
from bdflow_rt.export.onnx import export_model
from bdflow_rt.zoo import ModelCard, find_model, paper_config
from bdflow_rt.zoo.card import CARD_FILE, WEIGHTS_FILE
from tests.support import slow
from tests.support_models import DIRECTIONS, make_model, tiny_config

ModelMaker = Callable[..., ModelCard]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> ModelMaker:
    @functools.cache
    def make(scale: int, bits: int = 1, *, blocks: int = 1) -> ModelCard:
        return make_model(tmp_path_factory.mktemp("zoo"), tiny_config(scale, bits=bits, blocks=blocks))

    return make


def load(card: ModelCard, direction: str) -> onnx.ModelProto:
    return onnx.load(str(card.folder / f"{direction}.onnx"), load_external_data=False)


def shape(value: onnx.ValueInfoProto) -> list[str | int]:
    return [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]


@pytest.mark.parametrize("bits", [0, 3])
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_inputs_and_outputs_are_dynamic_and_uint8(models: ModelMaker, direction: str, bits: int) -> None:
    card = models(4, bits)
    graph = load(card, direction).graph
    hr: list[str | int] = ["N", "H", "W", 3]
    small: dict[str, list[str | int]] = {"lr": ["N", "h", "w", 3]}
    if bits:
        small["boundary"] = ["N", "h", "w"]
    inputs = {
        "downscale": {"image": hr},
        "upscale": small,
        "upscale_z": {**small, "latent": ["N", card.interface.latent_channels, "h", "w"]},
    }
    outputs = {**(small if direction == "downscale" else {"image": hr}), "mean": []}
    assert {value.name: shape(value) for value in graph.input} == inputs[direction]
    assert {value.name: shape(value) for value in graph.output} == outputs
    floats = {"latent", "mean"}
    for value in (*graph.input, *graph.output):
        assert value.type.tensor_type.elem_type == (
            onnx.TensorProto.FLOAT if value.name in floats else onnx.TensorProto.UINT8
        )


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_opset_checker_and_metadata(models: ModelMaker, direction: str) -> None:
    card = models(4)
    model = load(card, direction)
    assert [entry.version >= 20 for entry in model.opset_import] == [True]
    onnx.checker.check_model(str(card.folder / f"{direction}.onnx"), full_check=True)
    properties = {entry.key: entry.value for entry in model.metadata_props}
    assert properties == {"model": "tiny@1", "weights_sha256": card.weights_sha256, "scale": "4", "bits": "1"}


@pytest.mark.parametrize(("scale", "limit"), [(4, 70_000), slow(8, 140_000), slow(16, 120_000)])
def test_the_papers_graphs_are_small_and_hold_no_learned_weights(tmp_path: Path, scale: int, limit: int) -> None:
    card = make_model(tmp_path, paper_config(scale))
    file_size = card.weights_path.stat().st_size
    header = struct.unpack("<Q", card.weights_path.read_bytes()[:8])[0]
    for direction in DIRECTIONS:
        assert (card.folder / f"{direction}.onnx").stat().st_size < limit
        graph = load(card, direction).graph
        inside = [tensor for tensor in graph.initializer if tensor.data_location != onnx.TensorProto.EXTERNAL]
        # Haar transforms and the place of B in Z are convolutions with constant weights; all else is a number or two.
        others = [tensor for tensor in inside if "haar" not in tensor.name and tensor.name != "cat/zeros"]
        assert sum(tensor.ByteSize() for tensor in others) < 200
        stored = [tensor for tensor in graph.initializer if tensor.data_location == onnx.TensorProto.EXTERNAL]
        assert len(stored) > 40
        for tensor in stored:
            fields = {entry.key: entry.value for entry in tensor.external_data}
            assert fields["location"] == WEIGHTS_FILE
            assert 8 + header <= int(fields["offset"])
            assert int(fields["offset"]) + int(fields["length"]) <= file_size


def test_downscale_computes_one_channel_of_rho_and_eta_in_the_last_block(models: ModelMaker) -> None:
    tensors = {tensor.name: list(tensor.dims) for tensor in load(models(4, blocks=2), "downscale").graph.initializer}
    last = {name: dims for name, dims in tensors.items() if name.startswith(("levels.1.1.rho", "levels.1.1.eta"))}
    for transform in ("rho", "eta"):
        for conv, inputs in (("conv3", 8), ("shortcut", 3)):
            assert last[f"levels.1.1.{transform}.{conv}.weight[:1]"] == [1, inputs, 3, 3]
            assert last[f"levels.1.1.{transform}.{conv}.bias[:1]"] == [1]
            assert f"levels.1.1.{transform}.{conv}.weight" not in last
            assert tensors[f"levels.1.0.{transform}.{conv}.weight"] == [45, inputs, 3, 3]


def test_downscale_without_boundary_leaves_rho_and_eta_of_the_last_block_out(models: ModelMaker) -> None:
    names = [tensor.name for tensor in load(models(4, 0, blocks=2), "downscale").graph.initializer]
    assert any(name.startswith("levels.1.1.phi") for name in names)
    assert any(name.startswith("levels.1.0.rho") for name in names)
    assert not any(name.startswith(("levels.1.1.rho", "levels.1.1.eta")) for name in names)


def test_export_gives_the_same_bytes_every_time(models: ModelMaker, tmp_path: Path) -> None:
    card = models(8)
    again = export_model(card, folder=tmp_path / "again")
    assert again.graphs_sha256 == card.graphs_sha256
    for direction in DIRECTIONS:
        content = (tmp_path / "again" / f"{direction}.onnx").read_bytes()
        assert hashlib.sha256(content).hexdigest() == card.graphs_sha256[direction]


def test_export_elsewhere_makes_a_complete_model(models: ModelMaker, tmp_path: Path) -> None:
    card = models(2)
    written = export_model(card, folder=tmp_path / "a" / "b")
    assert ModelCard.read(tmp_path / "a" / "b") == written
    assert {path.name for path in written.folder.iterdir()} == {
        CARD_FILE, WEIGHTS_FILE, *(f"{direction}{kind}.onnx" for direction in DIRECTIONS for kind in ("", ".core")),
    }  # fmt: skip
    assert written.weights_path.read_bytes() == card.weights_path.read_bytes()
    for direction in DIRECTIONS:
        written.check_graph(direction)


def test_export_into_a_file_is_refused(models: ModelMaker, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UnwritableOutputError):
        export_model(models(2), folder=tmp_path / "file" / "below")


def test_altered_weights_are_not_exported(tmp_path: Path) -> None:
    card = make_model(tmp_path, tiny_config(2))
    card.weights_path.write_bytes(card.weights_path.read_bytes()[:-1] + b"\x7f")
    with pytest.raises(WeightsHashError):
        export_model(card)


def test_export_never_goes_over_another_model(tmp_path: Path) -> None:
    card = make_model(tmp_path, tiny_config(2), seed=1)
    other = make_model(tmp_path / "other", tiny_config(2), seed=2)
    retuned = dataclasses.replace(other, config=tiny_config(2, bits=2))
    renamed = make_model(tmp_path / "renamed", tiny_config(2), seed=2, name="renamed")
    before = {path.name: path.read_bytes() for path in other.folder.iterdir()}
    for wrong in (card, renamed, retuned):
        with pytest.raises(ModelExistsError, match="holds tiny@1"):
            export_model(wrong, folder=other.folder)
    assert {path.name: path.read_bytes() for path in other.folder.iterdir()} == before
    copy = export_model(other, folder=tmp_path / "copy")
    assert export_model(other, folder=copy.folder) == copy


@pytest.mark.parametrize(
    ("scale", "changes"), [(4, {"hidden": 16}), (4, {"hidden": 4}), (4, {"blocks": 2}), (2, {}), (4, {"bits": 0})]
)
def test_weights_of_another_configuration_leave_the_folder_as_it_was(
    tmp_path: Path, scale: int, changes: dict[str, int]
) -> None:
    card = make_model(tmp_path, tiny_config(4))
    wrong = dataclasses.replace(card, config=tiny_config(scale, **changes))
    (card.folder / CARD_FILE).write_text(wrong.to_json())
    before = {path.name: path.read_bytes() for path in card.folder.iterdir()}
    with pytest.raises(CorruptModelError, match="do not belong together"):
        export_model(wrong)
    assert {path.name: path.read_bytes() for path in card.folder.iterdir()} == before


def test_the_command_never_writes_into_a_model_found_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    card = make_model(tmp_path / "zoo", tiny_config(2), name="released")
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in card.folder.iterdir()}
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.setenv("BDFLOW_ZOO", str(tmp_path / "zoo"))
    assert main(["export", "released", "--json"]) == 0
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in card.folder.iterdir()} == before
    assert json.loads(capsys.readouterr().out)["folder"] == "released@1"
    assert find_model(work / "released@1").graphs_sha256 == card.graphs_sha256
