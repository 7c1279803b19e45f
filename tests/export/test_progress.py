"""A build's progress only rises, and interrupts reach Python while native code runs."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest

from bdflow_rt.export.progress import TOTAL, BuildState, run_cancellable


def test_progress_counts_what_running_steps_have_done_of_themselves() -> None:
    seen: list[int] = []
    state = BuildState(lambda done, total: seen.append(done))
    state.start("build", None, 4)
    state.start("optimise", "build", 2)
    assert state.step("optimise", 0)
    assert seen == [TOTAL // 8]
    assert state.step("optimise", 1)
    state.finish("optimise")
    assert state.step("build", 0)
    assert seen == [TOTAL // 8, TOTAL // 4]
    state.start("time", "build", 1)
    assert state.step("time", 0)
    assert seen[-1] == TOTAL // 2


def test_progress_never_falls_and_ends_at_the_end_once() -> None:
    seen: list[int] = []
    state = BuildState(lambda done, total: seen.append(done))
    for attempt in range(2):  # TensorRT runs phases of one name again and again
        state.start("build", None, 10)
        for step in range(9 - attempt):
            state.step("build", step)
        state.finish("build")
    state.close()
    state.close()
    assert seen == sorted(set(seen))
    assert seen[-1] == TOTAL


def test_a_step_of_an_unknown_phase_does_no_harm() -> None:
    state = BuildState(lambda done, total: pytest.fail("nothing is known to be done"))
    assert state.step("unheard of", 3)


def test_after_cancel_every_step_asks_to_stop() -> None:
    state = BuildState()
    state.start("build", None, 3)
    assert state.step("build", 0)
    state.cancel()
    assert not state.step("build", 1)


def test_results_and_faults_of_the_work_come_back() -> None:
    assert run_cancellable(lambda: 7, BuildState()) == 7
    with pytest.raises(ZeroDivisionError):
        run_cancellable(lambda: 1 / 0, BuildState())


def test_ctrl_c_stops_the_work_and_is_raised_when_it_has_stopped() -> None:
    state, stopped = BuildState(), threading.Event()
    state.start("build", None, 1000)

    def work() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        deadline = time.monotonic() + 30
        while state.step("build", 0) and time.monotonic() < deadline:
            time.sleep(0.001)
        stopped.set()

    with pytest.raises(KeyboardInterrupt):
        run_cancellable(work, state)
    assert stopped.is_set()


def test_what_progress_raises_stops_the_work_and_comes_back() -> None:
    def refuse(done: int, total: int) -> None:
        raise OSError("the terminal is gone")

    state = BuildState(refuse)
    state.start("build", None, 2)
    going: list[bool] = []
    with pytest.raises(OSError, match="terminal is gone"):
        run_cancellable(lambda: going.extend(state.step("build", step) for step in range(2)), state)
    assert going == [False, False]


def test_an_interrupt_is_not_hidden_by_what_progress_raises_at_the_end() -> None:
    def refuse(done: int, total: int) -> None:
        raise OSError("the terminal is gone")

    def work() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.5)

    with pytest.raises(KeyboardInterrupt):
        run_cancellable(work, BuildState(refuse))
