"""The graph for vs-mlrt: one float input, one float output, and the pixels of `Rescaler.upscale`."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest

from bdflow_rt.engines.openvino import process_core
from bdflow_rt.errors import CorruptModelError, DirectionError, WeightsHashError
from bdflow_rt.export.onnx import read_graph
from bdflow_rt.export.vsmlrt import vsmlrt_graph
from bdflow_rt.packet import Packet
from bdflow_rt.quiet import import_quietly
from bdflow_rt.rescaler import Rescaler
from bdflow_rt.zoo import ModelCard
from bdflow_rt.zoo.interface import ModelInterface
from bdflow_rt.zoo.registry import SHIPPED
from tests import toy
from tests.support import photo, slow_but
from tests.support_models import make_model, tiny_config

onnxruntime = import_quietly("onnxruntime")

Planes = npt.NDArray[np.float32]
ModelMaker = Callable[[int, int], ModelCard]
SHARE = 1e-4
"""Of the values that may differ, by 1, where a runtime sums in another order."""
BITS = [0, 1, 3, 8]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> ModelMaker:
    @functools.cache
    def make(scale: int, bits: int) -> ModelCard:
        return make_model(tmp_path_factory.mktemp("zoo"), tiny_config(scale, bits=bits))

    return make


def restored(card: ModelCard, height: int, width: int) -> tuple[Packet, npt.NDArray[np.uint8]]:
    """A packet of a photo, and what Rescaler restores from it."""
    with Rescaler(card, threads=1) as rescaler:
        packet = rescaler.downscale(photo(height, width, 3))
        assert isinstance(packet, Packet)
        return packet, rescaler.upscale(packet)


def planes_of(packet: Packet) -> Planes:
    """What vs-mlrt makes of the clips, (1, 3 or 4, h, w): pixels over 255, levels over the largest one."""
    planes = [packet.lr.transpose(2, 0, 1) / np.float32(255)]
    if packet.boundary is not None:
        planes.append(packet.boundary[None] / np.float32(2**packet.header.bits - 1))
    return np.concatenate(planes)[None].astype(np.float32)


def in_openvino(model: onnx.ModelProto, planes: Planes) -> Planes:
    core = process_core()
    compiled = core.compile_model(
        core.read_model(model.SerializeToString()), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    return np.asarray(compiled(planes)[0])


def in_onnxruntime(model: onnx.ModelProto, planes: Planes) -> Planes:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(["output"], {"input": planes})[0])


def assert_pixels(output: Planes, expected: npt.NDArray[np.uint8]) -> None:
    """Whether an output (1, 3, H, W), padding cut off, holds these pixels as levels over 255."""
    height, width = expected.shape[:2]
    levels = output[0].transpose(1, 2, 0)[:height, :width] * np.float32(255)
    assert np.abs(levels - levels.round()).max() < 1e-4
    difference = np.abs(levels.round().astype(int) - expected)
    assert difference.max() <= 1
    assert np.count_nonzero(difference) < SHARE * difference.size


@pytest.mark.parametrize(
    "name", slow_but(["bdflow-x2-fast@1"], sorted(path.name for path in SHIPPED.iterdir() if path.is_dir()))
)
def test_a_shipped_model_gives_the_pixels_of_rescaler_at_odd_sizes(name: str) -> None:
    card = ModelCard.read(SHIPPED / name)
    packet, expected = restored(card, 301, 247)
    output = in_openvino(vsmlrt_graph(card), planes_of(packet))
    scale = packet.header.scale
    assert output.shape == (1, 3, packet.lr.shape[0] * scale, packet.lr.shape[1] * scale)
    assert_pixels(output, expected)


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("scale", [2, 8])
def test_onnx_runtime_gives_the_pixels_of_rescaler(models: ModelMaker, scale: int, bits: int) -> None:
    packet, expected = restored(models(scale, bits), 91, 133)
    model = vsmlrt_graph(models(scale, bits))
    assert_pixels(in_onnxruntime(model, planes_of(packet)), expected)


def test_every_level_counts(models: ModelMaker) -> None:
    """Were the boundary map scaled or rounded wrongly, two neighbouring levels would give one picture."""
    packet, _ = restored(models(4, 3), 32, 32)
    model, planes = vsmlrt_graph(models(4, 3)), planes_of(packet)
    with Rescaler(models(4, 3), threads=1) as rescaler:
        pictures = []
        for level in range(8):
            planes[0, 3] = np.float32(level) / 7
            output = in_onnxruntime(model, planes)
            expected = rescaler.upscale(dataclasses.replace(packet, boundary=np.full((8, 8), level, np.uint8)))
            assert_pixels(output, expected)
            pictures.append(output.tobytes())
    assert len(set(pictures)) == 8


@pytest.mark.parametrize("bits", BITS)
def test_values_are_clamped_and_rounded_to_the_levels_they_stand_for(models: ModelMaker, bits: int) -> None:
    h = w = 16
    largest = np.array([255, 255, 255, *([2**bits - 1] if bits else [])]).reshape(-1, 1, 1)
    random = np.random.default_rng(bits)
    levels = random.integers(0, largest + 1, (len(largest), h, w))
    levels[:, :1], levels[:, -1:] = 0, largest
    model = vsmlrt_graph(models(2, bits))
    exact = in_onnxruntime(model, (levels / largest)[None].astype(np.float32))
    half = (levels / largest)[None].astype(np.float16)
    assert np.array_equal(in_onnxruntime(model, half.astype(np.float32)), exact)
    noisy = (levels + random.uniform(-0.45, 0.45, levels.shape)) / largest
    noisy[levels == 0] -= 2
    noisy[levels == np.broadcast_to(largest, levels.shape)] += 2
    assert np.array_equal(in_onnxruntime(model, noisy[None].astype(np.float32)), exact)


@pytest.mark.parametrize("bits", BITS)
def test_there_is_one_float_input_and_one_float_output_and_nothing_outside(models: ModelMaker, bits: int) -> None:
    card = models(4, bits)
    model = vsmlrt_graph(card)
    shapes = {
        value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    }
    assert shapes == {"input": ["N", 4 if bits else 3, "H", "W"], "output": ["N", 3, "4*H", "4*W"]}
    inferred = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True).graph
    types = {value.type.tensor_type.elem_type for value in (*inferred.input, *inferred.value_info, *inferred.output)}
    assert types == {onnx.TensorProto.FLOAT}
    constants = model.graph.initializer
    assert {tensor.data_type for tensor in constants} <= {onnx.TensorProto.FLOAT, onnx.TensorProto.INT64}
    assert {tensor.data_location for tensor in constants} == {onnx.TensorProto.DEFAULT}
    assert {tensor.name for tensor in constants} <= {name for node in model.graph.node for name in node.input}
    read = {"output", *(name for node in model.graph.node for name in node.input)}
    assert read.issuperset(name for node in model.graph.node for name in node.output)
    metadata = {prop.key: prop.value for prop in model.metadata_props}
    assert metadata["boundary_input"] == (f"level / {2**bits - 1}" if bits else "none")
    assert metadata["weights_sha256"] == card.weights_sha256


@pytest.mark.parametrize("bits", [0, 3])
def test_tensorrt_takes_every_node(models: ModelMaker, bits: int) -> None:
    trt: Any = pytest.importorskip("tensorrt_rtx")
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    parsed = parser.parse(vsmlrt_graph(models(4, bits)).SerializeToString())
    assert parsed, [parser.get_error(index).desc() for index in range(parser.num_errors)]
    assert (network.num_inputs, network.num_outputs) == (1, 1)


@pytest.mark.parametrize("storage", ["float16", "int8"])
def test_weights_of_every_storage_lie_inside_as_float32(tmp_path: Path, storage: Any) -> None:
    card = make_model(tmp_path, tiny_config(2), storage=storage)
    packet, expected = restored(card, 40, 50)
    model = vsmlrt_graph(card)
    assert not {node.op_type for node in model.graph.node} & {"Cast", "DequantizeLinear"}
    assert_pixels(in_onnxruntime(model, planes_of(packet)), expected)


def test_another_architecture_gives_the_pixels_of_rescaler(tmp_path: Path) -> None:
    card = make_model(tmp_path, toy.ToyConfig())
    packet, expected = restored(card, 45, 31)
    assert_pixels(in_onnxruntime(vsmlrt_graph(card), planes_of(packet)), expected)


def test_a_model_without_graphs_is_traced(models: ModelMaker) -> None:
    bare = dataclasses.replace(models(4, 1), graphs_sha256={})
    assert vsmlrt_graph(bare) == vsmlrt_graph(models(4, 1))


def test_a_model_that_cannot_restore_is_refused(tmp_path: Path) -> None:
    class OneWay(toy.ToyConfig):
        def interface(self) -> ModelInterface:
            return dataclasses.replace(super().interface(), directions=("downscale",))

    card = make_model(tmp_path, toy.ToyConfig())
    with pytest.raises(DirectionError, match=r"has no upscale.*it has downscale"):
        vsmlrt_graph(dataclasses.replace(card, config=OneWay()))


def test_altered_weights_are_refused(tmp_path: Path) -> None:
    card = make_model(tmp_path, tiny_config(2))
    card.weights_path.write_bytes(card.weights_path.read_bytes()[:-1] + b"\x7f")
    with pytest.raises(WeightsHashError):
        vsmlrt_graph(card)


def test_a_graph_of_other_weights_is_refused(tmp_path: Path) -> None:
    card = make_model(tmp_path, tiny_config(2))
    graph = read_graph(card, "upscale")
    outside = next(tensor for tensor in graph.graph.initializer if tensor.data_location == onnx.TensorProto.EXTERNAL)
    for node in graph.graph.node:
        node.input[:] = ["nothing" if name == outside.name else name for name in node.input]
    outside.name = "nothing"
    content = graph.SerializeToString()
    card.graph_path("upscale").write_bytes(content)
    hashes = {**card.graphs_sha256, "upscale": hashlib.sha256(content).hexdigest()}
    with pytest.raises(CorruptModelError, match=r"'nothing', which weights\.safetensors does not hold"):
        vsmlrt_graph(dataclasses.replace(card, graphs_sha256=hashes))
