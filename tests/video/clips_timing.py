"""Clips whose timestamps are special: irregular, missing, backward, shifted, and unusual frame rates."""

from __future__ import annotations

import struct
from dataclasses import replace
from fractions import Fraction
from functools import partial
from pathlib import Path

from tests.video.clip_writer import (
    MILLISECOND,
    Clip,
    ClipFacts,
    Video,
    add_video,
    container_clock,
    open_output,
    video_facts,
    video_packets,
    write_video,
)
from tests.video.clips_pixels import BT709

_IRREGULAR = (
    0, 33, 70, 71, 300, 333, 367, 2000, 2040, 2041, 2055, 2100, 2200, 2217, 2233, 2250, 2267, 3500, 3533, 3567, 3600,
    3601, 3602, 4000,
)  # fmt: skip
"""Milliseconds: bursts of 1 ms, 24 to 60 frames a second, and gaps of more than a second."""
_BACKWARD = (0, 40, 80, 80, 120, 60, 160, 200, 200, 10, 240, 280)

_PLAIN: dict[str, tuple[str, Video, str]] = {
    "vfr_mp4": (".mp4", Video(tags=BT709, time_base=MILLISECOND, pts=_IRREGULAR), "variable frame rate with gaps"),
    "vfr_mkv": (".mkv", Video(tags=BT709, time_base=MILLISECOND, pts=_IRREGULAR), "variable frame rate with gaps"),
    "late_video": (".mp4", Video(tags=BT709, pts=tuple(range(12, 36))), "the first frame is due at half a second"),
    "rate_119_88": (".mp4", Video(tags=BT709, rate=Fraction(120000, 1001), count=48), "120000/1001 frames a second"),
    "rate_23_976": (".mkv", Video(tags=BT709, rate=Fraction(24000, 1001)), "24000/1001, rounded to milliseconds"),
    "rate_29_97": (".mp4", Video(tags=BT709, rate=Fraction(30000, 1001)), "30000/1001 frames a second"),
    "one_frame": (".mp4", Video(tags=BT709, count=1), "a single frame"),
}


def write_trimmed(path: Path, *, count: int, dropped: int) -> ClipFacts:
    """An MP4 whose edit list starts after `dropped` of its frames."""
    video = Video(tags=BT709, count=count)
    facts = write_video(path, video, "an edit list that starts between key frames")
    clip = bytearray(path.read_bytes())
    # Size, name, version and flags, number of entries; then the entry's duration in milliseconds and its media time.
    entry = clip.index(b"elst") + 12
    duration, media_time = struct.unpack_from(">Ii", clip, entry)
    tick = round(video.clock / container_clock(".mp4", video.clock))
    struct.pack_into(">Ii", clip, entry, duration - duration * dropped // video.count, media_time + dropped * tick)
    path.write_bytes(clip)
    return replace(facts, numbers=facts.numbers[dropped:], pts=facts.pts[: video.count - dropped])


def _edit_list(path: Path) -> ClipFacts:
    """Five frames that decoding needs come before the start: what a lossless cut between key frames leaves."""
    return write_trimmed(path, count=24, dropped=5)


def _no_timestamps(path: Path) -> ClipFacts:
    facts = write_video(path, Video(tags=BT709), "a raw H.264 stream: no timestamps, no rate", format="h264")
    return replace(facts, pts=(None,) * facts.frames, time_base=Fraction(1, 1200000), rate=Fraction(25))


def _b_frames_avi(path: Path) -> ClipFacts:
    """AVI keeps the order of decoding alone: FFmpeg gives frames in the right order, with times in the wrong one."""
    video = Video(tags=BT709, options={"bf": "3", "b-adapt": "0"})
    facts = write_video(path, video, "H.264 with B-frames in AVI, which has no timestamps")
    return replace(facts, pts=())


def _backward(path: Path) -> ClipFacts:
    """Every frame is a key frame, so that any order can be decoded."""
    video = Video("ffv1", count=len(_BACKWARD), time_base=MILLISECOND)
    with open_output(path) as output:
        stream = add_video(output, video)
        for packet, pts in zip(list(video_packets(stream, video)), _BACKWARD, strict=True):
            # Matroska keeps presentation times alone; for decoding any that rise will do, as long as they are earlier.
            packet.dts, packet.pts = packet.pts - 1000, pts
            output.mux(packet)
    facts = video_facts(path.suffix, video, "timestamps that go back, and frames that share one")
    return replace(facts, pts=_BACKWARD, rate=None)


CLIPS: dict[str, Clip] = {
    **{
        name: Clip(suffix, partial(write_video, video=video, special=text))
        for name, (suffix, video, text) in _PLAIN.items()
    },
    "edit_list": Clip(".mp4", _edit_list),
    "no_timestamps": Clip(".h264", _no_timestamps),
    "b_frames_avi": Clip(".avi", _b_frames_avi),
    "backward": Clip(".mkv", _backward),
}
