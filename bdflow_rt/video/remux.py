"""From the part file to the file that was asked for: another container, with the exact timestamps."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Mapping, Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av

from bdflow_rt.errors import ArgumentError, UnwritableOutputError
from bdflow_rt.video.frames import Problems
from bdflow_rt.video.part import can_hold, typed_writing
from bdflow_rt.video.subtitles import Cue
from bdflow_rt.video.text_track import TextTrack, codec_of

_FORMATS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".webm": "webm"}
"""Containers beside Matroska by suffix, and FFmpeg's names of their muxers."""
MATROSKA = ".mkv"
SUFFIXES = (MATROSKA, *_FORMATS)
_FAST_START = {".mp4": "+faststart", ".m4v": "+faststart", ".mov": "+faststart"}
_MAX_TICKS = 2**31
"""Of the duration of a frame in MP4 and MOV, in which FFmpeg takes no more."""
_NEARLY_S = Fraction(1, 1000)
"""Matroska's timestamps are whole milliseconds."""


def check_container(suffix: str, encoder: str) -> None:
    """Check, before long work, that a container holds a codec.

    Raises:
        ArgumentError: it does not.
    """
    if suffix == MATROSKA:
        return
    codec = av.Codec(encoder, "w").canonical_name
    if suffix == ".webm" and codec not in ("vp8", "vp9", "av1"):
        raise ArgumentError(f"A .webm file holds VP9 or AV1, and the codec is {codec}; take codec vp9, or write .mkv.")
    if codec == "ffv1":
        raise ArgumentError(f"A {suffix} file cannot hold FFV1; write .mkv.")
    if suffix == ".mov" and codec in ("vp9", "av1"):
        raise ArgumentError(f"A .mov file cannot hold {codec.upper()}; write .mp4 or .mkv.")


def finish_as(target: Path, part: Path, pts: Sequence[int], time_base: Fraction, *, problems: Problems) -> None:
    """Make a part file the target, in the container that its suffix says; see `_remux`.

    Raises:
        DiskFullError, UnwritableOutputError: it cannot be written; the part file stays.
    """
    if target.suffix.lower() == MATROSKA:
        part.replace(target)
        return
    temporary = target.with_name(f"{target.name}.part{target.suffix.lower()}")
    try:
        with typed_writing(temporary):
            _remux(part, temporary, pts, time_base, problems=problems)
            with open(temporary, "rb") as file:
                os.fsync(file.fileno())
            temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
    part.unlink()


def _remux(part: Path, target: Path, pts: Sequence[int], time_base: Fraction, *, problems: Problems) -> None:
    """Write a part file's packets to the target's container; the video's timestamps are replaced by exact ones.

    Args:
        part: a Matroska file with one video track.
        target: a file with a suffix of `SUFFIXES`, but of Matroska's.
        pts: timestamps of the frames, ascending, in units of `time_base`.
        time_base: seconds per unit.
        problems: where what the container cannot hold is named.
    """
    suffix = target.suffix.lower()
    shown, delay = _order(part)
    options = {"movflags": _FAST_START[suffix]} if suffix in _FAST_START else {}
    with (
        av.open(str(part), format="matroska") as source,
        av.open(str(target), "w", format=_FORMATS[suffix], container_options=options) as sink,
    ):
        sink.metadata.update(source.metadata)
        video, *others = _streams(source)
        outputs: dict[int, Any] = {video.index: sink.add_stream_from_template(video, opaque=True)}
        outputs[video.index].time_base = time_base
        outputs[video.index].metadata.update(video.metadata)
        copies, texts = _add_others(sink, others, suffix, problems=problems)
        outputs |= copies
        if any(isinstance(stream, av.stream.AttachmentStream) for stream in source.streams):
            problems.say(f"{suffix} files cannot hold attachments; they stay behind. Write .mkv to keep them.")
        if source.chapters():
            sink.set_chapters(source.chapters())
        sink.start_encoding()
        _check_gaps(pts, time_base, outputs[video.index].time_base, suffix=suffix, part=part)
        clocks = {stream.index: _AudioClock(stream) for stream in others if stream.type == "audio"}
        subtitles = deque(_subtitles(part, texts))
        index = 0
        for packet in source.demux(*[stream for stream in source.streams if stream.index in outputs]):
            if not packet.size:
                continue
            place = packet.stream.index
            if place == video.index:
                packet.time_base = time_base
                packet.pts = pts[shown[index]]
                packet.dts = _decoding_time(pts, index - delay)
                packet.duration = _duration(pts, shown[index])
                index += 1
                while subtitles and subtitles[0].pts * subtitles[0].time_base <= packet.dts * time_base:
                    sink.mux_one(subtitles.popleft())
            elif place in clocks:
                clocks[place].make_exact(packet)
            packet.stream = outputs[place]
            sink.mux_one(packet)
        for packet in subtitles:
            sink.mux_one(packet)


def _add_others(
    sink: Any, streams: Sequence[Any], suffix: str, *, problems: Problems
) -> tuple[dict[int, Any], dict[int, TextTrack]]:
    """The sink's streams of audio and subtitles that are copied, and those that go along as text, by source stream."""
    copies: dict[int, Any] = {}
    texts: dict[int, TextTrack] = {}
    for stream in streams:
        if can_hold(_FORMATS[suffix], stream):
            output = copies[stream.index] = sink.add_stream_from_template(stream)
        elif TextTrack.is_for(stream, _FORMATS[suffix]):
            texts[stream.index] = TextTrack(stream, _FORMATS[suffix], sink, problems)
            output = texts[stream.index].stream
        else:
            problems.say(
                f"{suffix} files cannot hold {stream.type} of {codec_of(stream)}; it stays behind. Write .mkv to keep "
                "it."
            )
            continue
        output.metadata.update(stream.metadata)
        output.disposition = stream.disposition
    return copies, texts


def _check_gaps(pts: Sequence[int], time_base: Fraction, tick: Fraction, *, suffix: str, part: Path) -> None:
    """Refuse a frame that lasts longer than a container can say.

    Raises:
        UnwritableOutputError: there is one.
    """
    longest = max((after - before for before, after in pairwise(pts)), default=0) * time_base
    if suffix in _FAST_START and longest / tick >= _MAX_TICKS:
        raise UnwritableOutputError(
            f"A {suffix} file cannot hold a frame that lasts {float(longest):.0f} s, as one before a gap in this video "
            f"does. '{part}' has all of it: rename that, or cut it at the gap."
        )


def _streams(source: Any) -> list[Any]:
    """The video track, then audio and subtitles."""
    return [source.streams.video[0], *source.streams.audio, *source.streams.subtitles]


def _subtitles(part: Path, texts: Mapping[int, TextTrack]) -> list[Any]:
    """The packets of the text tracks as the target has them, by time; they are read ahead, for they may overlap."""
    if not texts:
        return []
    cues: dict[int, list[Cue]] = {index: [] for index in texts}
    with av.open(str(part), format="matroska") as source:
        for packet in source.demux(*(source.streams[index] for index in texts)):
            cue = texts[packet.stream.index].cue(packet) if packet.size else None
            if cue is not None:
                cues[packet.stream.index].append(cue)
    packets = [packet for index, text in texts.items() for packet in text.packets(cues[index])]
    return sorted(packets, key=lambda packet: packet.pts)


def _order(part: Path) -> tuple[list[int], int]:
    """Of each packet of the video, in the order of decoding, its place when shown; and the delay between the two."""
    with av.open(str(part), format="matroska") as source:
        times = [packet.pts or 0 for packet in source.demux(source.streams.video[0]) if packet.size]
    by_time = sorted(range(len(times)), key=times.__getitem__)
    shown = [0] * len(times)
    for place, index in enumerate(by_time):
        shown[index] = place
    return shown, max((index - place for index, place in enumerate(shown)), default=0)


def _decoding_time(pts: Sequence[int], place: int) -> int:
    """Timestamps in the order of decoding: those of showing, as late as the reordering asks."""
    if place >= 0:
        return pts[place]
    step = pts[1] - pts[0] if len(pts) > 1 else 1
    return pts[0] + place * step


def _duration(pts: Sequence[int], place: int) -> int:
    """From a frame to the next; the last one is as long as the one before."""
    if place + 1 < len(pts):
        return pts[place + 1] - pts[place]
    return pts[place] - pts[place - 1] if place else 1


class _AudioClock:
    """Audio packets follow one another without gaps of less than a millisecond, which Matroska's rounding makes."""

    def __init__(self, stream: Any) -> None:
        context = stream.codec_context
        self._rate, self._samples = context.sample_rate or 0, context.frame_size or 0
        self._next: int | None = None

    def make_exact(self, packet: Any) -> None:
        """Give a packet its time in samples, where its codec has as many in each."""
        if not self._rate or not self._samples or packet.pts is None:
            return
        base = Fraction(1, self._rate)
        at = packet.pts * packet.time_base
        exact = round(at / base)
        if self._next is not None and abs(self._next * base - at) <= _NEARLY_S:
            exact = self._next
        packet.time_base = base
        packet.pts = packet.dts = exact
        packet.duration = self._samples
        self._next = exact + self._samples
