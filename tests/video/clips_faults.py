"""Clips that are damaged, cut, empty, misnamed, that lie about themselves, or change on the way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import av

from tests.video.clip_writer import (
    Audio,
    Clip,
    ClipFacts,
    ColourTags,
    Video,
    add_audio,
    add_video,
    audio_packets,
    configure,
    container_clock,
    digests,
    open_output,
    rescale,
    video_facts,
    video_packets,
    write_video,
)
from tests.video.clips_pixels import BT709

_GROUP = 12
"""Frames from key frame to key frame."""
_LONGER = Video(tags=BT709, count=48)
_IN_ORDER = replace(_LONGER, options={"bf": "0"})
_HUGE = 100_000


def _cut(path: Path, special: str, **options: str) -> ClipFacts:
    """The first 60 % of a clip whose frames are stored in the order they are shown."""
    facts = write_video(path, _IN_ORDER, special, **options)
    clip = path.read_bytes()
    kept = clip[: len(clip) * 6 // 10]
    # Matroska may say zero for a packet's place: where its bytes are is looked for.
    whole = sum(packet in kept for packet in _payloads(path))
    path.write_bytes(kept)
    return replace(facts, numbers=facts.numbers[:whole], pts=facts.pts[:whole], cut=True)


def _cut_before_index(path: Path) -> ClipFacts:
    facts = _cut(path, "cut before the index that MP4 has at its end")
    return replace(_unreadable(facts.special), cut=True)


def _zeroed(path: Path, video: Video, special: str) -> ClipFacts:
    """Zeros in the middle of a frame of the second group, early enough that others depend on it."""
    facts = write_video(path, video, special)
    clip = bytearray(path.read_bytes())
    payload = _payloads(path)[_GROUP + 2]
    start = clip.index(payload)
    clip[start + len(payload) // 4 : start + len(payload)] = bytes(len(payload) - len(payload) // 4)
    path.write_bytes(clip)
    return facts


def _corrupt(path: Path) -> ClipFacts:
    facts = _zeroed(path, _LONGER, "H.264 with a frame that is zeros: what hangs on it is wrong up to a key frame")
    return replace(facts, damaged=frozenset(range(_GROUP, 2 * _GROUP)))


def _corrupt_ffv1(path: Path) -> ClipFacts:
    facts = _zeroed(path, Video("ffv1"), "FFV1 with a frame that is zeros, which its checksum tells")
    return replace(facts, damaged=frozenset({_GROUP + 2}))


def _payloads(path: Path) -> list[bytes]:
    with av.open(str(path)) as clip:
        return [bytes(packet) for packet in clip.demux(video=0) if packet.size]


def _no_frames(path: Path, codec: str, pixel_format: str) -> ClipFacts:
    """A file that was closed before its first frame."""
    video = Video(codec, pixel_format=pixel_format)
    with open_output(path) as output:
        add_video(output, video)
        output.start_encoding()
    facts = video_facts(path.suffix, video, "a header, and no frames")
    return replace(facts, numbers=(), pts=(), rate=None)


def _no_frames_mkv(path: Path) -> ClipFacts:
    _no_frames(path, "ffv1", "yuv420p")
    return _unreadable("a header, and no frames; FFmpeg opens no Matroska without a cluster")


def _no_frames_mp4(path: Path) -> ClipFacts:
    _no_frames(path, "libx264", "yuv420p")
    return ClipFacts("a header, and no frames; MP4 leaves tracks without frames out", video_tracks=0, decodes=False)


def _sound_without_frames(path: Path) -> ClipFacts:
    video, audio = Video("ffv1"), Audio()
    with open_output(path) as output:
        add_video(output, video)
        stream = add_audio(output, audio)
        written = list(audio_packets(stream, audio))
        hashes = digests(written)
        output.mux(written)
    facts = replace(video_facts(path.suffix, video, "sound, and a video track without frames"), numbers=(), pts=())
    return replace(facts, packets={1: hashes}, languages={1: audio.language}, rate=None)


def _size_change(path: Path, codec: str, muxed: str) -> ClipFacts:
    """Two encoders' packets in one track; the container says the first size alone."""
    parts = [Video(codec, tags=BT709, count=12), Video(codec, (160, 96), tags=BT709, first=12, count=12)]
    parts[1] = replace(parts[1], pts=parts[1].numbers)
    with open_output(path) as output:
        width, height = parts[0].size
        stream = output.add_mux_stream(muxed, rate=parts[0].rate, width=width, height=height)
        stream.time_base = parts[0].clock
        for part in parts:
            for packet in _encoded(part):
                packet.stream, packet.time_base = stream, part.clock
                output.mux(packet)
    return _joined(path.suffix, parts)


def _size_change_raw(path: Path) -> ClipFacts:
    parts = [Video(tags=BT709, count=12), Video(size=(160, 96), tags=BT709, first=12, count=12)]
    path.write_bytes(b"".join(bytes(packet) for part in parts for packet in _encoded(part)))
    facts = _joined(path.suffix, parts)
    return replace(facts, pts=(None,) * facts.frames, time_base=Fraction(1, 1200000), rate=Fraction(25))


def _encoded(video: Video) -> list[Any]:
    """A track's packets from an encoder of its own, headers in the stream."""
    encoder: Any = av.CodecContext.create(video.codec, "w")
    configure(encoder, video)
    return list(video_packets(encoder, video))


def _joined(suffix: str, parts: Sequence[Video]) -> ClipFacts:
    first, second = parts
    facts = video_facts(suffix, first, "frames of 96x64, then of 160x96 pixels")
    # VP9 itself says matrix and range; the container, which has the rest, is not told here.
    colour = ColourTags(*first.tags[:2]) if suffix == ".webm" else first.tags
    clock = container_clock(suffix, first.clock)
    numbers = first.numbers + second.numbers
    return replace(
        facts,
        numbers=numbers,
        pts=tuple(rescale(number, first.clock, clock) for number in numbers),
        sizes={0: first.size, first.count: second.size},
        colour=colour,
        rate=None,
    )


def _patched(path: Path, video: Video, old: bytes, new: bytes, special: str) -> ClipFacts:
    """A clip whose codec is replaced by a name that nobody knows."""
    write_video(path, video, special)
    clip = path.read_bytes()
    assert old in clip
    path.write_bytes(clip.replace(old, new))
    return ClipFacts(special, decodes=False)


def _misnamed(path: Path) -> ClipFacts:
    video = Video(tags=BT709)
    with open_output(path, format="mp4") as output:
        output.mux(list(video_packets(add_video(output, video), video)))
    return video_facts(".mp4", video, "MP4, named as a picture")


def _huge_y4m(path: Path) -> ClipFacts:
    path.write_bytes(b"YUV4MPEG2 W%d H%d F25:1 Ip A1:1 C420jpeg\nFRAME\n" % (_HUGE, _HUGE) + bytes(64))
    return replace(_unreadable("says 100,000 x 100,000 pixels, and holds 64 bytes of them"), cut=True)


def _huge_mkv(path: Path) -> ClipFacts:
    with open_output(path) as output:
        stream: Any = output.add_mux_stream("mjpeg", rate=24, width=_HUGE, height=_HUGE)
        stream.time_base = Fraction(1, 24)
        packet: Any = av.Packet(bytes(64))
        packet.pts = packet.dts = 0
        packet.stream, packet.time_base, packet.is_keyframe = stream, Fraction(1, 24), True
        output.mux(packet)
    special = "says 100,000 x 100,000 pixels; FFmpeg takes that for a size not known"
    return ClipFacts(special, sizes={0: (0, 0)}, decodes=False)


def _large_y4m(path: Path) -> ClipFacts:
    """The largest that FFmpeg takes are about 2^28 pixels."""
    path.write_bytes(b"YUV4MPEG2 W16000 H16000 F25:1 Ip A1:1 C420jpeg\nFRAME\n" + bytes(64))
    special = "says 16,000 x 16,000 pixels, and holds 64 bytes of them"
    facts = video_facts(path.suffix, Video(size=(16000, 16000), rate=Fraction(25)), special)
    return replace(facts, numbers=(), pts=(), cut=True)


def _size_lie(path: Path) -> ClipFacts:
    """VP9's own header, after 36 bits, says more than the container: 16 bits each for width and height, less one."""
    claimed = 8000
    write_video(path, Video("libvpx-vp9", count=12), "")
    clip = bytearray(path.read_bytes())
    header = _payloads(path)[0][:12]
    start = clip.index(header)
    bits = int.from_bytes(header, "big")
    after = 8 * len(header) - 36 - 32
    width, height = (bits >> after + 16 & 0xFFFF) + 1, (bits >> after & 0xFFFF) + 1
    assert (width, height) == (96, 64)
    bits ^= (((width - 1) ^ (claimed - 1)) << 16 | ((height - 1) ^ (claimed - 1))) << after
    clip[start : start + len(header)] = bits.to_bytes(len(header), "big")
    path.write_bytes(clip)
    special = "96x64 by its container, 8,000x8,000 by the first frame, which FFmpeg makes room for on opening"
    return ClipFacts(special, sizes={0: (claimed, claimed)}, decodes=False)


def _bytes(path: Path, content: bytes, special: str) -> ClipFacts:
    path.write_bytes(content)
    return _unreadable(special)


def _unreadable(special: str) -> ClipFacts:
    return ClipFacts(special, video_tracks=0, opens=False, decodes=False)


CLIPS: dict[str, Clip] = {
    "cut_mp4": Clip(".mp4", partial(_cut, special="MP4 with its index in front, cut at 60 %", movflags="+faststart")),
    "cut_mkv": Clip(".mkv", partial(_cut, special="Matroska, cut at 60 %")),
    "cut_before_index": Clip(".mp4", _cut_before_index),
    "corrupt": Clip(".mp4", _corrupt),
    "corrupt_mkv": Clip(".mkv", _corrupt),
    "corrupt_ffv1": Clip(".mkv", _corrupt_ffv1),
    "no_frames_avi": Clip(".avi", partial(_no_frames, codec="mjpeg", pixel_format="yuvj420p")),
    "no_frames_y4m": Clip(".y4m", partial(_no_frames, codec="wrapped_avframe", pixel_format="yuv420p")),
    "no_frames_mkv": Clip(".mkv", _no_frames_mkv),
    "no_frames_mp4": Clip(".mp4", _no_frames_mp4),
    "sound_without_frames": Clip(".mkv", _sound_without_frames),
    "size_change_h264": Clip(".h264", _size_change_raw),
    "size_change_ts": Clip(".ts", partial(_size_change, codec="libx264", muxed="h264")),
    "size_change_mkv": Clip(".mkv", partial(_size_change, codec="libx264", muxed="h264")),
    "size_change_webm": Clip(".webm", partial(_size_change, codec="libvpx-vp9", muxed="vp9")),
    "misnamed": Clip(".png", _misnamed),
    "unknown_codec_mp4": Clip(
        ".mp4", partial(_patched, video=Video(), old=b"avc1", new=b"zzz9", special="MP4 with a codec that nobody knows")
    ),
    "unknown_codec_mkv": Clip(
        ".mkv",
        partial(
            _patched, video=Video("ffv1"), old=b"V_FFV1", new=b"V_ZZZ9", special="Matroska with a codec nobody knows"
        ),
    ),
    "huge_y4m": Clip(".y4m", _huge_y4m),
    "huge_mkv": Clip(".mkv", _huge_mkv),
    "large_y4m": Clip(".y4m", _large_y4m),
    "size_lie": Clip(".webm", _size_lie),
    "empty": Clip(".mp4", partial(_bytes, content=b"", special="no bytes")),
    "text": Clip(".mp4", partial(_bytes, content=b"This is no video.\n" * 40, special="text, named as a video")),
}
