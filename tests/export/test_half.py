"""The float16 graphs: strongly typed, rounded where they say, and as good as float32 on real pictures."""

from __future__ import annotations

import functools
import re
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from bdflow_rt.containers.image import read_picture
from bdflow_rt.errors import PrecisionError
from bdflow_rt.evaluate.pictures import list_pictures
from bdflow_rt.export.half import element_types, islands, to_half
from bdflow_rt.export.onnx import read_graph
from bdflow_rt.kernels.egress import egress_reference
from bdflow_rt.kernels.ingest import ingest_reference
from bdflow_rt.metrics import psnr_y
from bdflow_rt.quiet import import_quietly
from bdflow_rt.zoo import Direction, ModelCard, find_model
from bdflow_rt.zoo.interface import GraphKind
from tests.support import data_dir, needs_data, photo, slow, slow_but
from tests.support_half import interpret
from tests.support_models import DIRECTIONS, assert_close_pixels, graph_inputs, make_model, tiny_config

onnxruntime = import_quietly("onnxruntime")

Arrays = dict[str, NDArray[Any]]
KINDS: tuple[GraphKind, ...] = ("public", "core")
FLOATS = {TensorProto.FLOAT, TensorProto.FLOAT16}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., ModelCard]:
    @functools.cache
    def make(scale: int, bits: int = 1) -> ModelCard:
        return make_model(tmp_path_factory.mktemp("zoo"), tiny_config(scale, bits=bits, hidden=4))

    return make


def graphs(card: ModelCard) -> list[tuple[onnx.ModelProto, onnx.ModelProto]]:
    """Every graph of a model in float32 and in float16."""
    sources = [read_graph(card, direction, kind=kind) for direction in DIRECTIONS for kind in KINDS]
    return [(source, to_half(source)) for source in sources]


def small_graph(nodes: list[onnx.NodeProto], constants: dict[str, Any]) -> onnx.ModelProto:
    """x (1, C, 1, 1) to y, all float16."""
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT16, [1, "C", 1, 1]) for name in "xy")
    initializers = [numpy_helper.from_array(np.asarray(value, np.float16), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "small", [x], [y], initializer=initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


@pytest.mark.parametrize(("scale", "bits"), [(2, 1), (4, 0), (8, 3), (32, 1)])
def test_half_graphs_pass_the_checker_and_mix_no_types(
    models: Callable[..., ModelCard], tmp_path: Path, scale: int, bits: int
) -> None:
    card = models(scale, bits)
    shutil.copy(card.weights_path, tmp_path)
    for source, half in graphs(card):
        (tmp_path / "half.onnx").write_bytes(half.SerializeToString())
        onnx.checker.check_model(str(tmp_path / "half.onnx"), full_check=True)
        types = element_types(half)
        for node in half.graph.node:
            if node.op_type != "Cast":
                assert len({types[value] for value in (*node.input, *node.output)} & FLOATS) == 1, node.name
        for before, after in ((source.graph.input, half.graph.input), (source.graph.output, half.graph.output)):
            assert list(before) == list(after)
        assert source.metadata_props == half.metadata_props


@pytest.mark.parametrize("scale", [4, 32])
def test_nothing_is_cast_twice_and_nothing_is_left_over(models: Callable[..., ModelCard], scale: int) -> None:
    for source, half in graphs(models(scale)):
        types = element_types(half)
        casts = [node for node in half.graph.node if node.op_type == "Cast"]
        made = Counter((node.input[0], types[node.output[0]]) for node in casts)
        assert set(made.values()) == {1}
        assert all(types[node.input[0]] != types[node.output[0]] for node in casts)
        assert not {node.input[0] for node in casts} & {tensor.name for tensor in half.graph.initializer}
        used = {value for node in half.graph.node for value in node.input}
        used |= {output.name for output in half.graph.output}
        assert {tensor.name for tensor in half.graph.initializer} <= used
        assert all(used.intersection(node.output) for node in half.graph.node)
        others = [[node.name for node in graph.node if node.op_type != "Cast"] for graph in (source.graph, half.graph)]
        assert others[0] == others[1]


def test_every_island_is_float32_and_all_else_is_float16(models: Callable[..., ModelCard]) -> None:
    found: Counter[str] = Counter()
    for _, half in graphs(models(32)):
        types = element_types(half)
        nodes = [node for node in half.graph.node if node.op_type != "Cast"]
        wide = islands(half)
        found.update(re.sub(r"\d+", "0", name.partition("/")[0]) for name in wide)
        for node in nodes:
            floats = {types[value] for value in (*node.input, *node.output)} & FLOATS
            assert floats == {TensorProto.FLOAT if node.name in wide else TensorProto.FLOAT16}, node.name
    assert {"levels.0.0.scale", "levels.0.0", "lr", "lr.pixels", "boundary", "image", "mean"} <= set(found)
    assert not any(".phi" in name or "haar" in name for name in found)


def test_without_islands_only_declared_inputs_and_outputs_are_float32(models: Callable[..., ModelCard]) -> None:
    for direction in DIRECTIONS:
        half = to_half(read_graph(models(4), direction), wide=())
        types = element_types(half)
        wide = {name for name, kind in types.items() if kind == TensorProto.FLOAT}
        assert wide <= {"latent", "mean", "quantizer.gain"}
        # 8-bit values go straight to the type wanted.
        assert [node.op_type for node in half.graph.node if types.get(node.input[0]) == TensorProto.UINT8] == [
            "Cast"
        ] * sum(value.type.tensor_type.elem_type == TensorProto.UINT8 for value in half.graph.input)


def test_constants_that_float16_lacks_are_refused(models: Callable[..., ModelCard]) -> None:
    model = read_graph(models(4), "upscale")
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == "haar_inverse/u1/weight")
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) / 3, tensor.name))
    with pytest.raises(PrecisionError, match="haar_inverse/u1/weight"):
        to_half(model)


def test_the_interpreter_rounds_every_float16_value_and_the_runtimes_here_do_not() -> None:
    # Or it would prove nothing about float16: 1 + 0.0004 is 1 there.
    nodes = [helper.make_node("Add", ["x", "c"], ["a"]), helper.make_node("Sub", ["a", "x"], ["y"])]
    model = small_graph(nodes, {"c": 0.0004})
    x = np.ones((1, 1, 1, 1), np.float16)
    assert interpret(model, None, {"x": x})["y"].item() == 0
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    assert session.run(None, {"x": x})[0].item() == np.float16(0.0004)


def test_the_interpreter_sums_convolutions_in_float32() -> None:
    # In float16 the sum would stop growing at 1.
    weight = np.full((1, 2049, 1, 1), 2.0**-12)
    weight[0, 0] = 1
    model = small_graph([helper.make_node("Conv", ["x", "w"], ["y"], kernel_shape=[1, 1])], {"w": weight})
    assert interpret(model, None, {"x": np.ones((1, 2049, 1, 1), np.float16)})["y"].item() == 1.5


def test_the_interpreter_refuses_mixed_types() -> None:
    model = small_graph([helper.make_node("Add", ["x", "c"], ["y"])], {"c": 1})
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.ones((), np.float32), "c"))
    with pytest.raises(AssertionError, match="mixes"):
        interpret(model, None, {"x": np.ones((1, 1, 1, 1), np.float16)})


@pytest.mark.parametrize("scale", [4, 32])
def test_the_interpreter_equals_onnx_runtime_in_float32(models: Callable[..., ModelCard], scale: int) -> None:
    card = models(scale)
    for direction in DIRECTIONS:
        inputs = graph_inputs(card, direction, size=(96, 64))
        session = onnxruntime.InferenceSession(str(card.graph_path(direction)), providers=["CPUExecutionProvider"])
        names = [output.name for output in session.get_outputs()]
        found = interpret(read_graph(card, direction), card, inputs)
        for name, wanted in zip(names, session.run(names, inputs), strict=True):
            if name == "mean":
                assert abs(found[name] - wanted) < 1e-5
            else:
                assert_close_pixels(found[name], wanted)


def round_trip(
    card: ModelCard, picture: NDArray[np.uint8], half: dict[tuple[Direction, GraphKind], onnx.ModelProto]
) -> dict[GraphKind, tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    """LR and restored picture through the graphs given, by kind."""
    height, width = picture.shape[:2]
    scale = card.interface.scale
    padded = np.pad(picture, ((0, -height % scale), (0, -width % scale), (0, 0)), mode="edge")[None]
    inputs: dict[GraphKind, Arrays] = {
        "public": {"image": padded},
        "core": {"planes": ingest_reference(picture[None], multiple=scale)},
    }
    found = {}
    for kind in {kind for _, kind in half}:
        packet = interpret(half["downscale", kind], card, inputs[kind])
        packet.pop("mean")
        up = interpret(half["upscale", kind], card, packet)
        image = up["image"] if kind == "public" else egress_reference(up["planes"], height=height, width=width)
        found[kind] = packet["lr"][0], image[0, :height, :width]
    return found


def check_half(card: ModelCard, pictures: list[NDArray[np.uint8]]) -> None:
    """Restored PSNR within 0.03 dB of float32's, LR within 1 LSB and really computed in another precision."""
    directions: tuple[Direction, ...] = ("downscale", "upscale")
    exact = {(direction, KINDS[0]): read_graph(card, direction) for direction in directions}
    half = {(d, kind): to_half(read_graph(card, d, kind=kind)) for d in directions for kind in KINDS}
    quality: dict[str, list[float]] = {"exact": [], "public": [], "core": []}
    differing = 0
    for picture in pictures:
        lr, restored = round_trip(card, picture, exact)["public"]
        quality["exact"].append(psnr_y(restored, picture, border=card.interface.scale))
        for kind, (half_lr, half_restored) in round_trip(card, picture, half).items():
            difference = np.abs(half_lr.astype(int) - lr)
            assert difference.max() <= 1
            differing += int(np.count_nonzero(difference))
            quality[kind].append(psnr_y(half_restored, picture, border=card.interface.scale))
    assert differing
    for kind in KINDS:
        assert abs(np.mean(quality[kind]) - np.mean(quality["exact"])) < 0.03


@pytest.mark.parametrize("name", slow_but(["bdflow-x2"], ["bdflow-x2", "bdflow-x4"]))
def test_half_graphs_are_as_good_as_float32(name: str) -> None:
    # One level of the map that tips over moves a picture of this size by up to 0.09 dB, up or down by the processor's
    # order of summation: the mean of two pictures would say more about that than about the precision.
    check_half(find_model(name), [photo(139, 151, seed) for seed in range(1, 9)])


def test_grouped_haar_transforms_are_as_good_in_half_as_in_float32(models: Callable[..., ModelCard]) -> None:
    check_half(models(16), [photo(139, 151, seed) for seed in (1, 2)])


@needs_data
@pytest.mark.parametrize("name", [slow("bdflow-x2"), slow("bdflow-x4")])
def test_half_graphs_are_as_good_as_float32_on_set5(name: str) -> None:
    folder = data_dir()
    assert folder is not None
    check_half(find_model(name), [read_picture(path).pixels for path in list_pictures(folder / "test" / "Set5")])
