"""Subtitle tracks that go along as text, in the form that another container has for them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from functools import partial
from typing import Any

import av

from bdflow_rt.video.frames import Problems
from bdflow_rt.video.subtitles import (
    NO_END,
    TOO_LATE,
    TOO_LONG,
    Cue,
    Text,
    is_too_long,
    one_at_a_time,
    read_subrip,
    read_timed_text,
    read_webvtt,
    write_subrip,
    write_timed_text,
    write_webvtt,
)

_FORMS = {"matroska": "subrip", "mp4": "mov_text", "mov": "mov_text", "webm": "webvtt"}
"""Muxer -> codec in which it holds text."""
_READERS: dict[str, Callable[[bytes], Text]] = {
    "mov_text": read_timed_text, "subrip": read_subrip, "webvtt": read_webvtt,
}  # fmt: skip
_WRITERS: dict[str, Callable[[Text], bytes]] = {
    "mov_text": write_timed_text, "subrip": write_subrip, "webvtt": write_webvtt,
}  # fmt: skip
_STYLE = (
    b"[V4+ Styles]\r\nFormat: Name, Fontname, Fontsize, PrimaryColour, BackColour, Alignment\r\n"
    b"Style: Default,Arial,16,&Hffffff,&H0,2\r\n"
)
"""From which FFmpeg's encoder makes the sample description of timed text: what its command line writes, too."""
_MILLISECOND = Fraction(1, 1000)
_ASSUMED_MS = 3000
_LAST_MS = (1 << 31) - 1
"""24 days: what MP4 counts to in milliseconds."""


class TextTrack:
    """A text track of one container on its way to another one, which does not hold its codec.

    Args:
        template: the source's stream.
        container: FFmpeg's name of the sink's muxer.
        sink: an output container; the track's stream is added to it, as `stream`.
        problems: where what does not go along is named.
    """

    def __init__(self, template: Any, container: str, sink: Any, problems: Problems) -> None:
        self._sink, self._problems = sink, problems
        self._form = _FORMS[container]
        codec = codec_of(template)
        self._read = _READERS[codec]
        if codec == "mov_text":
            self._read = partial(read_timed_text, description=bytes(template.codec_context.extradata or b""))
        if self._form == "mov_text":
            self.stream = sink.add_stream("mov_text", time_base=_MILLISECOND)
            self.stream.codec_context.subtitle_header = _STYLE
        else:
            self.stream = sink.add_mux_stream(self._form, time_base=_MILLISECOND)
        self._now = 0

    @staticmethod
    def is_for(template: Any, container: str) -> bool:
        """Whether a container can have the text of a track."""
        return container in _FORMS and codec_of(template) in _READERS

    def cue(self, packet: Any) -> Cue | None:
        """What a packet of the source shows; None for a gap, and where it is never shown."""
        text = self._read(bytes(packet))
        self._say(text.notices)
        at = packet.pts if packet.pts is not None else packet.dts
        if not text or at is None:
            return None
        base = packet.time_base / _MILLISECOND
        start = round(at * base)
        if packet.duration and packet.duration > 0:
            end = max(round((at + packet.duration) * base), start + 1)
        else:
            end = start + _ASSUMED_MS
            self._say([NO_END])
        if end > _LAST_MS:
            self._say([TOO_LATE])
        start, end = max(start, 0), min(end, _LAST_MS)
        return Cue(start, end, text) if start < end else None

    def packets(self, cues: Iterable[Cue]) -> Iterator[Any]:
        """The sink's packets of cues in any order, which ascend."""
        in_order = sorted(cues, key=lambda cue: cue.start)
        for cue in one_at_a_time(in_order) if self._form == "mov_text" else in_order:
            yield self.packet(cue)

    def packet(self, cue: Cue) -> Any:
        """The sink's packet of a cue; one that begins before the cue before it begins with that one."""
        self._say(cue.text.notices)
        if self._form == "mov_text" and is_too_long(cue.text):
            self._say([TOO_LONG])
        packet: Any = av.Packet(_WRITERS[self._form](cue.text))
        self._now = max(self._now, cue.start)
        packet.pts = packet.dts = self._now
        packet.duration = max(cue.end - self._now, 1)
        packet.time_base, packet.stream, packet.is_keyframe = _MILLISECOND, self.stream, True
        return packet

    def _say(self, notices: Iterable[str]) -> None:
        for notice in notices:
            self._problems.say(notice)


def codec_of(stream: Any) -> str:
    """FFmpeg's name of a stream's codec, whatever decodes it."""
    return str(stream.codec_context.codec.canonical_name) if stream.codec_context else "unknown"
