"""The tables about training say what the result files say, and never compare with the wrong row."""

from __future__ import annotations

import json
import pathlib
from typing import Any

import pytest

from tools import measured, report_training


def _trial(
    name: str, group: str, psnr: float, *, change: dict[str, Any] | None = None, drawn: float | None = None
) -> dict[str, Any]:
    config: dict[str, Any] = {"optimizer": "muon", "model": {"bits": 1}}
    for key, value in (change or {}).items():
        config[key] = {**config[key], **value} if isinstance(value, dict) else value
    figures = {"Set5": {"psnr_y": psnr, "lr_psnr": 38.0}}
    if drawn is not None:
        figures["Set5, Z at 0.4"] = {"psnr_y": drawn, "lr_psnr": 38.0}
    return {"name": name, "group": group, "config": config, "sets": figures, "macs_128x128": 128**2 * 15_500}


@pytest.fixture
def results(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    monkeypatch.setattr(measured, "RESULTS", tmp_path)
    (tmp_path / "training").mkdir()
    return tmp_path


def test_each_trial_is_compared_with_the_base_and_names_its_change(results: pathlib.Path) -> None:
    trials = [
        _trial("other", "width", 20.0),
        _trial("base", "base", 33.0),
        _trial("adam", "optimiser", 32.5, change={"optimizer": "adam", "model": {"bits": 2}}),
        _trial("drawn", "optimiser", 33.25, drawn=31.0),
    ]
    (results / "search.json").write_text(json.dumps({"trials": trials}))
    rows = report_training.search_table("optimiser")()[2:]
    assert rows[0] == "| nothing | 33.00 dB |  | 38.00 dB | 15.5 |"
    assert rows[1] == "| `optimizer = adam`, `model.bits = 2` | 32.50 dB | -0.50 | 38.00 dB | 15.5 |"
    assert [row.split(" | ")[2] for row in rows[2:]] == ["+0.25", "-2.00"]
    assert "measured with Z at 0.4" in rows[3]
    assert len(rows) == 4


def test_a_trial_that_diverged_has_no_figures(results: pathlib.Path) -> None:
    wild = {**_trial("wild", "optimiser", 0.0, change={"optimizer": "sgd"}), "sets": {}}
    (results / "search.json").write_text(json.dumps({"trials": [_trial("base", "base", 33.0), wild]}))
    head, rule, _, row = report_training.search_table("optimiser")()
    assert row == "| `optimizer = sgd` | diverged |  |  | 15.5 |"
    assert row.count("|") == head.count("|") == rule.count("|")
