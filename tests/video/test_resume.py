"""Interrupted videos: what a kill leaves can be played, and is continued to the same video."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from bdflow_rt.errors import OutputExistsError, ResumeError
from bdflow_rt.rescaler import Rescaler
from bdflow_rt.video import Encoding, downscale_video, upscale_video
from bdflow_rt.video.lr_file import LrFrame, LrSource
from bdflow_rt.video.meter import StreamStats
from bdflow_rt.video.part import part_path
from bdflow_rt.video.resume import Leftover, fingerprint, journal_path
from bdflow_rt.zoo import find_model
from tests.video.clip_writer import Video, make_long, write_video
from tests.video.clips import Clips, frame_number

CLUSTER = b"\x1f\x43\xb6\x75"
"""Begins each cluster of a Matroska file; FFmpeg opens none without."""
KILLED = """
import os, signal, sys
from bdflow_rt.rescaler import Rescaler
from bdflow_rt.video import Encoding, downscale_video, upscale_video
from bdflow_rt.zoo import find_model

what, model, source, target, at, resume = sys.argv[1:]
def stop(stats):
    if stats.kept + stats.frames == int(at):
        os.kill(os.getpid(), signal.SIGKILL)
with Rescaler(find_model(model), threads=1) as rescaler:
    options = {"progress": stop, "resume": resume == "1"}
    if what == "down":
        downscale_video(source, target, rescaler, **options)
    else:
        upscale_video(source, target, rescaler, encoding=Encoding(codec=what, preset=None), **options)
"""


def killed(what: str, model: Path, source: Path, target: Path, at: int, *, resume: bool = False) -> None:
    """Run in a process of its own that is killed after so many frames."""
    command = [sys.executable, "-c", KILLED, what, str(model), str(source), str(target), str(at), str(int(resume))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr


pytestmark = pytest.mark.filterwarnings("ignore:.*is missing in its boundary track")


def frames(path: Path) -> list[tuple[int, int, bytes]]:
    """Timestamp, CRC and content of every frame of an LR video."""
    with LrSource(path) as source:
        return [
            (
                one.data.pts,
                one.data.lr_crc32,
                one.lr.tobytes() + (b"" if one.boundary is None else one.boundary.tobytes()),
            )
            for one in source
            if isinstance(one, LrFrame)
        ]


def decoded(path: Path) -> list[tuple[Any, np.ndarray[Any, Any]]]:
    with av.open(str(path)) as container:
        return [(one.time, one.to_ndarray(format="rgb24")) for one in container.decode(video=0)]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """120 frames: several groups of 30."""
    path = tmp_path_factory.mktemp("resume") / "in.mkv"
    write_video(path, Video("ffv1", count=120), "long enough for several groups of 30 frames")
    return path


@pytest.fixture(scope="module")
def model(tiny_zoo: Path) -> Path:
    return tiny_zoo / "tiny-x2@1"


def test_a_killed_downscale_plays_and_goes_on_to_the_same_video(clip: Path, model: Path, tmp_path: Path) -> None:
    with Rescaler(find_model(model), threads=1) as rescaler:
        downscale_video(clip, tmp_path / "whole.mkv", rescaler)
        expected = frames(tmp_path / "whole.mkv")
        target = tmp_path / "lr.mkv"
        killed("down", model, clip, target, 100)
        left = frames(part_path(target))
        assert left == expected[: len(left)]
        assert len(left) >= 40
        with pytest.raises(OutputExistsError, match="interrupted"):
            downscale_video(clip, target, rescaler)
        killed("down", model, clip, target, 115, resume=True)  # and once more
        result = downscale_video(clip, target, rescaler, resume=True)
    assert result.resumed_frames >= 30
    assert result.frames == 120
    assert frames(target) == expected
    assert not part_path(target).exists()
    assert not journal_path(target).exists()


@pytest.mark.parametrize(("codec", "suffix"), [("ffv1", ".mkv"), ("h264", ".mp4")])
def test_a_killed_upscale_goes_on(clip: Path, model: Path, tmp_path: Path, codec: Any, suffix: str) -> None:
    with Rescaler(find_model(model), threads=1) as rescaler:
        downscale_video(clip, tmp_path / "lr.mkv", rescaler)
        encoding = Encoding(codec=codec)
        upscale_video(tmp_path / "lr.mkv", tmp_path / f"whole{suffix}", rescaler, encoding=encoding)
        target = tmp_path / f"hr{suffix}"
        killed(codec, model, tmp_path / "lr.mkv", target, 118)
        result = upscale_video(tmp_path / "lr.mkv", target, rescaler, encoding=encoding, resume=True)
    assert result.frames == 120
    expected, actual = decoded(tmp_path / f"whole{suffix}"), decoded(target)
    assert [time for time, _ in actual] == [time for time, _ in expected]
    if codec == "ffv1":
        assert result.resumed_frames >= 40
        assert all(np.array_equal(a, b) for (_, a), (_, b) in zip(actual, expected, strict=True))
    else:
        assert [frame_number(one) for _, one in actual] == list(range(120))


def test_lossy_groups_that_were_written_are_kept(clip: Path, model: Path, tmp_path: Path) -> None:
    """x264 with B-frames: the packets of whole groups are copied, and their pictures are the same."""
    encoding = Encoding(codec="h264", preset="ultrafast")
    target = tmp_path / "hr.mkv"
    with Rescaler(find_model(model), threads=1) as rescaler:
        downscale_video(clip, tmp_path / "lr.mkv", rescaler)

        def stop(stats: StreamStats) -> None:
            if stats.frames == 119:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            upscale_video(tmp_path / "lr.mkv", target, rescaler, encoding=encoding, progress=stop)
        result = upscale_video(tmp_path / "lr.mkv", target, rescaler, encoding=encoding, resume=True)
    assert [frame_number(one) for _, one in decoded(target)] == list(range(120))
    assert result.frames == 120


@pytest.mark.parametrize("change", ["source", "model", "codec", "part of the video", "journal", "nested journal"])
def test_what_was_begun_otherwise_is_refused_and_stays(
    clip: Path, model: Path, tiny_zoo: Path, tmp_path: Path, clips: Clips, change: str
) -> None:
    target = tmp_path / "lr.mkv"
    killed("down", model, clip, target, 70)
    before = part_path(target).read_bytes()
    used = tiny_zoo / "plain@1" if change == "model" else model
    source = clips["ffv1"][0] if change == "source" else clip
    changes: dict[str, dict[str, Any]] = {"codec": {"lr_codec": "ffv1"}, "part of the video": {"start": 1.0}}
    if "journal" in change:
        journal_path(target).write_text("[" * 60_000 if change == "nested journal" else "{")
    with Rescaler(find_model(used), threads=1) as rescaler, pytest.raises(ResumeError, match="cannot be continued"):
        downscale_video(source, target, rescaler, resume=True, **changes.get(change, {}))
    assert part_path(target).read_bytes() == before


def test_resume_without_a_part_begins(clip: Path, model: Path, tmp_path: Path) -> None:
    with Rescaler(find_model(model), threads=1) as rescaler:
        result = downscale_video(clip, tmp_path / "lr.mkv", rescaler, resume=True, duration=1.0)
    assert (result.frames, result.resumed_frames) == (24, 0)


def test_a_part_of_garbage_begins_anew(clip: Path, model: Path, tmp_path: Path) -> None:
    target = tmp_path / "lr.mkv"
    killed("down", model, clip, target, 70)
    part_path(target).write_bytes(b"\x1a\x45\xdf\xa3" + bytes(1000))
    with Rescaler(find_model(model), threads=1) as rescaler:
        result = downscale_video(clip, target, rescaler, resume=True)
    assert (result.frames, result.resumed_frames) == (120, 0)


def test_overwrite_begins_anew(clip: Path, model: Path, tmp_path: Path) -> None:
    target = tmp_path / "lr.mkv"
    killed("down", model, clip, target, 70)
    with Rescaler(find_model(model), threads=1) as rescaler:
        result = downscale_video(clip, target, rescaler, overwrite=True)
    assert (result.frames, result.resumed_frames) == (120, 0)


def test_a_fingerprint_tells_lengths_and_content_apart(tmp_path: Path) -> None:
    rng = random.Random(1)
    content = rng.randbytes(100_000)
    variants = [content, content[:-1], content + b"\0", content[:50_000] + b"x" + content[50_001:], b""]
    for index, one in enumerate(variants):
        (tmp_path / str(index)).write_bytes(one)
    assert len({fingerprint(tmp_path / str(index)) for index in range(len(variants))}) == len(variants)


def test_every_cut_of_a_part_can_be_continued(clip: Path, model: Path, tmp_path: Path) -> None:
    """A kill leaves any number of bytes; what `Leftover` counts is there, and whole groups."""
    target = tmp_path / "lr.mkv"
    killed("down", model, clip, target, 119)
    data = part_path(target).read_bytes()
    expected = frames(part_path(target))
    rng = random.Random(2)
    counts = set()
    for size in sorted(rng.randrange(len(data)) for _ in range(40)):
        cut = tmp_path / "cut.mkv"
        cut.write_bytes(data[:size])
        leftover = Leftover(cut, 2)
        assert len(list(leftover.packets())) == leftover.frames
        assert leftover.frames <= len(expected)
        assert leftover.frames % 30 == 0
        counts.add(leftover.frames)
    assert len(counts) > 2


@pytest.mark.slow
@pytest.mark.parametrize("what", ["down", "h264", "ffv1"])
def test_kills_at_random_moments_of_the_command_lose_nothing(
    what: str, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`kill -9` at 20 moments, each run going on with the last one's part; then the video is that of one run."""
    source = tmp_path / "in.mkv"
    make_long(source, seconds=60)
    with Rescaler(find_model(model), threads=1) as rescaler:
        downscale_video(source, tmp_path / "lr.mkv", rescaler)
        given, target = (
            (source, tmp_path / "out.mkv") if what == "down" else (tmp_path / "lr.mkv", tmp_path / "out.mkv")
        )
        command = "downscale" if what == "down" else "upscale"
        options = ["-m", str(model), "--threads", "1", "--quiet"] + ([] if what == "down" else ["--codec", what])
        whole = tmp_path / ("lr.mkv" if what == "down" else "whole.mkv")
        if what != "down":
            upscale_video(given, whole, rescaler, encoding=Encoding(codec=what))  # type: ignore[arg-type]
    arguments = [sys.executable, "-m", "bdflow_rt", command, str(given), "-o", str(target), "--resume", *options]
    rng, kills = random.Random(3), 0
    while kills < 20:
        target.unlink(missing_ok=True)
        while not target.exists():
            process = subprocess.Popen(arguments)
            try:
                process.wait(timeout=rng.uniform(0.8, 2.5) if kills < 20 else None)
                assert process.returncode == 0
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                kills += 1
                if part_path(target).exists() and CLUSTER in part_path(target).read_bytes():
                    with av.open(str(part_path(target))) as container:
                        assert container.streams.video
        if what == "down":
            assert frames(target) == frames(whole)
            continue
        actual, expected = decoded(target), decoded(whole)
        assert [time for time, _ in actual] == [time for time, _ in expected]
        for (_, one), (_, other) in zip(actual, expected, strict=True):
            assert np.array_equal(one, other) if what == "ffv1" else frame_number(one) == frame_number(other)
