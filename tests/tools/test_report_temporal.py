"""The tables about videos show weights that ship, videos from cameras first, and a word where there is no figure."""

from __future__ import annotations

import json
import pathlib
from typing import Any

import pytest

from bdflow_rt.zoo import ModelCard
from tests.zoo.build import make_model
from tools import measured, report_temporal


@pytest.fixture
def digest(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The hash of the weights of the only model that ships, m@1."""
    monkeypatch.setattr(measured, "RESULTS", tmp_path)
    monkeypatch.setattr(measured, "SHIPPED", tmp_path / "zoo")
    make_model(tmp_path / "zoo", "m", 1, weights=b"weights")
    (tmp_path / "temporal").mkdir()
    return ModelCard.read(tmp_path / "zoo" / "m@1").weights_sha256


def _write(video: str, digest: str, *, gain: float | None = 3.0, lr: float | None = 0.5, sigma: float | None) -> None:
    def of(difference: float | None) -> dict[str, Any]:
        frames = {"psnr_y": {"mean": 30.0, "min": 29.0}, "psnr_rgb": {"mean": 28.0, "min": 27.0}}
        return {**frames, "difference_psnr_y": difference, "difference_psnr_rgb": difference}

    def changes(mean: float | None) -> dict[str, Any]:
        return {"mean": mean, "p99": None if mean is None else 4}

    static = lr is not None
    flicker = {name: changes(0.25 if static else None) for name in ("source", "restored", "bicubic", "bicubic_lr")}
    model = {
        "model": "another name", "weights_sha256": digest, "restored": of(None if gain is None else 25 + gain),
        "bicubic": of(None if gain is None else 25.0), "lr": of(45.0),
        "flicker": {"static_share": 0.125 if static else 0.0, **flicker, "lr": changes(lr)},
    }  # fmt: skip
    result = {"video": video, "sigma": sigma, "hr_size": [64, 48], "frames": 12, "models": [model]}
    (measured.RESULTS / "temporal" / f"{video}.json").write_text(json.dumps(result))


def _cells(lines: list[str]) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[2:]]


def test_rows_are_of_weights_that_ship_and_drawn_videos_come_last(digest: str) -> None:
    _write("a-still", digest, gain=None, lr=0.0, sigma=0.0)
    _write("b-moving", digest, lr=None, sigma=None)
    _write("c", "0" * 64, sigma=None)
    differences, flicker = _cells(report_temporal.differences_table()), _cells(report_temporal.flicker_table())
    assert [row[:3] for row in differences] == [
        ["b-moving, 64 x 48", "m@1", "12"], ["a-still, 64 x 48", "m@1", "12"],
    ]  # fmt: skip
    assert differences[0][3:] == [
        "30.00 dB, 29.00 dB", "30.00 dB", "28.00 dB", "25.00 dB", "28.00 dB", "25.00 dB", "45.00 dB",
    ]  # fmt: skip
    assert differences[1][5:9] == ["exact"] * 4
    assert flicker[0][2:] == ["0.0 %", "-", "-", "-", "-", "-"]
    assert flicker[1][2:] == ["12.5 %", *["0.250, 4"] * 3, "0.000, 4", "0.250, 4"]


def test_the_verdict_counts_what_has_a_figure(digest: str) -> None:
    assert report_temporal.verdict() == ["Not measured yet."]
    _write("a", digest, gain=-1.0, lr=0.5, sigma=None)
    _write("b", digest, gain=3.0, lr=None, sigma=None)
    _write("c", digest, gain=None, lr=0.75, sigma=None)
    _write("d", digest, gain=9.0, lr=99.0, sigma=2.0)
    first, second, third = report_temporal.verdict()
    assert "in 1 of 2 rows (-1.00 to +3.00 dB)" in first
    assert "LR pictures change by 0.50 to 0.75 levels on average, bicubic LR pictures by 0.25 to 0.25." in second
    assert "restored frames change by 0.25 to 0.25 levels on average, frames of bicubic down and up by" in third
