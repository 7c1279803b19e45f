"""Codecs of the tracks that are written: the LR picture, the boundary map, and the restored video."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Literal, get_args

import av

from bdflow_rt.errors import ArgumentError, UnsupportedVideoError, check_choice, check_whole
from bdflow_rt.packet import ColourInfo

LrCodec = Literal["h264-lossless", "ffv1"]
LrPreset = Literal["ultrafast", "superfast", "veryfast", "faster", "fast", "medium"]
VideoCodec = Literal["h264", "hevc", "av1", "vp9", "ffv1", "h264-nvenc", "hevc-nvenc", "av1-nvenc"]
PixelFormat = Literal["yuv420p", "yuv422p", "yuv444p"]

_FFV1 = {"coder": "range_def", "context": "0", "g": "1"}
_GOP = 30
"""Frames between key frames: what a kill loses, and where playing can begin."""


@dataclass(frozen=True)
class TrackCodec:
    """How one video track is coded.

    Attributes:
        encoder: FFmpeg's name of it.
        pixel_format: that the encoder is given.
        options: of the encoder.
        width, height: of its pictures.
        tags: of the track.
        is_shown: whether players show this one.
        colour: code points that the track is tagged with.
        pixel_aspect: width over height of a pixel.
        frame_rate: a hint for players; timestamps count.
    """

    encoder: str
    pixel_format: str
    width: int
    height: int
    options: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    is_shown: bool = True
    colour: ColourInfo = field(default_factory=ColourInfo)
    pixel_aspect: Fraction = Fraction(1)
    frame_rate: Fraction | None = None


def lr_track(codec: LrCodec, preset: LrPreset) -> tuple[str, str, dict[str, str]]:
    """Encoder, pixel format and options of a lossless LR track."""
    if codec == "ffv1":
        return "ffv1", "bgr0", dict(_FFV1)
    # One thread, which takes 1 to 6 ms a picture and gives the same bytes on every machine. For a variable frame rate
    # x264 would hold a frame back; without loss there is no rate to control.
    options = {"qp": "0", "preset": preset, "g": str(_GOP), "threads": "1", "x264-params": "force-cfr=1"}
    return "libx264rgb", "rgb24", options


def grey_track() -> tuple[str, str, dict[str, str]]:
    """Encoder, pixel format and options of the boundary track, which is noise to every other codec."""
    return "ffv1", "gray", {**_FFV1, "context": "1"}


def ffv1_options(options: Mapping[str, str], *, width: int) -> dict[str, str]:
    """The options with FFV1's version: the third has a CRC in each slice, and takes no picture one pixel wide."""
    return {**options, "level": "3", "slicecrc": "1"} if width > 1 else {**options, "level": "1"}


@dataclass(frozen=True)
class _Lossy:
    encoder: str
    crf_option: str
    crf: int
    most: int
    preset: str
    presets: tuple[str, ...]
    options: Mapping[str, str] = field(default_factory=dict)
    formats: tuple[str, ...] = get_args(PixelFormat)


_X26 = ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow")
_NVENC = tuple(f"p{level}" for level in range(1, 8))
_LOSSY: dict[str, _Lossy] = {
    "h264": _Lossy("libx264", "crf", 16, 51, "medium", _X26),
    "hevc": _Lossy("libx265", "crf", 18, 51, "medium", _X26, {"x265-params": "log-level=error"}),
    "av1": _Lossy("libsvtav1", "crf", 20, 63, "8", tuple(map(str, range(14))), formats=("yuv420p",)),
    "vp9": _Lossy("libvpx-vp9", "crf", 20, 63, "4", tuple(map(str, range(9))), {"b": "0", "row-mt": "1"}),
    "h264-nvenc": _Lossy("h264_nvenc", "cq", 18, 51, "p4", _NVENC, formats=("yuv420p", "yuv444p")),
    "hevc-nvenc": _Lossy("hevc_nvenc", "cq", 20, 51, "p4", _NVENC, formats=("yuv420p", "yuv444p")),
    "av1-nvenc": _Lossy("av1_nvenc", "cq", 22, 63, "p4", _NVENC, formats=("yuv420p",)),
}


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """How a restored video is coded.

    Attributes:
        codec: "h264" (x264, which is under the GPL), "hevc", "av1", "vp9", "ffv1" (lossless RGB), or NVIDIA's encoders.
        crf: quality, lower is better; None is 16 for H.264 and the codec's own for others.
        preset: speed against size, by the encoder's own names; None is its usual one.
        pixel_format: None is "yuv420p", or "yuv444p" where a side is odd or the codec has nothing else.

    Raises:
        ArgumentError: a value that is not allowed.
    """

    codec: VideoCodec = "h264"
    crf: int | None = None
    preset: str | None = None
    pixel_format: PixelFormat | None = None

    def __post_init__(self) -> None:
        check_choice("codec", self.codec, get_args(VideoCodec))
        lossy = _LOSSY.get(self.codec)
        if lossy is None:
            for name in ("crf", "preset", "pixel_format"):
                if getattr(self, name) is not None:
                    raise ArgumentError(f"{name} is {getattr(self, name)}, but ffv1 keeps every pixel; leave it out.")
            return
        if self.crf is not None:
            check_whole("crf", self.crf, 0, lossy.most)
        if self.preset is not None:
            check_choice("preset", self.preset, lossy.presets)
        if self.pixel_format is not None:
            check_choice("pixel_format", self.pixel_format, lossy.formats)

    def track(self, width: int, height: int) -> tuple[str, str, dict[str, str]]:
        """Encoder, pixel format and options for frames of that size.

        Raises:
            ArgumentError: the pixel format needs even sides.
            UnsupportedVideoError: PyAV was built without the encoder.
        """
        lossy = _LOSSY.get(self.codec)
        if lossy is None:
            return "ffv1", "bgr0", dict(_FFV1)
        check_encoder(lossy.encoder)
        chosen = self._format_for(width, height)
        if chosen not in lossy.formats:
            raise ArgumentError(
                f"The video has {width} x {height} pixels, and {self.codec} takes even sides alone; take codec h264."
            )
        crf = lossy.crf if self.crf is None else self.crf
        options = {lossy.crf_option: str(crf), **lossy.options}
        options["cpu-used" if self.codec == "vp9" else "preset"] = self.preset or lossy.preset
        return lossy.encoder, chosen, options

    def y4m_track(self, width: int, height: int) -> tuple[str, str, dict[str, str]]:
        """Encoder, pixel format and options of y4m, which holds uncoded frames.

        Raises:
            ArgumentError: there is something beside a pixel format, or that needs even sides.
        """
        if self != Encoding(pixel_format=self.pixel_format):
            raise ArgumentError("codec, crf and preset are not for y4m, whose frames are not coded; write mkv instead.")
        return "wrapped_avframe", self._format_for(width, height), {}

    def _format_for(self, width: int, height: int) -> str:
        chosen = self.pixel_format or ("yuv444p" if width % 2 or height % 2 else "yuv420p")
        if (chosen != "yuv444p" and width % 2) or (chosen == "yuv420p" and height % 2):
            raise ArgumentError(
                f"pixel_format is {chosen}, which needs even sides, and the video has {width} x {height} pixels; take "
                "yuv444p."
            )
        return chosen


def check_encoder(name: str) -> None:
    """Check that PyAV has an encoder.

    Raises:
        UnsupportedVideoError: it was built without.
    """
    try:
        av.Codec(name, "w")
    except (av.error.FFmpegError, ValueError) as error:
        raise UnsupportedVideoError(
            f"The installed PyAV {av.__version__} has no encoder {name}; take another codec, or a PyAV from PyPI."
        ) from error
