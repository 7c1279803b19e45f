"""Players of Debian accept what is written, and show the LR picture. Each is skipped where it is not installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from bdflow_rt.rescaler import Rescaler
from bdflow_rt.video import Encoding, downscale_video, upscale_video
from bdflow_rt.zoo import find_model
from tests.video.clips import Clips

pytestmark = pytest.mark.slow
SILENT = {"SDL_VIDEODRIVER": "dummy", "SDL_AUDIODRIVER": "dummy"}
SHOWN = {
    "lr-h264.mkv": ("h264", 48, 32), "lr-ffv1.mkv": ("ffv1", 48, 32), "hr.mp4": ("h264", 96, 64),
    "hr.mov": ("h264", 96, 64), "hr-ffv1.mkv": ("ffv1", 96, 64), "hr-hevc.mkv": ("hevc", 96, 64),
    "hr.webm": ("vp9", 96, 64), "hr-av1.mkv": ("av1", 96, 64),
}  # fmt: skip
"""What is written: codec, width and height of what is shown."""


@pytest.fixture(scope="module")
def folder(clips: Clips, tiny_zoo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of 24 frames with sound."""
    made = tmp_path_factory.mktemp("play")
    with Rescaler(find_model(tiny_zoo / "tiny-x2@1"), threads=1) as rescaler:
        downscale_video(clips["audio_opus"][0], made / "lr-h264.mkv", rescaler)
        downscale_video(clips["audio_opus"][0], made / "lr-ffv1.mkv", rescaler, lr_codec="ffv1")
        encodings = {
            "hr.mp4": Encoding(), "hr.mov": Encoding(preset="veryfast"), "hr-ffv1.mkv": Encoding(codec="ffv1"),
            "hr-hevc.mkv": Encoding(codec="hevc", preset="ultrafast"), "hr.webm": Encoding(codec="vp9", preset="8"),
            "hr-av1.mkv": Encoding(codec="av1", preset="10"),
        }  # fmt: skip
        for name, encoding in encodings.items():
            upscale_video(made / "lr-h264.mkv", made / name, rescaler, encoding=encoding)
    return made


def run(*command: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a player, which must end by itself."""
    if shutil.which(str(command[0])) is None:
        pytest.skip(f"{command[0]} is not installed")
    return subprocess.run(
        [str(part) for part in command], env={**os.environ, **variables}, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("name", SHOWN)
def test_ffprobe_finds_every_frame_of_the_track_that_is_shown(folder: Path, name: str) -> None:
    done = run(
        "ffprobe", "-v", "error", "-count_frames", "-select_streams", "v:0", "-of", "csv=p=0",
        "-show_entries", "stream=codec_name,width,height,nb_read_frames:stream_disposition=default", folder / name,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    codec, width, height = SHOWN[name]
    fields = done.stdout.strip().rstrip(",").split(",")
    assert fields[:3] == [codec, str(width), str(height)]
    assert "24" in fields[3:]
    if name.startswith("lr"):  # the second track must not be the one that players take
        assert "1" in fields[3:]


@pytest.mark.parametrize("name", SHOWN)
def test_ffplay_plays_it(folder: Path, name: str) -> None:
    done = run("ffplay", "-v", "error", "-autoexit", folder / name, **SILENT)
    assert (done.returncode, done.stderr.strip()) == (0, "")


@pytest.mark.parametrize("name", SHOWN)
def test_mpv_plays_it_and_before_0_38_no_ffv1(folder: Path, name: str) -> None:
    done = run("mpv", "--no-config", "--vo=null", "--ao=null", folder / name)
    if "ffv1" in name and done.returncode:  # FFmpeg 8 names it as only mpv from 0.38 on knows it
        assert "V_FFV1" in done.stdout + done.stderr or "No video or audio streams" in done.stdout
        return
    codec, width, height = SHOWN[name]
    assert done.returncode == 0
    assert f"{codec} {width}x{height}" in done.stdout
    assert "VO: [null]" in done.stdout


@pytest.mark.parametrize("name", SHOWN)
def test_vlc_plays_it(folder: Path, name: str) -> None:
    # VLC refuses to run as root.
    user: tuple[str, ...] = ("runuser", "-u", "nobody", "--") if os.geteuid() == 0 else ()
    if shutil.which("cvlc") is None:
        pytest.skip("cvlc is not installed")
    with tempfile.TemporaryDirectory() as readable:
        os.chmod(readable, 0o755)
        path = shutil.copy(folder / name, readable)
        done = run(
            *user, "env", f"HOME={readable}", "cvlc", "-vv", "--no-color", "--intf", "dummy", "--vout", "dummy",
            "--aout", "dummy", "--play-and-exit", path, "vlc://quit",
        )  # fmt: skip
    assert done.returncode == 0
    assert "using video decoder module" in done.stderr
    assert "using vout display module" in done.stderr or "dummy" in done.stderr
    errors = [line for line in done.stderr.splitlines() if "decoder error" in line or "demux error" in line]
    assert errors == []
