"""An architecture of somebody else's goes all the way, with nothing of the package touched; and what is refused."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from bdflow_rt import Rescaler, read_packet
from bdflow_rt.cli.main import main
from bdflow_rt.containers import read_picture, write_picture
from bdflow_rt.engines.backends import BackendInfo
from bdflow_rt.engines.engine import Engine
from bdflow_rt.engines.openvino import OpenVINOEngine
from bdflow_rt.engines.torch.engine import TorchEngine
from bdflow_rt.errors import (
    BackendUnavailableError,
    CorruptModelError,
    DirectionError,
    ExportError,
    ModelConfigError,
    ModelVersionError,
    OutOfMemoryError,
    ShapeError,
)
from bdflow_rt.export.onnx import export_model, read_graph, trace_graph
from bdflow_rt.models.io import load_model
from bdflow_rt.models.network import NetworkOutput
from bdflow_rt.picture import Picture
from bdflow_rt.zoo import ModelCard, find_model
from bdflow_rt.zoo.architecture import architecture, find_architecture
from bdflow_rt.zoo.interface import ModelInterface
from tests import toy
from tests.support import ROOT, photo
from tests.support_models import DIRECTIONS, assert_close_pixels, graph_inputs, make_model, tiny_config
from tests.training.small import write_pictures

TRAINING = """
crop = 16
batch = 2
iterations = 3
workers = 0
[model]
arch = "toy"
width = 6
[loss]
lpips = 0
"""


@pytest.fixture(scope="module")
def card(tmp_path_factory: pytest.TempPathFactory) -> ModelCard:
    return make_model(tmp_path_factory.mktemp("zoo"), toy.ToyConfig())


def test_a_new_architecture_is_trained_exported_and_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_pictures(tmp_path / "pictures")
    Path("toy.toml").write_text(TRAINING)
    assert main(["train", "toy.toml", "--data", "pictures", "--threads", "1"]) == 0
    model = "runs/toy/model"
    assert main(["export", model]) == 0
    picture = photo(45, 31, 1)
    write_picture("hr.png", Picture(picture))
    assert main(["downscale", "hr.png", "-o", "lr.png", "--model", model]) == 0
    packet = read_packet("lr.png")
    assert (packet.lr.shape, packet.header.bits, packet.header.scale) == ((23, 16, 3), 2, 2)
    assert main(["upscale", "lr.png", "-o", "restored.png", "--model", model]) == 0
    restored = read_picture("restored.png").pixels
    assert np.abs(restored.astype(int) - picture).mean() < 12
    stated = json.loads(Path(model, "model.json").read_text())
    assert (stated["arch"], stated["config"]) == ("toy", {"width": 6})


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_its_graphs_compute_what_its_module_computes(card: ModelCard, direction: str) -> None:
    inputs = graph_inputs(card, direction)  # type: ignore[arg-type]
    expected = TorchEngine(card, direction).run(inputs)  # type: ignore[arg-type]
    actual = OpenVINOEngine(card, direction, threads=1).run(inputs)  # type: ignore[arg-type]
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        assert_close_pixels(actual[name], value)


def test_its_tiles_are_exact_with_the_halo_it_states(card: ModelCard) -> None:
    picture = photo(151, 173, 2)
    with Rescaler(card, threads=1) as whole, Rescaler(card, threads=1, memory_limit_mib=0.5) as tiled:
        packet, again = whole.downscale(picture), tiled.downscale(picture)
        assert_close_pixels(again.lr, packet.lr)
        assert_close_pixels(tiled.upscale(packet), whole.upscale(packet))


def test_its_parameters_and_receptive_field_are_those_of_the_module(card: ModelCard) -> None:
    network = load_model(card)
    trained = sum(value.numel() for name, value in network.named_parameters() if name != "quantizer.gain")
    assert card.config.parameters() == trained
    reach = card.config.receptive_field()
    assert reach is not None
    centre = reach + 2
    x = torch.rand(1, 3, 4 * centre, 4 * centre, requires_grad=True)
    output = network(x)
    assert output.boundary is not None
    (output.lr.sum(dim=1) + output.boundary[:, 0])[0, centre, centre].backward()
    assert x.grad is not None
    rows = x.grad.abs().sum(dim=(0, 1, 3)).nonzero().flatten() // 2
    assert int((rows - centre).abs().max()) == reach


def test_its_core_graphs_take_and_give_rgb_planes(card: ModelCard) -> None:
    for direction, planes in (("downscale", "input"), ("upscale", "output")):
        graph = read_graph(card, direction, kind="core").graph
        value = getattr(graph, planes)[0]
        assert value.name == "planes"
        assert [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim] == ["N", 3, "H", "W"]


def test_graphs_of_a_shipped_model_are_what_its_network_is_now() -> None:
    """Whoever changes a module or the exporter exports the zoo again."""
    for name in ("bdflow-x2-fast", "bdflow-x8"):
        shipped = find_model(name)
        for direction in DIRECTIONS:
            for kind in ("public", "core"):
                traced = trace_graph(shipped, direction, kind=kind)
                assert traced == read_graph(shipped, direction, kind=kind)


def test_no_graph_computes_with_shapes_or_forms_what_is_thrown_away(tmp_path: Path) -> None:
    model = make_model(tmp_path, tiny_config(8, blocks=2))
    for direction in DIRECTIONS:
        for kind in ("public", "core"):
            graph = read_graph(model, direction, kind=kind).graph
            kinds = {node.op_type for node in graph.node}
            assert not kinds & {"Shape", "Slice", "Split", "Pad", "Reshape", "Expand", "ConstantOfShape", "Identity"}
    down = {node.name: node for node in read_graph(model, "downscale").graph.node}
    # Of the last block only the channel of B is computed, of 189.
    weight = down["levels.2.1.eta.conv3"].input[1]
    assert weight.startswith("levels.2.1.eta.conv3.weight[:1]")


@pytest.mark.parametrize("engine", [OpenVINOEngine, TorchEngine])
def test_what_a_network_does_not_do_is_refused(card: ModelCard, engine: type[Engine], tmp_path: Path) -> None:
    backend = engine.backend
    picture = photo(8, 8, 1)

    class Changed(toy.ToyConfig):
        def interface(self) -> ModelInterface:
            return dataclasses.replace(super().interface(), **changes)  # type: ignore[arg-type]

    changed = dataclasses.replace(card, config=Changed())
    changes: dict[str, object] = {"directions": ("upscale",)}
    with Rescaler(changed, backend=backend) as rescaler, pytest.raises(DirectionError, match="has no downscale"):
        rescaler.downscale(picture)
    changed, changes = dataclasses.replace(card, config=Changed()), {"hr_size": (16, 16)}
    with Rescaler(changed, backend=backend) as rescaler, pytest.raises(ShapeError, match="16 x 16 pixels alone"):
        rescaler.downscale(picture)
    changed, changes = dataclasses.replace(card, config=Changed()), {"halo": None}
    with (
        Rescaler(changed, backend=backend, memory_limit_mib=0.001) as rescaler,
        pytest.raises(OutOfMemoryError, match="cannot cut pictures"),
    ):
        rescaler.downscale(picture)


def test_a_function_without_a_graph_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def down(self: toy.Toy, planes: torch.Tensor) -> NetworkOutput:
        return NetworkOutput(torch.cumsum(planes, dim=1), None, None)

    monkeypatch.setattr(toy.Toy, "down", down)
    with pytest.raises(ExportError, match="cumsum has no graph"):
        make_model(tmp_path, toy.ToyConfig())


def test_an_unknown_architecture_needs_a_newer_release_or_its_package(card: ModelCard, tmp_path: Path) -> None:
    text = card.to_json().replace('"arch": "toy"', '"arch": "strange"')
    (tmp_path / "model.json").write_text(text)
    with pytest.raises(ModelVersionError, match="newer bdflow-rt, or the package"):
        ModelCard.read(tmp_path)
    for name in ("bdflow/../x", "__init__", "", "os"):
        with pytest.raises(ModelVersionError):
            find_architecture(name)
    for value in ("7", "null", "[]", "{}"):
        (tmp_path / "model.json").write_text(card.to_json().replace('"arch": "toy"', f'"arch": {value}'))
        with pytest.raises(CorruptModelError):
            ModelCard.read(tmp_path)


def test_a_name_that_is_taken_is_refused() -> None:
    class Other(toy.ToyConfig):
        """Of another name."""

    with pytest.raises(ModelConfigError, match="is the architecture 'toy' already"):
        architecture("toy", module="x:Y")(Other)
    with pytest.raises(ModelConfigError, match="architecture's name"):
        architecture("No Name", module="x:Y")(Other)


def test_an_installed_package_adds_its_architecture_by_an_entry_point(card: ModelCard, tmp_path: Path) -> None:
    """In another process, which has not imported it."""
    info = tmp_path / "toy-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toy\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[bdflow_rt.arch]\ntoy = tests.toy:ToyConfig\n")
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "from bdflow_rt.zoo import find_model\n"
        f"print(find_model({str(card.folder)!r}).config)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "ToyConfig(width=8)"


def test_without_torch_graphs_are_copied_and_none_can_be_made(
    card: ModelCard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(BackendInfo, "is_installed", property(lambda info: info.name != "torch"))
    copied = export_model(card, folder=tmp_path / "copy")
    assert copied.graphs_sha256 == card.graphs_sha256
    for name in card.graphs_sha256:
        assert (tmp_path / "copy" / f"{name}.onnx").read_bytes() == (card.folder / f"{name}.onnx").read_bytes()
    onnx.checker.check_model(str(tmp_path / "copy" / "upscale.core.onnx"), full_check=True)
    with pytest.raises(BackendUnavailableError, match="torch backend is not installed"):
        export_model(dataclasses.replace(card, graphs_sha256={}), folder=tmp_path / "none")
