"""How TensorRT's runtime is called: by a stand-in that enforces its contract. TensorRT does not run in these tests."""

from __future__ import annotations

import hashlib
import inspect
import re
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from bdflow_rt.engines.cache import CachedEngine, EngineCache
from bdflow_rt.engines.cache_entry import EngineKey, Sidecar
from bdflow_rt.engines.engine import Flavour
from bdflow_rt.engines.openvino import OpenVINOEngine
from bdflow_rt.engines.select import open_engine, select
from bdflow_rt.engines.tensorrt import MAX_SHAPES, TensorRTEngine, open_tensorrt
from bdflow_rt.engines.tensorrt_library import LoadedEngine, check_version, load_library
from bdflow_rt.errors import (
    ArgumentError,
    BackendError,
    BackendUnavailableError,
    BackendVersionError,
    BusyError,
    ClosedError,
    CudaUnavailableError,
    DTypeError,
    EngineLoadError,
    EngineMismatchError,
    EngineMissingError,
    NonFiniteOutputError,
    OutOfMemoryError,
    OutsideProfileError,
    ShapeError,
)
from bdflow_rt.export.onnx import build_graph
from bdflow_rt.interop import has_cuda
from bdflow_rt.zoo import Direction, ModelCard
from tests.engines import standin
from tests.engines.standin import StandInDevice, StandInLibrary, standin_plan
from tests.support_models import Arrays, assert_close_pixels, graph_inputs, make_model, tiny_config, with_weights
from tests.support_plans import needs_rtx, real_plan

VERSIONS: dict[Flavour, str] = {"tensorrt": "10.13.0.35", "tensorrt-rtx": "1.7.1.116"}
both = pytest.mark.parametrize("direction", ["downscale", "upscale"])
needs_no_gpu = pytest.mark.skipif(has_cuda(), reason="this is about machines without a GPU")


@pytest.fixture(scope="module")
def card(tmp_path_factory: pytest.TempPathFactory) -> ModelCard:
    return make_model(tmp_path_factory.mktemp("zoo"), tiny_config(4))


@dataclass
class Stand:
    """A stand-in machine."""

    device: StandInDevice
    library: StandInLibrary
    cache: EngineCache

    def cached(
        self, card: ModelCard, direction: Direction, flavour: Flavour = "tensorrt", **changes: Any
    ) -> CachedEngine:
        graph = card.folder / f"core_{direction}.onnx"
        onnx.save(build_graph(card, direction, kind="core"), str(graph))
        plan = standin_plan(graph, profile_of(card, direction))
        fields: dict[str, Any] = {
            "model": card.id, "graph_sha256": "0" * 64, "weights_sha256": card.weights_sha256, "direction": direction,
            "kind": "core", "flavour": flavour, "flavour_version": self.library.__version__, "gpu": self.device.name,
            "compute_capability": "8.9", "profile": "tiny: 1x8x8 to 3x128x128, best 1x96x80", "precision": "fp16",
        }  # fmt: skip
        return self.cache.get_or_build(EngineKey(**fields | changes), lambda: plan)

    def engine(self, card: ModelCard, direction: Direction, flavour: Flavour = "tensorrt") -> TensorRTEngine:
        self.library.__version__ = VERSIONS[flavour]
        cached = self.cached(card, direction, flavour)
        with self.device.active():
            loaded = LoadedEngine(cached, device=self.device, library=self.library, cache=self.cache)
        return TensorRTEngine(card, direction, loaded)


def profile_of(card: ModelCard, direction: Direction) -> dict[str, tuple[tuple[int, ...], ...]]:
    """From one picture of 8x8 to three of 128x128."""
    sizes, scale = ((1, 8, 8), (1, 96, 80), (3, 128, 128)), card.config.scale
    if direction == "downscale":
        return {"planes": tuple((n, 12, h // 2, w // 2) for n, h, w in sizes)}
    low = [(n, h // scale, w // scale) for n, h, w in sizes]
    found: dict[str, tuple[tuple[int, ...], ...]] = {"lr": tuple((*size, 3) for size in low), "boundary": tuple(low)}
    if direction == "upscale_z":
        found["latent"] = tuple((n, card.config.latent_channels, h, w) for n, h, w in low)
    return found


@pytest.fixture
def stand(tmp_path: Path) -> Iterator[Stand]:
    device = StandInDevice()
    library = StandInLibrary(device)
    yield Stand(device, library, EngineCache(tmp_path))
    assert library.violations == []


def reference(card: ModelCard, direction: Direction, inputs: Arrays) -> Arrays:
    return OpenVINOEngine(card, direction).run(inputs)


def same(found: Any, wanted: Arrays) -> None:
    assert found.keys() == wanted.keys()
    for name in wanted:
        # Float16 planes round a picture of 8 bits once more than the public graph does: by 1 LSB at most.
        assert_close_pixels(found[name], wanted[name], share=0.15)


@pytest.mark.parametrize("direction", ["downscale", "upscale", "upscale_z"])
@pytest.mark.parametrize("flavour", ["tensorrt", "tensorrt-rtx"])
def test_pixels_are_those_of_the_public_graph_on_the_cpu(
    stand: Stand, card: ModelCard, direction: Direction, flavour: Flavour
) -> None:
    engine = stand.engine(card, direction, flavour)
    for seed in (1, 2, 3):  # the second and third come from the graph
        inputs = graph_inputs(card, direction, seed=seed)
        same(engine.run(inputs), reference(card, direction, inputs))
    assert engine.graph_reason is None
    assert engine.backend == flavour
    engine.close()


@both
def test_sizes_in_any_order_give_the_right_pixels_and_few_contexts(
    stand: Stand, card: ModelCard, direction: Direction
) -> None:
    engine = stand.engine(card, direction)
    sizes = [(96, 80), (8, 8), (128, 128), (44, 92), (96, 80), (12, 124), (8, 8), (20, 20), (128, 128)]
    for seed, size in enumerate(sizes):
        inputs = graph_inputs(card, direction, size=size, seed=seed)
        same(engine.run(inputs), reference(card, direction, inputs))
        assert len(stand.library.contexts) <= MAX_SHAPES
    engine.close()
    assert len(stand.library.contexts) == 0


@both
def test_the_graph_is_launched_from_the_second_call_of_a_size_on(
    stand: Stand, card: ModelCard, direction: Direction
) -> None:
    engine, inputs = stand.engine(card, direction), graph_inputs(card, direction)
    engine.run(inputs)
    tried = stand.device.launches
    assert tried == 2, "another picture, and the first one again"
    engine.run(inputs)
    engine.run(inputs)
    assert stand.device.launches == tried + 2


@both
@pytest.mark.parametrize(
    ("graphs", "reason"),
    [("dead", "same result for another picture"), ("refused", "cannot be captured .*not permitted")],
)
def test_a_graph_that_does_not_follow_its_input_is_not_used(
    stand: Stand, card: ModelCard, direction: Direction, graphs: str, reason: str
) -> None:
    stand.device.graphs = graphs
    engine = stand.engine(card, direction)
    for seed in (1, 2):
        inputs = graph_inputs(card, direction, seed=seed)
        same(engine.run(inputs), reference(card, direction, inputs))
    assert engine.graph_reason is not None
    assert re.search(reason, engine.graph_reason)
    launched = stand.device.launches
    engine.run(inputs)
    assert stand.device.launches == launched


@both
@pytest.mark.parametrize("own", [True, False], ids=["stream", "default stream"])
def test_device_arrays_on_the_callers_stream(stand: Stand, card: ModelCard, direction: Direction, own: bool) -> None:
    engine = stand.engine(card, direction)
    stream = stand.device.new_stream() if own else 0
    wanted, found = [], []
    for seed in range(1, 5):
        inputs = graph_inputs(card, direction, seed=seed)
        wanted.append(reference(card, direction, inputs))
        # What the caller's stream has yet to do comes first: the picture is not there when the engine is called.
        late = {name: np.zeros_like(value) for name, value in inputs.items()}
        with stand.device.active():
            for name, value in inputs.items():
                stand.device.copy(value, late[name], stream)
        found.append(engine.run_on_device(late, stream=stream if own else None))
    stand.device.synchronize(stream)
    for result, right in zip(found, wanted, strict=True):
        same(result, right)
    engine.check()
    engine.close()


def test_the_host_does_not_wait_for_device_arrays(stand: Stand, card: ModelCard) -> None:
    engine, inputs = stand.engine(card, "downscale"), graph_inputs(card, "downscale")
    stream = stand.device.new_stream()
    engine.run_on_device(inputs, stream=stream)
    stand.device.synchronize(stream)
    before = stand.device.reached(stream)
    result = engine.run_on_device(inputs, stream=stream)
    assert stand.device.reached(stream) == before
    assert (result["lr"] == 0xA5).all(), "nothing has run yet"


def test_streams_may_change_from_call_to_call(stand: Stand, card: ModelCard) -> None:
    engine = stand.engine(card, "upscale")
    streams = [stand.device.new_stream() for _ in range(3)]
    calls = []
    for seed in range(7):
        inputs = graph_inputs(card, "upscale", seed=seed, size=(96, 80) if seed % 2 else (64, 24))
        calls.append((engine.run_on_device(inputs, stream=streams[seed % 3]), reference(card, "upscale", inputs)))
        if seed == 4:
            same(engine.run(inputs), calls[-1][1])
    for stream in reversed(streams):  # the order in which the GPU gets to them is not the order of the calls
        stand.device.synchronize(stream)
    for found, wanted in calls:
        same(found, wanted)


def test_calls_on_two_streams_at_once_do_not_share_buffers(stand: Stand, card: ModelCard) -> None:
    engine = stand.engine(card, "downscale")
    streams = [stand.device.new_stream() for _ in range(2)]
    calls = []
    for seed in range(6):
        inputs = graph_inputs(card, "downscale", seed=seed)
        calls.append((engine.run_on_device(inputs, stream=streams[seed % 2]), reference(card, "downscale", inputs)))
    stand.device.interleave(*streams, seed=1)
    for found, wanted in calls:
        same(found, wanted)


def test_a_larger_picture_waits_for_what_uses_the_smaller_buffers(stand: Stand, card: ModelCard) -> None:
    engine = stand.engine(card, "upscale")
    stream, calls = stand.device.new_stream(), []
    for size in ((32, 32), (32, 32), (128, 128), (128, 128), (32, 32)):
        inputs = graph_inputs(card, "upscale", size=size)
        calls.append((engine.run_on_device(inputs, stream=stream), reference(card, "upscale", inputs)))
    stand.device.synchronize(stream)
    for found, wanted in calls:
        same(found, wanted)


def test_output_goes_to_the_callers_arrays(stand: Stand, card: ModelCard) -> None:
    engine, inputs = stand.engine(card, "downscale"), graph_inputs(card, "downscale", size=(96, 80))
    wide = np.zeros((1, 24, 32, 3), np.uint8)
    out = {"lr": wide[:, :, :20], "boundary": np.zeros((1, 24, 20), np.uint8)}
    result = engine.run_on_device(inputs, out=out)
    assert result["lr"] is out["lr"]
    stand.device.synchronize(0)
    same(out, reference(card, "downscale", inputs))
    assert not wide[:, :, 20:].any()


@pytest.mark.parametrize(
    ("out", "error"),
    [
        ({"lr": np.zeros((1, 24, 21, 3), np.uint8)}, ShapeError),
        ({"lr": np.zeros((1, 24, 20, 3), np.float32)}, DTypeError),
        ({"image": np.zeros((1, 96, 80, 3), np.uint8)}, ArgumentError),
    ],
    ids=["shape", "dtype", "name"],
)
def test_output_that_does_not_suit_is_refused(stand: Stand, card: ModelCard, out: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="out has"):
        stand.engine(card, "downscale").run_on_device(graph_inputs(card, "downscale"), out=out)


@both
@pytest.mark.parametrize(("n", "size"), [(1, (132, 128)), (4, (8, 8)), (1, (4, 8))], ids=["large", "many", "small"])
def test_size_outside_the_profile_names_the_profile_and_the_fix(
    stand: Stand, card: ModelCard, direction: Direction, n: int, size: tuple[int, int]
) -> None:
    engine = stand.engine(card, direction)
    inputs = {name: np.repeat(v, n, axis=0) for name, v in graph_inputs(card, direction, size=size).items()}
    with pytest.raises(OutsideProfileError) as caught:
        engine.run(inputs)
    said = str(caught.value)
    assert "profile 'tiny'" in said
    assert "1 to 3 pictures from 8x8 to 128x128" in said
    assert f"bdflow build tiny@1 --flavour tensorrt --profile {size[1]}x{size[0]}" in said
    good = graph_inputs(card, direction)
    same(engine.run(good), reference(card, direction, good))


def nan_card(folder: Path) -> ModelCard:
    card = make_model(folder, tiny_config(4), name="nan")
    return with_weights(card, {"levels.0.0.phi.conv3.bias": float("nan")})


@both
def test_nan_raises_on_the_host_path(stand: Stand, tmp_path: Path, direction: Direction) -> None:
    card = nan_card(tmp_path)
    inputs = graph_inputs(make_model(tmp_path, tiny_config(4), name="good"), direction)
    with pytest.raises(NonFiniteOutputError, match="nan@1"):
        stand.engine(card, direction).run(inputs)


def test_nan_of_device_arrays_raises_later(stand: Stand, tmp_path: Path) -> None:
    engine = stand.engine(nan_card(tmp_path), "downscale")
    image = {"image": np.zeros((1, 16, 16, 3), np.uint8)}
    for _ in range(2):
        engine.run_on_device(image)
        with pytest.raises(NonFiniteOutputError):
            engine.check()
    engine.run_on_device(image)
    stand.device.synchronize(0)
    with pytest.raises(NonFiniteOutputError):
        engine.run_on_device(image)
    engine.check()


def test_many_calls_in_flight_wait_for_the_oldest_mean(stand: Stand, card: ModelCard) -> None:
    engine, image = stand.engine(card, "downscale"), {"image": np.zeros((1, 8, 8, 3), np.uint8)}
    stream = stand.device.new_stream()
    for _ in range(25):
        engine.run_on_device(image, stream=stream)
    engine.check()


@both
def test_clones_share_the_weights_and_outlive_each_other(stand: Stand, card: ModelCard, direction: Direction) -> None:
    first, inputs = stand.engine(card, direction), graph_inputs(card, direction)
    second = first.clone()
    wanted = reference(card, direction, inputs)
    same(first.run(inputs), wanted)
    first.close()
    same(second.run(inputs), wanted)
    second.close()
    with pytest.raises(ClosedError):
        second.run(inputs)
    with pytest.raises(ClosedError):
        second.clone()
    second.close()


def test_release_gives_the_memory_back_and_the_next_run_works(stand: Stand, card: ModelCard) -> None:
    engine, inputs = stand.engine(card, "upscale"), graph_inputs(card, "upscale")
    wanted = reference(card, "upscale", inputs)
    same(engine.run(inputs), wanted)
    engine.release()
    assert all(owner() is None for _, _, owner in stand.device._memory)
    same(engine.run(inputs), wanted)


def test_a_second_thread_is_refused_and_a_clone_is_not(stand: Stand, card: ModelCard) -> None:
    engine, inputs = stand.engine(card, "downscale"), graph_inputs(card, "downscale")
    inside, leave = threading.Event(), threading.Event()
    capture: Any = stand.device.capture

    def slow(*arguments: Any) -> Any:
        inside.set()
        leave.wait(30)
        return capture(*arguments)

    stand.device.capture = slow  # type: ignore[method-assign,assignment]
    worker = threading.Thread(target=engine.run, args=(inputs,))
    worker.start()
    assert inside.wait(30)
    stand.device.capture = capture  # type: ignore[method-assign]
    try:
        with pytest.raises(BusyError, match=r"clone\(\)"):
            engine.run(inputs)
    finally:
        leave.set()
        worker.join()
    same(engine.clone().run(inputs), reference(card, "downscale", inputs))


@pytest.mark.parametrize(
    ("words", "error"),
    [("cuBLAS is broken", BackendError), ("CUDA error: out of memory", OutOfMemoryError)],
)
def test_what_the_library_says_is_in_the_error(
    stand: Stand, card: ModelCard, words: str, error: type[Exception]
) -> None:
    engine, inputs = stand.engine(card, "downscale"), graph_inputs(card, "downscale")
    stand.library.refuse_execution = words
    with pytest.raises(error, match=words):
        engine.run(inputs)
    stand.library.refuse_execution = ""
    same(engine.run(inputs), reference(card, "downscale", inputs))


def test_memory_that_runs_out_is_a_typed_error_and_the_engine_goes_on(stand: Stand, card: ModelCard) -> None:
    engine = stand.engine(card, "downscale")
    small, large = (graph_inputs(card, "downscale", size=size) for size in ((32, 32), (128, 128)))
    wanted = reference(card, "downscale", small)
    same(engine.run(small), wanted)
    empty = stand.device.empty
    left = [2]

    def scarce(size: int) -> Any:
        left[0] -= 1
        if left[0] < 0:
            raise MemoryError("Out of memory allocating 9,999 bytes")
        return empty(size)

    stand.device.empty = scarce  # type: ignore[method-assign]
    with pytest.raises(OutOfMemoryError):
        engine.run(large)
    stand.device.empty = empty  # type: ignore[method-assign]
    same(engine.run(small), wanted)
    same(engine.run(large), reference(card, "downscale", large))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"gpu": "NVIDIA GeForce RTX 5090"}, "GPU 'NVIDIA GeForce RTX 5090'"),
        ({"compute_capability": "12.0"}, "compute capability 12.0"),
        ({"compute_capability": "8.0,8.6"}, "compute capability 8.0,8.6"),
        ({"compute_capability": "9.0+"}, "compute capability 9.0+"),
        ({"flavour_version": "10.9.0"}, "version 10.9.0; 1.7.1.116 is installed"),
        ({"builder_flags": ("strip=True",)}, "stripped of its weights"),
    ],
)
def test_an_engine_for_another_machine_is_refused_with_the_command_that_builds_one(
    stand: Stand, card: ModelCard, changes: dict[str, Any], said: str
) -> None:
    cached = stand.cached(card, "downscale", **changes)
    with pytest.raises(EngineMismatchError) as caught:
        LoadedEngine(cached, device=stand.device, library=stand.library)
    assert said in str(caught.value)
    assert "bdflow build tiny@1 --flavour tensorrt --profile tiny" in str(caught.value)


@pytest.mark.parametrize("capability", ["any", "8.9", "8.0,8.9", "8.0+", "8.9+"])
def test_an_engine_for_this_gpu_among_others_is_taken(stand: Stand, card: ModelCard, capability: str) -> None:
    cached = stand.cached(card, "downscale", gpu="any", compute_capability=capability)
    with stand.device.active():
        assert LoadedEngine(cached, device=stand.device, library=stand.library).outputs.keys() >= {"lr"}


def test_an_engine_of_another_direction_is_refused(stand: Stand, card: ModelCard) -> None:
    with stand.device.active():
        loaded = LoadedEngine(stand.cached(card, "upscale"), device=stand.device, library=stand.library)
    with pytest.raises(EngineMismatchError, match="the core graph of downscale"):
        TensorRTEngine(card, "downscale", loaded)


def test_a_public_engine_is_refused(stand: Stand, card: ModelCard) -> None:
    cached = stand.cached(card, "downscale")
    plan = standin_plan(card.graph_path("downscale"), {"image": ((1, 8, 8, 3),) * 3})
    with stand.device.active():
        loaded = LoadedEngine(CachedEngine(None, plan, cached.sidecar, ""), device=stand.device, library=stand.library)
    with pytest.raises(EngineMismatchError, match="has the tensors image uint8"):
        TensorRTEngine(card, "downscale", loaded)


def test_bytes_the_library_refuses_are_a_typed_error_with_its_words(stand: Stand, card: ModelCard) -> None:
    cached = stand.cached(card, "downscale")
    with pytest.raises(EngineLoadError, match=r"kEXPECTED_MAGIC_TAG failed.*bdflow build"):
        LoadedEngine(CachedEngine(None, b"\xff", cached.sidecar, ""), device=stand.device, library=stand.library)


def test_an_rtx_engine_its_library_calls_invalid_is_refused_with_the_reasons(stand: Stand, card: ModelCard) -> None:
    cached = stand.cached(card, "downscale", "tensorrt-rtx")
    stand.library.validity = standin.EngineValidity.INVALID, 2
    with pytest.raises(EngineMismatchError, match=r"UNSUPPORTED_CC.*Hopper"):
        LoadedEngine(cached, device=stand.device, library=stand.library)


def test_what_rtx_compiles_is_kept_beside_the_engine_and_given_back(stand: Stand, card: ModelCard) -> None:
    engine = stand.engine(card, "downscale", "tensorrt-rtx")
    engine.run(graph_inputs(card, "downscale"))
    engine.close()
    assert stand.library.runtime_blobs == []
    (kept,) = stand.cache.folder.glob("*.runtime")
    again = stand.engine(card, "downscale", "tensorrt-rtx")
    (given,) = stand.library.runtime_blobs
    assert kept.read_bytes() == hashlib.sha256(given).hexdigest().encode() + b"\n" + given
    again.close()
    whole = kept.read_bytes()
    kept.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    stand.engine(card, "downscale", "tensorrt-rtx").close()
    assert stand.library.runtime_blobs == [given], "damaged data is not given to the library"


def test_an_engine_is_opened_from_the_cache(stand: Stand, card: ModelCard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bdflow_rt.engines.tensorrt.load_library", lambda flavour: stand.library)
    opened = {"flavour": "tensorrt", "cache": stand.cache, "device": stand.device}
    with pytest.raises(EngineMissingError, match=r"none is cached\. Build it: bdflow build tiny@1 --flavour tensorrt"):
        open_tensorrt(card, "downscale", **opened)  # type: ignore[arg-type]
    stand.cached(card, "downscale", gpu="Old GPU", profile="4k: 1x64x64 to 1x2160x3840, best 1x2160x3840")
    with pytest.raises(EngineMissingError, match="nearest cached one is for gpu 'Old GPU', not 'Stand-in GPU'"):
        open_tensorrt(card, "downscale", **opened)  # type: ignore[arg-type]
    stand.cached(card, "downscale")
    inputs = graph_inputs(card, "downscale")
    same(open_tensorrt(card, "downscale", **opened).run(inputs), reference(card, "downscale", inputs))  # type: ignore[arg-type]


@needs_no_gpu
@needs_rtx
def test_without_a_gpu_the_backend_says_so(card: ModelCard) -> None:
    with pytest.raises(CudaUnavailableError):
        open_engine(select("tensorrt-rtx"), card, "downscale", precision="fp32", threads=None)


def test_type_stubs_are_not_an_installation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tensorrt").mkdir()
    (tmp_path / "tensorrt" / "__init__.pyi").write_text("class Runtime: ...")
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    with pytest.raises(BackendUnavailableError, match=r"not installed: pip install 'bdflow-rt\[tensorrt\]'"):
        load_library("tensorrt")


@pytest.mark.parametrize(
    ("flavour", "version", "fine"),
    [
        ("tensorrt", "10.13.0.35", True),
        ("tensorrt", "11.4.0.106", True),
        ("tensorrt", "10.12.9", False),
        ("tensorrt", "8.6.1", False),
        ("tensorrt", "unknown", False),
        ("tensorrt-rtx", "1.2.0.54", True),
        ("tensorrt-rtx", "1.1.1", False),
    ],
)
def test_versions_that_are_too_old_are_refused(flavour: Flavour, version: str, fine: bool) -> None:
    if fine:
        check_version(flavour, version)
        return
    with pytest.raises(BackendVersionError, match=f"{version} is installed"):
        check_version(flavour, version)


@needs_rtx
@needs_no_gpu
@pytest.mark.parametrize("damage", [False, True])
def test_the_real_library_without_a_gpu_gives_a_typed_error(damage: bool) -> None:
    """The one test here in which TensorRT-RTX itself is called, as far as it goes without a GPU."""
    key, plan = real_plan()
    plan = b"x" * 100 if damage else plan
    cached = CachedEngine(None, plan, Sidecar.of(key, plan, build_seconds=0), "")
    with pytest.raises(EngineMismatchError, match="MALFORMED_ENGINE" if damage else "CUDA_ERROR|cannot run"):
        LoadedEngine(cached, device=StandInDevice(), library=load_library("tensorrt-rtx"))


API: dict[type, tuple[str, ...]] = {
    standin.Runtime: ("deserialize_cuda_engine",),
    standin.ICudaEngine: (
        "get_tensor_name", "get_tensor_mode", "get_tensor_dtype", "get_tensor_location", "get_tensor_profile_shape",
        "create_execution_context", "create_runtime_config",
    ),
    standin.IRuntimeConfig: ("set_execution_context_allocation_strategy",),
    standin.IExecutionContext: (
        "set_input_shape", "infer_shapes", "get_tensor_shape", "update_device_memory_size_for_shapes",
        "set_device_memory", "set_tensor_address", "execute_async_v3",
    ),
}  # fmt: skip
"""What the engine calls in every flavour."""
API_RTX: dict[type, tuple[str, ...]] = {
    standin.Runtime: ("get_engine_validity",),
    standin.IRuntimeConfig: ("create_runtime_cache", "set_runtime_cache"),
    standin.IRuntimeCache: ("serialize", "deserialize"),
}
CALLS = [(kind, name) for kind, names in API.items() for name in names]
CALLS_RTX = CALLS + [(kind, name) for kind, names in API_RTX.items() for name in names]


def parameters(kind: type, name: str) -> tuple[str, ...]:
    return tuple(inspect.signature(getattr(kind, name)).parameters)[1:]


@needs_rtx
@pytest.mark.parametrize(("kind", "name"), CALLS_RTX)
def test_the_stand_in_has_the_parameters_of_tensorrt_rtx(kind: type, name: str) -> None:
    library: Any = pytest.importorskip("tensorrt_rtx")
    documented = getattr(getattr(library, kind.__name__), name).__doc__
    overloads = re.findall(rf"{name}\(self: [\w.:]+(.*?)\) ->", documented)
    names = {tuple(re.findall(r"(?:^|, )(\w+): ", rest)) for rest in overloads}
    assert parameters(kind, name) in names, documented


@pytest.mark.parametrize(("kind", "name"), CALLS)
def test_the_stand_in_has_the_parameters_of_the_10_13_stubs(kind: type, name: str) -> None:
    stubs = [Path(folder) / "tensorrt_bindings" / "tensorrt.pyi" for folder in sys.path]
    found = next((path for path in stubs if path.is_file()), None)
    if found is None:
        pytest.skip("tensorrt-stubs is not installed")
    _, _, rest = found.read_text().partition(f"\nclass {kind.__name__}")  # no parser takes the file: it has errors
    declared = re.split(r"\nclass ", rest)[0]
    overloads = re.findall(rf"    def {name}\(self(.*?)\) ->", declared)
    names = {tuple(re.findall(r"(?:^|, )(\w+): ", overload)) for overload in overloads}
    assert parameters(kind, name) in names


@needs_rtx
def test_the_enumerations_of_the_stand_in_are_real_ones() -> None:
    library: Any = pytest.importorskip("tensorrt_rtx")
    for name in (
        "TensorIOMode", "TensorLocation", "ExecutionContextAllocationStrategy", "CudaGraphStrategy", "EngineValidity",
        "DynamicShapesKernelSpecializationStrategy", "EngineInvalidityDiagnostics",
    ):  # fmt: skip
        assert set(getattr(standin, name).__members__) <= set(getattr(library, name).__members__), name
    for attribute in ("cuda_graph_strategy", "dynamic_shapes_kernel_specialization_strategy"):
        assert isinstance(getattr(library.IRuntimeConfig, attribute), property)
    assert isinstance(library.Runtime.engine_host_code_allowed, property)
