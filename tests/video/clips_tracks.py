"""Clips with more than a video track: audio, subtitles, chapters, metadata, attachments, covers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import av
import cv2
from av.container import OutputContainer
from av.stream import Disposition

from tests.video.clip_writer import (
    MILLISECOND,
    SAMPLE_RATE,
    Audio,
    Clip,
    ClipFacts,
    Video,
    add_audio,
    add_video,
    audio_packets,
    digests,
    open_output,
    video_facts,
    video_packets,
)
from tests.video.clips_pixels import BT709
from tests.video.numbered import draw_frame

_VIDEO = Video(tags=BT709)
_LATE = SAMPLE_RATE * 7 // 10
_LINES = ((100, 200, "Grüße"), (350, 300, "<i>second</i> line"), (700, 250, "two\nlines"))
"""Subtitles: start and length in milliseconds, and text."""
_CHAPTERS = ((Fraction(0), Fraction(2, 5), "Öffnung"), (Fraction(2, 5), Fraction(1), "The rest; = \\ #"))
_TAGS = {"title": "Ein Titel: naïve 題", "comment": "line one\nline two", "artist": "nobody"}
_FONT = b"\x00\x01\x00\x00" + bytes(range(256)) * 4
_PRIMING = {"aac": -1024, "libopus": -312}
"""Samples that an encoder puts before the first."""


@dataclass(frozen=True)
class _Extras:
    """What goes into the file beside the video."""

    audio: Sequence[Audio] = ()
    subtitles: str = ""
    chapters: bool = False
    tags: bool = False
    font: bool = False
    cover: bool = False
    video_tags: bool = False


def _write(path: Path, extras: _Extras, special: str) -> ClipFacts:
    facts = video_facts(path.suffix, _VIDEO, special)
    packets: dict[int, tuple[str, ...]] = {}
    languages: dict[int, str] = {}
    starts: dict[int, Fraction] = {}
    with open_output(path) as output:
        video = add_video(output, _VIDEO)
        tracks = [(add_audio(output, audio), audio) for audio in extras.audio]
        subtitles: Any = None
        if extras.subtitles:
            subtitles = output.add_mux_stream(extras.subtitles, time_base=MILLISECOND)
            subtitles.metadata["language"] = languages[subtitles.index] = "deu"
        if extras.chapters:
            output.set_chapters([_chapter(index) for index in range(len(_CHAPTERS))])
            facts = replace(facts, chapters=_CHAPTERS)
        if extras.tags:
            output.metadata.update(_TAGS)
            facts = replace(facts, tags_global=_TAGS)
        if extras.video_tags:
            video.metadata.update(title="the picture", language="fra")
            facts = replace(facts, tags_video={"title": "the picture", "language": "fra"})
        if extras.font:
            output.add_attachment("Ünit.ttf", "font/ttf", _FONT)
            facts = replace(facts, attachments=(("Ünit.ttf", "font/ttf", _FONT),))
        if extras.cover:
            facts = replace(facts, cover=_cover_bytes())
            if path.suffix == ".mkv":
                output.add_attachment("cover.png", "image/png", facts.cover)
            else:
                cover: Any = output.add_mux_stream("png", width=64, height=96, time_base=MILLISECOND)
                cover.disposition = Disposition.attached_pic
                _mux(output, cover, facts.cover, 0, 0)
        output.mux(list(video_packets(video, _VIDEO)))
        for stream, audio in tracks:
            written = list(audio_packets(stream, audio))
            packets[stream.index] = digests(written)
            languages[stream.index] = audio.language
            starts[stream.index] = Fraction(audio.start + _PRIMING[audio.codec], SAMPLE_RATE)
            output.mux(written)
        if subtitles is not None:
            packets[subtitles.index] = _mux_subtitles(output, subtitles, extras.subtitles)
    return replace(facts, packets=packets, languages=languages, starts=starts)


def _mux_subtitles(output: OutputContainer, stream: Any, codec: str) -> tuple[str, ...]:
    """The hashes of the packets that carry text; MP4 fills the gaps with empty ones."""
    written = []
    for start, length, text in _LINES:
        line = text.encode()
        line = len(line).to_bytes(2, "big") + line if codec == "mov_text" else line
        written.append(_mux(output, stream, line, start, length))
    return digests(written)


def _mux(output: OutputContainer, stream: Any, payload: bytes, start: int, length: int) -> bytes:
    packet: Any = av.Packet(payload)
    packet.pts = packet.dts = start
    packet.duration, packet.time_base = length, MILLISECOND
    packet.stream, packet.is_keyframe = stream, True
    output.mux(packet)
    return payload


def _chapter(index: int) -> Any:
    start, end, title = _CHAPTERS[index]
    span = {"start": int(start / MILLISECOND), "end": int(end / MILLISECOND), "time_base": MILLISECOND}
    return {"id": index + 1, **span, "metadata": {"title": title}}


def _cover_bytes() -> bytes:
    return bytes(cv2.imencode(".png", draw_frame(999, 64, 96)[..., ::-1])[1])


def _audio_only(path: Path) -> ClipFacts:
    audio = Audio()
    with open_output(path) as output:
        stream = add_audio(output, audio)
        written = list(audio_packets(stream, audio))
        hashes = digests(written)
        output.mux(written)
    return ClipFacts(
        "no video track", video_tracks=0, decodes=False, packets={0: hashes}, languages={0: audio.language}
    )


def _two_videos(path: Path) -> ClipFacts:
    """The second track has another size and other numbers; nothing marks either as the default."""
    second = Video(size=(64, 48), first=1000, tags=BT709)
    with open_output(path) as output:
        tracks = [(add_video(output, video), video) for video in (_VIDEO, second)]
        for stream, video in tracks:
            output.mux(list(video_packets(stream, video)))
    return replace(video_facts(path.suffix, _VIDEO, "two video tracks"), video_tracks=2)


_AAC, _OPUS = Audio(), Audio("libopus", language="deu", hertz=660)
_EXTRAS: dict[str, tuple[str, _Extras, str]] = {
    "audio_aac": (".mp4", _Extras(audio=[_AAC]), "AAC, whose priming starts 1,024 samples before the video"),
    "audio_aac_mkv": (".mkv", _Extras(audio=[_AAC]), "AAC, which starts 21 ms before the video"),
    "audio_opus": (".mkv", _Extras(audio=[_OPUS]), "Opus, which starts 7 ms before the video"),
    "late_audio": (".mp4", _Extras(audio=[Audio(start=_LATE)]), "audio that starts 0.7 seconds after the video"),
    "late_audio_mkv": (".mkv", _Extras(audio=[Audio(start=_LATE)]), "audio that starts 0.7 seconds after the video"),
    "languages": (".mp4", _Extras(audio=[_AAC, replace(_AAC, language="jpn", hertz=880)]), "audio in two languages"),
    "subtitles_srt": (".mkv", _Extras(audio=[_AAC, _OPUS], subtitles="subrip"), "AAC, Opus and SubRip"),
    "subtitles_mov_text": (".mp4", _Extras(audio=[_AAC], subtitles="mov_text"), "AAC and MP4's own subtitles"),
    "chapters": (".mkv", _Extras(chapters=True, tags=True, video_tags=True), "chapters and metadata"),
    "chapters_mp4": (".mp4", _Extras(chapters=True, tags=True), "chapters, a data track in MP4, and metadata"),
    "attachment": (".mkv", _Extras(font=True), "a font"),
    "cover": (".mkv", _Extras(cover=True, audio=[_AAC]), "a cover picture, as an attachment"),
    "cover_mp4": (".mp4", _Extras(cover=True, audio=[_AAC]), "a cover picture, as a video track of one picture"),
    "everything": (
        ".mkv",
        _Extras([_AAC, _OPUS], "subrip", chapters=True, tags=True, font=True, cover=True, video_tags=True),
        "everything at once",
    ),
}  # fmt: skip

CLIPS: dict[str, Clip] = {
    **{name: Clip(end, partial(_write, extras=extras, special=text)) for name, (end, extras, text) in _EXTRAS.items()},
    "audio_only": Clip(".m4a", _audio_only),
    "two_videos": Clip(".mkv", _two_videos),
}
