"""Videos on the command line."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import av
import pytest

from bdflow_rt.video.part import part_path
from tests.cli.build import bdflow, failed, succeeded
from tests.video.clip_writer import Video, write_video
from tests.video.clips import Clips


@pytest.fixture
def clip(clips: Clips) -> Path:
    return clips["audio_aac"][0]


@pytest.fixture
def lr(zoo: Path, clip: Path, tmp_path: Path) -> Path:
    succeeded("downscale", clip, "-o", tmp_path / "lr.mkv", "-m", "tiny-x2", "--quiet")
    return tmp_path / "lr.mkv"


def frame_count(path: Path) -> int:
    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0))


def test_a_video_goes_down_and_comes_back(zoo: Path, clip: Path, tmp_path: Path) -> None:
    down = succeeded("downscale", clip, "-o", tmp_path / "lr.mkv", "-m", "tiny-x2")
    assert "96 x 64 -> 48 x 32, 24 frames" in down.err
    up = succeeded("upscale", tmp_path / "lr.mkv", "-o", tmp_path / "hr.mp4", "--crf", "20", "--preset", "ultrafast")
    assert "96 x 64, 24 frames" in up.err
    assert down.out == up.out == ""
    assert frame_count(tmp_path / "hr.mp4") == 24


def test_json_tells_what_was_done(zoo: Path, clip: Path, tmp_path: Path) -> None:
    done = succeeded("downscale", clip, "-o", tmp_path / "lr.mkv", "-m", "tiny-x2", "--json").json
    expected = {
        "frames": 24, "resumed_frames": 0, "damaged": 0, "retimed": 0, "notices": [], "decoder": "pyav",
        "hr_size": [96, 64], "lr_size": [48, 32], "output_bytes": (tmp_path / "lr.mkv").stat().st_size,
    }  # fmt: skip
    assert expected.items() <= done.items()


def test_a_picture_named_as_a_video_and_the_reverse_are_what_they_are(
    zoo: Path, clips: Clips, source: Path, tmp_path: Path
) -> None:
    (tmp_path / "photo.mp4").write_bytes(source.read_bytes())
    succeeded("downscale", tmp_path / "photo.mp4", "-o", tmp_path / "lr.png")
    misnamed = clips["misnamed"][0]
    succeeded("downscale", misnamed, "-o", tmp_path / "lr.mkv")
    failed(bdflow("downscale", misnamed, "-o", tmp_path / "lr2.png"), 2, "has no suffix of a video", ".mkv")


def test_options_of_the_other_kind_are_refused(zoo: Path, clip: Path, lr: Path, source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.mkv"
    failed(bdflow("downscale", source, "-o", tmp_path / "o.png", "--lr-codec", "ffv1"), 2, "--lr-codec is for videos")
    failed(bdflow("downscale", source, "-o", tmp_path / "o.png", "--resume"), 2, "--resume is for videos")
    failed(bdflow("downscale", clip, "-o", out, "--background", "white"), 2, "--background is for pictures")
    failed(bdflow("downscale", clip, "-o", out, "--assume-srgb"), 2, "--assume-srgb is for pictures")
    failed(bdflow("upscale", lr, "-o", out, "--quality", "90"), 2, "--quality is for pictures")
    failed(bdflow("upscale", lr, "-o", out, "--codec", "h265"), 2, "--codec is 'h265'", "hevc")
    failed(bdflow("upscale", lr, "-o", out, "--crf", "99"), 2, "--crf is 99", "0 to 51")
    failed(bdflow("downscale", clip, "-o", out, "--start", "-1"), 2, "--start is -1 s")
    failed(bdflow("downscale", clip, "-o", out, "--resume", "--overwrite"), 2, "--resume and --overwrite")
    assert not out.exists()


def test_an_ordinary_video_cannot_be_restored(zoo: Path, clip: Path, tmp_path: Path) -> None:
    failed(bdflow("upscale", clip, "-o", tmp_path / "hr.mp4"), 5, "ordinary video", "bdflow downscale")


def test_an_existing_video_is_kept_replaced_or_refused(zoo: Path, clip: Path, lr: Path) -> None:
    before = lr.read_bytes()
    failed(bdflow("downscale", clip, "-o", lr, "-m", "tiny-x2"), 4, "exists", "--overwrite")
    kept = succeeded("downscale", clip, "-o", lr, "-m", "tiny-x2", "--no-clobber")
    assert "was left as it is" in kept.err
    assert lr.read_bytes() == before
    succeeded("downscale", clip, "-o", lr, "-m", "tiny-x2", "--overwrite", "--duration", "0.5")
    assert frame_count(lr) == 12


def test_damage_is_said_and_is_an_exit_code(zoo: Path, clips: Clips, tmp_path: Path) -> None:
    done = bdflow("downscale", clips["corrupt_ffv1"][0], "-o", tmp_path / "lr.mkv", "-m", "tiny-x2")
    assert done.code == 3
    assert "1 frame of" in done.err
    assert frame_count(tmp_path / "lr.mkv") == 23
    done = bdflow("downscale", clips["corrupt_ffv1"][0], "-o", tmp_path / "s.mkv", "-m", "tiny-x2", "--strict")
    assert done.code == 3
    assert "is damaged" in done.err
    assert "--resume goes on with it" in done.err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_video_can_be_continued(zoo: Path, tmp_path: Path, number: int) -> None:
    write_video(tmp_path / "in.mkv", Video("ffv1", count=400), "long enough to be interrupted")
    part = part_path(tmp_path / "lr.mkv")
    command = [sys.executable, "-m", "bdflow_rt", "downscale", str(tmp_path / "in.mkv"), "-o", str(tmp_path / "lr.mkv"),
               "-m", "tiny-x2", "--threads", "1"]  # fmt: skip
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while process.poll() is None and not (part.exists() and part.stat().st_size > 200_000):
        pass
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    if process.returncode == 0:
        pytest.skip("it was through before the signal came")
    assert process.returncode == 128 + number
    assert f"{part}; --resume goes on with it" in said
    done = succeeded(*command[3:], "--resume", "--json").json
    assert done["frames"] == 400
    assert done["resumed_frames"] > 0
    assert not part.exists()


def test_a_full_disk_keeps_what_was_written(zoo: Path, tmp_path: Path) -> None:
    write_video(tmp_path / "in.mkv", Video("ffv1", count=300), "longer than the disk is large")
    code = (
        "import resource, sys\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "from bdflow_rt.cli.main import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    command = ["downscale", str(tmp_path / "in.mkv"), "-o", str(tmp_path / "lr.mkv"), "-m", "tiny-x2"]
    done = subprocess.run([sys.executable, "-c", code, *command], capture_output=True, text=True, check=False)
    assert done.returncode == 4, done.stderr
    assert "could not be written on" in done.stderr
    assert "--resume" in done.stderr
    assert json.loads((tmp_path / "lr.mkv.part.json").read_text())["direction"] == "downscale"
    again = succeeded(*command, "--resume", "--json").json
    assert again["frames"] == 300
    assert again["resumed_frames"] > 0


def test_info_says_what_the_header_of_a_video_says(lr: Path, clip: Path) -> None:
    told = succeeded("info", lr)
    assert "48 x 32 video of a 96 x 64 original" in told.out
    assert "LR pictures in h264" in told.out
    info = succeeded("info", lr, "--json").json
    assert {
        "codec": "h264",
        "frame_data": "rows",
        "lr_is_exact": True,
        "bits": 2,
        "hr_size": [96, 64],
    }.items() <= info.items()
    failed(bdflow("info", clip), 5, "ordinary video")


def test_numbered_pictures_that_exist_are_refused_replaced_or_left(lr: Path, tmp_path: Path) -> None:
    folder = tmp_path / "frames"
    folder.mkdir()
    (folder / "7.png").write_bytes(b"an older one")
    out = folder / "%d.png"
    failed(bdflow("upscale", lr, "-o", out), 4, "--overwrite")
    assert "exists and was left as it is" in succeeded("upscale", lr, "-o", out, "--no-clobber").err
    assert [path.name for path in folder.iterdir()] == ["7.png"]
    assert bdflow("upscale", lr, "-o", out, "--overwrite").code == 0
    assert sorted(folder.iterdir()) == sorted(folder / f"{number}.png" for number in range(1, 25))


def test_an_interrupted_run_is_no_output_that_is_left(zoo: Path, clip: Path, tmp_path: Path) -> None:
    part_path(tmp_path / "lr.mkv").write_bytes(b"begun")
    failed(bdflow("downscale", clip, "-o", tmp_path / "lr.mkv", "--no-clobber"), 4, "--resume")


def test_a_folder_without_a_rate_asks_for_it(zoo: Path, source: Path, tmp_path: Path) -> None:
    folder = tmp_path / "frames"
    folder.mkdir()
    (folder / "1.png").write_bytes(source.read_bytes())
    failed(bdflow("downscale", folder, "-o", tmp_path / "lr.mkv"), 3, "is a folder", "--fps")
