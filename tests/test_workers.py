"""Workers of a Rescaler: pictures at the same time, jobs in order, and what ends them."""

from __future__ import annotations

import itertools
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, get_type_hints

import numpy as np
import pytest

from bdflow_rt import Packet, Rescaler, RescalerOptions
from bdflow_rt.engines.openvino import OpenVINOEngine
from bdflow_rt.errors import (
    ArgumentError,
    BdflowError,
    BusyError,
    ClosedError,
    CorruptImageError,
    LayoutError,
    OutOfMemoryError,
    OverlapError,
    ShapeError,
)
from bdflow_rt.options import Options
from bdflow_rt.runtime.pool import JOBS_PER_WORKER
from bdflow_rt.zoo import ModelCard
from tests.support import ROOT, photo, slow
from tests.support_models import make_model, tiny_config


@pytest.fixture(scope="module")
def card(tmp_path_factory: pytest.TempPathFactory) -> ModelCard:
    return make_model(tmp_path_factory.mktemp("zoo"), tiny_config(4))


class Gate:
    """Holds every run of an engine until it is opened."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.running = threading.Semaphore(0)
        self.opened = threading.Event()
        run = OpenVINOEngine.run

        def gated(engine: OpenVINOEngine, inputs: Any, **options: Any) -> Any:
            self.running.release()
            self.opened.wait()
            return run(engine, inputs, **options)

        monkeypatch.setattr(OpenVINOEngine, "run", gated)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    gate = Gate(monkeypatch)
    yield gate
    gate.opened.set()


def equal(one: Packet, other: Packet) -> bool:
    assert one.boundary is not None
    assert other.boundary is not None
    pairs = ((one.lr, other.lr), (one.boundary, other.boundary))
    return all(np.array_equal(left, right) for left, right in pairs) and one.header == other.header


@pytest.mark.parametrize(("sizes_met", "count"), [(6, 100), slow(25, 500)])
def test_eight_callers_on_four_workers_get_what_one_gets_alone(card: ModelCard, sizes_met: int, count: int) -> None:
    rng = np.random.default_rng(5)
    sizes = [tuple(map(int, rng.integers(1, 70, 2))) for _ in range(sizes_met)]
    whole = photo(300, 300, 5)
    corners = rng.integers(0, 230, (count, 2))
    pictures = [
        whole[top : top + height, left : left + width]
        for (top, left), (height, width) in zip(corners, itertools.cycle(sizes), strict=False)
    ]
    with Rescaler(card, threads=1) as alone:
        expected = [alone.downscale(picture) for picture in pictures]
        restored = [alone.upscale(packet) for packet in expected]
    wrong: list[int] = []
    left = iter(range(len(pictures)))
    lock = threading.Lock()
    with Rescaler(card, workers=4, threads=4) as shared:

        def call() -> None:
            while True:
                with lock:
                    index = next(left, None)
                if index is None:
                    return
                packet = shared.downscale(pictures[index])
                if not equal(packet, expected[index]) or not np.array_equal(shared.upscale(packet), restored[index]):
                    wrong.append(index)

        callers = [threading.Thread(target=call) for _ in range(8)]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()
        assert all(len(worker.engines) == 2 for worker in shared._runner.pool.workers)
    assert next(left, None) is None
    assert wrong == []


def test_jobs_give_what_calls_give_in_the_order_of_submission(card: ModelCard) -> None:
    pictures = [photo(20 + index, 60 - index, index) for index in range(12)]
    with Rescaler(card, workers=3, threads=3) as rescaler:
        jobs = [rescaler.submit_downscale(picture) for picture in pictures]
        packets = [job.wait() for job in jobs]
        assert all(job.done() for job in jobs)
        assert all(equal(packet, rescaler.downscale(one)) for packet, one in zip(packets, pictures, strict=True))
        assert packets[3] is jobs[3].wait() is jobs[3].outputs
        images = [job.wait() for job in [rescaler.submit_upscale(packet) for packet in packets]]
        assert all(np.array_equal(image, rescaler.upscale(one)) for image, one in zip(images, packets, strict=True))


def test_pictures_are_made_at_the_same_time_and_no_more_than_there_are_workers(card: ModelCard, gate: Gate) -> None:
    with Rescaler(card, workers=3, threads=3) as rescaler:
        jobs = [rescaler.submit_downscale(photo(16, 16, index)) for index in range(5)]
        for _ in range(3):
            assert gate.running.acquire(timeout=60)
        assert not gate.running.acquire(timeout=0.2)
        assert not any(job.done() for job in jobs)
        gate.opened.set()
        assert len({job.wait().header.lr_crc32 for job in jobs}) == 5


def test_more_jobs_than_there_is_room_for_wait_or_are_refused(card: ModelCard, gate: Gate) -> None:
    with Rescaler(card, workers=2, threads=2) as rescaler:
        room = 2 * JOBS_PER_WORKER
        jobs = [rescaler.submit_downscale(photo(16, 16, index)) for index in range(room)]
        with pytest.raises(BusyError, match=f"{room} jobs"):
            rescaler.submit_downscale(photo(16, 16, 9), block=False)
        submitted = threading.Event()
        late: list[Any] = []

        def submit() -> None:
            late.append(rescaler.submit_downscale(photo(16, 16, 9)))
            submitted.set()

        threading.Thread(target=submit).start()
        assert not submitted.wait(0.2)
        gate.opened.set()
        assert submitted.wait(60)
        for job in (*jobs, *late):
            job.wait()
        rescaler.submit_downscale(photo(16, 16, 9), block=False).wait()


def test_closing_finishes_what_is_made_and_drops_what_waits(card: ModelCard, gate: Gate) -> None:
    rescaler = Rescaler(card, workers=2, threads=2)
    jobs = [rescaler.submit_downscale(photo(16, 16, index)) for index in range(4)]
    for _ in range(2):
        assert gate.running.acquire(timeout=60)
    closing = threading.Thread(target=rescaler.close)
    closing.start()
    for job in jobs[2:]:
        with pytest.raises(ClosedError):
            job.wait()
    assert closing.is_alive()
    gate.opened.set()
    closing.join()
    assert [job.wait().lr.shape for job in jobs[:2]] == [(4, 4, 3)] * 2
    with pytest.raises(ClosedError):
        rescaler.submit_downscale(photo(16, 16, 1))


def test_an_exception_in_the_with_block_gives_up_what_is_being_made() -> None:
    """On a model that takes a second or so for this; a worker that finished would give a packet."""
    picture = photo(1200, 1200, 1)
    running = threading.Event()
    run = OpenVINOEngine.submit

    def telling(engine: OpenVINOEngine, inputs: Any, **options: Any) -> Any:
        job = run(engine, inputs, **options)
        running.set()
        return job

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(OpenVINOEngine, "submit", telling)
        rescaler = Rescaler.from_pretrained("bdflow-x4-hq", workers=2)
        with suppress(KeyboardInterrupt), rescaler:
            job = rescaler.submit_downscale(picture)
            running.wait()
            raise KeyboardInterrupt
    with pytest.raises(ClosedError):
        job.wait()


def test_what_goes_wrong_in_a_worker_is_raised_by_its_job_and_by_no_other(card: ModelCard, tmp_path: Any) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\n" + b"\0" * 40)
    with Rescaler(card, workers=2, threads=2) as rescaler:
        bad, good = rescaler.submit_downscale(broken), rescaler.submit_downscale(photo(16, 16, 1))
        for _ in range(2):
            with pytest.raises(CorruptImageError):
                bad.wait()
        assert good.wait().header.width == 16


def test_wrong_arguments_are_refused_where_they_are_given(card: ModelCard) -> None:
    with Rescaler(card, workers=2, threads=2) as rescaler:
        with pytest.raises(ShapeError):
            rescaler.submit_downscale(photo(16, 16, 1)[None])
        with pytest.raises(ArgumentError, match="upscale got"):
            rescaler.submit_upscale(photo(16, 16, 1))  # type: ignore[arg-type]
        with pytest.raises(ArgumentError, match="stream is for arrays of a GPU"):
            rescaler.downscale(photo(16, 16, 1), stream=0)


@pytest.mark.parametrize("size", [(40, 48), (37, 45)])
def test_results_are_written_where_the_caller_says(card: ModelCard, size: tuple[int, int]) -> None:
    picture = photo(*size, 1)
    with Rescaler(card) as rescaler:
        expected = rescaler.downscale(picture)
        out = {"lr": np.empty_like(expected.lr), "boundary": np.empty((10, 12), np.uint8)}
        packet = rescaler.downscale(picture, out=out)
        assert packet.lr.base is out["lr"] or packet.lr is out["lr"]
        assert equal(packet, expected)
        assert np.array_equal(out["boundary"], packet.boundary)  # type: ignore[arg-type]
        image = np.empty((*size, 3), np.uint8)
        assert rescaler.upscale(packet, out=image) is image
        assert np.array_equal(image, rescaler.upscale(packet))
        job = rescaler.submit_upscale(packet, out=np.zeros_like(image))
        assert np.array_equal(job.wait(), image)
        with pytest.raises(ShapeError, match="out has image"):
            rescaler.upscale(packet, out=np.empty((4, 4, 3), np.uint8))
        with pytest.raises(LayoutError, match="out has image"):
            rescaler.upscale(packet, out=np.empty((size[1], size[0], 3), np.uint8).transpose(1, 0, 2))
        with pytest.raises(OverlapError, match="out has lr"):
            rescaler.downscale(picture, out={"lr": picture.reshape(-1)[: out["lr"].size].reshape(out["lr"].shape)})
        with pytest.raises(ArgumentError, match="out has image; the outputs are lr, boundary"):
            rescaler.downscale(picture, out={"image": image})
        with pytest.raises(ArgumentError, match="out is"):
            rescaler.downscale(picture, out=image)


def test_options_are_one_value_that_pickles(card: ModelCard) -> None:
    options = RescalerOptions(backend="openvino", threads=1, workers=2, max_pixels=400)
    assert pickle.loads(pickle.dumps(options)) == options
    with Rescaler(card, options) as rescaler, Rescaler(card, options, workers=1) as other:
        assert rescaler.options is not options or rescaler.options == options
        assert (other.options.workers, other.options.max_pixels) == (1, 400)
    with pytest.raises(ArgumentError, match="no option thread; the options are backend, device"):
        Rescaler(card, thread=1)  # type: ignore[call-arg]
    with pytest.raises(ArgumentError, match="options is"):
        Rescaler(card, {"threads": 1})  # type: ignore[arg-type]
    names = get_type_hints(RescalerOptions)
    assert names == get_type_hints(Options)


def test_each_worker_has_its_share_of_the_memory(card: ModelCard) -> None:
    picture = photo(400, 400, 1)
    with Rescaler(card, threads=1, memory_limit_mib=8) as one, Rescaler(card, workers=4, memory_limit_mib=32) as four:
        tiles: dict[int, set[int]] = {1: set(), 4: set()}
        expected = one.downscale(picture, progress=lambda done, count: tiles[1].add(count))
        assert equal(four.downscale(picture, progress=lambda done, count: tiles[4].add(count)), expected)
        assert tiles[1] == tiles[4]
        assert max(tiles[1]) > 1


def test_a_picture_inside_the_progress_of_another_uses_the_same_worker(card: ModelCard) -> None:
    with Rescaler(card, workers=2, threads=2, memory_limit_mib=16) as rescaler:
        inner: list[Packet] = []
        picture = photo(24, 24, 1)
        outer = rescaler.downscale(picture, progress=lambda done, count: inner.append(rescaler.downscale(picture)))
        assert equal(outer, inner[0])
        with pytest.raises(ClosedError):
            rescaler.downscale(photo(400, 400, 2), progress=lambda done, count: rescaler.close())


def test_an_interrupted_close_gives_up_what_is_made_and_can_be_repeated(
    card: ModelCard, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    rescaler = Rescaler(card, workers=2, threads=2)
    job = rescaler.submit_downscale(photo(16, 16, 1))
    assert gate.running.acquire(timeout=60)
    changed = rescaler._runner.pool._changed

    def interrupted() -> None:
        monkeypatch.undo()
        raise KeyboardInterrupt

    monkeypatch.setattr(changed, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        rescaler.close()
    gate.opened.set()
    with pytest.raises(ClosedError):
        job.wait()
    rescaler.close()
    assert all(worker.engines == {} for worker in rescaler._runner.pool.workers)


def test_closing_from_the_progress_of_a_refinement_ends_it(card: ModelCard) -> None:
    counted: list[int] = []
    rescaler = Rescaler(card)

    def progress(done: int, count: int) -> None:
        counted.append(count)
        if len(counted) > 3:
            rescaler.close()

    with pytest.raises(ClosedError):
        rescaler.downscale(photo(24, 24, 1), refine=50, progress=progress)
    assert len(counted) < 10


def test_waiting_in_progress_for_the_worker_of_its_own_picture_is_refused(card: ModelCard) -> None:
    picture = photo(24, 24, 1)
    with Rescaler(card) as rescaler:
        jobs: list[Any] = []

        def progress(done: int, count: int) -> None:
            jobs.append(rescaler.submit_downscale(picture))
            jobs[0].wait()

        with pytest.raises(BusyError, match="more workers"):
            rescaler.downscale(picture, progress=progress)
        assert equal(jobs[0].wait(), rescaler.downscale(picture))


def test_messages_name_the_limit_of_all_workers_together(card: ModelCard) -> None:
    picture = photo(300, 300, 1)
    with Rescaler(card, workers=4, threads=4, memory_limit_mib=1) as rescaler:
        with pytest.raises(OutOfMemoryError, match=r"memory_limit_mib is 1, .* with 4 workers") as caught:
            rescaler.downscale(picture)
        least = int(str(caught.value).split("takes about ")[1].split()[0])
    with Rescaler(card, workers=4, threads=4, memory_limit_mib=least) as rescaler:
        rescaler.downscale(picture)


def test_no_limit_is_no_limit_for_batches_either(card: ModelCard) -> None:
    with Rescaler(card, threads=1, memory_limit_mib=float("inf")) as rescaler:
        assert len(rescaler.upscale_batch(rescaler.downscale_batch([photo(16, 16, 1)] * 3))) == 3


class Odd:
    """Something that claims to be an array of a GPU and is none."""

    def __init__(self, **attributes: Any) -> None:
        self.__dict__.update(attributes)

    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, 0


@pytest.mark.parametrize(
    "image",
    [np.ndarray, Odd, Odd(), Odd(shape=None, dtype=np.uint8), Odd(shape=3, dtype=np.uint8), Odd(shape=(8, 8, 3))],
    ids=lambda image: type(image).__name__ + str(getattr(image, "__dict__", ""))[:40],
)
def test_what_is_no_array_is_refused_with_a_typed_error(card: ModelCard, image: Any) -> None:
    with Rescaler(card, threads=1) as rescaler:
        for call in (rescaler.downscale, rescaler.submit_downscale, rescaler.upscale, rescaler.submit_upscale):
            with pytest.raises(BdflowError):
                call(image)
        with pytest.raises(BdflowError):
            rescaler.downscale(photo(8, 8, 1), out={1: image, "lr": image})  # type: ignore[dict-item]
        with pytest.raises(ArgumentError, match="block is"):
            rescaler.submit_downscale(photo(8, 8, 1), block=photo(8, 8, 1))  # type: ignore[arg-type]


INTERRUPTED = """
import signal, sys, threading, time
import numpy as np
from bdflow_rt import Rescaler

picture = np.zeros((3000, 4000, 3), np.uint8)
with Rescaler.from_pretrained("bdflow-x4", workers=2) as rescaler:
    jobs = [rescaler.submit_downscale(picture) for _ in range(4)]
    print("running", flush=True)
    for job in jobs:
        job.wait()
print("finished", flush=True)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGINT") or sys.platform == "win32", reason="this system has no SIGINT")
def test_ctrl_c_while_workers_work_ends_the_process() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "running\n"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate()
    assert out == ""
    assert "KeyboardInterrupt" in err
    assert process.returncode not in (0, None)
