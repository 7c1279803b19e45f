"""Clips whose pixels are special: codecs, formats, colours, sizes, orientation."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from functools import partial
from pathlib import Path

from tests.video.clip_writer import Clip, ClipFacts, ColourTags, Video, write_video

BT709 = ColourTags(1, 1, 1, 1)
BT709_FULL = ColourTags(1, 2, 1, 1)
BT601 = ColourTags(6, 1, 6, 6)
BT2020 = ColourTags(9, 1, 9, 14)
PQ = ColourTags(9, 1, 9, 16)
HLG = ColourTags(9, 1, 9, 18)
SRGB_FULL = ColourTags(0, 2, 1, 13)

_TEN_BITS = "yuv420p10le"
_PLAIN: dict[str, tuple[str, Video, str]] = {
    "h264": (".mp4", Video(tags=BT709), "H.264 with B-frames, as most files are"),
    "hevc": (".mkv", Video("libx265", tags=BT709), "HEVC"),
    "ffv1": (".mkv", Video("ffv1"), "FFV1"),
    "vp9": (".webm", Video("libvpx-vp9", tags=BT709), "VP9"),
    "mpeg_ts": (".ts", Video(tags=BT709, pts=tuple(range(36, 60))), "MPEG-TS, which starts at 1.5 seconds"),
    "h264_10_bit": (".mkv", Video(pixel_format=_TEN_BITS, tags=BT709), "10 bits"),
    "hevc_10_bit": (".mp4", Video("libx265", pixel_format=_TEN_BITS, tags=BT709), "10 bits"),
    "h264_422": (".mp4", Video(pixel_format="yuv422p", tags=BT709), "4:2:2"),
    "h264_444": (".mkv", Video(pixel_format="yuv444p", tags=BT709), "4:4:4"),
    "bt709_limited": (".mp4", Video(tags=BT709), "BT.709, limited range"),
    "bt601_limited": (".mp4", Video(tags=BT601), "BT.601, limited range"),
    "untagged": (".mp4", Video(), "no word of matrix, range, primaries or transfer; made as BT.601 limited"),
    "bt2020_sdr": (".mp4", Video(pixel_format=_TEN_BITS, tags=BT2020), "BT.2020, 10 bits, not HDR"),
    "pq": (".mkv", Video("libx265", pixel_format=_TEN_BITS, tags=PQ), "HDR, PQ"),
    "hlg": (".mp4", Video(pixel_format=_TEN_BITS, tags=HLG), "HDR, HLG"),
    "gray": (".mkv", Video("ffv1", pixel_format="gray"), "no chroma"),
    "rgb": (".mkv", Video("libx264rgb", pixel_format="rgb24", tags=SRGB_FULL), "RGB in H.264, lossless"),
    "rgb_ffv1": (".mkv", Video("ffv1", pixel_format="bgr0"), "RGB in FFV1, lossless"),
    "odd_vp9": (".webm", Video("libvpx-vp9", size=(97, 65), tags=BT709), "odd width and height, 4:2:0"),
    "odd_ffv1": (".mkv", Video("ffv1", size=(97, 65)), "odd width and height, 4:2:0"),
    "wide_pixels": (".mp4", Video(tags=BT601, pixel_aspect=Fraction(4, 3)), "pixels of 4:3"),
    "rotated_90": (".mp4", Video(tags=BT709, turns=1), "display matrix: a quarter turn counter-clockwise"),
    "rotated_180": (".mp4", Video(tags=BT709, turns=2), "display matrix: upside down"),
    "rotated_270": (".mp4", Video(tags=BT709, turns=3), "display matrix: a quarter turn clockwise, as phones write"),
    "mirrored": (".mp4", Video(tags=BT709, mirrored=True), "display matrix: left and right swapped, as selfies"),
    "interlaced": (
        ".mp4",
        Video(tags=BT601, interlaced=True, options={"x264-params": "tff=1"}),
        "interlaced, top field first",
    ),
    "y4m_420": (".y4m", Video("wrapped_avframe"), "YUV4MPEG2, 4:2:0"),
}


def _vp8(path: Path) -> ClipFacts:
    # The decoder always says BT.470BG, limited range.
    return replace(write_video(path, Video("libvpx"), "VP8"), colour=ColourTags(5, 1))


def _mjpeg(path: Path) -> ClipFacts:
    video = Video("mjpeg", pixel_format="yuvj420p", tags=ColourTags(range=2))
    # JFIF is BT.601 at full range, and the decoder says so.
    return replace(write_video(path, video, "Motion JPEG in AVI"), colour=ColourTags(5, 2))


def _full_range(path: Path) -> ClipFacts:
    facts = write_video(path, Video(tags=BT709_FULL), "BT.709, full range")
    return replace(facts, pixel_format="yuvj420p")


def _gray_h264(path: Path) -> ClipFacts:
    # FFmpeg's conversion to gray is full range, always.
    video = Video(pixel_format="gray", tags=ColourTags(range=2))
    facts = write_video(path, video, "H.264 without chroma, which FFmpeg decodes as 4:2:0")
    return replace(facts, pixel_format="yuvj420p")


def _y4m_444(path: Path) -> ClipFacts:
    return write_video(path, Video("wrapped_avframe", pixel_format="yuv444p"), "YUV4MPEG2, 4:4:4", strict="-1")


CLIPS: dict[str, Clip] = {
    **{
        name: Clip(suffix, partial(write_video, video=video, special=text))
        for name, (suffix, video, text) in _PLAIN.items()
    },
    "vp8": Clip(".webm", _vp8),
    "mjpeg": Clip(".avi", _mjpeg),
    "bt709_full": Clip(".mp4", _full_range),
    "gray_h264": Clip(".mkv", _gray_h264),
    "y4m_444": Clip(".y4m", _y4m_444),
}
