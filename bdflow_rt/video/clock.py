"""Timestamps: which frames are taken, and what becomes of a timestamp that is missing, goes back, or is below 0."""

from __future__ import annotations

import math
from copy import copy
from fractions import Fraction
from typing import Any

from bdflow_rt.containers.matroska import MAX_DURATION
from bdflow_rt.errors import ArgumentError, describe
from bdflow_rt.video.frames import Problems, VideoInfo

_ASSUMED_RATE = Fraction(25)
"""Frames per second of a bare stream that says nothing of time."""


class Span:
    """The part of a video that is taken, in seconds since its beginning.

    Args:
        start: from when on.
        duration: how long; None is to the end.

    Attributes:
        start: as a fraction.

    Raises:
        ArgumentError: one of them is no number, negative, or a duration of 0.
    """

    def __init__(self, start: float = 0, duration: float | None = None) -> None:
        for name, value, least in (("start", start, "0"), ("duration", duration, "more than 0")):
            if value is None and name == "duration":
                continue
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
                raise ArgumentError(f"{name} is {describe(value)}; it must be a number of seconds.")
            if value < 0 or (value == 0 and name == "duration"):
                raise ArgumentError(f"{name} is {value:g} s; it must be {least}.")
        # As written: 0.1 is a tenth, at which a frame may be due, and not the double above it.
        self.start = Fraction(repr(start))
        self._end = None if duration is None else self.start + Fraction(repr(duration))

    def since(self, begin: Fraction) -> Span:
        """The same part of a video whose own time at its beginning is not 0 but `begin`, in seconds."""
        part = copy(self)
        part.start = self.start + begin if self.start else self.start
        part._end = None if self._end is None else self._end + begin
        return part

    def takes(self, time: Fraction) -> bool:
        """Whether what begins at that second is taken."""
        return (not self.start or time >= self.start) and not self.is_past(time)

    def is_past(self, time: Fraction) -> bool:
        """Whether nothing that begins at that second or later is taken."""
        return self._end is not None and time >= self._end

    def moved(self, timestamp: int, time_base: Fraction) -> int:
        """A timestamp when the first one that is taken is near 0; the same where the whole video is taken."""
        return timestamp - round(self.start / time_base)


class Clock:
    """Gives each frame its timestamp: the container's own, unless that is missing or not after the one before.

    Args:
        info: of the video.
        span: the part that is taken.
        problems: where what had to be changed is counted.
        name: of the video, for messages.
        first: timestamp of the first frame. Matroska has none below 0: then all are moved, so that it is 0.
    """

    def __init__(self, info: VideoInfo, span: Span, problems: Problems, *, name: str, first: int | None = None) -> None:
        self._info, self._span, self._problems, self._name = info, span, problems, name
        rate = info.frame_rate or _ASSUMED_RATE
        self._step = max(1, round(1 / (rate * info.time_base)))
        self._rate = rate
        self._last: int | None = None
        self._last_packets: dict[int, tuple[int, int]] = {}  # time of decoding and duration, by track
        self._below = -min(first or 0, 0)
        if self._below:
            begin = float(-self._below * info.time_base)
            problems.say(f"{name} begins at {begin:.3f} s, so all its times are moved to begin at 0.")
        self.is_over = False

    def of(self, pts: int | None, duration: int | None) -> tuple[int, int] | None:
        """Timestamp and duration, 0 where it is not known, of the next frame; None where it is not taken."""
        last = self._last
        pts = None if pts is None else pts + self._below
        if pts is None or (last is not None and pts <= last):
            if pts is None and last is None:
                self._problems.say(
                    f"{self._name} has no timestamps, so its frames come at {float(self._rate):.6g} per second."
                )
            self._problems.retimed += 1
            pts = 0 if last is None else last + self._step
        self._last = pts
        time = pts * self._info.time_base
        if self._span.is_past(time):
            self.is_over = True
        if not self._span.takes(time):
            return None
        known = duration if duration and 0 < duration <= MAX_DURATION else 0
        return self._span.moved(pts, self._info.time_base), known

    def takes_packet(self, packet: Any) -> bool:
        """Whether a packet of another track, an `av.Packet`, is taken; its timestamps are moved then."""
        at = packet.pts if packet.pts is not None else packet.dts
        if at is None:
            return False
        base = packet.time_base
        self._move(packet, self._to_ascend(packet) + round(self._below * self._info.time_base / base))
        at = packet.pts if packet.pts is not None else packet.dts
        if not self._span.takes(at * base):
            return False
        self._move(packet, self._span.moved(0, base))
        return True

    def _to_ascend(self, packet: Any) -> int:
        """By how much a packet that goes back in its track is moved, as a frame would be: behind the one before."""
        dts = packet.dts if packet.dts is not None else packet.pts
        last = self._last_packets.get(packet.stream.index)
        shift = 0
        if last is not None and dts < last[0]:
            shift = sum(last) - dts
            self._problems.say(
                f"{self._name} has {packet.stream.type} whose times go back; it goes on where it was before."
            )
        self._last_packets[packet.stream.index] = dts + shift, max(packet.duration or 0, 1)
        return shift

    @staticmethod
    def _move(packet: Any, by: int) -> None:
        if packet.pts is not None:
            packet.pts += by
        if packet.dts is not None:
            packet.dts += by
