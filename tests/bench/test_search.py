"""The search trains every trial once, goes on where it stopped, and writes what was measured."""

from __future__ import annotations

import json
import pathlib
import shutil
import sys
from typing import Any

import cv2
import pytest

from bdflow_rt.bench import search
from bdflow_rt.errors import ArgumentError, TrainingConfigError, UnreadableFileError
from tests.support import photo
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


def _main(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, *sets: pathlib.Path) -> list[dict[str, Any]]:
    if not (tmp_path / "pictures").exists():
        write_pictures(tmp_path / "pictures", count=1)
    words = ["search", tmp_path / "trials.toml", "--data", tmp_path / "pictures", "--validation", tmp_path / "pictures",
             "--runs", tmp_path / "runs", "--output", tmp_path / "search.json"]  # fmt: skip
    words += [word for folder in sets for word in ("--validation", folder)]
    monkeypatch.setattr(sys, "argv", list(map(str, words)))
    search.main()
    trials: list[dict[str, Any]] = json.loads((tmp_path / "search.json").read_text())["trials"]
    return trials


@pytest.fixture(scope="module")
def trained_once(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A folder after a search through `TRIALS`."""
    folder = tmp_path_factory.mktemp("search")
    (folder / "trials.toml").write_text(TRIALS)
    with pytest.MonkeyPatch.context() as patch:
        _main(folder, patch)
    return folder


@pytest.fixture
def trained(trained_once: pathlib.Path, tmp_path: pathlib.Path) -> list[dict[str, Any]]:
    """The result of that search, in a copy of its folder."""
    shutil.copytree(trained_once, tmp_path, dirs_exist_ok=True)
    trials: list[dict[str, Any]] = json.loads((tmp_path / "search.json").read_text())["trials"]
    return trials


def test_trials_are_trained_once_and_anew_where_they_changed(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, trained: list[dict[str, Any]]
) -> None:
    first = trained
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
        ("[base]\n[[trial]]\nname = 'a'\ngroup = 'g'\nchnage = { seed = 2 }", "Unknown key 'chnage'"),
        ("[base]\n[[trial]]\nname = '../a'\ngroup = 'g'", "called '../a'"),
        ("[base]\n[[trial]]\nname = 3\ngroup = 'g'", "called 3"),
        ("[bsae]\n[base]\n[[trial]]\nname = 'a'\ngroup = 'g'", "Unknown key 'bsae'"),
        ("trial = 3\n[base]", "list of trials"),
        ("[base", "training configuration"),
    ],
)
def test_a_faulty_list_is_named(tmp_path: pathlib.Path, text: str, named: str) -> None:
    (tmp_path / "trials.toml").write_text(text)
    with pytest.raises(TrainingConfigError, match=named):
        search.read_trials(tmp_path / "trials.toml")


def test_another_set_is_measured_without_training_again(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, trained: list[dict[str, Any]]
) -> None:
    second = _main(tmp_path, monkeypatch, write_pictures(tmp_path / "more", count=1))
    assert list(second[2]["sets"]) == ["pictures", "pictures, Z at 0.5", "more", "more, Z at 0.5"]
    assert [entry["sets"]["pictures"] for entry in second] == [entry["sets"]["pictures"] for entry in trained]
    assert all(entry["step_ms"] is None for entry in second), "nothing was left to train"


def test_two_sets_of_one_name_are_refused(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "trials.toml").write_text(TRIALS)
    with pytest.raises(ArgumentError, match="same name"):
        _main(tmp_path, monkeypatch, write_pictures(tmp_path / "other" / "pictures", count=1))


@pytest.mark.parametrize("text", ['{"trials": ', "{}", '{"trials": [{"x": 1}]}', "[]"])
def test_an_output_that_holds_something_else_is_named_and_kept(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    (tmp_path / "trials.toml").write_text(TRIALS)
    (tmp_path / "search.json").write_text(text)
    with pytest.raises(UnreadableFileError, match=r"search\.json' is no result of a search"):
        _main(tmp_path, monkeypatch)
    assert (tmp_path / "search.json").read_text() == text


@pytest.mark.usefixtures("trained")
def test_a_run_on_other_pictures_is_not_gone_on_with(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held_out = [{"source": "s", "orig": "1", "files": ["0.png"], "packs": []}]
    (tmp_path / "pictures" / "new-split.json").write_text(json.dumps(held_out))
    cv2.imwrite(str(tmp_path / "pictures" / "another.png"), photo(53, 67, 5))
    with pytest.raises(ArgumentError, match="was trained on other pictures"):
        _main(tmp_path, monkeypatch)
