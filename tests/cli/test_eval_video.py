"""`bdflow eval CLIP`: what it prints is what was measured."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.cli.build import bdflow, failed, succeeded
from tests.support import photo
from tests.support_clips import write_y4m
from tests.video.clips import CLIPS

HEIGHT, WIDTH = 42, 62


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """Three frames, of which the right half is static."""
    frames = np.stack([photo(HEIGHT, WIDTH, 1)] * 3)
    for index in range(3):
        frames[index, :, :30] = photo(HEIGHT, 30, index + 2)
    return write_y4m(tmp_path / "clip.y4m", frames)


def test_json_is_alone_on_stdout(zoo: Path, clip: Path) -> None:
    done = succeeded("eval", clip, "--json")
    result = done.json
    assert done.err == ""
    assert (result["video"], result["model"], result["frames"]) == ("clip.y4m", "bdflow-x4@99", 3)
    assert 0 < result["flicker"]["static_share"] < 1
    assert result["damaged"] == 0


@pytest.mark.parametrize("form", [(), ("--markdown",)])
def test_the_tables_say_the_same(zoo: Path, clip: Path, form: tuple[str, ...]) -> None:
    result = succeeded("eval", clip, "--json").json
    text = succeeded("eval", clip, *form).out.replace("|", "")
    lines = [line.split() for line in text.splitlines() if line and "---" not in line]
    assert " ".join(lines[0]).endswith("bdflow-x4@99 on openvino, 3 frames of 62 x 42, LR 16 x 11")
    for line, name in zip(lines[2:5], ("restored", "bicubic", "lr"), strict=True):
        one = result[name]
        values = [one["psnr_y"]["mean"], one["psnr_y"]["min"], one["psnr_rgb"]["mean"], one["psnr_rgb"]["min"],
                  one["difference_psnr_y"], one["difference_psnr_rgb"]]  # fmt: skip
        assert [float(cell) for cell in line[-6:]] == pytest.approx(values, abs=0.0051)
    assert f"{100 * result['flicker']['static_share']:.1f}" in lines[5]
    for line, name in zip(lines[6:], ("source", "restored", "bicubic", "lr", "bicubic_lr"), strict=True):
        change = result["flicker"][name]
        assert [float(cell) for cell in line[-2:]] == pytest.approx([change["mean"], change["p99"]], abs=0.00051)


def test_of_one_frame_there_are_no_differences(zoo: Path, clip: Path) -> None:
    done = succeeded("eval", clip, "--frames", "1")
    assert "1 frame of 62 x 42" in done.out
    assert "no second frame" in done.out
    assert "exact" not in done.out
    assert done.out.splitlines()[3].split()[-2:] == ["-", "-"]


def test_a_still_video_has_exact_differences(zoo: Path, tmp_path: Path) -> None:
    clip = write_y4m(tmp_path / "still.y4m", np.stack([photo(HEIGHT, WIDTH)] * 2))
    assert succeeded("eval", clip).out.splitlines()[3].split()[-2:] == ["exact", "exact"]


def test_refined_frames_are_said_to_be(zoo: Path, clip: Path) -> None:
    plain, refined = (
        succeeded("eval", clip, "--frames", "1", "--json", "--refine", steps).json for steps in ("0", "6")
    )
    assert refined["restored"]["psnr_rgb"]["mean"] > plain["restored"]["psnr_rgb"]["mean"]
    assert "LR refined in 1 step" in succeeded("eval", clip, "--frames", "1", "--refine", "1").out


@pytest.mark.parametrize(
    "options",
    [("--recursive",), ("--background", "white"), ("--assume-srgb",), ("--convert-srgb",), ("--through", "jpeg:75")],
)
def test_an_option_of_pictures_is_refused_for_a_video(zoo: Path, clip: Path, options: tuple[str, ...]) -> None:
    failed(bdflow("eval", clip, *options), 2, options[0], "is for pictures")


def test_an_option_of_videos_is_refused_for_pictures(zoo: Path, clip: Path) -> None:
    failed(bdflow("eval", clip.parent, "--frames", "2"), 2, "--frames", "is for a video")


@pytest.mark.parametrize("frames", ["0", "-3"])
def test_a_number_of_frames_out_of_range_is_refused(zoo: Path, clip: Path, frames: str) -> None:
    failed(bdflow("eval", clip, "--frames", frames), 2, "--frames", frames)


def test_a_damaged_video_is_measured_and_said_to_be(zoo: Path, tmp_path: Path) -> None:
    path = tmp_path / "cut.mkv"
    CLIPS["cut_mkv"].make(path)
    done = bdflow("eval", path, "--json", "--quiet")
    assert done.code == 3
    assert done.json["damaged"] > 0
    assert "damaged" in bdflow("eval", path, "--frames", "99").err


def test_a_file_that_is_no_video_is_refused(zoo: Path, tmp_path: Path) -> None:
    path = tmp_path / "text.mp4"
    path.write_text("This is no video.")
    failed(bdflow("eval", path), 3, "text.mp4", "folder of pictures")
