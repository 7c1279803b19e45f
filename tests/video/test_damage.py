"""Damage that FFmpeg conceals without a mark, and what only seems to be damage."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from bdflow_rt.containers.matroska import file_end
from bdflow_rt.errors import CorruptPacketError, CorruptVideoError
from bdflow_rt.video.av_source import AvSource
from bdflow_rt.video.ffv1 import SliceCheck
from bdflow_rt.video.lr_file import LrFrame, LrSource
from tests.spec.make_video_vectors import FOLDER
from tests.video.clip_writer import Video, configure, open_output, video_packets, write_video

pytestmark = pytest.mark.filterwarnings("ignore:.*is damaged")
COUNT = 8


def flip(path: Path, track: int, frame: int, *, place: float = 0.6) -> None:
    """Change a bit inside the packet of a frame."""
    with av.open(str(path)) as container:
        packet = [one for one in container.demux(container.streams.video[track]) if one.size][frame]
        content = bytes(packet)
    data = bytearray(path.read_bytes())
    assert data.count(content) == 1
    data[data.index(content) + int(place * len(content))] ^= 0x10
    path.write_bytes(data)


@pytest.mark.parametrize("options", [{"slices": "4"}, {"slices": "24", "coder": "1"}, {"g": "4"}])
def test_a_slice_that_does_not_fit_its_checksum_is_counted(tmp_path: Path, options: dict[str, str]) -> None:
    video = Video("ffv1", count=COUNT, options=options)
    write_video(tmp_path / "clip.mkv", video, "slices with checksums")
    flip(tmp_path / "clip.mkv", 0, 3)
    with AvSource(tmp_path / "clip.mkv") as source:
        assert len(list(source)) == COUNT
    assert source.problems.damaged == 1
    with AvSource(tmp_path / "clip.mkv", strict=True) as source, pytest.raises(CorruptVideoError, match="checksum"):
        list(source)


def packets_of(options: dict[str, str]) -> Sequence[bytes]:
    video = Video("ffv1", count=COUNT, options=options)
    encoder: Any = av.CodecContext.create("ffv1", "w")
    configure(encoder, video)
    return [bytes(one) for one in video_packets(encoder, video)]


def test_slices_without_checksums_are_not_called_damaged() -> None:
    for options in ({"level": "1"}, {"slicecrc": "0"}):
        check = SliceCheck()
        assert not any(check.is_damaged(packet) for packet in packets_of(options))


def test_every_changed_byte_of_a_slice_is_noticed() -> None:
    check = SliceCheck()
    packet = packets_of({"slices": "4"})[0]
    assert not check.is_damaged(packet)
    rng = np.random.default_rng(0)
    for place in (0, 1, len(packet) - 1, len(packet) - 8, *rng.integers(0, len(packet), 40)):
        changed = bytearray(packet)
        changed[place] ^= 1
        assert check.is_damaged(bytes(changed)), place
    assert check.is_damaged(packet[:-1])
    assert not check.is_damaged(packet)


def test_a_motion_jpeg_frame_with_a_broken_code_is_counted(tmp_path: Path) -> None:
    write_video(tmp_path / "clip.avi", Video("mjpeg", pixel_format="yuvj420p", count=COUNT), "Motion JPEG")
    with av.open(str(tmp_path / "clip.avi")) as container:
        packet = [bytes(one) for one in container.demux(video=0) if one.size][3]
    data = (tmp_path / "clip.avi").read_bytes()
    middle = len(packet) // 2
    broken = packet[:middle] + b"\xff\x00" * 20 + packet[middle + 40 :]  # no code is all ones
    assert data.count(packet) == 1
    (tmp_path / "clip.avi").write_bytes(data.replace(packet, broken))
    with AvSource(tmp_path / "clip.avi") as source:
        frames = list(source)
    assert source.problems.damaged == COUNT - len(frames) == 1


def test_an_avi_whose_frames_are_to_be_shown_again_is_whole(tmp_path: Path) -> None:
    """Its header counts them, and FFmpeg gives no packet for a frame without data."""
    video = Video("mpeg4", count=COUNT)
    with open_output(tmp_path / "clip.avi") as output:
        stream: Any = output.add_stream("mpeg4", rate=video.rate)
        configure(stream.codec_context, video)
        for packet in video_packets(stream, video):
            packet.pts = packet.dts = packet.dts + (packet.dts >= 4)  # one is missing in between
            output.mux(packet)
    with av.open(str(tmp_path / "clip.avi")) as container:
        assert container.streams.video[0].frames == COUNT + 1
    with AvSource(tmp_path / "clip.avi", strict=True) as source:
        assert len(list(source)) == COUNT


@pytest.mark.parametrize("name", ["3-bits.mkv", "0-bits.mkv"])
def test_a_changed_boundary_map_or_time_is_counted_and_the_frame_left_out(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes((FOLDER / name).read_bytes())
    flip(path, 1, 1, place=0.5)
    with LrSource(path) as source:
        frames = [one.data.pts for one in source if isinstance(one, LrFrame)]
    assert (frames, source.problems.damaged) == ([5, 9], 1)
    with LrSource(path, strict=True) as source, pytest.raises(CorruptPacketError, match="is damaged"):
        list(source)


def test_a_long_last_frame_is_no_missing_end(tmp_path: Path) -> None:
    """Matroska says that it lasts until then, and FFmpeg's packets do not: the file's bytes tell what is whole."""
    video = Video("mpeg4", count=COUNT)
    path = tmp_path / "clip.mkv"
    with open_output(path) as output:
        stream: Any = output.add_stream("mpeg4", rate=video.rate)
        configure(stream.codec_context, video)
        packets = list(video_packets(stream, video))
        packets[-1].duration = 500
        output.mux(packets)
    with av.open(str(path)) as container:
        assert container.duration is not None
        assert container.duration > 10 * av.time_base
    with AvSource(path, strict=True) as source:
        assert len(list(source)) == COUNT
    path.write_bytes(path.read_bytes()[:-200])
    with AvSource(path) as source:
        list(source)
    assert source.problems.damaged > 0


@pytest.mark.parametrize(
    "prefix",
    [
        b"",
        b"\x1a\x45\xdf\xa3",
        b"\x1a\x45\xdf\xa3\x80",
        b"\x1a\x45\xdf\xa3\x00" + b"\xff" * 20,
        b"\x1a\x45\xdf\xa3\x80\x18\x53\x80\x67\x01" + b"\xff" * 7,
        b"RIFF" * 9,
    ],
)
def test_no_end_is_made_up_for_a_file_that_states_none(prefix: bytes) -> None:
    assert file_end(prefix) is None
    assert file_end(b"\x1a\x45\xdf\xa3\x81.\x18\x53\x80\x67\x40\x02") == 14
