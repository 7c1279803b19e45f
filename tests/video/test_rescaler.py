"""`VideoRescaler`: files, iterators of restored frames, and frames that the caller has."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bdflow_rt.engines.front import NV12
from bdflow_rt.errors import ArgumentError, PacketMismatchError, ShapeError, UnknownModelError
from bdflow_rt.video import Frame, LrFrame, StreamOptions, VideoRescaler, video_options
from bdflow_rt.video.av_source import AvSource
from tests.video.clips import Clips
from tests.video.numbered import draw_frame


@pytest.fixture
def model(tiny_zoo: Path) -> Path:
    return tiny_zoo / "tiny-x2@1"


@pytest.fixture
def rescaler(model: Path) -> Iterator[VideoRescaler]:
    with VideoRescaler(model, threads=3) as rescaler:
        yield rescaler


def pictures(count: int, height: int = 37, width: int = 53) -> list[Any]:
    return [draw_frame(number, width, height) for number in range(count)]


def test_frames_of_an_array_come_down_and_up_as_single_pictures_do(rescaler: VideoRescaler) -> None:
    frames = pictures(9)
    single = [rescaler.rescaler.downscale(one) for one in frames]
    streamed = list(rescaler.stream(iter(frames)))
    assert [one.pts for one in streamed] == list(range(9))
    for packet, (lr, boundary) in zip(single, streamed, strict=True):
        assert np.array_equal(packet.lr, lr)
        assert packet.boundary is not None
        assert np.array_equal(packet.boundary, boundary)
    restored = list(rescaler.restore(streamed, size=(37, 53)))
    for packet, frame in zip(single, restored, strict=True):
        assert np.array_equal(rescaler.rescaler.upscale(packet), frame.pixels)


def test_timestamps_pass_through_both_ways(rescaler: VideoRescaler) -> None:
    times = [(-7, 3), (-4, 0), (11, 90), (10**12, 1)]
    frames = [Frame(pixels, *time) for pixels, time in zip(pictures(4), times, strict=True)]
    down = list(rescaler.stream(frames))
    assert [(one.pts, one.duration) for one in down] == times
    assert [(one.pts, one.duration) for one in rescaler.restore(down, size=(37, 53))] == times


def test_pairs_without_more_are_restored(rescaler: VideoRescaler) -> None:
    down = [(one.lr, one.boundary) for one in rescaler.stream(pictures(3))]
    assert [one.pts for one in rescaler.restore(down, size=(37, 53))] == [0, 1, 2]


def test_nv12_frames_are_not_converted_beforehand(rescaler: VideoRescaler) -> None:
    front = NV12("bt709", "limited")
    rng = np.random.default_rng(0)
    pairs = [
        (rng.integers(16, 236, (38, 54), dtype=np.uint8), rng.integers(16, 241, (19, 27, 2), dtype=np.uint8))
        for _ in range(3)
    ]
    down = list(rescaler.stream(pairs, front=front))
    for pair, frame in zip(pairs, down, strict=True):
        assert np.array_equal(rescaler.rescaler.downscale(pair, front=front).lr, frame.lr)
    for restored in rescaler.restore(down, size=(38, 54), front=front):
        luma, chroma = restored.pixels
        assert (luma.shape, chroma.shape) == ((38, 54), (19, 27, 2))


def test_a_file_is_restored_frame_by_frame(rescaler: VideoRescaler, clips: Clips, tmp_path: Path) -> None:
    path = clips["everything"][0]
    rescaler.downscale(path, tmp_path / "lr.mkv")
    with AvSource(path) as source:
        expected = [(one.pts, rescaler.rescaler.downscale(one.pixels)) for one in source if isinstance(one, Frame)]
    frames = list(rescaler.upscale(tmp_path / "lr.mkv"))
    assert [one.pts for one in frames] == [pts for pts, _ in expected]
    for frame, (_, packet) in zip(frames, expected, strict=True):
        assert np.array_equal(frame.pixels, rescaler.rescaler.upscale(packet))


def test_an_iterator_that_is_left_early_ends_its_threads_and_lets_the_file_go(
    rescaler: VideoRescaler, clips: Clips, tmp_path: Path
) -> None:
    rescaler.downscale(clips["h264"][0], tmp_path / "lr.mkv")
    frames = rescaler.upscale(tmp_path / "lr.mkv")
    next(frames)
    frames.close()  # type: ignore[attr-defined]
    (tmp_path / "lr.mkv").unlink()
    assert len(list(rescaler.stream(pictures(4)))) == 4


def test_frames_of_changing_size_are_streamed_as_they_are(rescaler: VideoRescaler) -> None:
    """Every frame is a picture of its own to a caller who has them; files have one size."""
    frames = [*pictures(2), *pictures(2, 20, 30)]
    assert [one.lr.shape for one in rescaler.stream(frames)] == [(19, 27, 3)] * 2 + [(10, 15, 3)] * 2


def test_what_is_no_frame_is_refused_in_its_place(rescaler: VideoRescaler) -> None:
    given = rescaler.stream([*pictures(2), np.zeros((4, 4, 5), np.uint8)])
    assert [next(given).pts, next(given).pts] == [0, 1]
    with pytest.raises(ShapeError):
        next(given)
    with pytest.raises(ArgumentError, match="is a name"):
        next(rescaler.stream("clip.mp4"))
    with pytest.raises(PacketMismatchError):
        next(rescaler.restore([(np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4), np.uint8))], size=(37, 53)))


def test_live_frames_may_be_left_out(rescaler: VideoRescaler) -> None:
    options = StreamOptions(when_full="drop-oldest")
    given = [one.pts for one in rescaler.stream(pictures(200), options=options)]
    assert given == sorted(set(given))
    assert given[-1] == 199


def test_the_model_of_an_lr_video_is_found(
    rescaler: VideoRescaler, model: Path, clips: Clips, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rescaler.downscale(clips["h264"][0], tmp_path / "lr.mkv")
    with pytest.raises(UnknownModelError):
        VideoRescaler.for_video(tmp_path / "lr.mkv")
    monkeypatch.setenv("BDFLOW_ZOO", str(model.parent))
    with VideoRescaler.for_video(tmp_path / "lr.mkv", threads=1) as found:
        assert found.rescaler.card.id == rescaler.rescaler.card.id
        assert sum(isinstance(one, Frame) for one in found.upscale(tmp_path / "lr.mkv")) == 24


@pytest.mark.parametrize(
    ("given", "workers", "limit"),
    [
        ({"threads": 1}, 1, 1024), ({"threads": 3}, 3, 1536), ({"threads": 64}, 4, 2048),
        ({"threads": 3, "memory_limit_mib": 700}, 3, 700), ({"workers": 2, "threads": 8}, 2, 1024),
        ({"device": "cuda", "threads": 8}, 1, 1024),
    ],
)  # fmt: skip
def test_workers_share_the_cores_unless_they_are_given(given: Any, workers: int, limit: float) -> None:
    options = video_options(**given)
    assert (options.workers, options.memory_limit_mib) == (workers, limit)


def test_an_lr_frame_unpacks_to_its_arrays(rescaler: VideoRescaler) -> None:
    (frame,) = rescaler.stream(pictures(1))
    assert isinstance(frame, LrFrame)
    lr, boundary = frame
    assert lr is frame.lr
    assert boundary is frame.boundary
