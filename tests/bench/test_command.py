"""The benchmarks' own command lines: what is wrong is one line and an exit code."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bdflow_rt.bench.command import write_result
from bdflow_rt.errors import UnwritableOutputError
from tests.support import ROOT


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["latency", "--model", "absent"], 6, "latency: There is no model 'absent'"),
        (["latency", "--size", "63x65"], 2, "latency: Input image of downscale has shape (1, 65, 63, 3)"),
        (["latency", "--size", "512"], 2, "'512' is no size such as 512x384"),
        (["latency", "--size", "0x64"], 2, "'0x64' is no size"),
        (["drawn", "--model", "absent", "--folder", "docs", "--output", "x"], 3, "holds no pictures"),
        (["drawn", "--model", "plain@1", "--folder", "absent", "--output", "x"], 3, "'absent' is not a folder"),
    ],
)
def test_wrong_input_is_one_line_and_an_exit_code(zoo: Path, arguments: list[str], code: int, said: str) -> None:
    command, *rest = [str(zoo / word) if word == "plain@1" else word for word in arguments]
    done = subprocess.run(
        [sys.executable, "-m", f"bdflow_rt.bench.{command}", *rest], cwd=ROOT, env=dict(os.environ),
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == code, done
    assert done.stdout == ""
    assert said in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_results_are_written_into_folders_that_are_made(tmp_path: Path) -> None:
    write_result(tmp_path / "a" / "b.json", {"value": 1})
    assert json.loads((tmp_path / "a" / "b.json").read_text()) == {"value": 1}


def test_a_file_in_the_way_of_the_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("mine")
    with pytest.raises(UnwritableOutputError, match="a' cannot be made"):
        write_result(tmp_path / "a" / "b.json", {})
    assert (tmp_path / "a").read_text() == "mine"


def test_numbers_json_does_not_have_become_null(tmp_path: Path) -> None:
    write_result(tmp_path / "a.json", {"a": math.inf, "b": [{"c": math.nan}, (1.5, -math.inf)], "d": "NaN"})
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": None, "b": [{"c": None}, [1.5, None]], "d": "NaN"}
