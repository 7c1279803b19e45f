"""How TensorRT's runtime is called: by a stand-in that enforces its contract. TensorRT does not run in these tests."""

from __future__ import annotations

import re
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bdflow_rt.engines.tensorrt.engine import MAX_SHAPES
from bdflow_rt.errors import (
    ArgumentError,
    BackendError,
    BusyError,
    ClosedError,
    DTypeError,
    NonFiniteOutputError,
    OutOfMemoryError,
    OutsideProfileError,
    ShapeError,
)
from bdflow_rt.options import Flavour
from bdflow_rt.zoo import Direction, ModelCard
from tests.engines.stand import Stand, reference, same
from tests.support import slow, slow_but
from tests.support_models import graph_inputs, make_model, tiny_config, with_weights

both = pytest.mark.parametrize("direction", ["downscale", "upscale"])


@pytest.mark.parametrize("direction", ["downscale", "upscale", "upscale_z"])
@pytest.mark.parametrize("flavour", slow_but(["tensorrt"], ["tensorrt", "tensorrt-rtx"]))
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


@pytest.mark.parametrize("direction", slow_but(["upscale"], ["downscale", "upscale"]))
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


@pytest.mark.parametrize(
    ("own", "direction"), [(True, "downscale"), (False, "upscale"), slow(True, "upscale"), slow(False, "downscale")]
)
def test_device_arrays_on_the_callers_stream(stand: Stand, card: ModelCard, own: bool, direction: Direction) -> None:
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
        found.append(engine.submit(late, stream=stream if own else None).outputs)
    stand.device.synchronize(stream)
    for result, right in zip(found, wanted, strict=True):
        same(result, right)
    engine.check()
    engine.close()


def test_the_host_does_not_wait_for_device_arrays(stand: Stand, card: ModelCard) -> None:
    engine, inputs = stand.engine(card, "downscale"), graph_inputs(card, "downscale")
    stream = stand.device.new_stream()
    engine.submit(inputs, stream=stream)
    stand.device.synchronize(stream)
    before = stand.device.reached(stream)
    result = engine.submit(inputs, stream=stream).outputs
    assert stand.device.reached(stream) == before
    assert (result["lr"] == 0xA5).all(), "nothing has run yet"


def test_streams_may_change_from_call_to_call(stand: Stand, card: ModelCard) -> None:
    engine = stand.engine(card, "upscale")
    streams = [stand.device.new_stream() for _ in range(3)]
    calls = []
    for seed in range(7):
        inputs = graph_inputs(card, "upscale", seed=seed, size=(96, 80) if seed % 2 else (64, 24))
        calls.append((engine.submit(inputs, stream=streams[seed % 3]).outputs, reference(card, "upscale", inputs)))
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
        calls.append((engine.submit(inputs, stream=streams[seed % 2]).outputs, reference(card, "downscale", inputs)))
    stand.device.interleave(*streams, seed=1)
    for found, wanted in calls:
        same(found, wanted)


def test_a_larger_picture_waits_for_what_uses_the_smaller_buffers(stand: Stand, card: ModelCard) -> None:
    engine = stand.engine(card, "upscale")
    stream, calls = stand.device.new_stream(), []
    for size in ((32, 32), (32, 32), (128, 128), (128, 128), (32, 32)):
        inputs = graph_inputs(card, "upscale", size=size)
        calls.append((engine.submit(inputs, stream=stream).outputs, reference(card, "upscale", inputs)))
    stand.device.synchronize(stream)
    for found, wanted in calls:
        same(found, wanted)


def test_output_goes_to_the_callers_arrays(stand: Stand, card: ModelCard) -> None:
    engine, inputs = stand.engine(card, "downscale"), graph_inputs(card, "downscale", size=(96, 80))
    wide = np.zeros((1, 24, 32, 3), np.uint8)
    out = {"lr": wide[:, :, :20], "boundary": np.zeros((1, 24, 20), np.uint8)}
    result = engine.submit(inputs, out=out).outputs
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
        stand.engine(card, "downscale").submit(graph_inputs(card, "downscale"), out=out)


@pytest.mark.parametrize("direction", slow_but(["upscale"], ["downscale", "upscale"]))
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
        engine.submit(image)
        with pytest.raises(NonFiniteOutputError):
            engine.check()
    engine.submit(image)
    stand.device.synchronize(0)
    with pytest.raises(NonFiniteOutputError):
        engine.submit(image)
    engine.check()


def test_many_calls_in_flight_wait_for_the_oldest_mean(stand: Stand, card: ModelCard) -> None:
    engine, image = stand.engine(card, "downscale"), {"image": np.zeros((1, 8, 8, 3), np.uint8)}
    stream = stand.device.new_stream()
    for _ in range(25):
        engine.submit(image, stream=stream)
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


def test_clones_that_come_and_go_leave_no_stream_behind(stand: Stand, card: ModelCard) -> None:
    first, inputs = stand.engine(card, "downscale"), graph_inputs(card, "downscale")
    wanted = reference(card, "downscale", inputs)
    for _ in range(3):
        clone = first.clone()
        found = clone.submit(inputs).outputs
        clone.close()
        stand.device.synchronize(0)
        same(found, wanted)
        assert stand.device.streams == 1
    first.close()
    first.close()
    assert stand.device.streams == 0


def test_release_of_a_result_that_is_not_finite_says_so_and_gives_the_memory_back(stand: Stand, tmp_path: Path) -> None:
    engine = stand.engine(nan_card(tmp_path), "downscale")
    engine.submit({"image": np.zeros((1, 16, 16, 3), np.uint8)})
    with pytest.raises(NonFiniteOutputError):
        engine.release()
    assert all(owner() is None for _, _, owner in stand.device._memory)
    engine.release()


@pytest.mark.parametrize("on_device", [True, False])
def test_a_call_that_fails_half_way_does_not_write_into_the_next(
    stand: Stand, card: ModelCard, on_device: bool
) -> None:
    engine = stand.engine(card, "downscale")
    streams = [stand.device.new_stream() for _ in range(2)]
    first, second = (graph_inputs(card, "downscale", seed=seed) for seed in (1, 2))
    engine.submit(first, stream=streams[0])
    name = "copy" if on_device else "download"
    whole: Any = getattr(stand.device, name)

    def fails(source: Any, target: Any, stream: int) -> None:
        if name == "copy" and source is first["image"]:
            return whole(source, target, stream)
        raise RuntimeError("cudaErrorInvalidValue: invalid argument")

    for seed in range(5):
        setattr(stand.device, name, fails)
        with pytest.raises(BackendError, match="cudaErrorInvalidValue"):
            engine.submit(first, stream=streams[0]).outputs if on_device else engine.run(first)
        setattr(stand.device, name, whole)
        found = engine.submit(second, stream=streams[1]).outputs
        stand.device.interleave(streams[0], engine._stream, streams[1], seed=seed)
        same(found, reference(card, "downscale", second))


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
    stand.library.refuse["execute_async_v3"] = words
    with pytest.raises(error, match=words):
        engine.run(inputs)
    stand.library.refuse.clear()
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
