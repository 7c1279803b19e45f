"""Overlapping stages: order, back-pressure, what is dropped, and how a stream ends."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from bdflow_rt.errors import ArgumentError, CorruptVideoError, StalledError
from bdflow_rt.video.meter import Meter
from bdflow_rt.video.stream import KEPT, Stream, StreamOptions


def threads() -> set[str]:
    return {thread.name for thread in threading.enumerate() if thread.name.startswith("bdflow-")}


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = threads()
    yield
    assert threads() == before


class Gate:
    """Work that ends when it is let go, in any order."""

    def __init__(self) -> None:
        self._open: dict[int, threading.Event] = {}
        self._lock = threading.Lock()
        self.begun: list[int] = []
        self.changed = threading.Condition()

    def event(self, number: int) -> threading.Event:
        with self._lock:
            return self._open.setdefault(number, threading.Event())

    def work(self, number: int) -> Callable[[], int]:
        def run() -> int:
            with self.changed:
                self.begun.append(number)
                self.changed.notify_all()
            assert self.event(number).wait(30)
            return number * number

        return run

    def wait_for(self, count: int) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.begun) >= count, 30)


def run(
    items: Any, begin: Any, workers: int = 2, options: StreamOptions | None = None
) -> tuple[list[tuple[Any, Any]], Meter]:
    meter = Meter(workers=workers, total=None)
    with Stream(items, begin, meter=meter, options=options) as stream:
        return list(stream), meter


def consume(stream: Stream, take: Callable[[Any], None]) -> None:
    with stream:
        for item, _ in stream:
            take(item)


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_results_come_in_the_order_of_the_frames_whatever_each_takes(workers: int) -> None:
    """Workers are held up at random places by others: the order of ending is not that of beginning."""
    rng, turns = random.Random(workers), threading.Barrier(1)

    def begin(item: int) -> Callable[[], int] | None:
        if item % 7 == 3:
            return None
        spins = rng.randrange(2000)

        def work() -> int:
            for _ in range(spins):
                turns.wait()
            return -item

        return work

    results, meter = run(range(200), begin, workers)
    assert results == [(item, None if item % 7 == 3 else -item) for item in range(200)]
    stats = meter.stats()
    assert stats.frames == sum(item % 7 != 3 for item in range(200))
    assert stats.dropped == 0
    assert 0 < stats.latency_p50_ms <= stats.latency_p95_ms <= stats.latency_p99_ms <= stats.latency_max_ms


def test_a_later_frame_that_is_ready_first_waits_for_the_earlier_one() -> None:
    gate = Gate()
    for number in (1, 2, 3):
        gate.event(number).set()
    results: list[int] = []
    meter = Meter(workers=2, total=None)
    with Stream(range(4), gate.work, meter=meter) as stream:
        consumer = threading.Thread(target=lambda: results.extend(value for _, value in stream))
        consumer.start()
        gate.wait_for(3)  # 1 has been done by the other worker, and another one begun
        assert results == []
        gate.event(0).set()
        consumer.join(30)
    assert results == [0, 1, 4, 9]


@pytest.mark.parametrize("workers", [1, 3])
def test_no_more_is_read_than_two_frames_for_each_worker(workers: int) -> None:
    read: list[int] = []

    def items() -> Iterator[int]:
        for number in range(50):
            read.append(number)
            yield number

    gate = Gate()
    for number in range(50):
        gate.event(number).set()
    with Stream(items(), gate.work, meter=Meter(workers=workers, total=None)) as stream:
        for place, _ in enumerate(stream):
            assert len(read) <= place + 1 + 2 * workers + 1


def test_live_frames_that_come_too_fast_are_left_out_and_counted_exactly() -> None:
    """The reader gives every frame at once, while the only worker is held at the first."""
    gate, read = Gate(), threading.Event()
    for number in range(1, 100):
        gate.event(number).set()

    def items() -> Iterator[int]:
        yield 0
        gate.wait_for(1)
        yield from range(1, 100)
        read.set()

    meter = Meter(workers=1, total=None)
    with Stream(items(), gate.work, meter=meter, options=StreamOptions(when_full="drop-oldest")) as stream:
        results = []
        for item, value in _released(stream, gate, read):
            results.append((item, value))
    assert results == [(0, 0), (99, 99 * 99)]
    assert meter.stats().dropped == 98
    assert meter.stats().frames == 2


def _released(stream: Stream, gate: Gate, read: threading.Event) -> Iterator[Any]:
    def release() -> None:
        assert read.wait(30)
        gate.event(0).set()

    releaser = threading.Thread(target=release)
    releaser.start()
    yield from stream
    releaser.join(30)


def test_block_loses_nothing() -> None:
    results, meter = run(range(100), lambda item: lambda: item, 1, StreamOptions(when_full="block"))
    assert [value for _, value in results] == list(range(100))
    assert meter.stats().dropped == 0


def test_what_comes_before_an_error_of_the_source_is_given() -> None:
    def items() -> Iterator[int]:
        yield from range(5)
        raise CorruptVideoError("the data end here")

    seen: list[Any] = []
    stream = Stream(items(), lambda item: lambda: item, meter=Meter(workers=2, total=None))
    with pytest.raises(CorruptVideoError, match="end here"):
        consume(stream, lambda item: seen.append(item))
    assert seen == list(range(5))


def test_an_error_of_a_frame_comes_in_its_place_and_ends_all_stages() -> None:
    def begin(item: int) -> Callable[[], int]:
        return lambda: 1 // (item - 5)

    seen: list[Any] = []
    stream = Stream(iter(range(10**9)), begin, meter=Meter(workers=3, total=None))
    with pytest.raises(ZeroDivisionError):
        consume(stream, lambda item: seen.append(item))
    assert seen == list(range(5))


@pytest.mark.parametrize("kind", [KeyboardInterrupt, OSError])
def test_an_end_in_the_middle_ends_all_stages(kind: type[BaseException]) -> None:
    def take(item: int) -> None:
        if item == 7:
            raise kind

    stream = Stream(iter(range(10**9)), lambda item: lambda: item, meter=Meter(workers=2, total=None))
    with pytest.raises(kind):
        consume(stream, take)


def test_a_frame_that_is_kept_is_counted_and_not_measured() -> None:
    results, meter = run(range(6), lambda item: KEPT if item < 4 else lambda: item)
    assert results == [(item, None if item < 4 else item) for item in range(6)]
    assert (meter.stats().kept, meter.stats().frames) == (4, 2)


def test_a_source_that_stalls_is_named_with_the_frame() -> None:
    stopped = threading.Event()

    def items() -> Iterator[int]:
        yield from range(3)
        stopped.wait(30)

    stream = Stream(
        items(), lambda item: lambda: item, meter=Meter(workers=1, total=None), options=StreamOptions(timeout=0.05),
        interrupt=stopped.set,
    )  # fmt: skip
    with pytest.raises(StalledError, match=r"read stage .* 0\.05 s at frame 4: no input"), stream:
        list(stream)


def test_a_network_that_stalls_is_named_with_the_frame() -> None:
    gate = Gate()
    gate.event(0).set()
    stream = Stream(range(5), gate.work, meter=Meter(workers=1, total=None), options=StreamOptions(timeout=0.05))
    with stream:
        results = iter(stream)
        assert next(results) == (0, 0)
        with pytest.raises(StalledError, match=r"compute stage .* frame 2: the network"):
            next(results)
        gate.event(1).set()


@pytest.mark.parametrize("workers", [1, 4])
def test_the_limiting_stage_is_the_busiest(workers: int) -> None:
    """Counted from what the stages report, not from how long this test takes."""
    meter = Meter(workers=workers, total=10)
    meter.worked("read", 1.0)
    meter.worked("compute", 3.0)
    meter.worked("write", 0.5)
    assert meter.stats().limit == ("compute" if workers == 1 else "read")


def test_percentiles_are_within_a_hundredth() -> None:
    meter = Meter(workers=1, total=None)
    for milliseconds in range(1, 1001):
        meter.finished(milliseconds / 1000)
    stats = meter.stats()
    for value, expected in (
        (stats.latency_p50_ms, 500), (stats.latency_p95_ms, 950), (stats.latency_p99_ms, 990),
        (stats.latency_max_ms, 1000),
    ):  # fmt: skip
        assert value == pytest.approx(expected, rel=0.011)


@pytest.mark.parametrize(
    "options", [{"when_full": "drop"}, {"timeout": 0}, {"timeout": "1"}, {"timeout": float("inf")}, {"timeout": True}]
)
def test_options_that_are_not_allowed_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ArgumentError, match=r"when_full|timeout"):
        StreamOptions(**options)
