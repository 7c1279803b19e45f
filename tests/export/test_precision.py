"""The guard against overflow in float16, and the proof of precision on networks that TensorRT-RTX has parsed."""

from __future__ import annotations

import functools
import itertools
import json
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from safetensors.torch import load_file

from bdflow_rt.errors import NonFiniteOutputError, PrecisionError
from bdflow_rt.export.calibration import calibration_inputs, magnitudes
from bdflow_rt.export.half import element_types, islands, to_half
from bdflow_rt.export.onnx import read_graph
from bdflow_rt.export.precision import HALF_LIMIT, build_half_graph, check_precision, measure_overflow
from bdflow_rt.kernels.ingest import ingest_reference
from bdflow_rt.zoo import ModelCard, find_model
from tests.support import slow, slow_but
from tests.support_half import interpret
from tests.support_models import DIRECTIONS, graph_inputs, make_model, tiny_config, with_state, with_weights

LARGE = {"levels.0.0.phi.conv1.weight": 6e4, "levels.0.0.phi.conv1.bias": 6e4, "levels.0.0.phi.conv2.weight": 1.0}
"""Weights for which phi's first convolution exceeds float16's range, and what it adds to u1 does not."""


@pytest.fixture(autouse=True, scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A cache of these tests, where calibration has not been."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BDFLOW_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., ModelCard]:
    @functools.cache
    def make(scale: int, **changes: Any) -> ModelCard:
        return make_model(tmp_path_factory.mktemp("zoo"), tiny_config(scale, **changes))

    return make


@pytest.fixture(scope="module")
def overflowing(tmp_path_factory: pytest.TempPathFactory) -> ModelCard:
    return with_weights(make_model(tmp_path_factory.mktemp("zoo"), tiny_config(2)), LARGE)


@contextmanager
def parsed(model: onnx.ModelProto, card: ModelCard, folder: Path) -> Iterator[Any]:
    """The graph as TensorRT-RTX reads it."""
    trt = pytest.importorskip("tensorrt_rtx")
    folder.mkdir()
    shutil.copy(card.weights_path, folder)
    (folder / "graph.onnx").write_bytes(model.SerializeToString())
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    assert parser.parse_from_file(str(folder / "graph.onnx")), parser.get_error(0)
    yield network


@pytest.mark.parametrize(
    ("name", "direction"),
    [
        ("bdflow-x2", "downscale"),
        ("bdflow-x2", "upscale_z"),
        slow("bdflow-x2", "upscale"),
        *(slow(*one) for one in itertools.product(["bdflow-x4", "x8"], DIRECTIONS)),
    ],
)
def test_sound_models_need_nothing_but_the_islands(models: Callable[..., ModelCard], name: str, direction: Any) -> None:
    report = measure_overflow(models(8) if name == "x8" else find_model(name), direction)
    assert report.widened == ()
    # What is largest is pixels, which are an island.
    assert max(report.largest.values()) >= 255


def test_weights_that_overflow_float16_widen_what_touches_them(overflowing: ModelCard) -> None:
    inputs = graph_inputs(overflowing, "downscale", size=(34, 46))
    source = read_graph(overflowing, "downscale")
    wanted = interpret(source, overflowing, inputs)
    assert np.isfinite(wanted["mean"])
    # Without the guard the picture is lost.
    assert not np.isfinite(interpret(to_half(source), overflowing, inputs)["mean"])
    report = measure_overflow(overflowing, "downscale")
    assert report.largest["levels.0.0.phi.conv1"] > 65504
    assert {f"levels.0.0.phi{part}" for part in (".conv1", "/leaky_relu", ".conv2")} <= set(report.widened)
    assert not {name for name in report.widened if ".rho" in name or ".eta" in name}
    found = interpret(build_half_graph(overflowing, "downscale"), overflowing, inputs)
    assert np.isfinite(found["mean"])
    assert np.abs(found["lr"].astype(int) - wanted["lr"]).max() <= 1


def test_a_weight_beyond_float16_is_found_where_all_it_makes_is_small(tmp_path: Path) -> None:
    card = make_model(tmp_path, tiny_config(2))
    state = {name: value.float() for name, value in load_file(card.weights_path).items()}
    state["levels.0.0.phi.conv1.weight"][:] = 0
    state["levels.0.0.phi.conv1.bias"][:] = 1e-4
    state["levels.0.0.phi.conv2.weight"].view(-1)[0] = 1e5
    card = with_state(card, state)
    inputs = graph_inputs(card, "downscale", size=(34, 46))
    assert not np.isfinite(interpret(to_half(read_graph(card, "downscale")), card, inputs)["mean"])
    report = measure_overflow(card, "downscale")
    assert max(size for name, size in report.largest.items() if ".phi" in name) < HALF_LIMIT
    assert report.widened == ("levels.0.0.phi.conv2",)
    assert np.isfinite(interpret(build_half_graph(card, "downscale"), card, inputs)["mean"])


@pytest.mark.parametrize(("direction", "kind"), [("upscale", "public"), ("downscale", "core")])
def test_no_float16_value_comes_within_eight_times_the_range(overflowing: ModelCard, direction: Any, kind: Any) -> None:
    half = build_half_graph(overflowing, direction, kind=kind)
    batches = list(calibration_inputs(overflowing, direction))
    if kind == "core":
        batches = [{"planes": ingest_reference(batch["image"], multiple=2)} for batch in batches]
    found, types = magnitudes(half, overflowing, batches), element_types(half)
    assert max(size for name, size in found.items() if types[name] == onnx.TensorProto.FLOAT16) <= HALF_LIMIT
    assert max(found.values()) > 65504


def test_planes_that_float16_cannot_hold_are_refused(tmp_path: Path) -> None:
    card = with_weights(make_model(tmp_path, tiny_config(2)), {"levels.0.0.eta.conv3.bias": 5e4})
    with pytest.raises(PrecisionError, match=r"'planes' of tiny@1 upscale reaches"):
        build_half_graph(card, "upscale", kind="core")
    assert build_half_graph(card, "upscale", kind="public").graph.node


@pytest.mark.parametrize("direction", slow_but(["downscale"], DIRECTIONS))
def test_weights_that_are_not_finite_are_refused(tmp_path: Path, direction: Any) -> None:
    card = make_model(tmp_path, tiny_config(2))
    for value in (float("nan"), float("inf")):
        with pytest.raises(NonFiniteOutputError, match=r"levels\.0\.0"):
            measure_overflow(with_weights(card, {"levels.0.0.rho.conv2.weight": value}), direction)


@pytest.mark.parametrize("kind", ["public", "core"])
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("name", ["bdflow-x2", "x4", "x8", "x16", "x32"])
def test_half_networks_have_every_learned_convolution_in_half(
    models: Callable[..., ModelCard], tmp_path: Path, name: str, direction: Any, kind: Any
) -> None:
    card = models(int(name[1:])) if name.startswith("x") else find_model(name)
    model = to_half(read_graph(card, direction, kind=kind))
    with parsed(model, card, tmp_path / "half") as network:
        report = check_precision(network, card, model)
    convolutions = [node.name for node in model.graph.node if node.op_type == "Conv" and ".conv" in node.name]
    assert report.learned_convolutions == len(convolutions) * 4 // 3
    assert report.shape_layers == 0
    assert report.island_layers > 20
    # Haar transforms too.
    for layer in {"CONVOLUTION", "DECONVOLUTION"} & report.layers.keys():
        assert report.layers[layer].keys() == {"HALF"}
    assert json.loads(json.dumps(report.to_dict())) == report.to_dict()


@pytest.mark.parametrize("kind", ["public", "core"])
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_a_float32_network_is_refused(
    models: Callable[..., ModelCard], tmp_path: Path, direction: Any, kind: Any
) -> None:
    card = models(4)
    model = read_graph(card, direction, kind=kind)
    with (
        parsed(model, card, tmp_path / "float") as network,
        pytest.raises(PrecisionError, match="learned convolution and must be HALF"),
    ):
        check_precision(network, card, model)


@pytest.mark.parametrize("name", ["levels.0.0.phi.conv2", "levels.1.0.eta.shortcut"])
def test_one_convolution_in_float32_is_refused(models: Callable[..., ModelCard], tmp_path: Path, name: str) -> None:
    card = models(4)
    source = read_graph(card, "upscale")
    model = to_half(source, wide={*islands(source), name})
    with (
        parsed(model, card, tmp_path / "one") as network,
        pytest.raises(PrecisionError, match=f"'{name}' is a learned convolution"),
    ):
        check_precision(network, card, model)


@pytest.mark.parametrize(
    "island", [r"levels\.1\.0\.scale/", r"lr/", r"levels\.0\.0/"], ids=["factors", "pixels", "final sums"]
)
def test_an_island_in_half_is_refused(models: Callable[..., ModelCard], tmp_path: Path, island: str) -> None:
    card = models(4)
    source = read_graph(card, "upscale")
    model = to_half(source, wide=[name for name in islands(source) if not re.match(island, name)])
    with (
        parsed(model, card, tmp_path / "island") as network,
        pytest.raises(PrecisionError, match=f"'{island}.*float32 island and must be FLOAT"),
    ):
        check_precision(network, card, model)


def test_a_network_of_another_model_is_refused(models: Callable[..., ModelCard], tmp_path: Path) -> None:
    model = to_half(read_graph(models(4), "upscale"))
    with (
        parsed(model, models(4), tmp_path / "other") as network,
        pytest.raises(PrecisionError, match="graph is of other weights than tiny@1"),
    ):
        check_precision(network, models(2), model)


def test_a_network_without_convolutions_is_refused(models: Callable[..., ModelCard], tmp_path: Path) -> None:
    x, y = (onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT16, ["N"]) for name in "xy")
    graph = onnx.helper.make_graph([onnx.helper.make_node("Neg", ["x"], ["y"], name="y")], "none", [x], [y])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10)
    onnx.helper.set_model_props(model, {"weights_sha256": models(2).weights_sha256})
    with (
        parsed(model, models(2), tmp_path / "none") as network,
        pytest.raises(PrecisionError, match="none of the learned convolutions"),
    ):
        check_precision(network, models(2), model)
