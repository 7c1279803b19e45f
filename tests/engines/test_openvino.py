"""The OpenVINO engine: what it checks before it reads, the precision that really runs, and large inputs."""

from __future__ import annotations

import dataclasses
import gc
import hashlib
import shutil
import subprocess
import sys
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest

from bdflow_rt.engines.openvino import FLEXIBLE_PIXELS, OpenVINOEngine
from bdflow_rt.engines.torch.engine import TorchEngine
from bdflow_rt.errors import (
    BackendError,
    BackendUnavailableError,
    ClosedError,
    CorruptModelError,
    NonFiniteOutputError,
    WeightsHashError,
)
from bdflow_rt.zoo import Direction, ModelCard
from tests.support import ROOT, slow_but
from tests.support_models import (
    DIRECTIONS,
    HAS_BF16,
    CoreWithoutBf16,
    assert_close_pixels,
    graph_inputs,
    make_model,
    tiny_config,
    with_weights,
)

if TYPE_CHECKING:
    import openvino

LARGE = (512, 520)


@pytest.fixture(scope="module")
def card(tmp_path_factory: pytest.TempPathFactory) -> ModelCard:
    return make_model(tmp_path_factory.mktemp("zoo"), tiny_config(4))


def convolution_precisions(request: openvino.InferRequest) -> set[str]:
    operations = request.get_compiled_model().get_runtime_model().get_ordered_ops()
    infos = [operation.get_rt_info() for operation in operations]
    return {info["runtimePrecision"].astype(str) for info in infos if info["layerType"].astype(str) == "Convolution"}


@pytest.mark.parametrize("direction", slow_but(["downscale", "upscale_z"], DIRECTIONS))
@pytest.mark.parametrize("size", [(96, 80), LARGE])
def test_fp32_convolutions_run_in_f32(card: ModelCard, direction: Direction, size: tuple[int, int]) -> None:
    # The processor may well have bfloat16, and OpenVINO would then use it unasked.
    engine = OpenVINOEngine(card, direction, threads=1)
    engine.run(graph_inputs(card, direction, size=size))
    request = engine._flexible or engine._fixed
    assert request is not None
    assert convolution_precisions(request) == {"f32"}


@pytest.mark.skipif(not HAS_BF16, reason="this processor has no bfloat16")
def test_bf16_convolutions_run_in_bf16(card: ModelCard) -> None:
    # So the test above can fail.
    engine = OpenVINOEngine(card, "upscale", precision="bf16", threads=1)
    engine.run(graph_inputs(card, "upscale"))
    assert engine._flexible is not None
    assert "bf16" in convolution_precisions(engine._flexible)


@pytest.mark.parametrize("size", [(96, 80), LARGE])
def test_bf16_that_the_processor_lacks_is_refused_and_not_replaced(
    card: ModelCard, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]
) -> None:
    monkeypatch.setattr("bdflow_rt.engines.openvino.process_core", CoreWithoutBf16)
    inputs = graph_inputs(card, "upscale", size=size)
    OpenVINOEngine(card, "upscale", threads=1).run(inputs)
    with pytest.raises(BackendUnavailableError, match="'bf16' was asked for, but OpenVINO computes in f32"):
        OpenVINOEngine(card, "upscale", precision="bf16", threads=1).run(inputs)


@pytest.mark.parametrize("direction", slow_but(["upscale"], DIRECTIONS))
def test_large_inputs_of_changing_size_equal_torch(card: ModelCard, direction: Direction) -> None:
    engine, reference = OpenVINOEngine(card, direction, threads=1), TorchEngine(card, direction)
    for size in (LARGE, (64, 64), (520, 512), LARGE):
        inputs = graph_inputs(card, direction, size=size)
        found, wanted = engine.run(inputs), reference.run(inputs)
        for name in wanted.keys() - {"boundary"}:
            assert_close_pixels(found[name], wanted[name])


def test_small_inputs_share_one_graph_and_large_ones_keep_the_last(card: ModelCard) -> None:
    engine = OpenVINOEngine(card, "downscale", threads=1)
    seen = []
    for side in (8, 12, 508, 512, 512, 516, 8):
        assert (side * side < FLEXIBLE_PIXELS) == (side < 512)
        engine.run(graph_inputs(card, "downscale", size=(side, side)))
        seen.append((engine._flexible, engine._fixed))
    assert len({id(flexible) for flexible, _ in seen}) == 1
    assert [fixed is None for _, fixed in seen] == [True, True, True, False, False, False, False]
    assert seen[3][1] is seen[4][1] is not seen[5][1] is seen[6][1]


def test_the_graph_is_chosen_by_the_picture_whatever_input_comes_first(card: ModelCard) -> None:
    inputs = graph_inputs(card, "upscale_z", size=LARGE)
    for order in (("lr", "boundary", "latent"), ("latent", "boundary", "lr")):
        engine = OpenVINOEngine(card, "upscale_z", threads=1)
        engine.run({name: inputs[name] for name in order})
        assert (engine._flexible is None, engine._fixed is None) == (True, False)


@pytest.mark.parametrize("size", [(96, 80), LARGE])
def test_released_memory_comes_back_with_the_next_run(card: ModelCard, size: tuple[int, int]) -> None:
    engine = OpenVINOEngine(card, "downscale", threads=1)
    inputs = graph_inputs(card, "downscale", size=size)
    before = engine.run(inputs)
    engine.release()
    after = engine.run(inputs)
    assert all(np.array_equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("size", [(24, 20), (520, 512)])
def test_an_engine_keeps_no_outputs_after_a_run(card: ModelCard, size: tuple[int, int]) -> None:
    engine = OpenVINOEngine(card, "downscale")
    outputs = engine.run({"image": np.zeros((1, *size, 3), np.uint8)})
    references = [weakref.ref(value) for value in outputs.values()]
    del outputs
    gc.collect()
    assert all(reference() is None for reference in references)


def test_no_thread_is_pinned_to_a_core_where_other_engines_begin_too(card: ModelCard) -> None:
    engine = OpenVINOEngine(card, "downscale", threads=1)
    engine.run(graph_inputs(card, "downscale"))
    assert engine._flexible is not None
    assert engine._flexible.get_compiled_model().get_property("ENABLE_CPU_PINNING") is False


@pytest.mark.parametrize("size", [(96, 80), LARGE])
def test_repeated_runs_give_the_same_bytes(card: ModelCard, size: tuple[int, int]) -> None:
    engine = OpenVINOEngine(card, "upscale", threads=1)
    inputs = graph_inputs(card, "upscale", size=size)
    assert len({engine.run(inputs)["image"].tobytes() for _ in range(4)}) == 1


def test_large_non_finite_output_raises(tmp_path: Path) -> None:
    sound = make_model(tmp_path, tiny_config(2))
    inputs = graph_inputs(sound, "upscale", size=LARGE)
    broken = with_weights(sound, {"levels.0.0.rho.conv3.bias": float("nan")})
    with pytest.raises(NonFiniteOutputError):
        OpenVINOEngine(broken, "upscale", threads=1).run(inputs)


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_altered_graphs_are_refused_before_they_are_read(tmp_path: Path, direction: Direction) -> None:
    card = make_model(tmp_path, tiny_config(2))
    path = card.graph_path(direction)
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(CorruptModelError, match=f"{direction}.onnx has SHA-256"):
        OpenVINOEngine(card, direction)


def test_altered_weights_are_refused_before_they_are_read(tmp_path: Path) -> None:
    card = make_model(tmp_path, tiny_config(2))
    content = bytearray(card.weights_path.read_bytes())
    content[-1] ^= 1
    card.weights_path.write_bytes(content)
    with pytest.raises(WeightsHashError):
        OpenVINOEngine(card, "upscale")


def test_missing_files_are_named(tmp_path: Path) -> None:
    card = make_model(tmp_path, tiny_config(2))
    card.graph_path("upscale").unlink()
    with pytest.raises(CorruptModelError, match=r"upscale\.onnx cannot be read"):
        OpenVINOEngine(card, "upscale")
    with pytest.raises(CorruptModelError, match=r"no upscale graph; `bdflow export"):
        OpenVINOEngine(dataclasses.replace(card, graphs_sha256={}), "upscale")


def test_a_file_that_is_no_graph_is_a_backend_error(tmp_path: Path) -> None:
    card = make_model(tmp_path, tiny_config(2))
    card.graph_path("upscale").write_bytes(b"not ONNX")
    content_hash = hashlib.sha256(b"not ONNX").hexdigest()  # the true one, so that only OpenVINO can object
    with pytest.raises(BackendError, match="cannot read"):
        OpenVINOEngine(dataclasses.replace(card, graphs_sha256={"upscale": content_hash}), "upscale")


def test_a_graph_that_was_exported_for_other_weights_is_refused(tmp_path: Path) -> None:
    card = make_model(tmp_path / "a", tiny_config(2), seed=1)
    other = make_model(tmp_path / "b", tiny_config(2), seed=2)
    shutil.copy(other.graph_path("upscale"), card.graph_path("upscale"))
    mixed = dataclasses.replace(card, graphs_sha256=other.graphs_sha256)
    with pytest.raises(CorruptModelError, match=f"exported for weights {other.weights_sha256[:16]}.*bdflow export"):
        OpenVINOEngine(mixed, "upscale")


def test_a_graph_that_does_not_say_what_it_was_exported_for_is_refused(tmp_path: Path) -> None:
    card = make_model(tmp_path, tiny_config(2))
    graph = onnx.load(str(card.graph_path("upscale")), load_external_data=False)
    del graph.metadata_props[:]
    content = graph.SerializeToString()
    card.graph_path("upscale").write_bytes(content)
    nameless = dataclasses.replace(card, graphs_sha256={"upscale": hashlib.sha256(content).hexdigest()})
    with pytest.raises(CorruptModelError, match="exported for weights unknown"):
        OpenVINOEngine(nameless, "upscale")


AFTER_CLOSE = """
import faulthandler, gc, pathlib, signal, subprocess, sys
faulthandler.enable()
from bdflow_rt.rescaler import Rescaler
rescaler = Rescaler.from_pretrained(sys.argv[1])
rescaler.warm_up()
rescaler.close()
del rescaler
gc.collect()
signal.signal(signal.SIGCHLD, lambda *_: None)
for _ in range(20):
    subprocess.run(["true"])
print("alive")
"""


def test_a_signal_after_the_last_engine_has_gone_does_not_crash(tmp_path: Path) -> None:
    """OpenVINO's CPU plugin used to take the thread's signal stack with it."""
    card = make_model(tmp_path, tiny_config(4))
    done = subprocess.run(
        [sys.executable, "-c", AFTER_CLOSE, str(card.folder)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "alive\n"), done.stderr


def test_a_close_that_comes_between_check_and_start_ends_the_job(
    card: ModelCard, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = OpenVINOEngine(card, "downscale")
    request_for = engine._request_for

    class Closing:
        """The engine's request; its start comes after another thread has closed the engine."""

        def __init__(self, request: Any) -> None:
            self._request = request

        def __getattr__(self, name: str) -> Any:
            return getattr(self._request, name)

        def start_async(self, *inputs: Any, **options: Any) -> None:
            engine.close()
            self._request.start_async(*inputs, **options)

    monkeypatch.setattr(engine, "_request_for", lambda *arguments: Closing(request_for(*arguments)))
    with pytest.raises(ClosedError):
        engine.run(graph_inputs(card, "downscale"))


TYPES_OF_MANY_THREADS = """
import os, sys, threading
sys.setswitchinterval(1e-6)
import openvino
from bdflow_rt.engines.openvino import process_core

together = threading.Barrier(8)
def use():
    together.wait()
    process_core()
    openvino.Type.f32.to_dtype()
threads = [threading.Thread(target=use, daemon=True) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join(20)
os._exit(any(thread.is_alive() for thread in threads))
"""


@pytest.mark.parametrize("attempt", range(3))
def test_threads_that_come_to_openvino_first_together_do_not_wait_for_each_other(attempt: int) -> None:
    """Without what `process_core` does first, more than half of such processes hang."""
    subprocess.run([sys.executable, "-c", TYPES_OF_MANY_THREADS], check=True, timeout=120)
