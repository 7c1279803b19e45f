"""Frames through overlapping stages: read ahead, computed by several threads at once, and given in order."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, get_args

from bdflow_rt.errors import ArgumentError, StalledError, check_choice, describe
from bdflow_rt.video.meter import Meter, StreamStats

WhenFull = Literal["block", "drop-oldest"]
"""What becomes of input that comes faster than it can be taken."""
_WAITING = 2
"""Frames that are read ahead for each worker: one is computed, and the next is there."""
_MOST_SLOTS = 1024
"""Frames and packets on their way; a file may have a long row of packets without a frame."""
_JOIN_S = 5.0
"""How long a reader that is stuck is waited for; its thread ends with the process."""


@dataclass(frozen=True, kw_only=True)
class StreamOptions:
    """How frames go through a stream.

    Attributes:
        when_full: "block" waits, so that a source that can wait loses nothing; "drop-oldest" leaves out the frame that
            has waited longest, for live input. What is left out is counted.
        timeout: seconds without progress after which `StalledError` is raised; None waits for ever, as pipes may.

    Raises:
        ArgumentError: a value that is not allowed.
    """

    when_full: WhenFull = "block"
    timeout: float | None = None

    def __post_init__(self) -> None:
        check_choice("when_full", self.when_full, get_args(WhenFull))
        limit = self.timeout
        if limit is not None and (type(limit) not in (int, float) or not 0 < limit < math.inf):
            raise ArgumentError(f"timeout is {describe(limit)}; it must be a number of seconds above 0, or None.")


def KEPT() -> None:
    """The work of a frame that is there already."""


class _Slot:
    """A frame or packet on its way."""

    def __init__(self, item: Any, work: Callable[[], Any] | None, arrived: float) -> None:
        self.item, self.work, self.arrived = item, work, arrived
        self.result: Any = None
        self.error: BaseException | None = None
        self.is_begun = False
        self.is_done = work is None or work is KEPT


class Stream:
    """Items of a source in order, each with what was computed for it; a context manager, and an iterator inside.

    One thread reads, several compute, and the caller's thread takes the results: what it does with each, until
    it asks for the next, is the write stage. An error of the source or of a computation is raised in its place in the
    order, after everything before it.

    Args:
        items: the source's frames, and other things between them.
        begin: called with each item in order, in the reader's thread: returns the work for a frame, a function that a
            worker calls, or `KEPT` for one that is there already; None for anything else.
        options: what becomes of input that comes too fast, and how long to wait.
        meter: measures it, and says how many threads compute.
        progress: called after each frame, by the caller's thread.
        interrupt: called when the stream ends early, to wake a source that waits for input.
    """

    def __init__(
        self,
        items: Iterable[Any],
        begin: Callable[[Any], Callable[[], Any] | None],
        *,
        meter: Meter,
        options: StreamOptions | None = None,
        progress: Callable[[StreamStats], None] | None = None,
        interrupt: Callable[[], None] | None = None,
    ) -> None:
        options, workers = options or StreamOptions(), meter.workers
        self._items, self._begin, self._meter, self._interrupt = iter(items), begin, meter, interrupt
        self._progress = progress
        self._drops, self._timeout = options.when_full == "drop-oldest", options.timeout
        # Live frames that wait are old by the time they are computed: there is one alone.
        self._room = workers + (1 if self._drops else workers * (_WAITING - 1))
        self._slots: deque[_Slot] = deque()
        self._frames = self._read_frames = self._given = 0
        self._changed = threading.Condition()
        self._is_over = self._is_stopped = False
        self._failure: BaseException | None = None
        names = ["read", *(f"compute-{index}" for index in range(workers))]
        self._threads = [
            threading.Thread(target=self._read if name == "read" else self._compute, name=f"bdflow-{name}", daemon=True)
            for name in names
        ]

    def __enter__(self) -> Stream:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._changed:
            self._is_stopped = True
            self._changed.notify_all()
        if self._interrupt is not None and not self._is_over:
            with suppress(Exception):
                self._interrupt()
        is_stuck = isinstance(error, StalledError)
        for thread in self._threads:
            thread.join(_JOIN_S if is_stuck or thread is self._threads[0] else None)

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        """Each item with the result of its work, None where it had none.

        Raises:
            StalledError: a stage made no progress for as long as the options say.
            And what the source or the work raises.
        """
        while (slot := self._next()) is not None:
            if slot.error is not None:
                raise slot.error
            begun = time.perf_counter()
            yield slot.item, slot.result
            now = time.perf_counter()
            self._meter.worked("write", now - begun)
            if slot.work is KEPT:
                self._meter.kept()
            elif slot.work is not None:
                self._meter.finished(now - slot.arrived)
            self._given += slot.work is not None
            if self._progress is not None and slot.work is not None:
                self._progress(self._meter.stats())
        if self._failure is not None:
            raise self._failure

    def _next(self) -> _Slot | None:
        """The slot whose turn it is, when it is done; None at the end."""
        with self._changed:
            while not (self._slots and self._slots[0].is_done):
                if not self._slots and self._is_over:
                    return None
                if not self._changed.wait(self._timeout):
                    raise self._stalled()
            slot = self._slots.popleft()
            self._frames -= slot.work is not None
            self._meter.queued("write", sum(other.is_done for other in self._slots))
            self._changed.notify_all()
            return slot

    def _stalled(self) -> StalledError:
        where = f"frame {self._given + 1}" if self._slots else f"frame {self._read_frames + 1}"
        stage = "compute" if self._slots else "read"
        why = "the network has not finished it" if self._slots else "no input has come"
        return StalledError(
            f"The {stage} stage has made no progress for {self._timeout:g} s at {where}: {why}. Look after what it "
            "waits for, or raise timeout (--timeout)."
        )

    def _read(self) -> None:
        """The reader's thread."""
        failure: BaseException | None = None
        try:
            while True:
                begun = time.perf_counter()
                try:
                    item = next(self._items)
                except StopIteration:
                    break
                work = self._begin(item)
                arrived = time.perf_counter()
                self._meter.worked("read", arrived - begun)
                if not self._put(_Slot(item, work, arrived)):
                    break
        except BaseException as error:  # it belongs to whoever takes the results
            failure = error
        with self._changed:
            self._failure, self._is_over = failure, True
            self._changed.notify_all()

    def _put(self, slot: _Slot) -> bool:
        """Give a slot its place when there is room; whether the stream goes on."""
        with self._changed:
            is_frame = slot.work is not None
            while not self._is_stopped and (
                len(self._slots) >= _MOST_SLOTS or (is_frame and self._frames >= self._room and not self._drop())
            ):
                self._changed.wait()
            if self._is_stopped:
                return False
            self._slots.append(slot)
            self._frames += is_frame
            self._read_frames += is_frame
            self._meter.queued("compute", sum(not other.is_begun and not other.is_done for other in self._slots))
            self._changed.notify_all()
            return True

    def _drop(self) -> bool:
        """Leave out the oldest frame that no thread has, where that is asked for; whether there was one."""
        if not self._drops:
            return False
        for slot in self._slots:
            if slot.work is not None and slot.error is None and slot.is_done >= slot.is_begun:
                self._slots.remove(slot)
                self._frames -= 1
                self._meter.dropped()
                return True
        return False

    def _compute(self) -> None:
        """A worker's thread."""
        while (slot := self._take()) is not None:
            begun = time.perf_counter()
            try:
                slot.result = None if slot.work is None else slot.work()
            except BaseException as error:  # it is raised where the result is asked for
                slot.error = error
            self._meter.worked("compute", time.perf_counter() - begun)
            with self._changed:
                slot.is_done = True
                self._changed.notify_all()

    def _take(self) -> _Slot | None:
        """The first frame that no worker has begun; None at the end."""
        with self._changed:
            while not self._is_stopped:
                for slot in self._slots:
                    if not slot.is_begun and not slot.is_done:
                        slot.is_begun = True
                        return slot
                if self._is_over:
                    return None
                self._changed.wait()
            return None
