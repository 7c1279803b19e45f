"""Real TensorRT-RTX engines, built without a GPU; and everything that must not become one."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import onnx
import pytest

from bdflow_rt.bench.engines import paper_model
from bdflow_rt.cache import Blob
from bdflow_rt.engines.backends import BACKENDS
from bdflow_rt.engines.cache_entry import ANY_GPU
from bdflow_rt.engines.tensorrt.library import load_library
from bdflow_rt.errors import (
    ArgumentError,
    BackendUnavailableError,
    BdflowError,
    CudaUnavailableError,
    EngineBuildError,
    EngineParseError,
    PrecisionError,
    UnsupportedArchitectureError,
    WeightsHashError,
)
from bdflow_rt.export import flavours
from bdflow_rt.export.flavours import choose_target
from bdflow_rt.export.half import to_half
from bdflow_rt.export.onnx import read_graph
from bdflow_rt.export.profiles import parse_profile
from bdflow_rt.export.tensorrt import BuildOptions, EngineBuild, parsed_network
from bdflow_rt.export.timing_cache import attach_timings
from bdflow_rt.interop import has_cuda
from bdflow_rt.zoo import ModelCard, find_model
from bdflow_rt.zoo.arch.bdflow import BDFlowConfig
from tests.support import slow
from tests.support_models import make_model, tiny_config

needs_rtx = pytest.mark.skipif(not BACKENDS["tensorrt-rtx"].is_installed, reason="tensorrt-rtx is not installed")
SMALL = parse_profile("64x64")
FULL = parse_profile("4k", batch=(1, 1, 8))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> ModelCard:
    return make_model(tmp_path_factory.mktemp("tiny"), tiny_config(2, hidden=4))


@pytest.fixture(scope="module")
def cards(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], ModelCard]:
    """x2 as it ships, in float16, and larger scales of the paper's size with random weights."""
    folder = tmp_path_factory.mktemp("paper")

    @functools.cache
    def make(scale: int) -> ModelCard:
        return find_model("bdflow-x2") if scale == 2 else paper_model(folder, scale)

    return make


@pytest.fixture(scope="module")
def prepared(tiny: ModelCard) -> EngineBuild:
    return EngineBuild.prepare(tiny, "downscale", flavour="tensorrt-rtx", profile=SMALL)


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> Any:
        raise CudaUnavailableError("CUDA finds no GPU.")

    monkeypatch.setattr(flavours, "current_gpu", none)


def put_gpu(monkeypatch: pytest.MonkeyPatch, capability: str) -> None:
    """What the choice of a target asks of a GPU, where there is none."""
    gpu = SimpleNamespace(index=1, name="NVIDIA Test", compute_capability=capability)
    monkeypatch.setattr(flavours, "current_gpu", lambda: gpu)


QUICK = [(2, "downscale", "core"), (4, "upscale", "core"), (4, "downscale", "public"), (16, "upscale", "public")]
"""Engines that are built every time: of every kind and direction, without and with grouped Haar transforms."""


def learned_convolutions(card: ModelCard) -> int:
    """Four in each of the three transforms of every block."""
    assert isinstance(card.config, BDFlowConfig)
    return sum(12 * blocks for blocks in card.config.blocks)


@needs_rtx
@pytest.mark.parametrize(
    ("scale", "direction", "kind"),
    [
        one if one in QUICK else slow(*one)
        for one in itertools.product([2, 4, 8, 16], ["downscale", "upscale"], ["core", "public"])
    ],
)
def test_every_scale_and_direction_builds_up_to_4k_in_float16_without_shape_arithmetic(
    cards: Callable[[int], ModelCard], prepared: EngineBuild, scale: int, direction: Any, kind: Any
) -> None:
    card = cards(scale)
    # Calibration has tests of its own, and widens nothing in these models.
    graph = to_half(read_graph(card, direction, kind=kind))
    changes: dict[str, Any] = {"card": card, "direction": direction, "kind": kind, "profile": FULL, "graph": graph}
    built = dataclasses.replace(prepared, **changes).run()
    report = built.info["precision"]
    assert report["learned_convolutions"] == learned_convolutions(card)
    assert report["shape_layers"] == 0
    image = "planes" if kind == "core" else "image"
    wide, narrow = {image}, {"lr", "boundary"} if card.interface.bits else {"lr"}
    given, made = (wide, narrow) if direction == "downscale" else (narrow, wide)
    assert set(built.info["inputs"]) == given
    assert set(built.info["outputs"]) == made | {"mean"}
    types = {name: one["dtype"] for name, one in (built.info["inputs"] | built.info["outputs"]).items()}
    assert types == {**dict.fromkeys(narrow, "uint8"), image: "half" if kind == "core" else "uint8", "mean": "float"}
    assert all(-1 in one["shape"] for one in built.info["inputs"].values())
    # The weights are inside, in half.
    assert len(built.plan) == built.info["plan_bytes"] > card.config.parameters() * 1.5


@needs_rtx
def test_the_latent_direction_and_float32_build_too(tiny: ModelCard) -> None:
    for precision in ("fp16", "fp32"):
        options = BuildOptions(precision=precision)
        built = EngineBuild.prepare(
            tiny, "upscale_z", kind="public", flavour="tensorrt-rtx", profile=SMALL, options=options
        ).run()
        assert built.info["inputs"]["latent"]["dtype"] == "float"
        assert (built.info["precision"] is None) == (precision == "fp32")


@needs_rtx
def test_a_float32_graph_is_refused_before_anything_is_built(prepared: EngineBuild) -> None:
    graph = read_graph(prepared.card, "downscale", kind="core")
    seen: list[int] = []
    with pytest.raises(PrecisionError, match="learned convolution"):
        dataclasses.replace(prepared, graph=graph).run(lambda done, total: seen.append(done))
    assert seen == [1000]  # only the end is reported, for the bar to close


@needs_rtx
def test_progress_rises_to_the_end(prepared: EngineBuild) -> None:
    seen: list[int] = []
    prepared.run(lambda done, total: seen.append(done))
    assert seen == sorted(set(seen))
    assert len(seen) > 20
    assert seen[-1] == 1000


@needs_rtx
def test_a_node_that_tensorrt_does_not_know_is_named(prepared: EngineBuild) -> None:
    graph = onnx.ModelProto()
    graph.CopyFrom(prepared.graph)
    node = next(node for node in graph.graph.node if node.op_type == "LeakyRelu")
    node.op_type = "NoSuchOperator"
    with pytest.raises(EngineParseError, match="NoSuchOperator") as caught:
        dataclasses.replace(prepared, graph=graph).run()
    assert node.name in str(caught.value)


@needs_rtx
def test_damaged_weights_are_refused_before_anything_is_parsed(tmp_path: Path) -> None:
    card = make_model(tmp_path, tiny_config(2, hidden=4))
    data = bytearray(card.weights_path.read_bytes())
    data[-3] ^= 4
    card.weights_path.write_bytes(data)
    with pytest.raises(WeightsHashError):
        EngineBuild.prepare(card, "downscale", flavour="tensorrt-rtx", profile=SMALL).run()


@needs_rtx
def test_too_little_workspace_is_said_in_tensorrts_words(cards: Callable[[int], ModelCard]) -> None:
    options = BuildOptions(precision="fp32", workspace_mib=1)
    with pytest.raises(EngineBuildError, match="workspace limit"):
        EngineBuild.prepare(cards(4), "upscale", flavour="tensorrt-rtx", profile=FULL, options=options).run()


@needs_rtx
def test_ctrl_c_ends_a_build_at_its_next_step(prepared: EngineBuild) -> None:
    seen: list[int] = []

    def interrupt(done: int, total: int) -> None:
        if not seen:
            os.kill(os.getpid(), signal.SIGINT)
            threading.Event().wait(0.3)  # the main thread wakes up
        seen.append(done)

    with pytest.raises(KeyboardInterrupt):
        prepared.run(interrupt)
    assert len(seen) < 10
    assert "bdflow-build" not in {thread.name for thread in threading.enumerate()}
    assert prepared.run().plan  # and the next one is not disturbed


@needs_rtx
def test_the_key_changes_with_everything_that_changes_the_engine(tiny: ModelCard, prepared: EngineBuild) -> None:
    variants = [
        prepared,
        dataclasses.replace(prepared, profile=parse_profile("96x64")),
        dataclasses.replace(prepared, profile=parse_profile("64x64", batch=(1, 2, 2))),
        dataclasses.replace(prepared, direction="upscale"),
        dataclasses.replace(prepared, kind="public"),
        dataclasses.replace(prepared, version="1.8"),
        dataclasses.replace(prepared, graph=read_graph(tiny, "downscale", kind="core")),
        dataclasses.replace(prepared, target=dataclasses.replace(prepared.target, compute_capability="8.9")),
        *(
            dataclasses.replace(prepared, options=options)
            for options in (
                BuildOptions(precision="fp32"),
                BuildOptions(workspace_mib=64),
                BuildOptions(optimization_level=0),
                BuildOptions(strip=True),
                BuildOptions(version_compatible=True),
                BuildOptions(hardware_compatible="ampere-plus"),
            )
        ),
    ]
    assert len({build.key.digest for build in variants}) == len(variants)
    again = EngineBuild.prepare(tiny, "downscale", flavour="tensorrt-rtx", profile=SMALL)
    assert again.key.digest == prepared.key.digest


@needs_rtx
@pytest.mark.parametrize("direction", ["downscale", "upscale", "upscale_z"])
def test_a_stripped_plan_is_to_lack_what_comes_from_the_weights_file_and_nothing_else(
    cards: Callable[[int], ModelCard], prepared: EngineBuild, direction: Any
) -> None:
    graph = to_half(read_graph(cards(4), direction, kind="core"))
    build = dataclasses.replace(prepared, card=cards(4), graph=graph, options=BuildOptions(strip=True))
    api: Any = load_library("tensorrt-rtx")
    with parsed_network(graph, cards(4), api) as network:
        parsed: Any = network
        config: Any = build._configure(api, network.builder, network)
        marked = {one.name for one in graph.graph.initializer if parsed.are_weights_marked_refittable(one.name)}
    stored = {one.name for one in graph.graph.initializer if one.data_location == onnx.TensorProto.EXTERNAL}
    assert marked == stored
    assert len(marked) == 2 * learned_convolutions(cards(4)) + 1, "weight and bias of each, and the quantizer's gain"
    flags = ("STRIP_PLAN", "REFIT_INDIVIDUAL", "REFIT_IDENTICAL", "REFIT")
    assert [config.get_flag(api.BuilderFlag.__members__[name]) for name in flags] == [True, True, False, False]


@needs_rtx
def test_weights_that_the_network_does_not_have_are_not_left_out(
    cards: Callable[[int], ModelCard], prepared: EngineBuild
) -> None:
    api = load_library("tensorrt-rtx")
    larger = to_half(read_graph(cards(4), "downscale", kind="core"))
    build = dataclasses.replace(prepared, card=cards(4), graph=larger, options=BuildOptions(strip=True))
    with (
        parsed_network(prepared.graph, prepared.card, api) as network,
        pytest.raises(EngineBuildError, match=r"does not know the weights 'levels\.[^']*'"),
    ):
        build._configure(api, network.builder, network)


@needs_rtx
@pytest.mark.skipif(has_cuda(), reason="with a GPU it builds")
def test_without_a_gpu_tensorrt_rtx_itself_refuses_to_strip(prepared: EngineBuild) -> None:
    # `EngineBuild.prepare` refuses first, with the way out. Where this fails, it need not any more.
    with pytest.raises(EngineBuildError, match="CUDA_SUCCESS"):
        dataclasses.replace(prepared, options=BuildOptions(strip=True)).run()


@needs_rtx
@pytest.mark.parametrize("capabilities", [("7.5",), ("8.6", "8.9", "12.0")])
def test_engines_are_built_for_the_capabilities_asked_for(tiny: ModelCard, capabilities: tuple[str, ...]) -> None:
    options = BuildOptions(compute_capabilities=capabilities)
    build = EngineBuild.prepare(tiny, "upscale", flavour="tensorrt-rtx", profile=SMALL, options=options)
    assert (build.key.gpu, build.key.compute_capability) == (ANY_GPU, ",".join(capabilities))
    assert build.run().plan


@needs_rtx
@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        (BuildOptions(version_compatible=True), ArgumentError, "version_compatible"),
        (BuildOptions(hardware_compatible="ampere-plus"), ArgumentError, "hardware_compatible"),
        (BuildOptions(timing_cache=Blob("timing", "x")), ArgumentError, "timing_cache"),
        (BuildOptions(strip=True), CudaUnavailableError, "take their weights later only where there is a GPU"),
        (BuildOptions(compute_capabilities=("9.0",)), UnsupportedArchitectureError, "8.9"),
        (BuildOptions(compute_capabilities=("8.6", "x")), UnsupportedArchitectureError, "'x'"),
    ],
)
def test_what_the_flavour_would_ignore_or_cannot_do_is_refused(
    tiny: ModelCard, no_gpu: None, options: BuildOptions, error: type[BdflowError], words: str
) -> None:
    with pytest.raises(error, match=words):
        EngineBuild.prepare(tiny, "upscale", flavour="tensorrt-rtx", profile=SMALL, options=options)


@pytest.mark.parametrize(
    "changes",
    [{"precision": "int8"}, {"workspace_mib": 0}, {"workspace_mib": 1 << 21}, {"optimization_level": 6},
     {"optimization_level": -1}, {"hardware_compatible": "hopper"}],
)  # fmt: skip
def test_options_out_of_range_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ArgumentError, match=f"{next(iter(changes))} is .*must be"):
        BuildOptions(**changes)


def test_an_unknown_flavour_is_refused(tiny: ModelCard) -> None:
    with pytest.raises(ArgumentError, match="tensorrt-rtx"):
        EngineBuild.prepare(tiny, "upscale", flavour="trt", profile=SMALL).run()


@pytest.mark.skipif(BACKENDS["tensorrt"].is_installed, reason="tensorrt is installed")
def test_a_flavour_that_is_not_installed_is_named_with_the_command(tiny: ModelCard) -> None:
    with pytest.raises(BackendUnavailableError, match=r"pip install .*\[tensorrt\]"):
        EngineBuild.prepare(tiny, "upscale", flavour="tensorrt", profile=SMALL).run()


@needs_rtx
@pytest.mark.parametrize(
    ("capability", "asked"), [("7.5", ("7.5",)), ("8.0", ()), ("8.6", ()), ("8.9", ()), ("12.0", ())]
)
def test_ahead_of_time_the_gpu_at_hand_can_run_the_engine(
    monkeypatch: pytest.MonkeyPatch, capability: str, asked: tuple[str, ...]
) -> None:
    put_gpu(monkeypatch, capability)
    target = choose_target("tensorrt-rtx", load_library("tensorrt-rtx"))
    assert (target.gpu, target.capabilities, target.device) == (ANY_GPU, asked, 1)


@needs_rtx
@pytest.mark.parametrize("capability", ["9.0", "10.0", "7.0"])
def test_a_gpu_that_tensorrt_rtx_does_not_support_is_named_unless_another_is_meant(
    monkeypatch: pytest.MonkeyPatch, capability: str
) -> None:
    put_gpu(monkeypatch, capability)
    api = load_library("tensorrt-rtx")
    with pytest.raises(UnsupportedArchitectureError, match=f"NVIDIA Test.*{capability}"):
        choose_target("tensorrt-rtx", api)
    assert choose_target("tensorrt-rtx", api, capabilities=("8.9",)).compute_capability == "8.9"


def test_tensorrt_builds_for_the_gpu_at_hand_or_for_those_like_it(monkeypatch: pytest.MonkeyPatch) -> None:
    put_gpu(monkeypatch, "9.0")
    asked = (None, "same-capability", "ampere-plus")
    found = [choose_target("tensorrt", None, hardware_compatible=how) for how in asked]
    assert [(target.gpu, target.compute_capability) for target in found] == [
        ("NVIDIA Test", "9.0"), (ANY_GPU, "9.0"), (ANY_GPU, "8.0+"),
    ]  # fmt: skip
    with pytest.raises(ArgumentError, match="of this machine only"):
        choose_target("tensorrt", None, capabilities=("8.9",))


def test_ampere_and_later_cannot_be_built_on_turing(monkeypatch: pytest.MonkeyPatch) -> None:
    put_gpu(monkeypatch, "7.5")
    with pytest.raises(UnsupportedArchitectureError, match="same-capability"):
        choose_target("tensorrt", None, hardware_compatible="ampere-plus")


def test_tensorrt_without_a_gpu_is_refused_with_the_way_out(no_gpu: None) -> None:
    with pytest.raises(CudaUnavailableError, match="tensorrt-rtx without one"):
        choose_target("tensorrt", None)


@needs_rtx
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_builder_takes_a_timing_cache(tmp_path: Path) -> None:
    api = load_library("tensorrt-rtx")
    config = api.Builder(flavours.flavour_logger(api)).create_builder_config()
    assert attach_timings(config, Blob("timing", "none", tmp_path)) is not None
