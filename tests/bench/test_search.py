"""The search trains every trial once, goes on where it stopped, and writes what was measured."""

from __future__ import annotations

import json
import pathlib
import sys
from typing import Any

import pytest

from bdflow_rt.bench import search
from bdflow_rt.errors import TrainingConfigError
from tests.training.small import write_pictures

pytest.importorskip("torch")

TRIALS = """
[base]
crop = 16
batch = 2
iterations = 2
workers = 0
[base.model]
scale = 2
blocks = [1]
hidden = [4]
[base.loss]
lpips = 0
boundary = 0
latent = 0
[[trial]]
name = "base"
group = "width"
[[trial]]
name = "wide"
group = "width"
[trial.change.model]
hidden = [6]
[[trial]]
name = "sampled"
group = "z"
[trial.change]
temperature = 0.5
"""


def _main(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    if not (tmp_path / "pictures").exists():
        write_pictures(tmp_path / "pictures", count=1)
    words = ["search", tmp_path / "trials.toml", "--data", tmp_path / "pictures", "--validation", tmp_path / "pictures",
             "--runs", tmp_path / "runs", "--output", tmp_path / "search.json"]  # fmt: skip
    monkeypatch.setattr(sys, "argv", list(map(str, words)))
    search.main()
    trials: list[dict[str, Any]] = json.loads((tmp_path / "search.json").read_text())["trials"]
    return trials


def test_trials_are_trained_once_and_anew_where_they_changed(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "trials.toml").write_text(TRIALS)
    first = _main(tmp_path, monkeypatch)
    assert [entry["name"] for entry in first] == ["base", "wide", "sampled"]
    assert [entry["config"]["model"]["hidden"] for entry in first] == [[4], [6], [4]]
    assert list(first[2]["sets"]) == ["pictures", "pictures, Z at 0.5"]
    assert first[0]["macs_128x128"] < first[1]["macs_128x128"]
    assert all(entry["iterations"] == 2 and entry["step_ms"] > 0 for entry in first)
    changed = TRIALS.replace('"wide"', '"wider"').replace("[6]", "[7]").replace("temperature = 0.5", "seed = 9")
    (tmp_path / "trials.toml").write_text(changed)
    second = _main(tmp_path, monkeypatch)
    assert [entry["name"] for entry in second] == ["base", "wider", "sampled"]
    assert second[0] == first[0]
    # Of the same name, but nothing of the former run was gone on with: its steps were all taken anew.
    assert second[2]["config"]["seed"] == 9
    assert second[2]["step_ms"] > 0


def test_a_trial_that_diverges_is_said_to_and_the_next_one_trained(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    diverging = '[[trial]]\nname = "wild"\ngroup = "width"\n[trial.change]\nlearning_rate = 1e9\nclip = 1e9\n'
    settings = TRIALS.replace("iterations = 2", "iterations = 60\nwarmup = 0\ncheckpoint_every = 30")
    (tmp_path / "trials.toml").write_text(
        settings.replace('[[trial]]\nname = "wide"', diverging + '[[trial]]\nname = "wide"')
    )
    base, wild, wide, _ = _main(tmp_path, monkeypatch)
    assert (wild["name"], wild["sets"], wild["setbacks"] > 3) == ("wild", {}, True)
    assert (base["setbacks"], wide["setbacks"]) == (0, 0)
    assert wide["sets"]["pictures"]["psnr_y"] > 0


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[base]\n[[trial]]\nname = 'a'\n", "lacks 'group'"),
        ("[[trial]]\nname = 'a'\ngroup = 'g'", "lacks 'base'"),
        ("[base]\n" + "[[trial]]\nname = 'a'\ngroup = 'g'\n" * 2, "two trials called 'a'"),
        ("[base]\ncorp = 3\n[[trial]]\nname = 'a'\ngroup = 'g'", "Unknown key 'corp'"),
        ("trial = 3\n[base]", "list of trials"),
        ("[base", "training configuration"),
    ],
)
def test_a_faulty_list_is_named(tmp_path: pathlib.Path, text: str, named: str) -> None:
    (tmp_path / "trials.toml").write_text(text)
    with pytest.raises(TrainingConfigError, match=named):
        search.read_trials(tmp_path / "trials.toml")
