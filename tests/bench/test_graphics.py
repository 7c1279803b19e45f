"""Photographs with coloured lines drawn over."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bdflow_rt.bench.graphics import COLOURS, DRAWINGS, FAR, measure
from bdflow_rt.errors import MissingFileError
from bdflow_rt.metrics import bicubic_downscale
from bdflow_rt.rescaler import Rescaler
from bdflow_rt.zoo.interface import LR_BOUND
from tests.support import photo


def test_what_is_measured_is_what_the_rescaler_makes_of_the_drawn_picture(zoo: Path, tmp_path: Path) -> None:
    pictures = [photo(48, 64, seed) for seed in (1, 2)]
    for index, picture in enumerate(pictures):
        Image.fromarray(picture).save(tmp_path / f"{index}.png")
    with Rescaler.from_pretrained(zoo / "bdflow-x4@99") as rescaler:
        rows = {row["drawing"]: row for row in measure(rescaler, tmp_path)}
        found, held = [], []
        for picture, colour in zip(pictures, COLOURS, strict=False):
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
        measure(rescaler, tmp_path)
