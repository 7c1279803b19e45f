"""The log as JSON lines, the history in it, and the picture of the curves."""

from __future__ import annotations

import json
import math
import pathlib

import cv2
import numpy as np
import pytest

from bdflow_rt.errors import OutputError, UnreadableFileError
from bdflow_rt.training.curves import draw_curves
from bdflow_rt.training.runlog import RunLog, read_history


def _entry(event: str, step: int) -> dict[str, object]:
    values = {"loss": 1.0 / (step + 1), "parts": {"lr": 0.5, "reconstruction": 0.1}} if event == "step" else {}
    if event == "validation":
        values = {"psnr_y": 30.0, "lr_psnr": 40.0}
    return {"event": event, "step": step, "learning_rate": 1e-4, **values}


def test_numbers_json_does_not_have_become_null(tmp_path: pathlib.Path) -> None:
    RunLog(tmp_path / "log").add({"event": "diverged", "step": 1, "loss": math.nan, "parts": {"lr": math.inf, "b": 1}})
    entry = json.loads((tmp_path / "log").read_text(), parse_constant=lambda name: name + " is no JSON")
    assert entry == {"event": "diverged", "step": 1, "loss": None, "parts": {"lr": None, "b": 1}}


def test_half_a_line_of_a_killed_process_is_removed(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "log"
    RunLog(path).add(_entry("step", 1))
    with path.open("a") as file:
        file.write('{"event": "st')
    RunLog(path).add(_entry("step", 2))
    assert [entry["step"] for entry in read_history(path)] == [1, 2]


def test_what_a_resumed_run_did_again_is_counted_once(tmp_path: pathlib.Path) -> None:
    log = RunLog(tmp_path / "log")
    for event, step in [("start", 0), ("step", 1), ("step", 2), ("step", 3), ("start", 1), ("step", 2), ("step", 3)]:
        log.add(_entry(event, step))
    assert [entry["step"] for entry in read_history(tmp_path / "log") if entry["event"] == "step"] == [1, 2, 3]
    assert len((tmp_path / "log").read_text().splitlines()) == 7


def test_the_curves_are_a_picture_with_something_drawn(tmp_path: pathlib.Path) -> None:
    log = RunLog(tmp_path / "log")
    for step in range(1, 6):
        log.add(_entry("step", step))
    draw_curves(tmp_path / "log", tmp_path / "without.png")
    log.add(_entry("validation", 5))
    log.add({**_entry("step", 6), "loss": None})
    draw_curves(tmp_path / "log", tmp_path / "with.png")
    without, complete = (cv2.imread(str(tmp_path / name)) for name in ("without.png", "with.png"))
    assert without is not None
    assert complete is not None
    assert complete.shape == (900, 800, 3)
    assert np.ptp(complete) == 255
    assert not np.array_equal(without, complete)


def test_a_run_that_has_logged_no_step_has_curves_too(tmp_path: pathlib.Path) -> None:
    RunLog(tmp_path / "log").add(_entry("start", 0))
    draw_curves(tmp_path / "log", tmp_path / "curves.png")
    assert cv2.imread(str(tmp_path / "curves.png")) is not None


@pytest.mark.parametrize(
    "damage",
    [b"\0\0\0\0\n", b'{"event": "st\n', b"\xff\xfe\n", b"[1]\n", b'{"event": "step"}\n', b"\n", b"\xe2\x80\xa8\n"],
)
def test_a_damaged_line_costs_no_more_than_itself(tmp_path: pathlib.Path, damage: bytes) -> None:
    path = tmp_path / "log"
    RunLog(path).add(_entry("step", 1))
    with path.open("ab") as file:
        file.write(damage)
    RunLog(path).add(_entry("step", 2))
    assert [entry["step"] for entry in read_history(path)] == [1, 2]
    draw_curves(path, tmp_path / "curves.png")


def test_a_missing_log_is_named(tmp_path: pathlib.Path) -> None:
    with pytest.raises(UnreadableFileError, match="log cannot be read: No such file"):
        read_history(tmp_path / "log")


def test_something_else_in_the_place_of_the_log_is_named(tmp_path: pathlib.Path) -> None:
    (tmp_path / "log").mkdir()
    with pytest.raises(OutputError, match="log cannot be added to: Is a directory"):
        RunLog(tmp_path / "log")
