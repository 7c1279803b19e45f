"""`bdflow eval`: a model measured on a folder, through real files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from bdflow_rt.metrics import psnr_y
from tests.cli.build import bdflow, failed, pixels_of, succeeded
from tests.containers.build import encoded
from tests.support import data_dir, needs_data, photo

RESTORED = [
    *("psnr_y", "ssim_y", "psnr_rgb", "ssim_rgb"),
    *("border_psnr_rgb", "border_max_difference", "bicubic_psnr_y", "bicubic_ssim_y"),
]
LR = ["lr_psnr", "lr_psnr_y", "lr_max_difference", "file_bytes", "chunk_bytes"]
DATA = data_dir()
BLIND = ["lr_niqe", "bicubic_lr_niqe", "lr_piqe", "bicubic_lr_piqe"]


@pytest.fixture(autouse=True)
def no_parameters(monkeypatch: pytest.MonkeyPatch) -> None:
    """LPIPS and NIQE are only there where a test asks for the data."""
    monkeypatch.delenv("BDFLOW_DATA", raising=False)


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
    done = succeeded("eval", folder, "--json", "--quiet")
    result = done.json
    assert done.err == ""
    assert (result["folder"], result["model"], result["backend"]) == ("pictures", "bdflow-x4@99", "openvino")
    assert [(one["name"], one["width"], one["height"]) for one in result["pictures"]] == [
        ("a.JPG", 61, 37),
        ("b.png", 65, 63),
    ]
    for column in {*RESTORED, "lr_psnr", "lr_psnr_y", "file_bytes", "chunk_bytes"} - {"border_max_difference"}:
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


def check_rows(rows: list[list[str]], columns: list[str], result: dict[str, Any]) -> None:
    """Rows of cells say the same as the entries of the JSON document."""
    for (name, *cells), entry in zip(rows, [*result["pictures"], {"name": "mean", **result["means"]}], strict=True):
        assert name == entry["name"]
        for cell, column in zip(cells, columns, strict=True):
            if entry[column] is None:
                assert cell == "-"
            else:
                assert float(cell) == pytest.approx(entry[column], abs=0.51 if "." not in cell else 0.0051)


def test_refined_pictures_are_measured_and_said_to_be(zoo: Path, folder: Path) -> None:
    (folder / "a.JPG").unlink()
    plain, refined = (succeeded("eval", folder, "--json", "--refine", steps).json for steps in ("0", "6"))
    assert (plain["refine"], refined["refine"]) == (0, 6)
    assert refined["means"]["psnr_rgb"] > plain["means"]["psnr_rgb"]
    for form in ((), ("--markdown",)):
        assert "LR refined in 1 step" in succeeded("eval", folder, "--refine", "1", *form).out
        assert "refined" not in succeeded("eval", folder, *form).out


def test_the_tables_for_people_say_the_same(zoo: Path, folder: Path) -> None:
    result = succeeded("eval", folder, "--json").json
    lines = succeeded("eval", folder).out.splitlines()
    assert lines[0] == "bdflow-x4@99 on openvino"
    assert lines[1] == lines[6] == ""
    assert lines[2].split() == ["restored", *RESTORED]
    check_rows([line.split() for line in lines[3:6]], RESTORED, result)
    # LR pictures of 16 x 10 and 17 x 16: SSIM's window fits into the second alone.
    columns = [*LR[:2], "lr_ssim", "lr_ssim_y", *LR[2:]]
    assert lines[7].split() == ["LR", *columns]
    check_rows([line.split() for line in lines[8:]], columns, result)


def test_markdown_has_the_same_numbers_and_says_what_is_left_out(zoo: Path, folder: Path) -> None:
    (folder / "b.png").rename(folder / "b|`x`.png")
    result = succeeded("eval", folder, "--json").json
    text = succeeded("eval", folder, "--markdown").out
    tables = [
        [[cell.strip() for cell in line[1:-1].replace("\\|", "\0").split("|")] for line in table.splitlines()]
        for table in text.split("\n\n")
        if table.startswith("|")
    ]
    assert len(tables) == 2
    for (titles, rule, *rows), columns in zip(
        tables, (RESTORED, [*LR[:2], "lr_ssim", "lr_ssim_y", *LR[2:]]), strict=True
    ):
        assert len(titles) == len(rule) == len(columns) + 1
        for row in rows:
            row[0] = row[0].replace("\0", "|").replace("\\", "")
        check_rows(rows, columns, result)
    assert text.startswith("## bdflow-x4@99 on pictures\n")
    assert "- LPIPS left out for 2 of 2 pictures." in text
    assert "smaller than 192 x 192 pixels" in text


def test_json_and_markdown_at_once_are_refused(zoo: Path, folder: Path) -> None:
    failed(bdflow("eval", folder, "--json", "--markdown"), 2, "--json", "--markdown", "one of them")


@pytest.mark.parametrize("form", [(), ("--json",), ("--markdown",)])
def test_what_is_left_out_is_said_on_stderr_in_one_line_each(zoo: Path, folder: Path, form: tuple[str, ...]) -> None:
    done = succeeded("eval", folder, *form)
    lines = done.err.splitlines()
    assert all(line.startswith("bdflow: note: ") for line in lines)
    for words in (
        ("LPIPS left out for 2 of 2 pictures", "lpips_alex_v0.1.npz", "BDFLOW_DATA"),
        ("LR NIQE, LR bicubic NIQE left out for 2 of 2 pictures", "niqe_pris_params.npz", "BDFLOW_DATA"),
        ("LR PIQE, LR bicubic PIQE left out for 2 of 2 pictures", "192 x 192"),
        ("LR SSIM-RGB, LR SSIM-Y left out for 1 of 2 pictures", "11 x 11"),
    ):
        (line,) = (line for line in lines if words[0] in line)
        assert all(word in line for word in words)
    assert len(lines) == 4
    assert "their path" not in done.err
    assert succeeded("eval", folder, *form, "--quiet").err == ""


@needs_data
def test_lpips_and_the_looks_of_a_large_lr_are_shown(
    zoo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BDFLOW_DATA", str(DATA))
    Image.fromarray(photo(771, 769, 1)).save(tmp_path / "large.png")
    done = succeeded("eval", tmp_path)
    assert done.err == ""
    lines = done.out.splitlines()
    assert "lpips" in lines[2].split()
    assert set(BLIND) <= set(lines[6].split())
    assert "-" not in [*lines[3].split(), *lines[7].split()]


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


@pytest.mark.parametrize("place", ["missing", "file.png", "empty", "a\0b", "a" * 300])
def test_a_folder_without_pictures_is_named(zoo: Path, tmp_path: Path, place: str) -> None:
    (tmp_path / "empty").mkdir()
    Image.new("RGB", (20, 20)).save(tmp_path / "file.png")
    failed(bdflow("eval", f"{tmp_path}/{place}"), 3, "pictures")


@pytest.mark.parametrize("size", [(1, 1), (5, 3), (10, 40), (40, 10)])
def test_a_picture_too_small_to_measure_is_named(zoo: Path, tmp_path: Path, size: tuple[int, int]) -> None:
    Image.fromarray(photo(*size, 1)).save(tmp_path / "small.png")
    failed(
        bdflow("eval", tmp_path), 3, "No picture could be measured", "small.png", f"{size[1]} x {size[0]}", "11 x 11"
    )


ALPHA = np.dstack([photo(37, 41, 3), np.full((37, 41), 128, np.uint8)])
BAD: dict[str, tuple[bytes | None, str]] = {
    "empty": (b"", "empty (0 bytes)"),
    "no picture": (b"no picture", "not a picture"),
    "a folder": (None, "is a folder"),
    "cut off": (encoded(Image.fromarray(photo(63, 65, 1)), "PNG")[:2000], "cut off"),
    "transparent": (encoded(Image.fromarray(ALPHA), "PNG"), "--background white"),
    "too small": (encoded(Image.fromarray(photo(5, 7, 1)), "PNG"), "11 x 11"),
    "animated": (encoded(Image.new("L", (20, 20)), "GIF", save_all=True, append_images=[Image.new("L", (20, 20), 9)]),
                 "animated"),
}  # fmt: skip
"""Pictures that cannot be measured, and words of the reason."""


@pytest.mark.parametrize("kind", BAD)
def test_eval_stops_at_the_first_bad_picture(zoo: Path, folder: Path, kind: str) -> None:
    content, word = BAD[kind]
    name = "aa.gif" if kind == "animated" else "aa.png"
    if content is None:
        (folder / name).mkdir()
    else:
        (folder / name).write_bytes(content)
    (folder / "a.JPG").unlink()
    done = bdflow("eval", folder, "--json")
    assert done.code == 3
    assert [one["name"] for one in done.json["pictures"]] == ["b.png"]
    (bad,) = done.json["failed"]
    assert bad["name"] == name
    (line,) = (line for line in done.err.splitlines() if "was not measured" in line)
    assert name in line
    assert word in line
    text = bdflow("eval", folder, "--markdown").out
    assert "was not measured" in text.splitlines()[-1]


def test_eval_fails_where_no_picture_can_be_measured(zoo: Path, tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(b"")
    failed(bdflow("eval", tmp_path, "--json"), 3, "No picture could be measured", "a.png", "1 other")


def test_files_of_macos_are_no_pictures(zoo: Path, folder: Path) -> None:
    (folder / "._b.png").write_bytes(b"Mac OS X")
    done = succeeded("eval", folder, "--json")
    assert (len(done.json["pictures"]), done.json["failed"], "._b.png" in done.err) == (2, [], False)


def test_a_gif_is_a_picture(zoo: Path, tmp_path: Path) -> None:
    Image.fromarray(photo(37, 41, 3)).quantize(64).save(tmp_path / "drawn.gif")
    assert [one["name"] for one in succeeded("eval", tmp_path, "--json").json["pictures"]] == ["drawn.gif"]


def test_subfolders_are_mentioned_and_measured_when_asked_for(zoo: Path, folder: Path) -> None:
    (folder / "deep" / "er").mkdir(parents=True)
    (folder / "none").mkdir()
    (folder / "a.JPG").rename(folder / "deep" / "er" / "a.JPG")
    done = succeeded("eval", folder, "--json")
    assert [one["name"] for one in done.json["pictures"]] == ["b.png"]
    assert "1 subfolder with pictures left out (deep); --recursive" in done.err
    done = succeeded("eval", folder, "--json", "--recursive")
    assert [one["name"] for one in done.json["pictures"]] == ["b.png", "deep/er/a.JPG"]
    assert "subfolder" not in done.err
    (folder / "b.png").unlink()
    failed(bdflow("eval", folder), 3, "holds no pictures", "deep", "--recursive")


def test_a_transparent_picture_is_measured_over_its_background(zoo: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    Image.fromarray(ALPHA).save(tmp_path / "in" / "a.png")
    flat = np.rint(ALPHA[..., :3] * (128 / 255) + 255 * (127 / 255)).astype(np.uint8)
    result = succeeded("eval", tmp_path / "in", "--background", "white", "--json").json
    Image.fromarray(flat).save(tmp_path / "in" / "a.png")
    flattened = succeeded("eval", tmp_path / "in", "--json").json
    assert result["means"]["psnr_rgb"] == pytest.approx(flattened["means"]["psnr_rgb"], abs=0.2)


def test_the_border_is_measured_alone(zoo: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    Image.fromarray(photo(63, 65, 1)).save(tmp_path / "in" / "large.png")
    Image.fromarray(photo(20, 90, 1)).save(tmp_path / "in" / "small.png")
    result = succeeded("eval", tmp_path / "in", "--json").json
    for one in result["pictures"]:
        path = tmp_path / "in" / one["name"]
        succeeded("downscale", path, "-o", tmp_path / "lr.png", "--overwrite")
        succeeded("upscale", tmp_path / "lr.png", "-o", tmp_path / "out.png", "--overwrite")
        difference = np.abs(pixels_of(path).astype(float) - pixels_of(tmp_path / "out.png"))
        if one["name"] == "large.png":
            difference[16:-16, 16:-16] = np.nan
        assert one["border_max_difference"] == np.nanmax(difference)
        assert one["border_psnr_rgb"] == pytest.approx(10 * np.log10(255**2 / np.nanmean(difference**2)))
    assert result["means"]["border_max_difference"] == max(one["border_max_difference"] for one in result["pictures"])


def test_the_limit_of_pixels_holds_before_a_picture_is_read(zoo: Path, folder: Path) -> None:
    # Its size is above the limit and its data cut off: the limit is what is said, since it comes first.
    whole = (folder / "b.png").read_bytes()
    (folder / "b.png").write_bytes(whole[: len(whole) // 2])
    (folder / "a.JPG").unlink()
    failed(bdflow("eval", folder, "--max-pixels", "4000"), 3, "b.png", "65 x 63", "4000")


def test_links_to_folders_are_not_said_to_be_measured_by_recursive(zoo: Path, folder: Path, tmp_path: Path) -> None:
    linked = tmp_path / "linked"
    linked.mkdir()
    (linked / "elsewhere").symlink_to(folder)
    done = bdflow("eval", linked)
    failed(done, 3, "holds no pictures")
    assert "--recursive" not in done.err
    (folder / "self").symlink_to(folder)
    assert "--recursive" not in succeeded("eval", folder).err


def test_the_folder_of_a_dot_is_named(zoo: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    assert succeeded("eval", ".", "--json").json["folder"] == "pictures"


@pytest.mark.parametrize("option", ["-q", "--markdown"])
def test_a_line_end_in_a_name_breaks_no_table(option: str, zoo: Path, folder: Path) -> None:
    (folder / "b.png").rename(folder / "b\nc.png")
    lines = succeeded("eval", folder, option).out.splitlines()
    rows = [line for line in lines if "b\\nc.png" in line or "b\\\\nc.png" in line]
    assert len(rows) == 2
    assert all(row.count("  ") or row.count("|") > 5 for row in rows)
