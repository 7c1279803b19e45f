"""A part of a clip: its frames, what else begins in it, and from where on it is decoded."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest

from bdflow_rt.errors import ArgumentError
from bdflow_rt.video.av_source import AvSource
from bdflow_rt.video.clock import Span
from bdflow_rt.video.frames import Frame, TrackPacket
from tests.video.clip_writer import Audio, Video, add_audio, add_video, audio_packets, open_output, video_packets
from tests.video.clips import Clips, frame_number

SECONDS = 24
LONG: dict[str, tuple[Video, dict[str, str]]] = {
    "b_frames.mp4": (Video(options={"g": "30"}), {}),
    "fragmented.mp4": (Video(options={"g": "40"}), {"movflags": "frag_keyframe+empty_moov"}),
    "open_groups.mkv": (Video(options={"g": "20", "x264-params": "open-gop=1"}), {}),
    "no_index.mkv": (Video(options={"g": "20"}), {"live": "1"}),
    "one_key_frame.mkv": (Video(options={"g": "9999"}), {}),
    "hevc.mp4": (Video("libx265"), {}),
    "clock_from_9_hours.ts": (Video(), {"output_ts_offset": "32400"}),
}
"""Name -> its video, and options of its container."""


def read(path: Path, span: Span | None = None) -> tuple[list[Frame], list[TrackPacket], AvSource]:
    """Everything that comes out of a part."""
    with AvSource(path, span=span) as source:
        items = list(source)
    frames = [item for item in items if isinstance(item, Frame)]
    return frames, [item for item in items if isinstance(item, TrackPacket)], source


@pytest.fixture(scope="module")
def long_clip(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Clips of 24 seconds, 5 frames in each, with a tone; written when they are first asked for."""
    folder = tmp_path_factory.mktemp("long")

    def write(name: str) -> Path:
        path = folder / name
        if not path.exists():
            video, options = LONG[name]
            values: dict[str, Any] = {**vars(video), "rate": Fraction(5), "count": 5 * SECONDS}
            video = Video(**values)
            audio = Audio(count=SECONDS * 48000 // 1024)
            with open_output(path, **options) as output:
                pictures, sound = add_video(output, video), add_audio(output, audio)
                packets = [*video_packets(pictures, video), *audio_packets(sound, audio)]
                output.mux(sorted(packets, key=lambda packet: (packet.dts or 0) * packet.time_base))
        return path

    return write


@pytest.mark.parametrize(("start", "duration"), [(0.5, None), (0.25, 0.25), (0.0, 0.3), (0.99, 5.0)])
def test_a_part_has_the_frames_of_that_time_and_starts_near_0(
    clips: Clips, start: float, duration: float | None
) -> None:
    path, facts = clips["everything"]
    whole, _, source = read(path)
    part, packets, _ = read(path, span=Span(start, duration))
    base = source.info.time_base
    end = float("inf") if duration is None else start + duration
    expected = [frame for frame in whole if start <= float(frame.pts * base) < end]
    assert [frame_number(one.pixels) for one in part] == [frame_number(one.pixels) for one in expected]
    assert [one.pts for one in part] == [one.pts - round(start / base) for one in expected]
    assert len(packets) < sum(map(len, facts.packets.values()))


def test_a_start_in_decimals_takes_the_frame_that_is_due_then() -> None:
    assert Span(0.1).takes(Fraction(1, 10))
    assert not Span(0.1, 0.2).takes(Fraction(3, 10))


@pytest.mark.parametrize(("start", "duration"), [(-1, None), (0, 0), (float("nan"), None), ("1", None), (0, -2)])
def test_times_that_are_none_are_refused(start: Any, duration: Any) -> None:
    with pytest.raises(ArgumentError, match=r"(start|duration) is"):
        Span(start, duration)


def moved_back(one: Frame | TrackPacket, base: Fraction, by: Fraction) -> tuple[int, str]:
    """Time before it was moved, and what is due then, as a hash."""
    if isinstance(one, Frame):
        return one.pts + round(by / base), hashlib.sha256(one.pixels.tobytes()).hexdigest()
    base = one.packet.time_base
    return one.packet.pts + round(by / base), hashlib.sha256(bytes(one.packet)).hexdigest()


@pytest.mark.parametrize("name", LONG)
@pytest.mark.parametrize(("start", "duration", "count"), [(17.3, 1.5, 7), (12.0, None, 60), (0.0, 3.0, 15)])
def test_a_part_is_what_the_whole_has_of_that_time(
    long_clip: Callable[[str], Path], name: str, start: float, duration: float | None, count: int
) -> None:
    """Nothing is missing, though what lies well before it is not decoded where the container has an index."""
    path = long_clip(name)
    frames, packets, whole = read(path)
    part_frames, part_packets, part = read(path, Span(start, duration))
    with av.open(str(path)) as container:
        assert container.start_time is not None
        origin = max(Fraction(container.start_time, av.time_base), Fraction(0))
    first, base = origin + Fraction(repr(start)), whole.info.time_base
    after = None if duration is None else first + Fraction(repr(duration))
    for kept, everything in ((part_frames, frames), (part_packets, packets)):
        by = first if start else Fraction(0)
        assert [moved_back(one, base, by) for one in kept] == [
            (pts, digest)
            for one in everything
            for pts, digest in [moved_back(one, base, Fraction(0))]
            for time in [pts * (base if isinstance(one, Frame) else one.packet.time_base)]
            if (not start or time >= first) and (after is None or time < after)
        ]
    assert abs(len(part_frames) - count) <= 2  # fragments begin where B-frames delay them to
    assert part.problems == whole.problems


@pytest.mark.parametrize("name", ["b_frames.mp4", "open_groups.mkv"])
def test_what_lies_well_before_a_part_is_not_decoded(
    long_clip: Callable[[str], Path], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded = 0
    frames_of = AvSource._frames_of

    def count(source: AvSource, packet: Any) -> Any:
        nonlocal decoded
        decoded += packet.size > 0
        return frames_of(source, packet)

    monkeypatch.setattr(AvSource, "_frames_of", count)
    assert len(read(long_clip(name), Span(20.0, 1.0))[0]) == 5
    assert decoded < 5 * 20
