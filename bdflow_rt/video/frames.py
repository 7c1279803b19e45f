"""Frames of a video, what is said of all of them, and what a source of frames is."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Protocol

from bdflow_rt.packet import ColourInfo
from bdflow_rt.picture import UInt8Array


@dataclass(frozen=True)
class VideoInfo:
    """What holds for every frame of a video.

    Attributes:
        width, height: of the frames, in pixels, upright.
        time_base: seconds per unit of a timestamp.
        colour: of the source: code points of ITU-T H.273 and range, with those filled in that it leaves out.
        pixel_aspect: width over height of a pixel.
        frame_rate: frames per second as the container states them; None where it does not. Timestamps count.
        frames: as the container states it; None where it does not.
        pixel_format: of the decoded frames, as FFmpeg names it.
    """

    width: int
    height: int
    time_base: Fraction
    colour: ColourInfo = field(default_factory=ColourInfo)
    pixel_aspect: Fraction = Fraction(1)
    frame_rate: Fraction | None = None
    frames: int | None = None
    pixel_format: str = "rgb24"


class Frame:
    """One frame.

    Args:
        pixels: (H, W, 3) uint8 RGB, upright; or a function that returns it, called when the pixels are first asked for:
            a worker converts them then, and not the thread that reads.
        pts: timestamp in units of the video's time base.
        duration: in the same units, 0 where the source does not say.
    """

    def __init__(self, pixels: UInt8Array | Callable[[], UInt8Array], pts: int, duration: int) -> None:
        self._pixels, self.pts, self.duration = pixels, pts, duration

    @property
    def pixels(self) -> UInt8Array:
        """(H, W, 3) uint8 RGB, upright."""
        if callable(self._pixels):
            self._pixels = self._pixels()
        return self._pixels


@dataclass(frozen=True)
class Track:
    """A track that goes along: audio, subtitles.

    Attributes:
        index: of the track among those of its source.
        stream: the source's stream, an `av.stream.Stream`, as the template of the sink's.
    """

    index: int
    stream: Any


@dataclass(frozen=True, eq=False)
class TrackPacket:
    """A coded packet of a track.

    Attributes:
        track: index of the track.
        packet: an `av.Packet`.
    """

    track: int
    packet: Any


@dataclass(frozen=True)
class Attachment:
    """A file inside the file: a font, a cover picture."""

    name: str
    media_type: str
    data: bytes


@dataclass(frozen=True)
class Extras:
    """What a container holds beside the video.

    Attributes:
        tracks: audio and subtitles.
        chapters: as PyAV gives and takes them.
        metadata: of the file, by key.
        attachments: files inside it.
    """

    tracks: Sequence[Track] = ()
    chapters: Sequence[Any] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)
    attachments: Sequence[Attachment] = ()


@dataclass
class Problems:
    """What was wrong with a video that could be read nevertheless.

    Attributes:
        damaged: frames that were decoded from damaged data, and packets that gave no frame.
        retimed: frames whose timestamp was missing or went back.
        notices: sentences for people, each said once.
    """

    damaged: int = 0
    retimed: int = 0
    notices: list[str] = field(default_factory=list)

    def say(self, notice: str) -> None:
        """Note a sentence and warn with it, unless it was said before."""
        if notice not in self.notices:
            self.notices.append(notice)
            warnings.warn(notice, stacklevel=3)


class FrameSource(Protocol):
    """Frames in the order in which they are shown, and between them packets of the other tracks.

    Attributes:
        info: what holds for every frame.
        extras: what the container holds beside them.
        problems: what was wrong so far.
        decoder: what decodes: "pyav", "dali" or "pictures".
        decoder_reason: why this one was selected.
    """

    info: VideoInfo
    extras: Extras
    problems: Problems
    decoder: str
    decoder_reason: str

    def __iter__(self) -> Iterator[Frame | TrackPacket]:
        """The frames and packets, once.

        Raises:
            CorruptVideoError, UnsupportedVideoError: the source cannot go on.
        """

    def close(self) -> None:
        """Let go of files and decoders."""
