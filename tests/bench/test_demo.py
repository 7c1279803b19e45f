"""The demo: what it prints, what it writes, and what it says when it cannot."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bdflow_rt.bench import demo
from bdflow_rt.bench.command import run_command
from bdflow_rt.bench.demo import CAPTION_HEIGHT, GAP, busiest_window, comparison
from bdflow_rt.metrics import bicubic_downscale, bicubic_resize, psnr_y
from tests.cli.build import contents
from tests.support import ROOT, photo


def run(monkeypatch: pytest.MonkeyPatch, folder: Path, *arguments: str) -> int:
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["demo", *arguments])
    return run_command("demo", demo.main)


def test_a_picture_goes_down_and_up_and_the_numbers_are_of_the_files(
    zoo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    hr = photo(203, 301, 4)
    Image.fromarray(hr).save(tmp_path / "mine.png")
    assert run(monkeypatch, tmp_path, "mine.png") == 0
    out, err = capsys.readouterr()
    assert err == ""
    facts = dict(line.split(maxsplit=1) for line in out.splitlines())
    assert facts["model"].startswith("bdflow-x4@99 on openvino")
    assert facts["original"] == f"mine.png, 301 x 203, {(tmp_path / 'mine.png').stat().st_size:,} bytes"
    written = tmp_path / "demo-out"
    assert facts["small"].startswith(f"demo-out/lr.png, 76 x 51, {(written / 'lr.png').stat().st_size:,} bytes")
    with Image.open(written / "restored.png") as image:
        restored = np.asarray(image)
    bicubic = bicubic_resize(bicubic_downscale(hr, scale=4), scale=4)[:203, :301]
    decibels = re.findall(r"(\d+\.\d+) dB", facts["restored"])
    assert decibels == [f"{psnr_y(one, hr, border=4):.2f}" for one in (restored, bicubic)]
    assert re.fullmatch(r"down \d+\.\d\d, up \d+\.\d\d, files included", facts["seconds"])
    with Image.open(written / "comparison.png") as image:
        assert image.size == (4 * 2 * demo.DETAIL + 3 * GAP, 2 * demo.DETAIL + CAPTION_HEIGHT)


def test_without_a_picture_it_takes_the_photograph_that_scikit_image_ships(
    zoo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, tmp_path) == 0
    assert "chelsea.png, 451 x 300" in capsys.readouterr().out


@pytest.mark.parametrize("size", [(9, 9), (12, 11), (37, 300)])
def test_pictures_smaller_than_the_detail_are_shown_whole(
    zoo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]
) -> None:
    Image.fromarray(photo(*size, 4)).save(tmp_path / "mine.png")
    assert run(monkeypatch, tmp_path, "mine.png") == 0
    with Image.open(tmp_path / "demo-out" / "comparison.png") as image:
        assert image.height == 2 * min(size) + CAPTION_HEIGHT


@pytest.mark.parametrize(("name", "code"), [("missing.png", 3), ("folder", 3), ("text.png", 3), ("tiny.png", 2)])
def test_what_cannot_be_shown_is_one_line_and_an_exit_code(
    zoo: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    code: int,
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "text.png").write_text("no picture")
    Image.fromarray(photo(5, 3, 1)).save(tmp_path / "tiny.png")
    assert run(monkeypatch, tmp_path, name) == code
    out, err = capsys.readouterr()
    assert (out, len(err.splitlines())) == ("", 1)
    assert err.startswith("demo: ")


def test_a_folder_that_cannot_be_made_is_one_line(
    zoo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "demo-out").write_text("in the way")
    before = contents(tmp_path)
    assert run(monkeypatch, tmp_path) == 4
    assert "demo-out" in capsys.readouterr().err
    assert contents(tmp_path) == before


def test_the_busiest_window_is_where_the_detail_is() -> None:
    image = np.full((97, 131, 3), 128, np.uint8)
    image[60:90, 100:130] = np.random.default_rng(0).integers(0, 256, (30, 30, 3), np.uint8)
    top, left = busiest_window(image, 40)
    assert top + 40 > 75
    assert left + 40 > 115
    assert 0 <= top <= 97 - 40
    assert 0 <= left <= 131 - 40


def test_panels_show_the_same_detail_enlarged_without_smoothing() -> None:
    one, other = photo(50, 60, 1), photo(50, 60, 2)
    picture = np.asarray(comparison([("one", one), ("other", other)], window=(7, 11, 20), zoom=3))
    for pixels, x in ((one, 0), (other, 60 + GAP)):
        detail = pixels[7:27, 11:31].repeat(3, axis=0).repeat(3, axis=1)
        assert np.array_equal(picture[:60, x : x + 60], detail)


def test_the_environment_is_json_inside_and_outside_a_checkout(tmp_path: Path) -> None:
    code = "import json; from bdflow_rt.evaluate.environment import environment; print(json.dumps(environment()))"
    inside = json.loads(subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True).stdout)
    package = Path(shutil.copytree(ROOT / "bdflow_rt", tmp_path / "bdflow_rt"))
    shutil.copytree(ROOT / "bench", package / "bench")
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True, text=True)
    outside = json.loads(done.stdout)
    assert done.stderr == ""
    assert outside["commit"] is None
    assert outside.keys() == inside.keys()
    assert outside["versions"].items() >= {"numpy": np.__version__}.items()
    assert outside["cores"] >= 1
