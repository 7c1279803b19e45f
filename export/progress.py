"""How far TensorRT has got, and stopping it: a build takes from a second to minutes and is one call of native code."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import Any, TypeVar

from bdflow_rt.options import Progress

T = TypeVar("T")
TOTAL = 1000
"""Parts that a whole build is reported in."""


class BuildState:
    """The phases of one build, and whether it is to stop. Thread-safe: TensorRT reports from several threads.

    Args:
        progress: called with (done, TOTAL), which never falls; None where nobody looks.

    Attributes:
        fault: what `progress` raised, which cannot cross native code: it is not called again, and the build stops.
    """

    def __init__(self, progress: Progress | None = None) -> None:
        self.fault: BaseException | None = None
        self._progress = progress
        self._lock = threading.Lock()
        self._cancelled = threading.Event()
        self._phases: dict[str, _Phase] = {}
        self._reported = 0

    def cancel(self) -> None:
        """Make TensorRT give up at its next step."""
        self._cancelled.set()

    def start(self, name: str, parent: str | None, steps: int) -> None:
        """A phase begins."""
        with self._lock:
            self._phases[name] = _Phase(None if parent is None else self._phases.get(parent), steps)

    def step(self, name: str, step: int) -> bool:
        """A step of a phase is complete, and that part of the running step of its parent; False asks to stop."""
        with self._lock:
            phase, share = self._phases.get(name), 0.0
            if phase is not None:
                phase.done = step + 1
            while phase is not None:
                share = min((phase.done + share) / max(phase.steps, 1), 1.0)
                phase = phase.parent
            self._report(int(TOTAL * share))
        return not self._cancelled.is_set()

    def finish(self, name: str) -> None:
        """A phase ends, with or without all its steps."""
        with self._lock:
            self._phases.pop(name, None)

    def close(self) -> None:
        """The build has ended, either way."""
        with self._lock:
            self._report(TOTAL)

    def _report(self, done: int) -> None:
        if self._progress is not None and done > self._reported:
            self._reported = min(done, TOTAL)
            try:
                self._progress(self._reported, TOTAL)
            except BaseException as error:
                self.fault, self._progress = error, None
                self.cancel()


class _Phase:
    def __init__(self, parent: _Phase | None, steps: int) -> None:
        self.parent, self.steps, self.done = parent, steps, 0


def make_monitor(api: Any, state: BuildState) -> Any:
    """TensorRT's IProgressMonitor over a state; it must live as long as the builder's configuration."""

    class Monitor(api.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            api.IProgressMonitor.__init__(self)

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            state.start(phase_name, parent_phase, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            return state.step(phase_name, step)

        def phase_finish(self, phase_name: str) -> None:
            state.finish(phase_name)

    return Monitor()


def run_cancellable(work: Callable[[], T], state: BuildState) -> T:
    """Run native work in a thread of its own, so that Ctrl-C and SIGTERM reach Python at once.

    They are raised in the main thread, which only waits here; the work is then asked to stop and waited for. Raised in
    one of TensorRT's callbacks instead, they would have to cross native code.

    Raises:
        What the progress or the work raises; KeyboardInterrupt and the like once the work has stopped.
    """
    result: Future[T] = Future()

    def call() -> None:
        try:
            result.set_result(work())
        except BaseException as error:
            result.set_exception(error)

    worker = threading.Thread(target=call, name="bdflow-build", daemon=True)
    try:
        worker.start()
        result.exception()  # waits; what the work raised is raised below
        worker.join()
    except BaseException:
        state.cancel()
        # An interrupt may even come while the thread starts, when it cannot be joined yet.
        while worker in threading.enumerate() and not result.done():
            wait([result], 0.1)
        if result.done():
            worker.join()
        raise
    finally:
        state.close()
    if state.fault is not None:
        raise state.fault
    return result.result()
