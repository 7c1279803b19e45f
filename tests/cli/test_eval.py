"""`bdflow eval`: a model measured on a folder, through real files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from bdflow_rt.metrics import psnr_y
from tests.cli.build import bdflow, failed, pixels_of, succeeded
from tests.support import photo

COLUMNS = ("psnr_y", "ssim_y", "bicubic_psnr_y", "lr_psnr", "file_bytes", "chunk_bytes")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two pictures and what is none."""
    made = tmp_path / "pictures"
    made.mkdir()
    Image.fromarray(photo(63, 65, 1)).save(made / "b.png")
    Image.fromarray(photo(37, 61, 2)).save(made / "a.JPG", quality=95)
    (made / "notes.txt").write_text("not a picture")
    return made


def test_json_is_alone_on_stdout_with_every_picture_and_the_means(zoo: Path, folder: Path) -> None:
    done = succeeded("eval", folder, "--json")
    result = done.json
    assert done.err == ""
    assert (result["folder"], result["model"], result["backend"]) == ("pictures", "bdflow-x4@99", "openvino")
    assert [(one["name"], one["width"], one["height"]) for one in result["pictures"]] == [
        ("a.JPG", 61, 37),
        ("b.png", 65, 63),
    ]
    for column in COLUMNS:
        assert result["means"][column] == pytest.approx(np.mean([one[column] for one in result["pictures"]]))
    assert sorted(path.name for path in folder.iterdir()) == ["a.JPG", "b.png", "notes.txt"]


def test_the_psnr_is_that_of_the_files_the_commands_write(zoo: Path, folder: Path, tmp_path: Path) -> None:
    (folder / "a.JPG").unlink()
    found = succeeded("eval", folder, "--json").json["pictures"][0]
    succeeded("downscale", folder / "b.png", "-o", tmp_path / "lr.png")
    succeeded("upscale", tmp_path / "lr.png", "-o", tmp_path / "out.png")
    expected = psnr_y(pixels_of(tmp_path / "out.png"), pixels_of(folder / "b.png"), border=4)
    assert found["psnr_y"] == pytest.approx(expected, abs=1e-9)
    assert found["file_bytes"] == (tmp_path / "lr.png").stat().st_size


def test_the_table_for_people_says_the_same(zoo: Path, folder: Path) -> None:
    result = succeeded("eval", folder, "--json").json
    lines = succeeded("eval", folder).out.splitlines()
    assert lines[0] == "bdflow-x4@99 on openvino"
    assert lines[1].split() == ["picture", *COLUMNS]
    for line, entry in zip(lines[2:], [*result["pictures"], {"name": "mean", **result["means"]}], strict=True):
        name, *cells = line.split()
        assert name == entry["name"]
        for cell, column in zip(cells, COLUMNS, strict=True):
            assert float(cell) == pytest.approx(entry[column], abs=0.51 if column.endswith("bytes") else 0.006)


def test_a_perfect_score_is_null_in_json_and_exact_for_people(zoo: Path, tmp_path: Path) -> None:
    Image.new("RGB", (41, 43)).save(tmp_path / "black.png")
    assert succeeded("eval", tmp_path, "--json").json["pictures"][0]["bicubic_psnr_y"] is None
    assert "exact" in succeeded("eval", tmp_path).out


@pytest.mark.parametrize("with_profile", [False, True])
def test_a_grey_picture_is_its_own_luma(
    zoo: Path, hr: npt.NDArray[np.uint8], tmp_path: Path, with_profile: bool, profile: bytes
) -> None:
    (tmp_path / "pictures").mkdir()
    grey = Image.fromarray(hr).convert("L")
    grey.save(tmp_path / "pictures" / "grey.png", icc_profile=profile if with_profile else None)
    found = succeeded("eval", tmp_path / "pictures", "--json").json["pictures"][0]
    succeeded("downscale", tmp_path / "pictures" / "grey.png", "-o", tmp_path / "lr.png")
    succeeded("upscale", tmp_path / "lr.png", "-o", tmp_path / "out.png")
    restored = pixels_of(tmp_path / "out.png")
    levels = restored if restored.ndim == 2 else restored[:, :, 0]
    assert found["psnr_y"] == pytest.approx(psnr_y(levels, np.asarray(grey), border=4), abs=1e-9)


@pytest.mark.parametrize("place", ["missing", "file.png", "empty", "a\0b"])
def test_a_folder_without_pictures_is_named(zoo: Path, tmp_path: Path, place: str) -> None:
    (tmp_path / "empty").mkdir()
    Image.new("RGB", (20, 20)).save(tmp_path / "file.png")
    failed(bdflow("eval", f"{tmp_path}/{place}"), 3, "pictures")


@pytest.mark.parametrize("size", [(1, 1), (5, 3), (10, 40), (40, 10)])
def test_a_picture_too_small_to_measure_is_named(zoo: Path, tmp_path: Path, size: tuple[int, int]) -> None:
    Image.fromarray(photo(*size, 1)).save(tmp_path / "small.png")
    failed(bdflow("eval", tmp_path), 2, "small.png", f"{size[1]} x {size[0]}", "11 x 11")


@pytest.mark.parametrize("content", [b"", b"no picture", None])
def test_a_damaged_picture_in_the_folder_is_named(zoo: Path, folder: Path, content: bytes | None) -> None:
    if content is None:
        (folder / "c.png").mkdir()
    else:
        (folder / "c.png").write_bytes(content)
    failed(bdflow("eval", folder, "--json"), 3, "c.png")


def test_the_limit_of_pixels_holds_before_a_picture_is_read(zoo: Path, folder: Path) -> None:
    # Its size is above the limit and its data cut off: the limit is what is said, since it comes first.
    whole = (folder / "b.png").read_bytes()
    (folder / "b.png").write_bytes(whole[: len(whole) // 2])
    failed(bdflow("eval", folder, "--max-pixels", "4000"), 3, "b.png", "65 x 63", "4000")
