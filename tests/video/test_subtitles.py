"""Text subtitles between containers: every cue's text, start and end, and of style what both forms have."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import av
import pytest
from av.container import OutputContainer
from av.stream import Disposition

from bdflow_rt.rescaler import Rescaler
from bdflow_rt.video import Encoding, VideoResult, downscale_video, upscale_video
from bdflow_rt.video.meter import StreamStats
from bdflow_rt.video.part import part_path
from bdflow_rt.video.subtitles import (
    DAMAGED,
    LITERAL_TAGS,
    LOST_STYLE,
    NO_END,
    TOO_LATE,
    TOO_LONG,
    TOO_MANY,
    Cue,
    Piece,
    Text,
    one_at_a_time,
    read_subrip,
    read_timed_text,
    read_webvtt,
    write_subrip,
    write_timed_text,
    write_webvtt,
)
from bdflow_rt.zoo import find_model
from tests.video.clip_writer import MILLISECOND, Video, add_video, open_output, video_packets
from tests.video.clips_pixels import BT709

QUICK = Encoding(preset="ultrafast")
NOTICES = ("ignore:.*ubtitles? ", "ignore:.*cannot hold")
pytestmark = [pytest.mark.filterwarnings(one) for one in NOTICES]

Line = tuple[int, int, str]
"""Start and end in milliseconds, and text."""
LINES: list[Line] = [
    (0, 250, "Grüße, naïve 題 𝄞"),
    (250, 400, "two\nlines"),
    (700, 701, "R&D < 3 > 2 {note} <John> &amp; C:\\new"),
    (1000, 1950, " - spaces - "),
    (2100, 2400, "after the last frame"),
]
ASS_STYLE = b"[V4+ Styles]\nFormat: Name, Fontname, Fontsize, PrimaryColour\nStyle: Default,Arial,16,&Hffffff\n"
"""What the style of an MP4's track is made from: white, 16 pixels high."""


@pytest.fixture(scope="module")
def rescaler(tiny_zoo: Path) -> Iterator[Rescaler]:
    with Rescaler(find_model(tiny_zoo / "tiny-x2@1"), threads=1) as made:
        yield made


def sample(text: str, *boxes: bytes) -> bytes:
    """Timed text."""
    data = text.encode()
    return len(data).to_bytes(2, "big") + data + b"".join(boxes)


def box(kind: bytes, body: bytes) -> bytes:
    return (8 + len(body)).to_bytes(4, "big") + kind + body


def style(*runs: tuple[int, int, int], colour: bytes = b"\xff\xff\xff\xff") -> bytes:
    """A box of style records: start, end and face of each."""
    records = [
        start.to_bytes(2, "big") + end.to_bytes(2, "big") + b"\0\1" + bytes([face, 16]) + colour
        for start, end, face in runs
    ]
    return box(b"styl", len(records).to_bytes(2, "big") + b"".join(records))


def write_clip(
    path: Path,
    codec: str,
    *tracks: Sequence[tuple[int, int, bytes]],
    disposition: Disposition | None = None,
    **tags: str,
) -> Path:
    """Two seconds of video, and tracks of text: start, end and payload of each packet."""
    video = Video(tags=BT709, count=48, options={"bf": "0"})
    with open_output(path) as output:
        stream = add_video(output, video)
        texts: list[Any] = [_add_text(output, codec) for _ in tracks]
        for text in texts:
            text.metadata.update(tags)
            text.disposition = disposition or Disposition(0)
        output.mux(list(video_packets(stream, video)))
        for text, packets in zip(texts, tracks, strict=True):
            for start, end, payload in packets:
                packet: Any = av.Packet(payload)
                packet.pts = packet.dts = start
                packet.duration, packet.time_base, packet.stream = end - start, MILLISECOND, text
                output.mux(packet)
    return path


def _add_text(output: OutputContainer, codec: str) -> Any:
    if codec != "mov_text":
        return output.add_mux_stream(codec, time_base=MILLISECOND)
    stream: Any = output.add_stream(codec, time_base=MILLISECOND)
    stream.codec_context.subtitle_header = ASS_STYLE
    return stream


def in_turn(*payloads: bytes) -> list[tuple[int, int, bytes]]:
    """Each for a tenth of a second, one after the other."""
    return [(100 * index, 100 * index + 100, payload) for index, payload in enumerate(payloads)]


def packets_of(path: Path, track: int = 0) -> list[tuple[int, int, bytes]]:
    """Start, end and payload of each packet that is no gap, in milliseconds."""
    with av.open(str(path)) as container:
        found = []
        for packet in container.demux(container.streams.subtitles[track]):
            if packet.size and packet.pts is not None and bytes(packet) != b"\0\0":
                scale = packet.time_base / MILLISECOND
                times = (packet.pts * scale, (packet.pts + (packet.duration or 0)) * scale)
                assert all(time.denominator == 1 for time in times)
                found.append((int(times[0]), int(times[1]), bytes(packet)))
        return found


def lines_of(path: Path, track: int = 0) -> list[Line]:
    """The text of each packet, without style."""
    if path.suffix in (".mkv", ".webm"):
        return [(start, end, payload.decode()) for start, end, payload in packets_of(path, track)]
    return [
        (start, end, payload[2 : 2 + int.from_bytes(payload[:2], "big")].decode())
        for start, end, payload in packets_of(path, track)
    ]


def dialogue_of(path: Path) -> list[bytes]:
    """What FFmpeg's decoder shows of each packet, as a dialogue of ASS."""
    with av.open(str(path)) as container:
        stream = container.streams.subtitles[0]
        shown: list[Any] = [packet.decode() for packet in container.demux(stream) if packet.size]
        return [one.ass.split(b",", 8)[8] for texts in shown for one in texts]


def both_ways(source: Path, target: Path, rescaler: Rescaler) -> tuple[VideoResult, VideoResult]:
    """Down to lr.mkv beside the target, and up to the target."""
    down = downscale_video(source, target.with_name("lr.mkv"), rescaler)
    encoding = Encoding(codec="vp9", preset="8") if target.suffix == ".webm" else QUICK
    return down, upscale_video(target.with_name("lr.mkv"), target, rescaler, encoding=encoding)


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".m4v", ".mkv"])
def test_every_cue_of_an_mp4_goes_down_and_up(tmp_path: Path, rescaler: Rescaler, suffix: str) -> None:
    source = write_clip(
        tmp_path / "in.mp4", "mov_text", [(start, end, sample(text)) for start, end, text in LINES], language="deu"
    )
    assert lines_of(source) == LINES
    down, up = both_ways(source, tmp_path / f"hr{suffix}", rescaler)
    assert lines_of(tmp_path / "lr.mkv") == LINES
    assert lines_of(tmp_path / f"hr{suffix}") == LINES
    assert down.notices == up.notices == ()


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".m4v"])
def test_every_cue_of_a_matroska_file_goes_into_mp4(tmp_path: Path, rescaler: Rescaler, suffix: str) -> None:
    second = [(500, 600, "second track")]
    tracks = [[(start, end, text.encode()) for start, end, text in lines] for lines in (LINES, second)]
    source = write_clip(tmp_path / "in.mkv", "subrip", *tracks, language="eng", title="Ein Titel")
    down, up = both_ways(source, tmp_path / f"hr{suffix}", rescaler)
    assert packets_of(tmp_path / "lr.mkv") == packets_of(source)
    assert lines_of(tmp_path / f"hr{suffix}") == LINES
    assert lines_of(tmp_path / f"hr{suffix}", 1) == second
    assert down.notices == up.notices == ()
    with av.open(str(tmp_path / f"hr{suffix}")) as container:
        for stream in container.streams.subtitles:
            assert stream.codec_context.name == "mov_text"
            assert (stream.metadata["language"], stream.metadata["name"]) == ("eng", "Ein Titel")
            assert bytes(stream.codec_context.extradata or b"")[18:30] == bytes(4) + b"\0\1\0\x10\xff\xff\xff\xff"


def test_text_goes_into_webm_as_webvtt(tmp_path: Path, rescaler: Rescaler) -> None:
    lines = [(0, 300, "<i>R&D</i> < 3"), (200, 500, "<b><u>over</u></b>lap"), (900, 1000, "two\nlines")]
    source = write_clip(tmp_path / "in.mkv", "subrip", [(start, end, text.encode()) for start, end, text in lines])
    both_ways(source, tmp_path / "hr.webm", rescaler)
    escaped = [(start, end, text.replace("&", "&amp;").replace("< 3", "&lt; 3")) for start, end, text in lines]
    assert lines_of(tmp_path / "hr.webm") == escaped
    (tmp_path / "lr.mkv").unlink()
    both_ways(tmp_path / "hr.webm", tmp_path / "hr.mp4", rescaler)
    assert [text for _, _, text in lines_of(tmp_path / "hr.mp4")] == [
        "R&D < 3",
        "R&D < 3\noverlap",
        "overlap",
        lines[2][2],
    ]


def test_style_that_both_have_is_kept_and_other_style_is_named_once(tmp_path: Path, rescaler: Rescaler) -> None:
    red = b"\xff\0\0\xff"
    samples = [
        sample("plain bold both", style((6, 10, 1), (11, 15, 3))),
        sample("題 under line", style((2, 7, 4)), box(b"twrp", b"\1")),
        sample("red", style((0, 3, 0), colour=red)),
        sample("more", style((0, 4, 2), colour=red)),
    ]
    source = write_clip(tmp_path / "in.mp4", "mov_text", in_turn(*samples))
    down, up = both_ways(source, tmp_path / "hr.mp4", rescaler)
    assert [text for _, _, text in lines_of(tmp_path / "lr.mkv")] == [
        "plain <b>bold</b> <b><i>both</i></b>", "題 <u>under</u> line", "red", "<i>more</i>",
    ]  # fmt: skip
    assert [payload for _, _, payload in packets_of(tmp_path / "hr.mp4")] == [
        samples[0], sample("題 under line", style((2, 7, 4))), sample("red"), sample("more", style((0, 4, 2))),
    ]  # fmt: skip
    assert (down.notices, up.notices) == ((LOST_STYLE,), ())
    assert read_timed_text(sample("more", box(b"hlit", b"\0\0\0\2"))).notices == (LOST_STYLE,)


def test_no_tag_is_shown_and_ffmpeg_reads_the_same_style(tmp_path: Path, rescaler: Rescaler) -> None:
    tagged = [
        "<i>second</i> line", "<B>b</b> and <u>u<i>ui</u>i</i>", '<font color="#ff0000">red</font> {\\an8}top',
        "a<br/>b", "{i}braces{/i}", "3 < 4 <3 <- ->", "<i>open", "</i>closed\r\nline", "<s>struck</s> {Y:i}x",
    ]  # fmt: skip
    source = write_clip(tmp_path / "in.mkv", "subrip", in_turn(*(one.encode() for one in tagged)))
    _, up = both_ways(source, tmp_path / "hr.mp4", rescaler)
    assert [text for _, _, text in lines_of(tmp_path / "hr.mp4")] == [
        "second line", "b and uuii", "red top", "a\nb", "braces", "3 < 4 <3 <- ->", "open", "closed\nline", "struck x",
    ]  # fmt: skip
    assert up.notices == (LOST_STYLE,)
    shown = dialogue_of(tmp_path / "hr.mp4")
    assert shown[0] == rb"{\i1}second{\r} line"
    assert shown[1] == rb"{\b1}b{\r} and {\u1}u{\r}{\i1}{\u1}ui{\r}{\i1}i"
    assert shown[6] == rb"{\i1}open"


def test_cues_that_overlap_share_samples_of_an_mp4(tmp_path: Path, rescaler: Rescaler) -> None:
    """At every millisecond the same lines are shown: MP4 has one sample at a time, and FFmpeg cuts what is longer."""
    rng = random.Random(5)
    lines = sorted((start, start + rng.randrange(1, 400), f"line {start}") for start in rng.sample(range(1500), 12))
    source = write_clip(tmp_path / "in.mkv", "subrip", [(start, end, text.encode()) for start, end, text in lines])
    _, up = both_ways(source, tmp_path / "hr.mp4", rescaler)
    assert up.notices == ()
    written = lines_of(tmp_path / "hr.mp4")
    for time in range(2000):
        expected = [text for start, end, text in lines if start <= time < end]
        actual = [text for start, end, texts in written for text in texts.split("\n") if start <= time < end]
        assert actual == expected


def test_a_crowd_of_cues_neither_grows_nor_is_silent() -> None:
    cues = [Cue(index, 100_000, Text((Piece("x" * 10),))) for index in range(20_000)]
    merged = list(one_at_a_time(cues))
    assert (merged[0].start, merged[-1].end) == (0, 100_000)
    assert max(len(cue.text.pieces) for cue in merged) == 31
    assert TOO_MANY in merged[-1].text.notices


def test_language_title_and_disposition_are_kept(tmp_path: Path, rescaler: Rescaler) -> None:
    wanted = Disposition.default | Disposition.forced | Disposition.hearing_impaired
    source = write_clip(
        tmp_path / "in.mkv", "subrip", [(100, 200, b"text")], disposition=wanted, language="jpn", title="Titel"
    )
    both_ways(source, tmp_path / "hr.mp4", rescaler)
    downscale_video(tmp_path / "hr.mp4", tmp_path / "again.mkv", rescaler)
    for name, title in (("lr.mkv", "title"), ("hr.mp4", "name"), ("again.mkv", "title")):
        with av.open(str(tmp_path / name)) as container:
            stream = container.streams.subtitles[0]
            assert (stream.language, stream.metadata[title]) == ("jpn", "Titel")
            assert stream.disposition & wanted == wanted


def test_damaged_samples_are_named_and_what_can_be_read_goes_along(tmp_path: Path, rescaler: Rescaler) -> None:
    payloads = [
        b"\0\x05abc", b"\0", b"\xff\xff", b"\0\3a\xffb", b"\0\4\xfe\xff\xd8\0", b"\0\1a\0\0\0\x09styl",
        b"\0\1b" + box(b"styl", b"\0\2" + bytes(12)), b"\0\1c" + style((0, 9, 1)), b"\0\1d" + b"\0\0\0\1xxxx",
        sample("sound"),
    ]  # fmt: skip
    source = write_clip(tmp_path / "in.mp4", "mov_text", in_turn(*payloads))
    down, up = both_ways(source, tmp_path / "hr.mp4", rescaler)
    assert [text for _, _, text in lines_of(tmp_path / "lr.mkv")] == ["abc", "a�b", "�", "a", "b", "c", "d", "sound"]
    assert lines_of(tmp_path / "hr.mp4") == lines_of(tmp_path / "lr.mkv")
    assert (down.notices, up.notices) == ((DAMAGED,), ())


def test_subrip_that_mp4_cannot_hold_is_cut_at_a_character_and_named(tmp_path: Path, rescaler: Rescaler) -> None:
    long = "é" * 40_000
    payloads = [long.encode(), b"a\xffb", b"", b"\0\0", b"  \n", b"text\0"]
    source = write_clip(tmp_path / "in.mkv", "subrip", in_turn(*payloads))
    _, up = both_ways(source, tmp_path / "hr.mp4", rescaler)
    assert [text for _, _, text in lines_of(tmp_path / "hr.mp4")] == ["é" * 32_767, "a�b", "text"]
    assert set(up.notices) == {TOO_LONG, DAMAGED}


def test_times_that_mp4_cannot_hold_are_named(tmp_path: Path, rescaler: Rescaler) -> None:
    last = (1 << 31) - 1
    lines = [(0, 1000, b"first"), (1500, 1 << 40, b"for long"), (last + 1, last + 100, b"after 24 days")]
    source = write_clip(tmp_path / "in.mkv", "subrip", lines)
    _, up = both_ways(source, tmp_path / "hr.mp4", rescaler)
    assert lines_of(tmp_path / "hr.mp4") == [(0, 1000, "first"), (1500, last, "for long")]
    assert up.notices == (TOO_LATE,)


def test_a_cue_without_an_end_gets_one(tmp_path: Path, rescaler: Rescaler) -> None:
    source = write_clip(tmp_path / "in.mkv", "subrip", [(500, 500, b"text")])
    _, up = both_ways(source, tmp_path / "hr.mp4", rescaler)
    assert lines_of(tmp_path / "hr.mp4") == [(500, 3500, "text")]
    assert up.notices == (NO_END,)


def test_tags_that_were_text_are_named(tmp_path: Path, rescaler: Rescaler) -> None:
    source = write_clip(tmp_path / "in.mp4", "mov_text", [(0, 100, sample("<i>literal</i>"))])
    down, _ = both_ways(source, tmp_path / "hr.mp4", rescaler)
    assert down.notices == (LITERAL_TAGS,)
    assert packets_of(tmp_path / "hr.mp4") == [(0, 100, sample("literal", style((0, 7, 2))))]


def test_ass_stays_in_matroska(tmp_path: Path, rescaler: Rescaler) -> None:
    source = write_clip(tmp_path / "in.mkv", "ass", [(0, 100, b"0,0,Default,,0,0,0,,text")])
    down, up = both_ways(source, tmp_path / "hr.mp4", rescaler)
    assert down.notices == ()
    assert [notice for notice in up.notices if "cannot hold subtitle of ass" in notice]
    with av.open(str(tmp_path / "hr.mp4")) as container:
        assert not container.streams.subtitles


def test_a_part_of_the_video_has_its_cues(tmp_path: Path, rescaler: Rescaler) -> None:
    source = write_clip(tmp_path / "in.mp4", "mov_text", [(start, end, sample(text)) for start, end, text in LINES])
    downscale_video(source, tmp_path / "lr.mkv", rescaler, start=0.5, duration=1.0)
    assert lines_of(tmp_path / "lr.mkv") == [(start - 500, end - 500, text) for start, end, text in LINES[2:4]]


@pytest.mark.parametrize("direction", ["down", "up"])
def test_an_interrupted_run_has_the_cues_of_one_run(tmp_path: Path, rescaler: Rescaler, direction: str) -> None:
    source = write_clip(tmp_path / "in.mp4", "mov_text", [(start, end, sample(text)) for start, end, text in LINES])
    downscale_video(source, tmp_path / "lr.mkv", rescaler, lr_codec="ffv1")

    def run(target: Path, **options: Any) -> VideoResult:
        if direction == "down":
            return downscale_video(source, target, rescaler, lr_codec="ffv1", **options)
        return upscale_video(tmp_path / "lr.mkv", target, rescaler, encoding=QUICK, **options)

    def stop(stats: StreamStats) -> None:
        if stats.frames == 40:
            raise KeyboardInterrupt

    suffix = ".mkv" if direction == "down" else ".mp4"
    whole, target = tmp_path / f"whole{suffix}", tmp_path / f"out{suffix}"
    run(whole)
    with pytest.raises(KeyboardInterrupt):
        run(target, progress=stop)
    assert part_path(target).exists()
    result = run(target, resume=True)
    assert (result.frames, result.resumed_frames > 0) == (48, direction == "down")
    assert packets_of(target) == packets_of(whole)
    with av.open(str(target)) as one, av.open(str(whole)) as other:
        assert [(packet.dts, bytes(packet)) for packet in one.demux()] == [
            (packet.dts, bytes(packet)) for packet in other.demux()
        ]


READERS = [read_timed_text, read_subrip, read_webvtt]


def test_random_bytes_are_read_by_all_and_written_by_all() -> None:
    rng = random.Random(1)
    seeds = [
        sample("a <i>text</i>", style((0, 1, 1), (2, 3, 7)), box(b"hlit", b"\0\0\0\1")),
        "<b>é</b>&amp;\n{\\i1}".encode(), b"\0\6\xff\xfea\0b\0", b"\0\0", b"",
    ]  # fmt: skip
    for _ in range(5000):
        data = bytearray(rng.choice(seeds))
        for _ in range(rng.randrange(6)):
            data[rng.randrange(len(data) + 1) : rng.randrange(len(data) + 1)] = rng.randbytes(rng.randrange(3))
        for read in READERS:
            text = read(bytes(data))
            content = "".join(piece.text for piece in text.pieces)
            again = read_timed_text(write_timed_text(text))
            assert (again.pieces, set(again.notices) - {LITERAL_TAGS}) == (text.pieces, set())
            assert "".join(piece.text for piece in read_webvtt(write_webvtt(text)).pieces).split() == content.split()
            if not set(text.notices) and "<" not in content and "{" not in content:
                assert read_subrip(write_subrip(text)).pieces == text.pieces


@pytest.mark.parametrize("read", READERS)
def test_long_payloads_of_tags_take_time_in_proportion(read: Any) -> None:
    for payload in (
        b"<b " * 20_000,
        b"{\\" * 30_000,
        b"<i>" * 20_000,
        b"<" * 60_000,
        b"\0\0" + b"\0\0\0\x08free" * 8_000,
    ):
        assert len(read(payload).notices) < 4
