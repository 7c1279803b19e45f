"""What every engine promises: inputs are checked, results are the caller's, inputs stay as they are."""

from __future__ import annotations

import functools
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from bdflow_rt.engines.engine import Engine
from bdflow_rt.engines.openvino import OpenVINOEngine
from bdflow_rt.engines.torch.engine import TorchEngine
from bdflow_rt.errors import (
    ArgumentError,
    BackendError,
    BusyError,
    ClosedError,
    DTypeError,
    LayoutError,
    OverlapError,
    ShapeError,
)
from bdflow_rt.zoo import Direction, ModelCard, find_model
from tests.support import ROOT, slow_but
from tests.support_models import Arrays, graph_inputs, make_model, tiny_config

EngineMaker = Callable[[ModelCard, Direction], Engine]
both = pytest.mark.parametrize("backend", [OpenVINOEngine, TorchEngine])


@pytest.fixture(scope="module")
def card(tmp_path_factory: pytest.TempPathFactory) -> ModelCard:
    return make_model(tmp_path_factory.mktemp("zoo"), tiny_config(4))


@pytest.fixture(scope="module")
def ran(card: ModelCard) -> Callable[[EngineMaker], tuple[Engine, Arrays]]:
    """An engine of each backend that has run once, and what it ran on."""
    inputs = graph_inputs(card, "upscale_z")

    @functools.cache
    def make(backend: EngineMaker) -> tuple[Engine, Arrays]:
        engine = backend(card, "upscale_z")
        engine.run(inputs)
        return engine, inputs

    return make


@both
@pytest.mark.parametrize("direction", ["downscale", "upscale"])
def test_results_are_the_callers_own(backend: EngineMaker, card: ModelCard, direction: Direction) -> None:
    engine = backend(card, direction)
    first = engine.run(graph_inputs(card, direction, seed=1))
    kept = {name: value.copy() for name, value in first.items()}
    engine.run(graph_inputs(card, direction, seed=2))
    engine.close()
    assert all(np.array_equal(first[name], kept[name]) for name in kept)
    assert all(value.flags.writeable for value in first.values())


@both
@pytest.mark.parametrize("layout", ["flipped", "fortran", "strided", "read-only"])
def test_any_memory_layout_gives_the_same_and_stays_unchanged(
    backend: EngineMaker, card: ModelCard, layout: str
) -> None:
    inputs = graph_inputs(card, "upscale_z")
    wanted = backend(card, "upscale_z").run(inputs)["image"]
    other: Arrays = {}
    for name, value in inputs.items():
        if layout == "flipped":
            other[name] = value[:, ::-1].copy()[:, ::-1]
        elif layout == "fortran":
            other[name] = np.asfortranarray(value)
        elif layout == "strided":
            other[name] = np.repeat(value, 2, axis=1)[:, ::2]
        else:
            other[name] = value.copy()
            other[name].flags.writeable = False
    found = backend(card, "upscale_z").run(other)["image"]
    assert np.array_equal(found, wanted)
    assert all(np.array_equal(other[name], inputs[name]) for name in inputs)


@both
@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"boundary": None}, ArgumentError),
        ({"latent": None}, ArgumentError),
        ({"lr": None}, ArgumentError),
        ({"noise": np.zeros(3)}, ArgumentError),
        ({"lr": np.zeros((1, 24, 20, 3))}, DTypeError),
        ({"boundary": np.zeros((1, 24, 20), bool)}, DTypeError),
        ({"latent": np.zeros((1, 44, 24, 20))}, DTypeError),
        ({"lr": np.zeros((24, 20, 3), np.uint8)}, ShapeError),
        ({"lr": np.zeros((1, 24, 20, 4), np.uint8)}, ShapeError),
        ({"lr": np.zeros((2, 24, 20, 3), np.uint8)}, ShapeError),
        ({"boundary": np.zeros((1, 20, 24), np.uint8)}, ShapeError),
        ({"boundary": np.zeros((1, 24, 20, 1), np.uint8)}, ShapeError),
        ({"latent": np.zeros((1, 45, 24, 20), np.float32)}, ShapeError),
    ],
)
def test_wrong_inputs_are_refused_also_after_a_good_run(
    ran: Callable[[EngineMaker], tuple[Engine, Arrays]],
    backend: EngineMaker,
    change: dict[str, Any],
    error: type[Exception],
) -> None:
    engine, good = ran(backend)
    bad = {name: value for name, value in {**good, **change}.items() if value is not None}
    with pytest.raises(error):
        engine.run(bad)


@both
@pytest.mark.parametrize("shape", [(1, 6, 8, 3), (1, 8, 7, 3), (1, 0, 8, 3), (0, 8, 8, 3), (1, 8, 8), (1, 8, 8, 1)])
def test_pictures_that_are_no_multiple_of_the_scale_or_empty_are_refused(
    backend: EngineMaker, card: ModelCard, shape: tuple[int, ...]
) -> None:
    with pytest.raises(ShapeError, match="multiples of 4"):
        backend(card, "downscale").run({"image": np.zeros(shape, np.uint8)})


@both
def test_a_closed_engine_says_so_and_closing_again_does_no_harm(backend: EngineMaker, card: ModelCard) -> None:
    engine = backend(card, "upscale")
    inputs = graph_inputs(card, "upscale")
    engine.run(inputs)
    engine.close()
    engine.close()
    with pytest.raises(ClosedError, match=r"upscale engine of tiny@1 was closed"):
        engine.run(inputs)
    engine.release()


STARVED = """
import resource, sys
from pathlib import Path
import numpy as np
from {module} import {name}
from bdflow_rt.errors import BackendError
from bdflow_rt.zoo import find_model
image = np.zeros((1, {side}, {side}, 3), np.uint8)
engine = {name}(find_model({folder!r}), "downscale")
engine.run({{"image": image[:, :64, :64]}})
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
limit = used + (200 << 20)
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
try:
    engine.run({{"image": image}})
except BackendError as error:
    print(type(error).__name__, error)
engine.release()
engine.run({{"image": image[:, :64, :64]}})
print("smaller ones run")
"""


@both
@pytest.mark.parametrize("side", slow_but([2048], [2048, 6000]))
def test_too_little_memory_is_an_error_of_its_own_and_smaller_inputs_still_run(
    backend: type[Engine], card: ModelCard, side: int
) -> None:
    code = STARVED.format(module=backend.__module__, name=backend.__name__, side=side, folder=str(card.folder))
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.stdout.startswith("OutOfMemoryError Memory ran out in downscale of tiny@1"), done
    assert "Lower memory_limit_mib" in done.stdout
    assert done.stdout.endswith("smaller ones run\n"), done


@both
@pytest.mark.parametrize("direction", ["downscale", "upscale"])
def test_outputs_are_written_where_the_caller_says(backend: EngineMaker, card: ModelCard, direction: Direction) -> None:
    engine, inputs = backend(card, direction), graph_inputs(card, direction)
    expected = engine.run(inputs)
    out = {name: np.full_like(value, 7) for name, value in expected.items()}
    found = engine.run(inputs, out=out)
    assert found.keys() == out.keys() == engine.spec.outputs.keys()
    for name, value in found.items():
        assert value is out[name]
        assert np.array_equal(value, expected[name])
    some = next(iter(out))
    partly = engine.run(inputs, out={some: out[some]})
    assert partly[some] is out[some]
    assert all(np.array_equal(partly[name], expected[name]) for name in expected)


@both
@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda lr: {"picture": lr}, ArgumentError),
        (lambda lr: {"lr": lr.astype(np.float32)}, DTypeError),
        (lambda lr: {"lr": lr.tolist()}, DTypeError),
        (lambda lr: {"lr": lr[:, 1:]}, ShapeError),
        (lambda lr: {"lr": np.repeat(lr, 2, axis=1)[:, ::2]}, LayoutError),
        (lambda lr: {"lr": np.broadcast_to(lr, lr.shape)}, LayoutError),
    ],
)
def test_outputs_that_do_not_fit_are_refused_before_anything_runs(
    backend: EngineMaker, card: ModelCard, change: Callable[[Any], dict[str, Any]], error: type[Exception]
) -> None:
    engine, inputs = backend(card, "downscale"), graph_inputs(card, "downscale")
    lr = engine.run(inputs)["lr"]
    with pytest.raises(error, match=r"^out has "):
        engine.run(inputs, out=change(lr.copy()))
    assert np.array_equal(engine.run(inputs)["lr"], lr)


@both
def test_an_output_in_the_memory_of_an_input_is_refused(backend: EngineMaker, card: ModelCard) -> None:
    inputs = graph_inputs(card, "downscale")
    memory = inputs["image"].reshape(-1)
    n, height, width, _ = inputs["image"].shape
    shape = n, height // 4, width // 4, 3
    with pytest.raises(OverlapError, match="memory of its own"):
        backend(card, "downscale").run(inputs, out={"lr": memory[: int(np.prod(shape))].reshape(shape)})


@both
def test_a_job_gives_what_a_run_gives_and_again_when_it_is_asked_again(backend: EngineMaker, card: ModelCard) -> None:
    engine, inputs = backend(card, "upscale"), graph_inputs(card, "upscale")
    job = engine.submit(inputs)
    image = job.wait()["image"]
    assert job.done()
    assert job.wait()["image"] is image is job.outputs["image"]
    assert np.array_equal(image, engine.run(inputs)["image"])


@both
def test_a_clone_has_the_same_weights_and_a_life_of_its_own(backend: EngineMaker, card: ModelCard) -> None:
    engine, inputs = backend(card, "downscale"), graph_inputs(card, "downscale")
    expected = engine.run(inputs)["lr"]
    clone = engine.clone()
    both_run = [engine.submit(inputs), clone.submit(inputs)]
    assert all(np.array_equal(job.wait()["lr"], expected) for job in both_run)
    engine.close()
    assert np.array_equal(clone.run(inputs)["lr"], expected)
    with pytest.raises(ClosedError):
        engine.clone()
    with pytest.raises(ClosedError):
        engine.submit(inputs)


@both
def test_the_spec_is_what_the_engine_takes(backend: EngineMaker, card: ModelCard) -> None:
    spec, inputs = backend(card, "upscale_z").spec, graph_inputs(card, "upscale_z")
    assert {name: value.dtype.name for name, value in inputs.items()} == {
        name: tensor.dtype for name, tensor in spec.inputs.items()
    }
    assert (list(spec.outputs), spec.scale, spec.device, spec.smallest, spec.largest) == (
        ["image"], 4, "cpu", (1, 1, 1), None,
    )  # fmt: skip
    assert spec.bytes_per_lr_pixel >= card.interface.activation_bytes


BIG = (1, 512, 512, 3)


def test_a_second_job_waits_for_no_first_one_but_is_refused(card: ModelCard) -> None:
    engine = OpenVINOEngine(card, "downscale", threads=1)
    job = engine.submit({"image": np.zeros(BIG, np.uint8)})
    with pytest.raises(BusyError, match=r"clone\(\)"):
        engine.submit({"image": np.zeros(BIG, np.uint8)})
    job.wait()
    engine.run({"image": np.zeros(BIG, np.uint8)})


def test_a_job_of_an_engine_that_was_closed_meanwhile_says_so(card: ModelCard) -> None:
    engine = OpenVINOEngine(card, "downscale", threads=1)
    job = engine.submit({"image": np.zeros(BIG, np.uint8)})
    engine.close()
    assert job.done()
    for _ in range(2):
        with pytest.raises(ClosedError):
            job.wait()


def test_a_signal_ends_the_work_at_once_and_the_engine_runs_again() -> None:
    """A real SIGALRM, whose handler raises as those of Ctrl-C and SIGTERM do, in the middle of seconds of work."""
    shipped = find_model("bdflow-x4-hq")
    image = np.zeros((1, 1024, 1024, 3), np.uint8)
    engine = OpenVINOEngine(shipped, "downscale", threads=1)
    expected = engine.run({"image": image[:, :256, :256]})

    class Alarm(Exception):
        pass

    def ring(number: int, frame: Any) -> None:
        raise Alarm

    before = signal.signal(signal.SIGALRM, ring)
    try:
        job = engine.submit({"image": image})
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        with pytest.raises(Alarm):
            job.wait()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    with pytest.raises(BackendError, match="was interrupted"):
        job.wait()
    assert np.array_equal(engine.run({"image": image[:, :256, :256]})["lr"], expected["lr"])
