"""Videos through pipes: from another program, through both directions, to another program."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from fractions import Fraction
from pathlib import Path
from typing import IO

import av
import pytest

from bdflow_rt.rescaler import Rescaler
from bdflow_rt.video.av_source import AvSource
from bdflow_rt.video.frames import Frame
from bdflow_rt.video.lr_file import LrFrame, LrSource
from bdflow_rt.zoo import find_model
from tests.cli.build import bdflow, failed, succeeded
from tests.video.clip_writer import Video, write_video
from tests.video.clips import Clips, frame_number

BDFLOW = (sys.executable, "-m", "bdflow_rt")
DOWN = ("downscale", "-", "-o", "-", "-m", "tiny-x2", "-q")
UP = ("upscale", "-", "-o", "-", "-q")


@pytest.fixture
def y4m(tmp_path: Path) -> Path:
    """24 frames without a tag of their colours."""
    write_video(tmp_path / "clip.y4m", Video("wrapped_avframe"), "uncoded", format="yuv4mpegpipe")
    return tmp_path / "clip.y4m"


@contextmanager
def started(*args: str, stdin: int | IO[bytes] | None = None, env: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """A command in a process of its own, which is gone in the end."""
    process = subprocess.Popen(
        [*BDFLOW, *args], stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, **env}
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait(30)
        for stream in (process.stdout, process.stderr, process.stdin):
            if stream is not None:
                stream.close()


@pytest.fixture
def environment(zoo: Path) -> dict[str, str]:
    return {"BDFLOW_ZOO": str(zoo)}


def piped(given: bytes, *commands: Sequence[str], env: dict[str, str]) -> bytes:
    """What comes out of commands that run at the same time, each reading what the one before writes."""
    with ExitStack() as stack:
        feed = stack.enter_context(
            subprocess.Popen([sys.executable, "-c", _CAT], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        )
        last = feed
        for command in commands:
            before = last.stdout
            last = stack.enter_context(started(*command, stdin=before, env=env))
            assert before is not None
            before.close()
        assert feed.stdin is not None
        writer = threading.Thread(target=_feed, args=(feed.stdin, given))
        writer.start()
        out, err = last.communicate(timeout=60)
        writer.join(30)
        assert last.returncode == 0, err
        return out


_CAT = "import shutil, sys; shutil.copyfileobj(sys.stdin.buffer, sys.stdout.buffer, 4096)"


def _feed(stream: IO[bytes], data: bytes) -> None:
    with stream:
        stream.write(data)


def hr_frames(path: Path) -> list[tuple[Fraction, bytes]]:
    with AvSource(path) as source:
        base = source.info.time_base
        return [(one.pts * base, one.pixels.tobytes()) for one in source if isinstance(one, Frame)]


def test_from_pipe_to_pipe_comes_what_comes_from_file_to_file(
    y4m: Path, zoo: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    out = tmp_path / "out.y4m"
    out.write_bytes(piped(y4m.read_bytes(), DOWN, UP, env=environment))
    succeeded("downscale", y4m, "-o", tmp_path / "lr.mkv", "-m", "tiny-x2", "-q")
    succeeded("upscale", tmp_path / "lr.mkv", "-o", tmp_path / "hr.mkv", "--codec", "ffv1", "-q")
    restored = hr_frames(tmp_path / "hr.mkv")
    assert len(restored) == 24
    with Rescaler(find_model(zoo / "tiny-x2@1"), threads=1) as rescaler, AvSource(y4m) as source:
        still = [rescaler.upscale(rescaler.downscale(one.pixels)) for one in source if isinstance(one, Frame)]
    assert [pixels for _, pixels in restored] == [one.tobytes() for one in still]
    # y4m has 4:2:0; what it says and how it is converted is in spec/colour.md.
    with AvSource(out) as source:
        frames = [one for one in source if isinstance(one, Frame)]
    assert [frame_number(one.pixels) for one in frames] == list(range(24))
    assert [round(one.pts * source.info.time_base * 24) for one in frames] == list(range(24))


def test_an_lr_video_from_a_pipe_has_the_same_frames_as_one_from_a_file(
    clips: Clips, zoo: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    """Variable timestamps, audio and tags of a Matroska file, written where nothing can be sought in."""
    path = clips["everything"][0]
    assert path.suffix == ".mkv"
    out = tmp_path / "out.mkv"
    out.write_bytes(piped(path.read_bytes(), DOWN, env=environment))
    succeeded("downscale", path, "-o", tmp_path / "lr.mkv", "-m", "tiny-x2", "-q")
    pictures, tracks = [], []
    for file in (out, tmp_path / "lr.mkv"):
        with LrSource(file) as source:
            items = list(source)
        pictures.append([(one.data, one.lr.tobytes()) for one in items if isinstance(one, LrFrame)])
        tracks.append(sorted((one.track, bytes(one.packet)) for one in items if not isinstance(one, LrFrame)))
    assert pictures[0] == pictures[1]
    assert tracks[0] == tracks[1]
    assert len(tracks[0]) > 10


def test_a_restored_video_can_go_on_as_matroska(
    clips: Clips, zoo: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    path = clips["audio_aac"][0]
    succeeded("downscale", path, "-o", tmp_path / "lr.mkv", "-m", "tiny-x2", "-q")
    out = tmp_path / "out.mkv"
    out.write_bytes(
        piped((tmp_path / "lr.mkv").read_bytes(), (*UP, "--format", "mkv", "--codec", "ffv1"), env=environment)
    )
    succeeded("upscale", tmp_path / "lr.mkv", "-o", tmp_path / "hr.mkv", "--codec", "ffv1", "-q")
    assert hr_frames(out) == hr_frames(tmp_path / "hr.mkv")
    with av.open(str(out)) as container:
        assert len(container.streams.audio) == 1


def test_an_mp4_whose_index_is_at_its_end_is_refused_by_name(
    clips: Clips, environment: dict[str, str], tmp_path: Path
) -> None:
    data = clips["audio_aac"][0].read_bytes()
    assert data.index(b"mdat") < data.index(b"moov")
    read, write = os.pipe()
    with started(*DOWN, stdin=read, env=environment) as process:
        os.close(read)
        with open(write, "wb", buffering=0) as stream:
            stream.write(data[:4096])
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (3, b"")
    assert b"index behind its frames" in err
    assert err.count(b"\n") == 1


def test_a_redirected_file_may_have_its_index_at_its_end(
    clips: Clips, environment: dict[str, str], tmp_path: Path
) -> None:
    with (
        clips["audio_aac"][0].open("rb") as file,
        started(
            "downscale", "-", "-o", str(tmp_path / "lr.mkv"), "-m", "tiny-x2", "--json", stdin=file, env=environment
        ) as process,
    ):
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert json.loads(out)["frames"] == 24


def test_the_header_of_an_lr_video_on_standard_input_is_shown(
    clips: Clips, zoo: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    succeeded("downscale", clips["h264"][0], "-o", tmp_path / "lr.mkv", "-m", "tiny-x2", "-q")
    told = json.loads(piped((tmp_path / "lr.mkv").read_bytes(), ("info", "-", "--json"), env=environment))
    assert (told["lr_size"], told["codec"]) == ([48, 32], "h264")


def test_an_ordinary_video_on_standard_input_cannot_be_restored(y4m: Path, environment: dict[str, str]) -> None:
    with y4m.open("rb") as file:
        read, write = os.pipe()
        with started(*UP, stdin=read, env=environment) as process:
            os.close(read)
            with open(write, "wb", buffering=0) as stream:
                stream.write(file.read(30000))
            _, err = process.communicate(timeout=60)
    assert process.returncode == 5
    assert b"ordinary video" in err


def test_a_reader_that_goes_away_ends_the_command_without_a_word(y4m: Path, environment: dict[str, str]) -> None:
    read, write = os.pipe()
    with started(*DOWN, stdin=read, env=environment) as process:
        os.close(read)
        assert process.stdout is not None
        with open(write, "wb", buffering=0) as stream:
            stream.write(y4m.read_bytes())
            process.stdout.read(100)
            process.stdout.close()
            try:
                while True:
                    stream.write(y4m.read_bytes()[-9222:])
            except BrokenPipeError:
                pass
        assert process.wait(60) == 141
        assert process.stderr is not None
        assert process.stderr.read() == b""


def test_a_writer_that_dies_leaves_a_video_of_what_came(y4m: Path, environment: dict[str, str], tmp_path: Path) -> None:
    data = y4m.read_bytes()
    out = tmp_path / "lr.mkv"
    read, write = os.pipe()
    with started("downscale", "-", "-o", str(out), "-m", "tiny-x2", stdin=read, env=environment) as process:
        os.close(read)
        with open(write, "wb", buffering=0) as stream:
            stream.write(data[: len(data) * 10 // 24 + 100])
        _, err = process.communicate(timeout=60)
    assert process.returncode == 3
    assert b"damaged" in err
    with LrSource(out) as source:
        assert len([one for one in source if isinstance(one, LrFrame)]) in (9, 10)


def test_a_writer_that_stalls_is_named_with_stage_and_frame(
    y4m: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    data = y4m.read_bytes()
    out = tmp_path / "lr.mkv"
    read, write = os.pipe()
    with started(
        "downscale", "-", "-o", str(out), "-m", "tiny-x2", "--timeout", "2", stdin=read, env=environment
    ) as process:
        os.close(read)
        with open(write, "wb", buffering=0) as stream:
            stream.write(data[: len(data) // 2])
            _, err = process.communicate(timeout=60)
    assert process.returncode == 9
    assert b"The read stage has made no progress for 2 s at frame 1" in err
    with LrSource(Path(f"{out}.part.mkv")) as source:
        assert len([one for one in source if isinstance(one, LrFrame)]) > 5


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_live_stream_with_a_valid_file(
    y4m: Path, environment: dict[str, str], tmp_path: Path, number: signal.Signals
) -> None:
    out = tmp_path / "lr.mkv"
    part = Path(f"{out}.part.mkv")
    read, write = os.pipe()
    data = y4m.read_bytes()
    with started("downscale", "-", "-o", str(out), "-m", "tiny-x2", stdin=read, env=environment) as process:
        os.close(read)
        with open(write, "wb", buffering=0) as stream:
            stream.write(data)
            while not part.exists() or part.stat().st_size < 20000:  # a frame of the last group
                stream.write(data[-9222:])
            process.send_signal(number)
            try:
                while process.poll() is None:
                    stream.write(data[-9222:])
            except BrokenPipeError:
                pass
        _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number, err
    with LrSource(part, strict=True) as source:
        assert len([one for one in source if isinstance(one, LrFrame)]) > 1


def test_what_a_pipe_cannot_have_is_refused_before_any_work(zoo: Path, clips: Clips, tmp_path: Path) -> None:
    clip = clips["h264"][0]
    failed(bdflow("downscale", clip, "-o", "/dev/stdout", "--resume"), 2, "--resume is for files")
    succeeded("downscale", clip, "-o", tmp_path / "lr.mkv", "-m", "tiny-x2", "-q")
    failed(bdflow("upscale", tmp_path / "lr.mkv", "-o", "/dev/stdout", "--crf", "20"), 2, "not for y4m")
    failed(bdflow("upscale", tmp_path / "lr.mkv", "-o", "/dev/stdout", "--format", "png"), 2, "--format is png")


def test_the_stats_say_what_limits(zoo: Path, clips: Clips, tmp_path: Path) -> None:
    succeeded(
        "downscale", clips["h264"][0], "-o", tmp_path / "lr.mkv", "-m", "tiny-x2", "-q", "--stats", tmp_path / "s.json"
    )
    stats = json.loads((tmp_path / "s.json").read_text())
    assert (stats["frames"], stats["dropped"]) == (24, 0)
    assert stats["limit"] in [stage["name"] for stage in stats["stages"]]
    assert all(stage["busy_s"] > 0 for stage in stats["stages"])
    assert stats["frames_per_second"] == pytest.approx(24 / stats["elapsed_s"])
