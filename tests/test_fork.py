"""Forked workers: each answers, or raises at once; none waits for the threads its parent has."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.support import ROOT, slow

REFUSED = "ForkedProcessError, says spawn"

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


def outcome(case: str) -> str:
    environment = {**os.environ, "OMP_NUM_THREADS": "2"}  # with one, nobody waits for a second
    done = subprocess.run(
        [sys.executable, "-m", "tests.forked", case],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "case",
    [
        "openvino_was_used_and_own",
        slow("openvino_was_used_and_closed_and_own"),
        "openvino_was_used_and_parents",
        "torch_was_used_and_own",
        slow("torch_was_used_and_parents"),
        "host_used_openvino",
        slow("host_used_torch_and_two_threads_are_asked_for"),
        "a_thread_makes_a_picture",
        "a_job_is_waited_for",
    ],
)
def test_a_worker_that_would_hang_is_refused(case: str) -> None:
    assert outcome(case) == REFUSED


@pytest.mark.parametrize(
    "case",
    [
        "nothing_was_used_and_own",
        "nothing_was_used_and_parents",
        slow("openvino_was_used_and_torch"),
        "a_child_of_a_sound_child",
        "spawn",
        slow("forkserver"),
        slow("host_used_torch"),
        "opencv_was_used",
        "the_child_leaves_by_sys_exit",
    ],
)
def test_a_worker_that_can_run_does(case: str) -> None:
    assert outcome(case) == "done"
