"""Flat colours, gradients, and lines over photographs: what is drawn, and the measures on known errors."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bdflow_rt.bench import drawn
from bdflow_rt.bench.drawn import (
    DRAWINGS,
    FAR,
    SATURATED,
    SIDE,
    border_width,
    measure_lines,
    pooled,
    smooth_pictures,
)
from bdflow_rt.errors import MissingFileError
from bdflow_rt.metrics import bicubic_downscale, psnr, psnr_y
from bdflow_rt.rescaler import Rescaler
from bdflow_rt.zoo.interface import LR_BOUND
from tests.support import photo


def test_flat_pictures_are_flat_and_gradients_have_small_steps_only() -> None:
    pictures = smooth_pictures()
    assert {kind: len(kinds) for kind, kinds in pictures.items()} == {
        "flat, saturated": 6, "flat, muted": 6, "gradient": 13,
    }  # fmt: skip
    for kind, kinds in pictures.items():
        for picture in kinds:
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


def test_the_command_writes_a_row_per_kind_and_drawing(
    zoo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "set").mkdir()
    Image.fromarray(photo(48, 64, 1)).save(tmp_path / "set" / "a.png")
    monkeypatch.setattr(drawn, "SIDE", 64)
    arguments = ["--model", "bdflow-x4", "--folder", str(tmp_path / "set"), "--output", str(tmp_path / "out")]
    monkeypatch.setattr("sys.argv", ["drawn", *arguments])
    drawn.main()
    rows = json.loads((tmp_path / "out" / "smooth.json").read_text())["rows"]
    assert [row["kind"] for row in rows] == ["flat, saturated", "flat, muted", "gradient"]
    for row in rows:
        assert 0 < row["psnr_y"] < 100
        assert 0 <= row["border_pixels"] <= 32
    rows = json.loads((tmp_path / "out" / "graphics.json").read_text())["rows"]
    assert [(row["drawing"], row["folder"]) for row in rows] == [(name, "set") for name in DRAWINGS]


def test_what_is_measured_is_what_the_rescaler_makes_of_the_drawn_picture(zoo: Path, tmp_path: Path) -> None:
    pictures = [photo(48, 64, seed) for seed in (1, 2)]
    for index, picture in enumerate(pictures):
        Image.fromarray(picture).save(tmp_path / f"{index}.png")
    with Rescaler.from_pretrained(zoo / "bdflow-x4@99") as rescaler:
        rows = {row["drawing"]: row for row in measure_lines(rescaler, tmp_path)}
        found, held = [], []
        for picture, colour in zip(pictures, SATURATED, strict=False):
            drawn = picture.copy()
            drawn[::16] = drawn[:, ::16] = colour
            lr = rescaler.downscale(drawn).lr.astype(int)
            found.append(np.abs(lr - bicubic_downscale(drawn, scale=4)).max(axis=2))
            mean = drawn.reshape(12, 4, 16, 4, 3).mean(axis=(1, 3))
            held.append((np.abs(lr - mean).max(axis=2) >= LR_BOUND - 0.5).mean())
    assert set(rows) == set(DRAWINGS)
    assert rows["a grid"]["lr_max_difference"] == max(int(one.max()) for one in found)
    assert rows["a grid"]["far_share"] == pytest.approx(np.mean([(one > FAR).mean() for one in found]))
    assert rows["a grid"]["held_share"] == pytest.approx(np.mean(held))
    assert rows["a grid"]["psnr_y"] != rows["nothing"]["psnr_y"] != rows["one line"]["psnr_y"]


def test_drawings_change_the_lines_they_name_and_nothing_else() -> None:
    for name, changed in (("nothing", 0), ("one line", 64), ("a grid", 3 * 64 + 4 * 48 - 3 * 4)):
        pixels = np.full((48, 64, 3), 7, np.uint8)
        DRAWINGS[name](pixels, (255, 0, 255))
        assert (pixels != 7).any(axis=2).sum() == changed


def test_a_folder_without_pictures_is_refused(zoo: Path, tmp_path: Path) -> None:
    with Rescaler.from_pretrained(zoo / "bdflow-x4@99") as rescaler, pytest.raises(MissingFileError):
        measure_lines(rescaler, tmp_path)
