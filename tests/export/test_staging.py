"""What a parser of native code is given: a folder with the graph and the card's own weights, and nothing else."""

from __future__ import annotations

import os
import resource
import signal
import stat
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from bdflow_rt.errors import BdflowError, CorruptModelError, DiskFullError, WeightsHashError
from bdflow_rt.export.onnx import read_graph
from bdflow_rt.export.staging import staged_graph
from bdflow_rt.zoo import ModelCard
from tests.support_models import make_model, tiny_config


@pytest.fixture
def card(tmp_path: Path) -> ModelCard:
    return make_model(tmp_path, tiny_config(2, hidden=4))


def elsewhere(location: str, *, offset: int = 0, length: int = 16) -> TensorProto:
    tensor = TensorProto(name="stolen", data_type=TensorProto.FLOAT, dims=[4])
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", str(offset)), ("length", str(length))):
        tensor.external_data.add(key=key, value=value)
    return tensor


def in_initializer(graph: onnx.ModelProto, tensor: TensorProto) -> None:
    graph.graph.initializer.append(tensor)


def in_constant(graph: onnx.ModelProto, tensor: TensorProto) -> None:
    graph.graph.node.append(helper.make_node("Constant", [], ["x"], value=tensor))


def in_sparse(graph: onnx.ModelProto, tensor: TensorProto) -> None:
    graph.graph.sparse_initializer.append(onnx.SparseTensorProto(values=tensor))


def in_branch(graph: onnx.ModelProto, tensor: TensorProto) -> None:
    branch = helper.make_graph([helper.make_node("Constant", [], ["x"], value=tensor)], "b", [], [])
    graph.graph.node.append(helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch))


def in_function(graph: onnx.ModelProto, tensor: TensorProto) -> None:
    nodes = [helper.make_node("Constant", [], ["x"], value=tensor)]
    graph.functions.append(helper.make_function("f", "f", [], ["x"], nodes, []))


PLACES = [in_initializer, in_constant, in_sparse, in_branch, in_function]


def refused(graph: onnx.ModelProto, card: ModelCard, error: type[BdflowError], words: str) -> None:
    with pytest.raises(error, match=words), staged_graph(graph, card):
        pytest.fail("the parser would have been called")


def test_the_folder_holds_the_graph_and_the_weights_as_plain_files_and_goes_away(card: ModelCard) -> None:
    graph = read_graph(card, "upscale", kind="core")
    with staged_graph(graph, card) as path:
        folder = path.parent
        assert sorted(entry.name for entry in folder.iterdir()) == ["graph.onnx", "weights.safetensors"]
        assert all(stat.S_ISREG(entry.lstat().st_mode) for entry in folder.iterdir())
        assert (folder / "weights.safetensors").read_bytes() == card.weights_path.read_bytes()
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        onnx.checker.check_model(str(path), full_check=True)
    assert not folder.exists()


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.__name__)
@pytest.mark.parametrize(
    "location",
    ["/etc/passwd", "../weights.safetensors", "./weights.safetensors", "sub/weights.safetensors", "", "x\0y"],
)
def test_external_data_outside_the_folder_is_refused_wherever_it_hides(
    card: ModelCard, place: Callable[[onnx.ModelProto, TensorProto], None], location: str
) -> None:
    graph = read_graph(card, "downscale")
    place(graph, elsewhere(location))
    refused(graph, card, CorruptModelError, "may only refer to weights.safetensors")


@pytest.mark.parametrize(("offset", "length"), [(-1, 16), (0, 0), (0, 1 << 40), (1 << 40, 16), (0, -16)])
def test_external_data_outside_the_weights_is_refused(card: ModelCard, offset: int, length: int) -> None:
    graph = read_graph(card, "downscale")
    in_initializer(graph, elsewhere("weights.safetensors", offset=offset, length=length))
    refused(graph, card, CorruptModelError, "weights.safetensors")


def test_an_offset_that_is_no_number_is_refused(card: ModelCard) -> None:
    graph, tensor = read_graph(card, "downscale"), elsewhere("weights.safetensors")
    tensor.external_data[1].value = "eight"
    in_initializer(graph, tensor)
    refused(graph, card, CorruptModelError, "stolen")


def test_a_link_to_other_bytes_in_the_place_of_the_weights_is_refused(card: ModelCard, tmp_path: Path) -> None:
    graph = read_graph(card, "downscale")
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret" * 100_000)
    card.weights_path.unlink()
    card.weights_path.symlink_to(secret)
    refused(graph, card, WeightsHashError, "altered or damaged")


def test_one_changed_bit_of_the_weights_is_refused(card: ModelCard) -> None:
    graph = read_graph(card, "downscale")
    data = bytearray(card.weights_path.read_bytes())
    data[-1] ^= 1
    card.weights_path.write_bytes(data)
    refused(graph, card, WeightsHashError, "SHA-256")


@pytest.mark.parametrize("kind", ["missing", "folder", "pipe"])
def test_weights_that_are_no_file_are_refused(card: ModelCard, kind: str) -> None:
    graph = read_graph(card, "downscale")
    card.weights_path.unlink()
    if kind == "folder":
        card.weights_path.mkdir()
    elif kind == "pipe":
        os.mkfifo(card.weights_path)
    refused(graph, card, CorruptModelError, "Install the model again")


def test_a_full_disk_is_named_and_nothing_is_left(
    card: ModelCard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = read_graph(card, "downscale")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    before = sorted(tmp_path.iterdir())
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        refused(graph, card, DiskFullError, "TMPDIR")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, ignored)
    assert sorted(tmp_path.iterdir()) == before
