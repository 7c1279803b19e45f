"""Models stored in int8: one function in every backend, which no engine and no runtime pays for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from bdflow_rt.engines.openvino import OpenVINOEngine, process_core
from bdflow_rt.engines.tensorrt.library import load_library
from bdflow_rt.engines.torch.engine import TorchEngine
from bdflow_rt.errors import PrecisionError, WeightsHashError
from bdflow_rt.export.calibration import calibration_inputs, magnitudes, with_weights
from bdflow_rt.export.dequantize import dequantize
from bdflow_rt.export.graph import GraphBuilder
from bdflow_rt.export.half import to_half
from bdflow_rt.export.onnx import export_model, read_graph
from bdflow_rt.export.precision import build_half_graph, check_precision, measure_overflow
from bdflow_rt.export.profiles import parse_profile
from bdflow_rt.export.tensorrt import BuildOptions, EngineBuild, parsed_network
from bdflow_rt.models.io import load_model, save_model
from bdflow_rt.options import Precision
from bdflow_rt.quiet import import_quietly
from bdflow_rt.zoo import Direction, ModelCard
from bdflow_rt.zoo.interface import GraphKind
from tests.support import slow, slow_but
from tests.support_half import interpret
from tests.support_models import (
    DIRECTIONS,
    HAS_BF16,
    assert_close_pixels,
    graph_inputs,
    make_model,
    random_model,
    tiny_config,
)
from tests.support_plans import needs_rtx

if TYPE_CHECKING:
    import openvino

onnxruntime = import_quietly("onnxruntime")

KINDS: tuple[GraphKind, ...] = ("public", "core")


@pytest.fixture(autouse=True, scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A cache of these tests, where calibration has not been."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BDFLOW_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def card(tmp_path_factory: pytest.TempPathFactory) -> ModelCard:
    return make_model(tmp_path_factory.mktemp("int8"), tiny_config(4, blocks=2), storage="int8")


@pytest.fixture(scope="module")
def twin(card: ModelCard, tmp_path_factory: pytest.TempPathFactory) -> ModelCard:
    """The same model, its rounded values stored in float16."""
    folder = tmp_path_factory.mktemp("float16")
    return export_model(save_model(load_model(card), folder, name=card.name, version=card.version, details={}))


def runtime_layers(card: ModelCard, direction: Direction, precision: Precision) -> Counter[tuple[str, str]]:
    """What OpenVINO runs, by type and precision."""
    options = {"INFERENCE_PRECISION_HINT": {"fp32": "f32", "bf16": "bf16"}[precision], "PERFORMANCE_HINT": "LATENCY"}
    core = process_core()
    compiled: openvino.CompiledModel = core.compile_model(str(card.graph_path(direction)), "CPU", options)
    infos = [operation.get_rt_info() for operation in compiled.get_runtime_model().get_ordered_ops()]
    return Counter((info["layerType"].astype(str), info["runtimePrecision"].astype(str)) for info in infos)


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_torch_openvino_and_onnx_runtime_give_the_same_pixels(card: ModelCard, direction: Direction) -> None:
    inputs = graph_inputs(card, direction, size=(92, 76))
    wanted = TorchEngine(card, direction).run(inputs)
    session = onnxruntime.InferenceSession(str(card.graph_path(direction)), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    others = [dict(zip(names, session.run(names, inputs), strict=True)), OpenVINOEngine(card, direction).run(inputs)]
    for found in others:
        for name, value in wanted.items():
            assert_close_pixels(found[name], value)


@pytest.mark.parametrize("rows", [None, 1])
def test_every_reader_has_the_very_numbers_of_torch(card: ModelCard, tmp_path: Path, rows: int | None) -> None:
    builder = GraphBuilder(card.weights_path)
    wanted: dict[str, NDArray[Any]] = {}
    for name, value in load_model(card).state_dict().items():
        if value.ndim == 4:
            made = builder.weight(name, tuple(value.shape), rows=rows)
            builder.output(f"{name}/out", made, TensorProto.FLOAT, list(value[:rows].shape))
            wanted[f"{name}/out"] = value[:rows].numpy()
    assert len(wanted) == 48
    data = with_weights(builder.build("weights", {}), card).SerializeToString()
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    compiled = process_core().compile_model(process_core().read_model(data), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    ours = compiled({})
    for name, values in zip(wanted, session.run(list(wanted), {}), strict=True):
        assert np.array_equal(values, wanted[name])
        assert np.array_equal(ours[name], wanted[name])


@pytest.mark.parametrize(
    "precision", ["fp32", pytest.param("bf16", marks=pytest.mark.skipif(not HAS_BF16, reason="-"))]
)
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_openvino_runs_the_same_layers_as_of_float16(
    card: ModelCard, twin: ModelCard, direction: Direction, precision: Precision
) -> None:
    # So it multiplies int8 by scales once, when it compiles the graph.
    layers = runtime_layers(card, direction, precision)
    assert layers == runtime_layers(twin, direction, precision)
    assert layers["Convolution", {"fp32": "f32", "bf16": "bf16"}[precision]] > 40


def parts(model: onnx.ModelProto, card: ModelCard) -> tuple[list[str], dict[str, bytes]]:
    """Nodes, and types, shapes and values of constants."""
    constants = {}
    for tensor in with_weights(model, card).graph.initializer:
        array = numpy_helper.to_array(tensor)
        constants[tensor.name] = f"{array.dtype}{array.shape}".encode() + array.tobytes()
    return [str(node) for node in model.graph.node], constants


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("direction", slow_but(["downscale", "upscale"], DIRECTIONS))
def test_graphs_of_engines_are_those_of_float16(
    card: ModelCard, twin: ModelCard, direction: Direction, kind: GraphKind
) -> None:
    for change in (lambda model: model, to_half):
        source = change(read_graph(card, direction, kind=kind))
        before = source.SerializeToString()
        found = dequantize(source, card)
        assert source.SerializeToString() == before
        model = change(read_graph(twin, direction, kind=kind))
        assert parts(found, card) == parts(model, twin)
        assert dequantize(model, twin) is model
    half = build_half_graph(card, direction, kind=kind)
    assert "DequantizeLinear" not in {node.op_type for node in half.graph.node}


def test_weights_that_are_not_the_cards_are_not_put_into_a_graph(tmp_path: Path) -> None:
    card = make_model(tmp_path, tiny_config(2), storage="int8")
    graph = read_graph(card, "upscale")
    data = bytearray(card.weights_path.read_bytes())
    data[-1] ^= 1
    card.weights_path.write_bytes(data)
    with pytest.raises(WeightsHashError):
        dequantize(graph, card)


@needs_rtx
@pytest.mark.parametrize(
    ("direction", "precision"),
    [("upscale", "fp16"), ("downscale", "fp32"), slow("downscale", "fp16"), slow("upscale", "fp32")],
)
def test_tensorrt_builds_the_engine_it_builds_of_float16(
    card: ModelCard, twin: ModelCard, direction: Direction, precision: Any
) -> None:
    options = {"flavour": "tensorrt-rtx", "profile": parse_profile("64x64"), "options": BuildOptions(precision)}
    make: Callable[..., EngineBuild] = EngineBuild.prepare
    ours, theirs = (make(one, direction, **options).run() for one in (card, twin))
    assert ours.info["precision"] == theirs.info["precision"]
    assert ours.info["layers"] == theirs.info["layers"]
    assert len(ours.plan) == pytest.approx(len(theirs.plan), rel=0.01)
    if precision == "fp16":
        assert ours.info["precision"]["learned_convolutions"] == 48
        assert not {"QUANTIZE", "DEQUANTIZE"} & ours.info["precision"]["layers"].keys()


@needs_rtx
def test_an_engine_that_would_multiply_by_scales_whenever_it_runs_is_refused(card: ModelCard) -> None:
    graph = to_half(read_graph(card, "upscale", kind="core"))
    with (
        parsed_network(graph, card, load_library("tensorrt-rtx")) as network,
        pytest.raises(PrecisionError, match="makes HALF of HALF, INT8 whenever the engine runs"),
    ):
        check_precision(network, card, graph)


@needs_rtx
def test_all_that_comes_from_the_weights_file_can_be_left_out(card: ModelCard) -> None:
    graph = dequantize(to_half(read_graph(card, "downscale", kind="core")), card)
    make: Callable[..., EngineBuild] = EngineBuild.prepare
    build = make(card, "downscale", flavour="tensorrt-rtx", profile=parse_profile("64x64"))
    stripped = EngineBuild(**{**vars(build), "graph": graph, "options": BuildOptions(strip=True)})
    api: Any = load_library("tensorrt-rtx")
    with parsed_network(graph, card, api) as network:
        parsed: Any = network
        stripped._configure(api, network.builder, network)
        marked = [one.name for one in graph.graph.initializer if parsed.are_weights_marked_refittable(one.name)]
    assert len(marked) == 2 * 48 + 1, "weight and bias of each, and the quantizer's gain"
    assert sum(name.endswith("[:1]") for name in marked) == 2 * 4


def test_weights_are_no_values_that_calibration_measures(card: ModelCard, twin: ModelCard) -> None:
    batch = [next(calibration_inputs(card, "downscale"))]
    found = [magnitudes(read_graph(one, "downscale"), one, batch) for one in (card, twin)]
    assert found[0] == found[1]


@pytest.mark.usefixtures("narrow_int8")
def test_int8_weights_that_overflow_float16_widen_what_touches_them(tmp_path: Path) -> None:
    model = random_model(tiny_config(2))
    with torch.no_grad():
        model.get_parameter("levels.0.0.phi.conv1.weight").view(-1)[0] = 6e4
        model.get_parameter("levels.0.0.phi.conv1.bias")[0] = 6e4
        model.get_parameter("levels.0.0.phi.conv2.weight")[:, 0] = 0
    card = export_model(save_model(model, tmp_path, name="tiny", version=1, details={}, storage="int8"))
    inputs = graph_inputs(card, "downscale", size=(34, 46))
    assert "levels.0.0.phi.conv1" in measure_overflow(card, "downscale").widened
    assert not np.isfinite(interpret(to_half(read_graph(card, "downscale")), card, inputs)["mean"])
    found = interpret(build_half_graph(card, "downscale"), card, inputs)
    wanted = interpret(read_graph(card, "downscale"), card, inputs)
    assert np.isfinite(found["mean"])
    assert np.abs(found["lr"].astype(int) - wanted["lr"]).max() <= 1
