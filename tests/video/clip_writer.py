"""What a clip of the tests holds, and how its tracks are written: with PyAV, without any program beside it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import av
import numpy as np
from av.codec.context import Flags
from av.container import OutputContainer
from av.video.reformatter import Colorspace, Interpolation, VideoReformatter
from numpy.typing import NDArray

from tests.video.numbered import draw_frame

EXACT = Interpolation.BILINEAR | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
"""Flags without which FFmpeg's conversion between RGB and YCbCr truncates."""
MILLISECOND = Fraction(1, 1000)


class ColourTags(NamedTuple):
    """What a stream says of its colours, in the numbers of ITU-T H.273; range 1 is limited, 2 full, 0 unsaid."""

    matrix: int = 2
    range: int = 0
    primaries: int = 2
    transfer: int = 2

    @property
    def colorspace(self) -> Colorspace:
        """The matrix that the clips are made with; BT.601 where nothing is said."""
        return {1: Colorspace.ITU709, 9: Colorspace.BT2020}.get(self.matrix, Colorspace.ITU601)


UNTAGGED = ColourTags()


@dataclass(frozen=True)
class Video:
    """A video track to write.

    Attributes:
        codec: name of the encoder.
        size: width and height of the coded picture.
        first, count: the numbers of its frames are first to first + count - 1.
        rate: frames a second.
        time_base: of the timestamps; None is one frame of `rate`.
        pts: of each frame, in `time_base`; None is every tick.
        pixel_format: what the encoder is given.
        tags: colours; the pictures are converted as these say.
        options: of the encoder, besides `SETTINGS`.
        pixel_aspect: width of a pixel through its height; None says nothing.
        turns, mirrored: quarter turns counter-clockwise that bring the coded picture upright, then left to right.
    """

    codec: str = "libx264"
    size: tuple[int, int] = (96, 64)
    first: int = 0
    count: int = 24
    rate: Fraction = Fraction(24)
    time_base: Fraction | None = None
    pts: tuple[int, ...] | None = None
    pixel_format: str = "yuv420p"
    tags: ColourTags = UNTAGGED
    options: Mapping[str, str] = field(default_factory=dict)
    pixel_aspect: Fraction | None = None
    interlaced: bool = False
    turns: int = 0
    mirrored: bool = False

    @property
    def numbers(self) -> tuple[int, ...]:
        """What its frames say when they are decoded, in order."""
        return tuple(range(self.first, self.first + self.count))

    @property
    def ticks(self) -> tuple[int, ...]:
        """Timestamps in `clock`."""
        return tuple(range(self.count)) if self.pts is None else self.pts

    @property
    def is_regular(self) -> bool:
        """Whether every frame lasts one period of the rate."""
        steps = {after - before for before, after in zip(self.ticks, self.ticks[1:], strict=False)}
        return {step * self.clock for step in steps} == {1 / self.rate}

    @property
    def clock(self) -> Fraction:
        """The time base of its timestamps."""
        return self.time_base or 1 / self.rate


@dataclass(frozen=True)
class Audio:
    """An audio track to write: a tone of one channel at 48 kHz, `start` samples after the video."""

    codec: str = "aac"
    count: int = 24
    start: int = 0
    hertz: float = 440
    language: str = "eng"


@dataclass(frozen=True)
class ClipFacts:
    """What is in a clip, known from how it was made.

    Attributes:
        special: what the clip is for.
        numbers: of the frames that any reader gets, in order; see `numbered.frame_number`.
        pts: of those frames in `time_base`, of the container; None where FFmpeg has no timestamp, empty where the file
            keeps none and FFmpeg makes up wrong ones.
        sizes: frame index -> width and height of the coded pictures from there on.
        pixel_format: of the decoded frames.
        colour: as decoded frames are tagged.
        rate: frames a second, where all frames last as long and the file says how long.
        pixel_aspect: width of a pixel through its height; None is square, or unsaid.
        video_tracks: how many, without covers.
        turns, mirrored: np.rot90(frame, turns), then flipped left to right if mirrored, is upright.
        packets: stream index -> SHA-256 of each audio or subtitle packet.
        starts: stream index -> seconds at which the first packet of an audio track is due.
        languages: stream index -> ISO 639-2 code.
        chapters: start and end in seconds, and title.
        tags_global, tags_video: metadata; keys may come back in capitals.
        attachments: name, MIME type and bytes of each.
        cover: an encoded still picture that the file carries beside the video.
        opens: whether FFmpeg opens the file at all.
        decodes: whether the video can be decoded; False too where there is none.
        damaged: numbers of frames that may be missing, grey, or pictures of other frames.
        cut: the file ends inside a frame, after `numbers`.
    """

    special: str
    numbers: tuple[int, ...] = ()
    pts: tuple[int | None, ...] = ()
    time_base: Fraction | None = None
    sizes: Mapping[int, tuple[int, int]] = field(default_factory=dict)
    pixel_format: str = ""
    colour: ColourTags = UNTAGGED
    rate: Fraction | None = None
    pixel_aspect: Fraction | None = None
    interlaced: bool = False
    turns: int = 0
    mirrored: bool = False
    video_tracks: int = 1
    packets: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    starts: Mapping[int, Fraction] = field(default_factory=dict)
    languages: Mapping[int, str] = field(default_factory=dict)
    chapters: tuple[tuple[Fraction, Fraction, str], ...] = ()
    tags_global: Mapping[str, str] = field(default_factory=dict)
    tags_video: Mapping[str, str] = field(default_factory=dict)
    attachments: tuple[tuple[str, str, bytes], ...] = ()
    cover: bytes = b""
    opens: bool = True
    decodes: bool = True
    damaged: frozenset[int] = frozenset()
    cut: bool = False

    @property
    def frames(self) -> int:
        """How many frames any reader gets."""
        return len(self.numbers)


@dataclass(frozen=True)
class Clip:
    """A clip that can be made: its ending, and the function that writes it to a path."""

    suffix: str
    make: Callable[[Path], ClipFacts]


SETTINGS: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "libx264": {"preset": "veryfast", "threads": "1", "crf": "12", "g": "12"},
        "libx264rgb": {"preset": "veryfast", "threads": "1", "qp": "0", "g": "12"},
        "libx265": {"preset": "ultrafast", "crf": "10", "x265-params": "log-level=none:pools=none:frame-threads=1"},
        "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8", "crf": "12", "threads": "1"},
        "libvpx": {"deadline": "realtime", "cpu-used": "8", "crf": "4", "b": "1000000"},
        "mjpeg": {"qmin": "2", "qmax": "2"},
        "mpeg4": {"qmin": "2", "qmax": "2"},
        "ffv1": {"level": "3", "slicecrc": "1", "g": "1"},
    }
)
"""Encoder -> options: quick, one thread, and good enough for the colours to be compared."""
_DECODED = {"rgb24": "gbrp"}
_SAMPLES = {"aac": 1024, "libopus": 960}
SAMPLE_RATE = 48000


def open_output(path: Path, *, format: str | None = None, **options: str) -> OutputContainer:
    """A file to mux into that comes out the same each time, its timestamps as they are given."""
    options = {"fflags": "+bitexact", "avoid_negative_ts": "disabled", **options}
    return av.open(str(path), "w", format=format, options=options)


def configure(context: Any, video: Video) -> None:
    """Give an encoder, or a stream with one, what `video` says."""
    context.width, context.height = video.size
    context.pix_fmt = video.pixel_format
    context.framerate = video.rate
    context.time_base = video.clock
    context.colorspace, context.color_range, context.color_primaries, context.color_trc = video.tags
    context.options = {**SETTINGS.get(video.codec, {}), **video.options}
    context.flags |= Flags.bitexact
    if video.interlaced:
        context.flags |= Flags.interlaced_dct | Flags.interlaced_me
    if video.pixel_aspect:
        context.sample_aspect_ratio = video.pixel_aspect


def add_video(output: OutputContainer, video: Video) -> Any:
    """Add the stream of a track; its packets come from `video_packets`."""
    stream = output.add_stream(video.codec, rate=video.rate)
    assert isinstance(stream, av.VideoStream)
    configure(stream.codec_context, video)
    stream.time_base = video.clock
    if video.turns or video.mirrored:
        stream.set_display_rotation(90 * video.turns, hflip=video.mirrored)
    return stream


def picture(video: Video, number: int) -> NDArray[np.uint8]:
    """A frame's picture as it is coded: turned and mirrored against what its orientation tag undoes."""
    width, height = video.size if video.turns % 2 == 0 else video.size[::-1]
    upright = draw_frame(number, width, height)
    return np.ascontiguousarray(np.rot90(upright[:, ::-1] if video.mirrored else upright, -video.turns))


def video_packets(encoder: Any, video: Video) -> Iterator[Any]:
    """Encode every frame of a track."""
    reformatter = VideoReformatter()
    for number, pts in zip(video.numbers, video.ticks, strict=True):
        frame = reformatter.reformat(
            av.VideoFrame.from_ndarray(picture(video, number), format="rgb24"),
            format=video.pixel_format,
            interpolation=EXACT,
            dst_colorspace=video.tags.colorspace,
            dst_color_range="JPEG" if video.tags.range == 2 else "MPEG",
        )
        frame.pts, frame.time_base = pts, video.clock
        yield from encoder.encode(frame)
    yield from encoder.encode()


def write_video(path: Path, video: Video, special: str, *, format: str | None = None, **options: str) -> ClipFacts:
    """A file of this track alone; `options` are the container's."""
    with open_output(path, format=format, **options) as output:
        stream = add_video(output, video)
        output.mux(list(video_packets(stream, video)))
    return video_facts(path.suffix, video, special)


def video_facts(suffix: str, video: Video, special: str) -> ClipFacts:
    """What a file with this track says once it is written, by the format that `suffix` stands for."""
    time_base = container_clock(suffix, video.clock)
    return ClipFacts(
        special,
        numbers=video.numbers,
        pts=tuple(rescale(pts, video.clock, time_base) for pts in video.ticks),
        time_base=time_base,
        sizes={0: video.size},
        pixel_format=_DECODED.get(video.pixel_format, video.pixel_format),
        colour=video.tags,
        rate=video.rate if video.is_regular else None,
        pixel_aspect=video.pixel_aspect,
        interlaced=video.interlaced,
        turns=video.turns,
        mirrored=video.mirrored,
    )


def container_clock(suffix: str, time_base: Fraction) -> Fraction:
    """The time base in which a format keeps timestamps that were given in `time_base`."""
    if suffix in (".mkv", ".webm"):
        return MILLISECOND
    if suffix == ".ts":
        return Fraction(1, 90000)
    if suffix == ".mp4":
        scale = time_base.denominator
        while scale < 10000:
            scale *= 2
        return Fraction(1, scale)
    return time_base


def rescale(pts: int, source: Fraction, target: Fraction) -> int:
    """A timestamp in another time base, halves rounded away from zero."""
    ticks = pts * source / target
    return int(abs(ticks) + Fraction(1, 2)) * (1 if ticks >= 0 else -1)


def add_audio(output: OutputContainer, audio: Audio) -> Any:
    """Add the stream of an audio track; its packets come from `audio_packets`."""
    stream: Any = output.add_stream(audio.codec, rate=SAMPLE_RATE)
    stream.layout = "mono"
    stream.codec_context.flags |= Flags.bitexact
    stream.metadata["language"] = audio.language
    return stream


def audio_packets(stream: Any, audio: Audio) -> Iterator[Any]:
    """Encode a tone."""
    samples = _SAMPLES[audio.codec]
    integers = stream.codec_context.format.name == "s16"
    for index in range(audio.count):
        time = (np.arange(samples) + index * samples) / SAMPLE_RATE
        wave = 0.3 * np.sin(2 * np.pi * audio.hertz * time)[None]
        frame = av.AudioFrame.from_ndarray(
            (wave * 32767).astype(np.int16) if integers else wave.astype(np.float32),
            format=stream.codec_context.format.name,
            layout="mono",
        )
        frame.sample_rate, frame.time_base = SAMPLE_RATE, Fraction(1, SAMPLE_RATE)
        frame.pts = audio.start + index * samples
        yield from stream.encode(frame)
    yield from stream.encode()


def digests(packets: list[Any]) -> tuple[str, ...]:
    """SHA-256 of each packet's bytes."""
    return tuple(hashlib.sha256(bytes(packet)).hexdigest() for packet in packets)


def make_long(path: Path, seconds: float) -> ClipFacts:
    """A long clip, Matroska by its name: 64x48 pixels, 10 frames a second; 20 minutes take some seconds to write."""
    video = Video(
        size=(64, 48), rate=Fraction(10), count=round(seconds * 10), options={"preset": "ultrafast", "g": "100"}
    )
    return write_video(path, video, f"{seconds:g} seconds long")
