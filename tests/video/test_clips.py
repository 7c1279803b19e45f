"""The clips of the tests are what they claim, read back by PyAV alone."""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from av.error import FFmpegError
from av.sidedata.sidedata import Type
from av.stream import Disposition
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from tests.video import clips_tracks
from tests.video.clip_writer import EXACT, MILLISECOND, ClipFacts, ColourTags
from tests.video.clips import CLIPS, Clips, draw_frame, frame_number

LEAST_PSNR = 31
"""dB of a decoded picture against the drawn one; lossy coding and the places of chroma samples give 32 to 40."""
UNOPENED = ("cut_before_index", "empty", "huge_y4m", "no_frames_mkv", "text")
UNDECODED = ("audio_only", "huge_mkv", "no_frames_mp4", "size_lie", "unknown_codec_mkv", "unknown_codec_mp4")
DECODED = sorted(set(CLIPS) - {*UNOPENED, *UNDECODED})
WITH_TRACKS = [*sorted(clips_tracks.CLIPS), "sound_without_frames"]
TURNED = {
    (0, False): (1, 0, 0, 1),
    (1, False): (0, -1, 1, 0),
    (2, False): (-1, 0, 0, -1),
    (3, False): (0, 1, -1, 0),
    (0, True): (-1, 0, 0, 1),
}
"""Turns and mirroring -> the display matrix a, b, c, d: x is shown at (ax + cy), y at (bx + dy)."""


@dataclass
class Reading:
    """What PyAV gives of a video track: frames with their numbers, None where unreadable, and failed packets."""

    frames: list[Any] = field(default_factory=list)
    pictures: list[NDArray[np.uint8]] = field(default_factory=list)
    numbers: list[int | None] = field(default_factory=list)
    errors: int = 0

    @property
    def pts(self) -> list[int | None]:
        return [frame.pts for frame in self.frames]


def read(path: Path, facts: ClipFacts, track: int = 0) -> Reading:
    """Every frame that can be decoded: packets one by one, since `decode` of a container ends at the first error."""
    reading = Reading()
    with av.open(str(path)) as clip:
        for packet in clip.demux(video=track):
            try:
                frames: list[Any] = packet.decode()
            except FFmpegError:
                reading.errors += 1
                continue
            for frame in frames:
                picture = upright(rgb(frame, facts.colour), facts)
                reading.frames.append(frame)
                reading.pictures.append(picture)
                reading.numbers.append(number_or_none(picture))
    return reading


_REFORMATTER = VideoReformatter()


def rgb(frame: Any, tags: ColourTags) -> NDArray[np.uint8]:
    converted: Any = _REFORMATTER.reformat(frame, format="rgb24", interpolation=EXACT, src_colorspace=tags.colorspace)
    return converted.to_ndarray()


def upright(picture: NDArray[np.uint8], facts: ClipFacts) -> NDArray[np.uint8]:
    turned = np.rot90(picture, facts.turns)
    return np.ascontiguousarray(turned[:, ::-1] if facts.mirrored else turned)


def number_or_none(picture: NDArray[np.uint8]) -> int | None:
    try:
        return frame_number(picture)
    except ValueError:
        return None


def psnr(picture: NDArray[np.uint8], number: int, *, gray: bool = False) -> float:
    """Of the coloured half, both at a quarter of the size: so coarse that 4:2:0 loses nothing."""
    height, width = picture.shape[:2]
    drawn: NDArray[Any] = draw_frame(number, width, height)
    if gray:
        drawn = np.repeat(cv2.cvtColor(drawn, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2)
    small = width // 4, height // 8
    halves = [cv2.resize(half[: height // 2], small, interpolation=cv2.INTER_AREA) for half in (picture, drawn)]
    return cv2.PSNR(halves[0], halves[1])


@pytest.mark.parametrize("name", UNOPENED)
def test_what_is_no_clip_is_not_opened(clips: Clips, name: str) -> None:
    path, facts = clips[name]
    assert not facts.opens
    with pytest.raises(FFmpegError):
        av.open(str(path))


@pytest.mark.parametrize("name", UNDECODED)
def test_what_cannot_be_decoded_has_no_frames(clips: Clips, name: str) -> None:
    path, facts = clips[name]
    assert facts.opens
    assert not facts.decodes
    with av.open(str(path)) as clip:
        assert len(clip.streams.video) == facts.video_tracks
        for stream in clip.streams.video:
            if facts.sizes:
                assert (stream.width, stream.height) == facts.sizes[0]
            with pytest.raises(FFmpegError):
                list(clip.decode(stream))


@pytest.mark.parametrize("name", DECODED)
def test_frames_are_those_that_the_clip_claims(clips: Clips, name: str) -> None:
    path, facts = clips[name]
    reading = read(path, facts)
    assert facts.decodes
    if facts.damaged:
        compare_beside_damage(reading, facts)
        return
    assert tuple(reading.numbers[: facts.frames]) == facts.numbers
    if facts.pts:
        assert tuple(reading.pts[: facts.frames]) == facts.pts
    beyond = len(reading.numbers) - facts.frames
    assert (beyond, reading.errors) in ([(0, 0), (0, 1), (1, 0)] if facts.cut else [(0, 0)])
    size = facts.sizes[0]
    for index, frame in enumerate(reading.frames[: facts.frames]):
        size = facts.sizes.get(index, size)
        assert (frame.width, frame.height) == size
        assert frame.format.name == facts.pixel_format
        assert (frame.colorspace, frame.color_range, frame.color_primaries, frame.color_trc) == tuple(facts.colour)
        assert frame.interlaced_frame == facts.interlaced
        assert psnr(reading.pictures[index], facts.numbers[index], gray=name.startswith("gray")) > LEAST_PSNR
        assert display_matrix(frame) == TURNED[facts.turns, facts.mirrored]


def compare_beside_damage(reading: Reading, facts: ClipFacts) -> None:
    """What is not damaged is there at its time; something of the rest is missing or wrong."""
    assert facts.damaged < set(facts.numbers)
    shown = dict(zip(reading.pts, reading.numbers, strict=True))
    expected = dict(zip(facts.pts, facts.numbers, strict=True))
    wrong = {number for pts, number in expected.items() if shown.get(pts) != number}
    assert wrong
    assert wrong <= facts.damaged


def display_matrix(frame: Any) -> tuple[int, ...]:
    data = frame.side_data.get(Type.DISPLAYMATRIX)
    if data is None:
        return TURNED[0, False]
    a, b, _, c, d, *_ = (value >> 16 for value in struct.unpack("<9i", bytes(data)))
    return a, b, c, d


@pytest.mark.parametrize("name", DECODED)
def test_streams_are_those_that_the_clip_claims(clips: Clips, name: str) -> None:
    path, facts = clips[name]
    with av.open(str(path)) as clip:
        videos = [stream for stream in clip.streams.video if stream.disposition != Disposition.attached_pic]
        assert len(videos) == facts.video_tracks
        assert videos[0].time_base == facts.time_base
        assert (videos[0].width, videos[0].height) == facts.sizes[0]
        assert (videos[0].sample_aspect_ratio or 1) == (facts.pixel_aspect or 1)
        if facts.rate is not None:
            assert videos[0].average_rate == facts.rate


@pytest.mark.parametrize("name", WITH_TRACKS)
def test_other_tracks_are_those_that_the_clip_claims(clips: Clips, name: str) -> None:
    path, facts = clips[name]
    with av.open(str(path)) as clip:
        packets = [packet for packet in clip.demux() if packet.size and packet.stream.type in ("audio", "subtitle")]
        digests: dict[int, list[str]] = {}
        starts: dict[int, Fraction] = {}
        for packet in packets:
            assert packet.pts is not None
            starts.setdefault(packet.stream_index, packet.pts * packet.time_base)
            # An MP4 has empty subtitles between those that say something.
            if bytes(packet) != b"\0\0":
                digests.setdefault(packet.stream_index, []).append(hashlib.sha256(bytes(packet)).hexdigest())
        assert {index: tuple(hashes) for index, hashes in digests.items()} == facts.packets
        for index, start in facts.starts.items():
            time_base = clip.streams[index].time_base
            assert time_base is not None
            # FFmpeg 8 keeps the start of a late track in whole milliseconds.
            assert abs(starts[index] - start) <= (MILLISECOND if start > 0 else time_base / 2)
        assert {index: clip.streams[index].language for index in facts.languages} == facts.languages


@pytest.mark.parametrize("name", sorted(clips_tracks.CLIPS))
def test_what_goes_with_the_tracks_is_what_the_clip_claims(clips: Clips, name: str) -> None:
    path, facts = clips[name]
    with av.open(str(path)) as clip:
        chapters = tuple(
            (entry["start"] * entry["time_base"], entry["end"] * entry["time_base"], entry["metadata"]["title"])
            for entry in clip.chapters()
            if entry["time_base"] is not None
        )
        assert chapters == facts.chapters
        assert facts.tags_global.items() <= {key.lower(): value for key, value in clip.metadata.items()}.items()
        if facts.tags_video:
            assert facts.tags_video.items() <= clip.streams.video[0].metadata.items()
        attachments = [(s.name, s.mimetype, s.data) for s in clip.streams.attachments]
        assert tuple(attachments) == facts.attachments
        covers = [s.index for s in clip.streams.video if s.disposition == Disposition.attached_pic]
        assert len(covers) == bool(facts.cover)
        payloads = [bytes(packet) for packet in clip.demux() if packet.stream_index in covers and packet.size]
        assert b"".join(payloads) == facts.cover


def test_a_cover_is_a_picture(clips: Clips) -> None:
    picture = cv2.imdecode(np.frombuffer(clips["cover"][1].cover, np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    assert frame_number(picture) == 999


def test_mp4_keeps_chapters_as_a_track_of_data(clips: Clips) -> None:
    with av.open(str(clips["chapters_mp4"][0])) as clip:
        assert [stream.type for stream in clip.streams] == ["video", "data"]


def test_a_second_video_track_has_other_pictures(clips: Clips) -> None:
    path, facts = clips["two_videos"]
    assert read(path, facts, track=1).numbers == list(range(1000, 1024))


def test_frames_before_an_edit_list_are_in_the_file(clips: Clips) -> None:
    path, facts = clips["edit_list"]
    with av.open(str(path)) as clip:
        packets = [packet for packet in clip.demux(video=0) if packet.size]
    assert len(packets) == 24
    assert sum(packet.is_discard for packet in packets) == 24 - facts.frames


def test_timestamps_that_ffmpeg_makes_up_for_avi_are_in_the_wrong_order(clips: Clips) -> None:
    path, facts = clips["b_frames_avi"]
    pts = [pts for pts in read(path, facts).pts if pts is not None]
    assert len(pts) == facts.frames
    assert pts != sorted(pts)


@pytest.mark.parametrize("name", ["bt709_limited", "bt709_full", "bt601_limited", "bt2020_sdr", "untagged", "vp8"])
def test_another_matrix_gives_other_colours(clips: Clips, name: str) -> None:
    path, facts = clips[name]
    shown = list(zip(read(path, facts).frames, facts.numbers, strict=True))
    likeness = {
        tags.colorspace: np.mean([psnr(rgb(frame, tags), number) for frame, number in shown])
        for tags in (ColourTags(1), ColourTags(6), ColourTags(9))
    }
    right = likeness.pop(facts.colour.colorspace)
    assert right > max(likeness.values()) + 2


@pytest.mark.parametrize(("name", "levels"), [("bt709_full", (40, 215)), ("bt709_limited", (50, 201))])
def test_luma_has_the_range_that_the_clip_claims(clips: Clips, name: str, levels: tuple[int, int]) -> None:
    """The levels of the dark and the bright blocks, as the file has them."""
    path, facts = clips[name]
    for frame in read(path, facts).frames:
        blocks = frame.to_ndarray()[frame.height // 2 : frame.height]
        assert (np.median(blocks[blocks < 128]), np.median(blocks[blocks >= 128])) == pytest.approx(levels, abs=1)


@pytest.mark.parametrize("name", ["h264", "vp9", "mjpeg", "interlaced", "odd_vp9", "rotated_90"])
@pytest.mark.parametrize("scale", [2, 4])
def test_decoded_frames_say_their_number_at_the_size_of_an_lr_picture(clips: Clips, name: str, scale: int) -> None:
    path, facts = clips[name]
    for picture, number in zip(read(path, facts).pictures, facts.numbers, strict=True):
        height, width = picture.shape[:2]
        size = -(-width // scale), -(-height // scale)
        assert frame_number(cv2.resize(picture, size, interpolation=cv2.INTER_CUBIC)) == number


@pytest.mark.parametrize("name", ["h264", "vp9", "mjpeg", "everything", "cover_mp4", "corrupt"])
def test_a_clip_comes_out_the_same_each_time(clips: Clips, tmp_path: Path, name: str) -> None:
    path, facts = clips[name]
    again = tmp_path / path.name
    assert CLIPS[name].make(again) == facts
    assert again.read_bytes() == path.read_bytes()


def test_a_clip_is_made_once_when_it_is_asked_for(tmp_path: Path) -> None:
    shelf = Clips(tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert shelf["text"] is shelf["text"]
    assert list(tmp_path.iterdir()) == [tmp_path / "text.mp4"]


@pytest.mark.slow
def test_the_long_clip_has_twenty_minutes(clips: Clips) -> None:
    path, facts = clips["long"]
    assert facts.frames >= 10_000
    with av.open(str(path)) as clip:
        stream = clip.streams.video[0]
        numbers = []
        for frame, pts in zip(clip.decode(stream), facts.pts, strict=True):
            assert frame.pts == pts
            numbers.append(frame_number(frame.to_ndarray(format="gray")))
    assert tuple(numbers) == facts.numbers
