"""A fixed number of workers, each with engines of its own, and the threads of what was submitted."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

from bdflow_rt.engines.engine import Engine, Job
from bdflow_rt.engines.gpu import Stamp
from bdflow_rt.engines.select import Selection
from bdflow_rt.errors import BackendError, BusyError, ClosedError, check_type, shorten
from bdflow_rt.fork import check_process
from bdflow_rt.zoo import Direction

JOBS_PER_WORKER = 2
"""Jobs that run or wait: while a worker makes one picture, the next is there."""
T = TypeVar("T")
Opener = Callable[[Selection, Direction], Engine]


class Worker:
    """Makes one picture at a time.

    Attributes:
        engines: by backend and direction, opened when they are first needed.
    """

    def __init__(self) -> None:
        self.engines: dict[tuple[str, Direction], Engine] = {}
        self._is_closed = False

    def check_open(self) -> None:
        """Raise ClosedError if the picture that it makes is not to be finished."""
        if self._is_closed:
            raise _closed()

    def close(self) -> None:
        """Make no more tiles; a running engine ends at once."""
        self._is_closed = True
        for engine in list(self.engines.values()):
            engine.close()


class Pool:
    """Workers that threads take in turns.

    Args:
        size: number of workers.
        opener: opens an engine; the further ones of its kind are its clones.
    """

    def __init__(self, size: int, opener: Opener) -> None:
        self.workers = [Worker() for _ in range(size)]
        self._open = opener
        self._opening = threading.Lock()
        self._changed = threading.Condition()
        self._free = list(reversed(self.workers))
        self._taken: dict[int, Worker] = {}
        """By thread."""
        self._room = threading.BoundedSemaphore(JOBS_PER_WORKER * size)
        self._threads: ThreadPoolExecutor | None = None
        self._process: int | None = None
        """In which it was first used."""
        self._is_closed = False

    def enter(self) -> None:
        """Come before any lock: in a forked process, a thread that is not there may hold it.

        Raises:
            ForkedProcessError: this process was forked from one that has used the pool.
        """
        if self._process is None:
            self._process = os.getpid()
        check_process(self._process)

    @contextmanager
    def worker(self, chosen: Worker | None = None) -> Iterator[Worker]:
        """A worker that no other thread has until the end; a thread that has one already gets the same again.

        Args:
            chosen: wait for this one; None takes any.

        Raises:
            ClosedError: the pool was closed.
            ForkedProcessError: as `enter`.
        """
        self.enter()
        thread = threading.get_ident()
        if thread in self._taken:
            self._taken[thread].check_open()
            yield self._taken[thread]
            return
        try:
            with self._changed:
                while not self._is_closed and (not self._free if chosen is None else chosen not in self._free):
                    self._changed.wait()
                if self._is_closed:
                    raise _closed()
                worker = self._taken[thread] = self._free[-1] if chosen is None else chosen
                self._free.remove(worker)
            yield worker
        finally:  # also where Ctrl-C came in between
            with self._changed:
                held = self._taken.pop(thread, None)
                if held is not None and held not in self._free:
                    self._free.append(held)
                self._changed.notify_all()

    def engine(self, worker: Worker, selection: Selection, direction: Direction) -> Engine:
        """A worker's engine.

        Raises:
            ClosedError: the worker is to stop.
            And what opening one raises.
        """
        worker.check_open()
        kind = selection.backend, direction
        if kind not in worker.engines:
            with self._opening:
                first = next((other.engines[kind] for other in self.workers if kind in other.engines), None)
                worker.engines[kind] = self._open(selection, direction) if first is None else first.clone()
        return worker.engines[kind]

    def submit(self, function: Callable[[], T], *, block: bool) -> PendingJob[T]:
        """Call a function in a thread, in the order of submission; it takes a worker by itself.

        Args:
            function: what to call.
            block: wait while `JOBS_PER_WORKER` jobs per worker run or wait already.

        Raises:
            BusyError: there are so many, and `block` is False.
            ClosedError, ForkedProcessError: as `worker`.
        """
        self.enter()
        check_type("block", block, bool, "True or False")
        if not self._room.acquire(blocking=block):
            raise BusyError(
                f"{JOBS_PER_WORKER * len(self.workers)} jobs run or wait already; wait for one of them, pass "
                "block=True, or make the Rescaler with more workers."
            )
        try:
            with self._changed:
                if self._is_closed:
                    raise _closed()
                if self._threads is None:
                    self._threads = ThreadPoolExecutor(len(self.workers), thread_name_prefix="bdflow")
                future = self._threads.submit(function)
        except BaseException:
            self._room.release()
            raise
        future.add_done_callback(lambda done: self._room.release())
        return PendingJob(future, self)

    def close(self, *, cancel: bool = False) -> None:
        """Free the engines, after the pictures that are being made; jobs that have not begun never will.

        What the calling thread makes itself, from whose `progress` it may be closed, ends at its next tile. In a forked
        process the parent's engines stay as they are.

        Args:
            cancel: end the pictures that are being made: who waits for them gets ClosedError.
        """
        if self._process not in (None, os.getpid()):
            self._is_closed = True
            return
        thread = threading.get_ident()
        try:
            with self._changed:
                self._is_closed = True
                if self._threads is not None:
                    self._threads.shutdown(wait=False, cancel_futures=True)
                self._changed.notify_all()
            if thread in self._taken:  # in the `progress` of its own picture
                self._taken[thread].close()
                if not cancel:
                    return  # the others may be closing just the same
            if cancel:
                self._cancel()
            with self._changed:
                while self._taken.keys() - {thread}:
                    self._changed.wait()
        except BaseException:  # Ctrl-C while it waits
            self._cancel()
            raise
        for worker in self.workers:
            worker.close()
            worker.engines.clear()

    def _cancel(self) -> None:
        for worker in self.workers:
            worker.close()

    def is_stuck(self) -> bool:
        """Whether what the calling thread waits for can only be made by the worker that it holds itself."""
        return len(self.workers) == 1 and threading.get_ident() in self._taken


class PendingJob(Generic[T]):
    """A picture that a thread makes; see `Job`."""

    def __init__(self, future: Future[T], pool: Pool) -> None:
        self._future, self._pool = future, pool

    @property
    def outputs(self) -> T:
        """What `wait` returns."""
        return self.wait()

    def done(self) -> bool:
        return self._future.done()

    def wait(self) -> T:
        self._pool.enter()
        if not self._future.done() and self._pool.is_stuck():
            raise BusyError(
                "This job waits for the only worker, which is busy with the picture that this `progress` belongs to. "
                "Wait afterwards, or make the Rescaler with more workers."
            )
        try:
            return self._future.result()
        except CancelledError:
            raise _closed() from None


class JointJob(Generic[T]):
    """A job whose outputs come from others; see `Job`.

    Args:
        outputs: of this one.
        parts: the other jobs.
        stamp: behind what a stream was given after them.
    """

    def __init__(self, outputs: T, parts: Sequence[Job[Any]], *, stamp: Stamp | None = None) -> None:
        self.outputs = outputs
        self._parts, self._stamp = parts, stamp

    def done(self) -> bool:
        return all(part.done() for part in self._parts) and (self._stamp is None or self._stamp.is_reached())

    def wait(self) -> T:
        for part in self._parts:
            part.wait()
        if self._stamp is not None:
            try:
                self._stamp.wait()
            except RuntimeError as error:
                raise BackendError(f"The GPU failed: {shorten(error)}. An earlier fault on it shows here.") from error
        return self.outputs


def _closed() -> ClosedError:
    return ClosedError("This Rescaler was closed; make a new one.")
