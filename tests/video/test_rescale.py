"""Whole files, down and up: every frame, its time, and whatever else the file holds."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from bdflow_rt.errors import (
    ArgumentError,
    BdflowError,
    NotAPacketError,
    OutputExistsAsInputError,
    OutputExistsError,
    PacketMismatchError,
    UnsupportedVideoError,
    UnwritableOutputError,
)
from bdflow_rt.rescaler import Rescaler
from bdflow_rt.video import Encoding, downscale_video, upscale_video
from bdflow_rt.video.av_source import AvSource
from bdflow_rt.video.frames import Frame
from bdflow_rt.video.lr_file import LrFrame, LrSource
from bdflow_rt.video.part import part_path
from bdflow_rt.video.resume import journal_path
from bdflow_rt.zoo import find_model
from tests.video.clip_writer import Video, write_video
from tests.video.clips import Clips, frame_number

EXACT = Encoding(codec="ffv1")
QUICK = Encoding(preset="ultrafast")
pytestmark = pytest.mark.filterwarnings(
    "ignore:.*bits per sample|.*stays? behind|.*is damaged|.*no timestamps|.*video tracks|.*cannot hold"
)


@pytest.fixture(scope="module")
def rescaler(tiny_zoo: Path) -> Iterator[Rescaler]:
    """A tiny x2 model with 2 bits."""
    with Rescaler(find_model(tiny_zoo / "tiny-x2@1"), threads=1) as made:
        yield made


@pytest.fixture(scope="module")
def plain(tiny_zoo: Path) -> Iterator[Rescaler]:
    """A tiny x4 model without a boundary map."""
    with Rescaler(find_model(tiny_zoo / "plain@1"), threads=1) as made:
        yield made


def frames_of(path: Path) -> tuple[list[Frame], AvSource]:
    with AvSource(path) as source:
        return [item for item in source if isinstance(item, Frame)], source


def lr_frames(path: Path) -> list[LrFrame]:
    with LrSource(path) as source:
        return [item for item in source if isinstance(item, LrFrame)]


def hashes(path: Path) -> dict[str, list[str]]:
    """SHA-256 of each packet of audio and subtitles, by kind and order of the track."""
    found: dict[str, list[str]] = {}
    with av.open(str(path)) as container:
        streams = [one for one in container.streams if one.type in ("audio", "subtitle")]
        for packet in container.demux(*streams) if streams else ():
            if packet.size:
                key = f"{packet.stream.type} {streams.index(packet.stream)}"
                found.setdefault(key, []).append(hashlib.sha256(bytes(packet)).hexdigest())
    return found


EXACTLY = ["h264", "hevc_10_bit", "odd_ffv1", "gray", "rgb", "rotated_90", "bt709_full", "bt2020_sdr", "vfr_mp4",
           "mpeg_ts", "edit_list", "rate_119_88", "one_frame", "y4m_444", "mjpeg"]  # fmt: skip


@pytest.mark.parametrize("name", EXACTLY)
@pytest.mark.parametrize("kind", ["rescaler", "plain"])
def test_lossless_output_is_what_the_picture_path_gives_at_the_source_s_times(
    clips: Clips, tmp_path: Path, name: str, kind: str, request: pytest.FixtureRequest
) -> None:
    used = request.getfixturevalue(kind)
    source, _ = clips[name]
    down = downscale_video(source, tmp_path / "lr.mkv", used)
    up = upscale_video(tmp_path / "lr.mkv", tmp_path / "hr.mkv", used, encoding=EXACT)
    original, read = frames_of(source)
    assert down.frames == up.frames == len(original)
    stored = lr_frames(tmp_path / "lr.mkv")
    assert [(one.data.pts, one.data.duration) for one in stored] == [(one.pts, one.duration) for one in original]
    with av.open(str(tmp_path / "hr.mkv")) as container:
        restored = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    for index in range(0, len(original), 5):
        packet = used.downscale(original[index].pixels)
        assert np.array_equal(stored[index].lr, packet.lr)
        expected = used.upscale(packet)
        if read.info.colour.model == "grey":
            expected = np.repeat(((expected.astype(int).sum(axis=2) + 1) // 3)[..., None], 3, axis=2)
        assert np.array_equal(restored[index], expected)


@pytest.mark.parametrize("name", ["vfr_mp4", "rate_119_88", "mpeg_ts", "late_video", "rate_23_976", "edit_list"])
def test_mp4_has_the_source_s_exact_times_and_b_frames(
    clips: Clips, tmp_path: Path, rescaler: Rescaler, name: str
) -> None:
    source, _ = clips[name]
    downscale_video(source, tmp_path / "lr.mkv", rescaler)
    upscale_video(tmp_path / "lr.mkv", tmp_path / "hr.mp4", rescaler)
    original, read = frames_of(source)
    with av.open(str(tmp_path / "hr.mp4")) as container:
        assert container.streams.video[0].codec_context.has_b_frames or len(original) < 3
        frames = list(container.decode(video=0))
    times = [Fraction(frame.pts or 0) * Fraction(frame.time_base or 1) for frame in frames]
    assert times == [one.pts * read.info.time_base for one in original]
    assert [frame.is_corrupt for frame in frames] == [False] * len(frames)


@pytest.mark.parametrize(
    ("name", "suffix"),
    [("everything", ".mkv"), ("languages", ".mp4"), ("late_audio", ".mp4"), ("audio_aac", ".mp4"),
     ("audio_opus", ".webm"), ("audio_opus", ".mp4"), ("subtitles_srt", ".mkv"), ("cover", ".mkv")],
)  # fmt: skip
def test_audio_and_subtitles_are_copied_byte_for_byte(
    clips: Clips, tmp_path: Path, rescaler: Rescaler, name: str, suffix: str
) -> None:
    source, facts = clips[name]
    encoding = Encoding(codec="vp9", preset="8") if suffix == ".webm" else QUICK
    downscale_video(source, tmp_path / "lr.mkv", rescaler)
    upscale_video(tmp_path / "lr.mkv", tmp_path / f"hr{suffix}", rescaler, encoding=encoding)
    assert sorted(hashes(tmp_path / "lr.mkv").values()) == sorted(map(list, facts.packets.values()))
    assert hashes(tmp_path / f"hr{suffix}") == hashes(tmp_path / "lr.mkv")
    for stream, expected in facts.starts.items():
        with av.open(str(tmp_path / f"hr{suffix}")) as container:
            place = sorted(facts.starts).index(stream)
            packet = next(container.demux(container.streams.audio[place]))
            assert packet.pts is not None
            assert abs(packet.pts * packet.time_base - expected) <= Fraction(1, 1000)


def test_audio_in_mp4_has_no_gaps_of_rounding(clips: Clips, tmp_path: Path, rescaler: Rescaler) -> None:
    """Matroska's milliseconds would make packets of 21 and 22 ms of those of 1024 samples."""
    downscale_video(clips["audio_aac"][0], tmp_path / "lr.mkv", rescaler)
    upscale_video(tmp_path / "lr.mkv", tmp_path / "hr.mp4", rescaler, encoding=QUICK)
    with av.open(str(tmp_path / "hr.mp4")) as container:
        audio = container.streams.audio[0]
        times = [packet.pts for packet in container.demux(audio) if packet.size and packet.pts is not None]
        assert audio.time_base == Fraction(1, 48000)
    assert {after - before for before, after in pairwise(times)} == {1024}


def test_chapters_metadata_and_attachments_go_along(clips: Clips, tmp_path: Path, rescaler: Rescaler) -> None:
    source, facts = clips["everything"]
    downscale_video(source, tmp_path / "lr.mkv", rescaler)
    upscale_video(tmp_path / "lr.mkv", tmp_path / "hr.mkv", rescaler, encoding=QUICK)
    with av.open(str(tmp_path / "hr.mkv")) as container:
        chapters = [
            (one["start"] * one["time_base"], one["end"] * one["time_base"], one["metadata"]["title"])
            for one in container.chapters()
            if one["time_base"] is not None
        ]
        assert chapters == [tuple(one) for one in facts.chapters]
        tags = {key.lower(): value for key, value in container.metadata.items()}
        assert {key.lower(): value for key, value in facts.tags_global.items()}.items() <= tags.items()
        assert not [key for key in tags if key.startswith("bdflow")]
        names = {one.name for one in container.streams if isinstance(one, av.stream.AttachmentStream)}
        assert names >= {name for name, _, _ in facts.attachments}
        languages = [one.language for one in container.streams.audio]
        assert languages == [facts.languages[index] for index in sorted(facts.languages)][: len(languages)]


def test_what_a_container_cannot_hold_is_named(clips: Clips, tmp_path: Path, rescaler: Rescaler) -> None:
    downscale_video(clips["audio_opus"][0], tmp_path / "opus.mkv", rescaler)
    up = upscale_video(tmp_path / "opus.mkv", tmp_path / "opus.mov", rescaler, encoding=QUICK)
    assert any(".mov files cannot hold audio of opus" in notice for notice in up.notices)
    downscale_video(clips["everything"][0], tmp_path / "lr.mkv", rescaler)
    up = upscale_video(tmp_path / "lr.mkv", tmp_path / "hr.mp4", rescaler, encoding=QUICK)
    assert any("cannot hold attachments" in notice for notice in up.notices)


@pytest.mark.parametrize("name", ["bt709_limited", "bt709_full", "bt601_limited", "bt2020_sdr", "untagged"])
def test_colour_tags_are_written_back(clips: Clips, tmp_path: Path, rescaler: Rescaler, name: str) -> None:
    source, facts = clips[name]
    downscale_video(source, tmp_path / "lr.mkv", rescaler)
    upscale_video(tmp_path / "lr.mkv", tmp_path / "hr.mp4", rescaler, encoding=QUICK)
    with av.open(str(tmp_path / "hr.mp4")) as container:
        frame = next(container.decode(video=0))
    expected = 6 if facts.colour.matrix == 2 else facts.colour.matrix  # of untagged video, as small as this
    assert {5: 6}.get(frame.colorspace, frame.colorspace) == {5: 6}.get(expected, expected)
    assert frame.color_range == (facts.colour.range or 1)
    assert (frame.color_primaries, frame.color_trc) == (facts.colour.primaries, facts.colour.transfer)


def test_rotated_and_wide_pixels_come_back_upright_and_wide(clips: Clips, tmp_path: Path, rescaler: Rescaler) -> None:
    for name, size, aspect in (("rotated_90", (64, 96), 1), ("wide_pixels", (96, 64), Fraction(4, 3))):
        source, facts = clips[name]
        downscale_video(source, tmp_path / f"{name}.mkv", rescaler)
        upscale_video(tmp_path / f"{name}.mkv", tmp_path / f"{name}.mp4", rescaler, encoding=QUICK)
        with av.open(str(tmp_path / f"{name}.mp4")) as container:
            stream = container.streams.video[0]
            frame = next(container.decode(stream))
            assert (frame.width, frame.height) == size
            assert frame.rotation == 0
            assert (stream.sample_aspect_ratio or 1) == aspect
        first = frames_of(tmp_path / f"{name}.mp4")[0][0]
        assert frame_number(first.pixels) == facts.numbers[0]


@pytest.mark.parametrize("codec", ["hevc", "av1", "vp9", "h264"])
@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_every_codec_of_a_cpu_gives_every_frame(
    clips: Clips, tmp_path: Path, rescaler: Rescaler, codec: Any, suffix: str
) -> None:
    downscale_video(clips["rate_29_97"][0], tmp_path / "lr.mkv", rescaler)
    preset = {"av1": "12", "vp9": "8"}.get(codec, "ultrafast")
    upscale_video(
        tmp_path / "lr.mkv", tmp_path / f"hr{suffix}", rescaler, encoding=Encoding(codec=codec, preset=preset)
    )
    frames, source = frames_of(tmp_path / f"hr{suffix}")
    assert [frame_number(one.pixels) for one in frames] == list(clips["rate_29_97"][1].numbers)
    assert source.problems.damaged == source.problems.retimed == 0


@pytest.mark.parametrize("codec", ["ffv1", "h264-lossless"])
def test_every_lr_codec_keeps_every_pixel(clips: Clips, tmp_path: Path, rescaler: Rescaler, codec: Any) -> None:
    preset = {} if codec == "ffv1" else {"lr_preset": "veryfast"}  # with B-frames
    downscale_video(clips["ffv1"][0], tmp_path / "lr.mkv", rescaler, lr_codec=codec, **preset)  # type: ignore[arg-type]
    stored = lr_frames(tmp_path / "lr.mkv")
    original, _ = frames_of(clips["ffv1"][0])
    assert len(stored) == len(original)
    for one, frame in list(zip(stored, original, strict=True))[::6]:
        packet = rescaler.downscale(frame.pixels)
        assert np.array_equal(one.lr, packet.lr)
        assert one.boundary is not None
        assert packet.boundary is not None
        assert np.array_equal(one.boundary, packet.boundary)


@pytest.mark.parametrize(("width", "height"), [(1, 1), (2, 1), (1, 40), (3, 5), (2, 64), (33, 2)])
@pytest.mark.parametrize("codec", ["ffv1", "h264-lossless"])
def test_tiny_frames_go_both_ways(tmp_path: Path, rescaler: Rescaler, width: int, height: int, codec: Any) -> None:
    rng = np.random.default_rng(width * 100 + height)
    pictures = rng.integers(0, 256, (4, height, width, 3), dtype=np.uint8)
    with av.open(str(tmp_path / "in.mkv"), "w") as container:
        stream: Any = container.add_stream("libx264rgb", rate=25, options={"qp": "0"})
        stream.width, stream.height, stream.pix_fmt = width, height, "rgb24"
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    downscale_video(tmp_path / "in.mkv", tmp_path / "lr.mkv", rescaler, lr_codec=codec)
    upscale_video(tmp_path / "lr.mkv", tmp_path / "hr.mkv", rescaler, encoding=EXACT)
    with av.open(str(tmp_path / "hr.mkv")) as container:
        restored = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(restored) == 4
    for picture, one in zip(pictures, restored, strict=True):
        assert np.array_equal(one, rescaler.upscale(rescaler.downscale(picture)))


def test_odd_sizes_become_444_and_say_what_420_needs(clips: Clips, tmp_path: Path, rescaler: Rescaler) -> None:
    downscale_video(clips["odd_vp9"][0], tmp_path / "lr.mkv", rescaler)
    upscale_video(tmp_path / "lr.mkv", tmp_path / "hr.mp4", rescaler, encoding=QUICK)
    with av.open(str(tmp_path / "hr.mp4")) as container:
        frame = next(container.decode(video=0))
        assert (frame.width, frame.height, frame.format.name) == (97, 65, "yuv444p")
    with pytest.raises(ArgumentError, match=r"needs even sides.*97 x 65.*take yuv444p"):
        upscale_video(tmp_path / "lr.mkv", tmp_path / "hr2.mp4", rescaler, encoding=Encoding(pixel_format="yuv420p"))


def test_refused_outputs_leave_nothing(clips: Clips, tmp_path: Path, rescaler: Rescaler, plain: Rescaler) -> None:
    source, _ = clips["h264"]
    downscale_video(source, tmp_path / "lr.mkv", rescaler)
    (tmp_path / "there.mkv").write_bytes(b"mine")
    before = sorted(tmp_path.iterdir())
    cases: list[tuple[type[BdflowError], Any]] = [
        (OutputExistsError, lambda: downscale_video(source, tmp_path / "there.mkv", rescaler)),
        (ArgumentError, lambda: downscale_video(source, tmp_path / "lr.mp4", rescaler)),
        (ArgumentError, lambda: upscale_video(tmp_path / "lr.mkv", tmp_path / "hr.png", rescaler)),
        (ArgumentError, lambda: upscale_video(tmp_path / "lr.mkv", tmp_path / "hr.mp4", rescaler, encoding=EXACT)),
        (ArgumentError, lambda: upscale_video(tmp_path / "lr.mkv", tmp_path / "hr.webm", rescaler)),
        (OutputExistsAsInputError,
         lambda: upscale_video(tmp_path / "lr.mkv", tmp_path / "lr.mkv", rescaler, overwrite=True)),
        (UnwritableOutputError, lambda: downscale_video(source, tmp_path / "no" / "lr.mkv", rescaler)),
        (NotAPacketError, lambda: upscale_video(source, tmp_path / "hr.mp4", rescaler)),
        (PacketMismatchError, lambda: upscale_video(tmp_path / "lr.mkv", tmp_path / "hr.mp4", plain)),
        (UnsupportedVideoError, lambda: downscale_video(clips["pq"][0], tmp_path / "new.mkv", rescaler)),
        (ArgumentError, lambda: downscale_video(source, tmp_path / "new.mkv", rescaler, lr_codec="av1")),  # type: ignore[arg-type]
        (ArgumentError, lambda: Encoding(codec="h265")),  # type: ignore[arg-type]
        (ArgumentError, lambda: Encoding(codec="ffv1", crf=3)),
    ]  # fmt: skip
    for kind, call in cases:
        with pytest.raises(kind):
            call()
        assert sorted(tmp_path.iterdir()) == before
    assert (tmp_path / "there.mkv").read_bytes() == b"mine"


def test_a_part_of_no_frames_leaves_nothing(clips: Clips, tmp_path: Path, rescaler: Rescaler) -> None:
    with pytest.raises(BdflowError, match="No frame of the video"):
        downscale_video(clips["h264"][0], tmp_path / "lr.mkv", rescaler, start=100)
    assert list(tmp_path.iterdir()) == []


def test_when_it_is_done_only_the_target_is_there(clips: Clips, tmp_path: Path, rescaler: Rescaler) -> None:
    result = downscale_video(clips["h264"][0], tmp_path / "lr.mkv", rescaler)
    assert [path.name for path in tmp_path.iterdir()] == ["lr.mkv"]
    assert result.output_bytes == (tmp_path / "lr.mkv").stat().st_size
    upscale_video(tmp_path / "lr.mkv", tmp_path / "hr.mp4", rescaler, encoding=QUICK)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["hr.mp4", "lr.mkv"]
    assert not part_path(tmp_path / "lr.mkv").exists()
    assert not journal_path(tmp_path / "lr.mkv").exists()


def test_changed_size_ends_with_a_part_that_plays(clips: Clips, tmp_path: Path, rescaler: Rescaler) -> None:
    with pytest.raises(UnsupportedVideoError, match="changes its size"):
        downscale_video(clips["size_change_ts"][0], tmp_path / "lr.mkv", rescaler)
    assert len(lr_frames(part_path(tmp_path / "lr.mkv"))) == 12


def test_progress_counts_every_frame(clips: Clips, tmp_path: Path, rescaler: Rescaler) -> None:
    calls: list[tuple[int, int | None]] = []
    downscale_video(
        clips["h264"][0],
        tmp_path / "lr.mkv",
        rescaler,
        progress=lambda so_far: calls.append((so_far.frames, so_far.total)),
    )
    assert calls == [(index, 24) for index in range(1, 25)]


def test_damaged_frames_are_counted_in_the_result(clips: Clips, tmp_path: Path, rescaler: Rescaler) -> None:
    result = downscale_video(clips["corrupt_ffv1"][0], tmp_path / "lr.mkv", rescaler)
    assert (result.frames, result.damaged) == (23, 1)
    assert Counter("damaged" in notice for notice in result.notices)[True] == 1


def test_an_encoder_that_cannot_be_started_is_named(tmp_path: Path, rescaler: Rescaler) -> None:
    """Too small for it here; without its hardware the same. It is not the file that cannot be written."""
    write_video(tmp_path / "tiny.mkv", Video("ffv1", size=(4, 2), count=2, pixel_format="yuv444p"), "tiny")
    downscale_video(tmp_path / "tiny.mkv", tmp_path / "lr.mkv", rescaler)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(UnsupportedVideoError, match=r"encoder libx265 cannot be started for 4 x 2 .* another codec"):
        upscale_video(tmp_path / "lr.mkv", tmp_path / "hr.mkv", rescaler, encoding=Encoding(codec="hevc"))
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("codec", ["vp9", "av1"])
def test_a_codec_that_mov_cannot_hold_is_refused_before_the_work(
    clips: Clips, tmp_path: Path, rescaler: Rescaler, codec: Any
) -> None:
    downscale_video(clips["one_frame"][0], tmp_path / "lr.mkv", rescaler)
    with pytest.raises(ArgumentError, match=r"\.mov file cannot hold"):
        upscale_video(tmp_path / "lr.mkv", tmp_path / "hr.mov", rescaler, encoding=Encoding(codec=codec))
    assert [one.name for one in tmp_path.iterdir()] == ["lr.mkv"]


def test_a_gap_that_mp4_cannot_hold_is_named_and_the_part_file_stays(tmp_path: Path, rescaler: Rescaler) -> None:
    """A day between two frames, in ticks of a transport stream."""
    day = 86400 * 90000
    video = Video("ffv1", count=3, time_base=Fraction(1, 90000), pts=(0, 3600, day))
    write_video(tmp_path / "gap.nut", video, "a gap")
    downscale_video(tmp_path / "gap.nut", tmp_path / "lr.mkv", rescaler)
    with pytest.raises(UnwritableOutputError, match=r"lasts 86400 s.*hr\.mp4\.part\.mkv' has all of it"):
        upscale_video(tmp_path / "lr.mkv", tmp_path / "hr.mp4", rescaler)
    assert len(frames_of(tmp_path / "hr.mp4.part.mkv")[0]) == 3
    assert not (tmp_path / "hr.mp4").exists()
