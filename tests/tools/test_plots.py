"""Plots and verdicts show the numbers of the JSON files, and the committed plots those of the committed files."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from tools import measured, plots, report, report_rate

every_plot = pytest.mark.parametrize("name", plots.PLOTS)


def scores(bits_per_pixel: float, psnr_y: float | None, lpips: float | None) -> dict[str, Any]:
    return {"bytes": 1000 * bits_per_pixel, "bits_per_pixel": bits_per_pixel, "psnr_y": psnr_y, "lpips": lpips}


def made_result() -> dict[str, Any]:
    """Two models on one set: x2 loses to JPEG, x4 beats it, both beat AVIF, and WebP never fits."""

    def model(rate: float, psnr_y: float, lpips: float, jpeg: float, avif: float) -> dict[str, Any]:
        same = {"jpeg": scores(rate, psnr_y + jpeg, lpips - jpeg / 100), "webp": None}
        same["avif"] = scores(rate, psnr_y + avif, lpips - avif / 100)
        forms = {
            name: {**scores(rate * k, None, None), "same_bytes": same}
            for name, k in (("png", 1), ("webp_lossless", 0.75))
        }
        as_good = {"jpeg": scores(rate / 2, psnr_y, lpips), "webp": None, "avif": scores(rate * 2, psnr_y, lpips)}
        return {
            "small_png_bytes": 800 * rate,
            "as_good": as_good,
            "psnr_y": psnr_y,
            "lpips": lpips,
            "forms": forms,
        }

    curve = {"10": scores(0.2, 25, 0.4), "90": scores(2.0, 36, 0.1)}
    titles = {"jpeg": "JPEG", "webp": "WebP", "avif": "AVIF"}
    return {
        "codecs": {key: {"title": title, "settings": "4:2:0", "version": "1"} for key, title in titles.items()},
        "sets": [
            {
                "folder": "S",
                "pictures": 2,
                "models": {"x2@1": model(4.0, 40, 0.02, 1, -2), "x4@1": model(1.0, 30, 0.2, -1, -3)},
                "curves": {key: copy.deepcopy(curve) for key in report_rate.RIVALS},
            }
        ],
    }


@pytest.fixture
def result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the tables read instead of the committed results."""
    (tmp_path / "rate_distortion.json").write_text(json.dumps(made_result()))
    monkeypatch.setattr(measured, "RESULTS", tmp_path)
    return made_result()


def lines_of(figure: Any) -> dict[str, list[tuple[float, float]]]:
    (axes,) = figure.axes
    return {line.get_label(): list(zip(*line.get_data(), strict=True)) for line in axes.lines}


def test_every_point_of_a_plot_is_in_the_result(result: dict[str, Any]) -> None:
    drawn = lines_of(plots.rate_distortion(result, "psnr_y"))
    assert drawn["JPEG"] == [(0.2, 25), (2.0, 36)]
    assert drawn["ours, LR as PNG packet"] == [(1.0, 30), (4.0, 40)]
    assert drawn["ours, LR as lossless WebP + map"] == [(0.75, 30), (3.0, 40)]
    assert lines_of(plots.rate_distortion(result, "lpips"))["AVIF"] == [(0.2, 0.4), (2.0, 0.1)]


def test_what_was_not_measured_is_not_drawn(result: dict[str, Any]) -> None:
    (one,) = result["sets"]
    one["curves"]["avif"]["10"]["psnr_y"] = None
    for model in one["models"].values():
        model["lpips"] = None
    assert lines_of(plots.rate_distortion(result, "psnr_y"))["AVIF"] == [(2.0, 36)]
    assert lines_of(plots.rate_distortion(result, "lpips"))["ours, LR as PNG packet"] == []


def test_the_same_result_gives_the_same_bytes_and_they_name_it(result: dict[str, Any], tmp_path: Path) -> None:
    for name in ("a.svg", "b.svg"):
        plots.write_figure(plots.rate_distortion(result, "psnr_y"), tmp_path / name, source="results.json sha256:abc")
    first = (tmp_path / "a.svg").read_bytes()
    assert first == (tmp_path / "b.svg").read_bytes()
    assert b"results.json sha256:abc" in first


@every_plot
def test_the_committed_plot_is_of_the_committed_result_and_is_shown(name: str) -> None:
    image = plots.IMAGES / name
    source, _ = plots.PLOTS[name]
    assert plots.source_of(source) in image.read_text(encoding="utf-8"), "run: python -m tools.plots"
    assert image.stat().st_size < 150_000
    assert any(f"images/{name})" in page.read_text(encoding="utf-8") for page in report.PAGES)


def test_the_verdict_counts_rows_won_and_lost(result: dict[str, Any]) -> None:
    text = "\n".join(report_rate.verdict())
    assert "- Against JPEG, ours has the better PSNR-Y in 2 of 4 rows (-1.00 to +1.00 dB)" in text
    assert "- Against AVIF, ours has the better PSNR-Y in 4 of 4 rows (+2.00 to +3.00 dB)" in text
    assert "the better LPIPS in 4 of 4 rows (-0.030 to -0.020)" in text
    assert "- Against WebP, ours has no PSNR-Y to compare with" in text
    for measure in ("PSNR-Y", "LPIPS"):
        assert f"- Best of all by {measure}: JPEG in 2, ours in 2 of 4 rows." in text
    assert "take 25 to 25 % fewer bytes as lossless WebP" in text


def test_both_pictures_are_compared_by_the_bytes_of_the_two_files(result: dict[str, Any]) -> None:
    row = "| S | x2@1 | 4,000, 0.020 | 3,200 | 5,200 (+30 %), 0.020 | - | 11,200 (+180 %), 0.020 |"
    assert report_rate.both_pictures_table()[2] == row


def test_a_rival_that_never_fits_is_a_dash_in_the_table(result: dict[str, Any]) -> None:
    assert report_rate.rate_table()[2] == (
        "| S | x2@1 | PNG packet | 4,000 | 4.00 | 40.00 dB, 0.0200 | 41.00 dB, 0.0100 | - | 38.00 dB, 0.0400 |"
    )
