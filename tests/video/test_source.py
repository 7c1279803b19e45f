"""Frames of clips through PyAV: which, when, upright; and what is refused, by name."""

from __future__ import annotations

import hashlib
from collections import Counter
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import pytest

from bdflow_rt.errors import BdflowError, CorruptVideoError, ImageTooLargeError, UnsupportedVideoError
from bdflow_rt.video.av_source import AvSource
from bdflow_rt.video.frames import Frame, TrackPacket
from tests.video.clip_writer import (
    Audio,
    Video,
    add_audio,
    add_video,
    audio_packets,
    open_output,
    video_packets,
    write_video,
)
from tests.video.clips import CLIPS, Clips, frame_number
from tests.video.clips_timing import write_trimmed

REFUSED: dict[str, tuple[type[BdflowError], str]] = {
    "pq": (UnsupportedVideoError, "HDR video (PQ)"),
    "hlg": (UnsupportedVideoError, "HDR video (HLG)"),
    "interlaced": (UnsupportedVideoError, "is interlaced"),
    "audio_only": (CorruptVideoError, "has no video track"),
    "cut_before_index": (CorruptVideoError, "damaged or cut off"),
    "no_frames_avi": (CorruptVideoError, "no frame that can be decoded"),
    "no_frames_y4m": (CorruptVideoError, "no frame that can be decoded"),
    "no_frames_mkv": (CorruptVideoError, "damaged or cut off"),
    "no_frames_mp4": (CorruptVideoError, "no video track"),
    "sound_without_frames": (CorruptVideoError, "no frame that can be decoded"),
    "unknown_codec_mp4": (UnsupportedVideoError, "a codec that is not known here"),
    "unknown_codec_mkv": (UnsupportedVideoError, "a codec that is not known here"),
    "huge_y4m": (CorruptVideoError, "damaged or cut off"),
    "huge_mkv": (CorruptVideoError, "no frame that can be decoded"),
    "large_y4m": (CorruptVideoError, "no frame that can be decoded"),
    "size_lie": (CorruptVideoError, "no frame that can be decoded"),
    "text": (CorruptVideoError, "is no video of a kind that is known"),
    "size_change_h264": (UnsupportedVideoError, "changes its size from 96 x 64 to 160 x 96"),
    "size_change_ts": (UnsupportedVideoError, "at 0.500 s"),
    "size_change_mkv": (UnsupportedVideoError, "at 0.500 s"),
    "size_change_webm": (UnsupportedVideoError, "scale=96:64"),
}
DAMAGED = {name for name in CLIPS if name.startswith(("cut_m", "corrupt"))}
SOUND = sorted(set(CLIPS) - set(REFUSED) - DAMAGED - {"empty"})

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*bits per sample|.*stay behind|.*is damaged|.*no timestamps|.*video tracks"
)


def read(path: Path, **options: Any) -> tuple[list[Frame], list[TrackPacket], AvSource]:
    """Everything that comes out of a clip."""
    with AvSource(path, **options) as source:
        items = list(source)
    frames = [item for item in items if isinstance(item, Frame)]
    return frames, [item for item in items if isinstance(item, TrackPacket)], source


def hashes(packets: list[TrackPacket]) -> Counter[str]:
    """How often each content of a packet comes. MP4 fills gaps between subtitles with packets of its own."""
    return Counter(hashlib.sha256(bytes(one.packet)).hexdigest() for one in packets)


@pytest.mark.parametrize("name", SOUND)
def test_every_frame_comes_once_upright_and_at_its_time(clips: Clips, name: str) -> None:
    path, facts = clips[name]
    frames, packets, source = read(path)
    assert [frame_number(frame.pixels) for frame in frames] == list(facts.numbers)
    if name not in ("no_timestamps", "b_frames_avi", "backward"):
        assert facts.time_base is not None
        expected = [(pts or 0) * facts.time_base for pts in facts.pts]
        assert [frame.pts * source.info.time_base for frame in frames] == expected
        assert source.problems.retimed == 0
    assert hashes(packets) >= Counter(one for track in facts.packets.values() for one in track)
    assert source.problems.damaged == 0
    assert source.info.pixel_aspect == (facts.pixel_aspect or 1)


@pytest.mark.parametrize("name", ["no_timestamps", "b_frames_avi", "backward"])
def test_frames_without_a_usable_time_get_one_that_ascends(clips: Clips, name: str) -> None:
    path, _ = clips[name]
    frames, _, source = read(path)
    times = [frame.pts for frame in frames]
    assert all(after > before for before, after in pairwise(times))
    assert (source.problems.retimed > 0) == (name != "b_frames_avi")
    assert any("no timestamps" in notice for notice in source.problems.notices) == (name == "no_timestamps")


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_read_unaltered_is_refused_by_name(clips: Clips, name: str) -> None:
    path, _ = clips[name]
    kind, words = REFUSED[name]
    with pytest.raises(kind) as caught:
        read(path)
    assert words in str(caught.value)
    assert len(str(caught.value).replace(str(path), "")) < 300


@pytest.mark.parametrize("name", sorted(DAMAGED))
def test_damage_is_counted_and_said_and_the_rest_comes(clips: Clips, name: str) -> None:
    path, facts = clips[name]
    frames, _, source = read(path)
    assert source.problems.damaged > 0
    assert any("is damaged" in notice for notice in source.problems.notices)
    assert len(frames) >= facts.frames - len(facts.damaged) - facts.cut
    with pytest.raises(CorruptVideoError, match="is damaged"):
        read(path, strict=True)


def test_a_wrong_ending_does_not_matter(clips: Clips) -> None:
    path, facts = clips["misnamed"]
    assert path.suffix == ".png"
    assert len(read(path)[0]) == facts.frames


def test_frames_above_max_pixels_are_refused(clips: Clips) -> None:
    with pytest.raises(ImageTooLargeError, match="96 x 64"):
        read(clips["h264"][0], max_pixels=96 * 64 - 1)


def test_a_playlist_is_never_followed(clips: Clips, tmp_path: Path) -> None:
    """FFmpeg takes texts like these for lists of other files and of addresses."""
    target = clips["mpeg_ts"][0]
    for text in (f"#EXTM3U\n#EXTINF:1,\n{target}\n", f"ffconcat version 1.0\nfile '{target}'\n"):
        (tmp_path / "list.mp4").write_text(text)
        with pytest.raises(CorruptVideoError, match="is no video"):
            AvSource(tmp_path / "list.mp4")


def test_a_matroska_file_that_starts_late_is_whole(tmp_path: Path) -> None:
    video = Video("libvpx-vp9", time_base=Fraction(1, 1000), pts=tuple(5000 + 40 * index for index in range(24)))
    facts = write_video(tmp_path / "late.mkv", video, "starts at 5 seconds")
    frames, _, source = read(tmp_path / "late.mkv", strict=True)
    assert [frame.pts for frame in frames] == list(facts.pts)
    assert source.problems.damaged == 0


def test_a_trimmed_mp4_is_not_called_damaged_for_the_frames_before_its_edit_list(tmp_path: Path) -> None:
    """FFmpeg leaves out whole groups that come before the start, and still states how many frames the file has."""
    path = tmp_path / "trimmed.mp4"
    facts = write_trimmed(path, count=36, dropped=15)
    frames, _, source = read(path, strict=True)
    assert [frame_number(frame.pixels) for frame in frames] == list(facts.numbers)
    assert [frame.pts for frame in frames] == list(facts.pts)
    assert source.problems.damaged == 0


def test_frames_that_avi_only_repeats_are_not_called_missing(tmp_path: Path) -> None:
    """Capture cards and FFmpeg fill gaps of an AVI with frames without data, which its header counts."""
    path = tmp_path / "gaps.avi"
    write_video(path, Video("mjpeg", pixel_format="yuvj420p", count=8, pts=(0, 1, 2, 5, 6, 7, 10, 11)), "gaps")
    frames, _, source = read(path, strict=True)
    assert [frame.pts for frame in frames] == [0, 1, 2, 5, 6, 7, 10, 11]
    assert source.problems.damaged == 0
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 6 // 10])
    frames, _, source = read(path)
    assert 0 < len(frames) < 8
    assert source.problems.damaged > 0


def test_damage_in_the_last_packet_costs_no_other_frame_and_is_counted(tmp_path: Path) -> None:
    """With a frame per thread FFmpeg lost the frames that waited for it, and said nothing."""
    path = tmp_path / "end.mkv"
    write_video(path, Video(count=30), "B-frames")
    with av.open(str(path)) as clip:
        last = [bytes(packet) for packet in clip.demux(video=0) if packet.size][-1]
    data = path.read_bytes()
    path.write_bytes(data.replace(last, b"\xff" * len(last)))
    frames, _, source = read(path)
    assert len(frames) == 29
    assert source.problems.damaged == 1


def write_stream(path: Path, offset: float) -> None:
    """An MPEG transport stream with a second of video, and audio beside it."""
    video, audio = Video(), Audio(count=46)
    with open_output(path, output_ts_offset=str(offset)) as output:
        streams = add_video(output, video), add_audio(output, audio)
        packets = [*video_packets(streams[0], video), *audio_packets(streams[1], audio)]
        for packet in sorted(packets, key=lambda packet: packet.dts * packet.time_base):
            output.mux(packet)


def seconds(packets: list[TrackPacket]) -> list[Fraction]:
    return [one.packet.dts * one.packet.time_base for one in packets]


def test_a_stream_whose_clock_starts_below_0_begins_at_0(tmp_path: Path) -> None:
    """MPEG's clock wraps after 26.5 hours, and FFmpeg counts what comes before as negative, which Matroska loses."""
    write_stream(tmp_path / "plain.ts", 0)
    write_stream(tmp_path / "wraps.ts", 2**33 / 90000 - 2)
    plain, plain_audio, source = read(tmp_path / "plain.ts")
    with pytest.warns(UserWarning, match="begins at -2.000 s"):
        frames, audio, _ = read(tmp_path / "wraps.ts", strict=True)
    first = plain[0].pts
    assert [frame.pts for frame in frames] == [frame.pts - first for frame in plain]
    assert seconds(audio) == [second - first * source.info.time_base for second in seconds(plain_audio)]


def test_streams_joined_with_cat_keep_video_and_audio_together(tmp_path: Path) -> None:
    """Times go back at the seam: no muxer takes such audio, and it must not stay behind the video that follows it."""
    write_stream(tmp_path / "part.ts", 0)
    (tmp_path / "joined.ts").write_bytes((tmp_path / "part.ts").read_bytes() * 2)
    _, part_audio, _ = read(tmp_path / "part.ts")
    with pytest.warns(UserWarning, match="audio whose times go back"):
        frames, audio, source = read(tmp_path / "joined.ts")
    assert hashes(audio) == hashes(part_audio * 2)
    times = seconds(audio)
    assert all(after > before for before, after in pairwise(times))
    video_end = frames[-1].pts * source.info.time_base
    assert abs(video_end - times[-1]) < Fraction(1, 10)
    assert source.problems.retimed == len(frames) // 2


def test_a_packet_without_data_that_repeats_a_frame_is_no_damage(tmp_path: Path) -> None:
    """Theora has them, and variable frame rates in NUT."""
    path, video = tmp_path / "repeats.nut", Video("mpeg4", count=8)
    with open_output(path) as output:
        stream = add_video(output, video)
        for packet in video_packets(stream, video):
            empty = av.Packet(b"")
            empty.pts, empty.dts, empty.time_base, empty.stream = packet.pts, packet.dts, packet.time_base, stream
            output.mux(empty if packet.pts == 4 else packet)
    frames, _, source = read(path, strict=True)
    assert len(frames) == 7
    assert source.problems.damaged == 0


def test_a_transport_stream_of_a_camcorder_is_a_video(tmp_path: Path) -> None:
    """Its packets of 188 bytes have 4 more before them."""
    facts = write_video(tmp_path / "clip.mts", Video(), "M2TS", format="mpegts", mpegts_m2ts_mode="1")
    frames, _, _ = read(tmp_path / "clip.mts", strict=True)
    assert [frame_number(frame.pixels) for frame in frames] == list(facts.numbers)
