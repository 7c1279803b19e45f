"""The benchmark of videos over time: its static scenes, and one result a video."""

from __future__ import annotations

import itertools
import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bdflow_rt.bench import temporal
from bdflow_rt.bench.command import run_command
from bdflow_rt.bench.temporal import SIGMA, StillSource, tolerance_of
from bdflow_rt.metrics import StaticFlicker
from tests.support import photo
from tests.support_clips import write_y4m


def test_frames_of_a_still_scene_are_equal_and_its_noise_has_the_deviation_asked_for() -> None:
    pixels = np.clip(photo(90, 110, 1), 20, 235)
    for frame in itertools.islice(StillSource(pixels), 3):
        assert np.array_equal(frame.pixels, pixels)
    noisy = [frame.pixels.astype(float) - pixels for frame in itertools.islice(StillSource(pixels, sigma=SIGMA), 4)]
    # A twelfth of a level squared is what rounding adds.
    assert np.std(noisy) == pytest.approx(math.sqrt(SIGMA**2 + 1 / 12), rel=0.01)
    assert np.mean(noisy) == pytest.approx(0, abs=0.02)
    assert not np.array_equal(noisy[0], noisy[1])
    again = next(iter(StillSource(pixels, sigma=SIGMA)))
    assert np.array_equal(again.pixels - pixels.astype(float), noisy[0])
    assert [frame.pts for frame in itertools.islice(StillSource(pixels), 3)] == [0, 1, 2]


def test_all_cells_are_static_within_the_tolerance_of_the_noise_and_flicker_is_the_noise() -> None:
    meter = StaticFlicker(scale=4, tolerance=tolerance_of(SIGMA))
    pixels = np.clip(photo(160, 200, 1), 20, 235)
    for frame in itertools.islice(StillSource(pixels, sigma=SIGMA), 6):
        meter.add(frame.pixels)
    assert meter.static_share == 1
    deviation = math.sqrt(2 * (SIGMA**2 + 1 / 12))
    assert meter.of("source").mean == pytest.approx(deviation * math.sqrt(2 / math.pi), rel=0.01)
    assert meter.of("source").p99 == round(2.576 * deviation)


def test_the_command_writes_a_file_a_video(zoo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = write_y4m(tmp_path / "clip.y4m", np.stack([photo(40, 56, seed) for seed in (1, 1, 2)]))
    Image.fromarray(photo(40, 52, 3)).save(tmp_path / "photo.png")
    output = tmp_path / "made" / "temporal"
    arguments = ["--model", "bdflow-x4", "--model", "tiny-x2", "--video", str(clip), "--still"]
    arguments += [str(tmp_path / "photo.png"), "--frames", "2", "--threads", "1", "--output", str(output)]
    monkeypatch.setattr(sys, "argv", ["temporal", *arguments])
    assert run_command("temporal", temporal.main) == 0
    results = {path.stem: json.loads(path.read_text()) for path in sorted(output.iterdir())}
    assert list(results) == ["clip", "photo-noise", "photo-still"]
    for name, result in results.items():
        assert (result["schema"], result["video"], result["frames"]) == (1, name, 2)
        assert [(one["model"], one["scale"]) for one in result["models"]] == [("bdflow-x4@99", 4), ("tiny-x2@1", 2)]
        assert {one["flicker"]["static_share"] for one in result["models"]} == {1}  # of the clip too
    assert [results[name]["sigma"] for name in results] == [None, SIGMA, 0]
    for still in ("clip", "photo-still"):
        assert {one["flicker"][of]["mean"] for one in results[still]["models"] for of in ("lr", "restored")} == {0}
    for one in results["photo-noise"]["models"]:
        assert one["flicker"]["lr"]["mean"] > one["flicker"]["bicubic_lr"]["mean"] / 2 > 0


def test_a_video_that_is_none_ends_it_in_one_line(
    zoo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "no.mp4").write_text("no video")
    arguments = ["--model", "tiny-x2", "--video", str(tmp_path / "no.mp4"), "--output", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", ["temporal", *arguments])
    assert run_command("temporal", temporal.main) == 3
    assert "no.mp4' is no video" in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "out").exists()
