"""Flat colours and gradients: what is drawn, and the measures on known errors."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from bdflow_rt.bench import smooth
from bdflow_rt.bench.smooth import SIDE, border_width, draw, pooled
from bdflow_rt.metrics import psnr, psnr_y
from tests.support import photo


def test_flat_pictures_are_flat_and_gradients_have_small_steps_only() -> None:
    pictures = draw()
    assert {kind: len(kinds) for kind, kinds in pictures.items()} == {
        "flat, saturated": 6, "flat, muted": 6, "gradient": 13,
    }  # fmt: skip
    for kind, drawn in pictures.items():
        for picture in drawn:
            assert (picture.shape, picture.dtype) == ((SIDE, SIDE, 3), np.uint8)
            steps = [np.abs(np.diff(picture.astype(int), axis=axis)).max() for axis in (0, 1)]
            assert max(steps) <= (2 if kind == "gradient" else 0)
            assert kind != "gradient" or max(steps) > 0


def test_one_picture_is_measured_as_everywhere_else() -> None:
    restored, picture = photo(40, 50, 1), photo(40, 50, 2)
    measured = pooled([restored], [picture])
    assert measured["psnr_y"] == pytest.approx(psnr_y(restored, picture, border=0))
    assert measured["psnr_rgb"] == pytest.approx(psnr(restored, picture))
    assert measured["max_difference"] == np.abs(restored.astype(int) - picture).max()


def test_squared_errors_are_pooled_and_exact_pictures_are_infinite() -> None:
    black, grey = np.zeros((8, 8, 3), np.uint8), np.full((8, 8, 3), 10, np.uint8)
    assert pooled([grey, black], [black, black])["psnr_rgb"] == pytest.approx(10 * math.log10(255**2 / 50))
    assert pooled([black], [black])["psnr_rgb"] == math.inf


@pytest.mark.parametrize(("row", "column", "width"), [(0, 20, 1), (20, 3, 4), (36, 20, 1), (20, 28, 3), (18, 15, 16)])
def test_the_border_reaches_to_the_innermost_visible_difference(row: int, column: int, width: int) -> None:
    picture = np.full((37, 31, 3), 100, np.uint8)
    restored = picture.copy()
    restored[18, 15] = 104  # not visible
    restored[row, column, 1] = 90
    assert border_width(restored, picture) == width
    assert border_width(picture, picture) == 0


@pytest.mark.usefixtures("zoo")
def test_the_command_writes_a_row_per_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smooth, "SIDE", 64)
    monkeypatch.setattr("sys.argv", ["smooth", "--model", "bdflow-x4", "--output", str(tmp_path / "out.json")])
    smooth.main()
    result = json.loads((tmp_path / "out.json").read_text())
    assert [row["kind"] for row in result["rows"]] == ["flat, saturated", "flat, muted", "gradient"]
    for row in result["rows"]:
        assert 0 < row["psnr_y"] < 100
        assert 0 <= row["border_pixels"] <= 32
