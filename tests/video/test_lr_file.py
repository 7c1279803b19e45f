"""LR videos that are not as they were written: edited, cut, damaged, without a track."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from bdflow_rt.containers.header import encode_header
from bdflow_rt.containers.matroska import (
    FRAME_BYTES,
    HEADER_NAME,
    HEADER_TAG,
    FrameData,
    data_rows,
    find_header,
    header_tag,
    join_frame,
    split_frame,
    track_size,
)
from bdflow_rt.errors import (
    ArgumentError,
    BdflowError,
    CorruptPacketError,
    CorruptVideoError,
    EditedPictureError,
    ImageTooLargeError,
    NotAPacketError,
    PacketMismatchError,
    PacketVersionError,
)
from bdflow_rt.packet import StreamHeader
from bdflow_rt.rescaler import Rescaler
from bdflow_rt.video import Encoding, downscale_video, upscale_video
from bdflow_rt.video.lr_file import LrFrame, LrSource
from bdflow_rt.zoo import find_model
from tests.video.clips import Clips

pytestmark = pytest.mark.filterwarnings("ignore:.*is damaged|.*missing in its")
HEADER = StreamHeader(
    model="tiny-x2@1", identity=bytes(8), scale=2, width=96, height=64, bits=2, time_base=(1, 24), codec="h264",
    lr_is_exact=True, frame_data="rows",
)  # fmt: skip


@pytest.fixture(scope="module")
def rescaler(tiny_zoo: Path) -> Iterator[Rescaler]:
    with Rescaler(find_model(tiny_zoo / "tiny-x2@1"), threads=1) as made:
        yield made


@pytest.fixture(scope="module")
def lr(clips: Clips, rescaler: Rescaler, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An LR video of 24 frames with audio."""
    path = tmp_path_factory.mktemp("lr") / "lr.mkv"
    downscale_video(clips["audio_aac"][0], path, rescaler)
    return path


def read(path: Path, **options: Any) -> tuple[list[LrFrame], LrSource]:
    with LrSource(path, **options) as source:
        return [item for item in source if isinstance(item, LrFrame)], source


def copied(
    source: Path,
    target: Path,
    *,
    tracks: tuple[int, ...] = (0, 1),
    keep: Callable[[int, int], bool] = lambda track, index: True,
    change: Callable[[int, int, bytes], bytes] | None = None,
    has_attachment: bool = True,
    has_tag: bool = True,
    has_roles: bool = True,
    later_ms: int = 0,
) -> Path:
    """A copy of an LR video's packets by PyAV, with some of it changed or left out."""
    with av.open(str(source)) as old, av.open(str(target), "w", format="matroska") as new:
        videos = [old.streams.video[index] for index in tracks]
        outputs: dict[int, Any] = {}
        for stream in videos:
            outputs[stream.index] = new.add_stream_from_template(stream, opaque=True)
            if has_roles:
                outputs[stream.index].metadata.update(stream.metadata)
        if has_tag:
            new.metadata[HEADER_TAG] = old.metadata[HEADER_TAG]
        if has_attachment:
            header = next(one for one in old.streams if isinstance(one, av.stream.AttachmentStream))
            new.add_attachment(HEADER_NAME, "application/x-bdflow-header", header.data)
        counts = dict.fromkeys(outputs, 0)
        for packet in old.demux(*videos):
            if not packet.size:
                continue
            track, index = tracks[list(outputs).index(packet.stream.index)], counts[packet.stream.index]
            counts[packet.stream.index] += 1
            if not keep(track, index):
                continue
            data = bytes(packet) if change is None else change(track, index, bytes(packet))
            made = av.Packet(data)
            made.pts = made.dts = (packet.pts or 0) + later_ms
            made.time_base = packet.time_base
            made.is_keyframe, made.duration = packet.is_keyframe, packet.duration
            made.stream = outputs[packet.stream.index]
            new.mux_one(made)
    return target


def flipped(data: bytes, place: float = 0.6) -> bytes:
    at = int(len(data) * place)
    return data[:at] + bytes([data[at] ^ 0x55]) + data[at + 1 :]


def test_a_copy_reads_as_the_original(lr: Path, tmp_path: Path) -> None:
    expected, _ = read(lr)
    for index, options in enumerate(
        ({}, {"has_attachment": False}, {"has_tag": False}, {"has_roles": False}, {"tracks": (1, 0)})
    ):
        actual, source = read(copied(lr, tmp_path / f"{index}.mkv", **options))  # type: ignore[arg-type]
        assert source.problems.damaged == 0
        assert [one.data for one in actual] == [one.data for one in expected]
        assert all(np.array_equal(a.lr, b.lr) for a, b in zip(actual, expected, strict=True))


FAULTS: dict[str, tuple[dict[str, Any], type[BdflowError], str]] = {
    "no header": ({"has_attachment": False, "has_tag": False}, NotAPacketError, "is an ordinary video"),
    "no boundary track": ({"tracks": (0,)}, PacketMismatchError, "has lost its boundary track"),
    "no LR track": ({"tracks": (1,)}, PacketMismatchError, "has lost its LR track"),
    "no second track and no roles": ({"tracks": (0,), "has_roles": False}, PacketMismatchError, "has lost its"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_missing_is_named(lr: Path, tmp_path: Path, rescaler: Rescaler, fault: str) -> None:
    options, kind, words = FAULTS[fault]
    path = copied(lr, tmp_path / "lr.mkv", **options)
    with pytest.raises(kind, match=words):
        read(path)
    with pytest.raises(kind, match=words):
        upscale_video(path, tmp_path / "hr.mkv", rescaler)
    assert [one.name for one in tmp_path.iterdir()] == ["lr.mkv"]


@pytest.mark.parametrize(("codec", "track"), [(b"V_MPEG4/ISO/AVC", "LR"), (b"V_FFV1", "boundary")])
def test_a_track_of_an_unknown_codec_is_named(lr: Path, tmp_path: Path, codec: bytes, track: str) -> None:
    path = tmp_path / "lr.mkv"
    path.write_bytes(lr.read_bytes().replace(codec, codec[:-1] + b"?", 1))
    with pytest.raises(PacketMismatchError, match=f"The {track} track of .* has a codec that is not known"):
        read(path)


def test_a_shorter_boundary_track_costs_its_frames_and_no_others(lr: Path, tmp_path: Path, rescaler: Rescaler) -> None:
    path = copied(lr, tmp_path / "lr.mkv", keep=lambda track, index: track == 0 or index < 20)
    result = upscale_video(path, tmp_path / "hr.mkv", rescaler, encoding=Encoding(codec="ffv1"))
    assert (result.frames, result.damaged) == (20, 4)
    assert any("missing in its boundary track" in notice for notice in result.notices)
    with pytest.raises(CorruptPacketError, match="missing in its boundary track"):
        upscale_video(path, tmp_path / "strict.mkv", rescaler, strict=True)


def test_a_hole_in_one_track_leaves_the_others_in_step(lr: Path, tmp_path: Path) -> None:
    path = copied(lr, tmp_path / "lr.mkv", keep=lambda track, index: track == 0 or index not in (5, 6))
    frames, source = read(path)
    assert source.problems.damaged == 2
    assert [one.data.pts for one in frames] == [
        one.data.pts for index, one in enumerate(read(lr)[0]) if index not in (5, 6)
    ]


def test_damage_in_either_track_costs_the_frames_that_it_hits(lr: Path, tmp_path: Path) -> None:
    expected = {one.data.pts: one for one in read(lr)[0]}
    for track, most in ((0, 24 - 7), (1, 1)):

        def change(at: int, index: int, data: bytes, hit: int = track) -> bytes:
            return flipped(data) if (at, index) == (hit, 7) else data

        path = copied(lr, tmp_path / f"{track}.mkv", change=change)
        frames, source = read(path)
        assert 1 <= source.problems.damaged <= most
        assert len(frames) == 24 - source.problems.damaged
        for one in frames:
            assert np.array_equal(one.lr, expected[one.data.pts].lr)
            assert np.array_equal(one.boundary, expected[one.data.pts].boundary)  # type: ignore[arg-type]
        with pytest.raises(CorruptPacketError):
            read(path, strict=True)


def test_pictures_that_were_coded_again_are_refused_or_forced(lr: Path, tmp_path: Path, rescaler: Rescaler) -> None:
    frames, source = read(lr)
    path = tmp_path / "coded.mkv"
    with av.open(str(lr)) as old, av.open(str(path), "w", format="matroska") as new:
        new.metadata[HEADER_TAG] = old.metadata[HEADER_TAG]
        shown: Any = new.add_stream("libx264", rate=24, options={"crf": "18"})
        shown.width, shown.height, shown.pix_fmt = 48, 32, "yuv444p"
        hidden = new.add_stream_from_template(old.streams.video[1], opaque=True)
        for index, frame in enumerate(frames):
            picture = av.VideoFrame.from_ndarray(frame.lr, format="rgb24").reformat(format="yuv444p")
            picture.pts, picture.time_base = index, Fraction(1, 24)
            new.mux(shown.encode(picture))
        new.mux(shown.encode(None))
        for packet in old.demux(old.streams.video[1]):
            if packet.size:
                packet.stream = hidden
                new.mux_one(packet)
    with pytest.raises(EditedPictureError, match="were changed after they were made"):
        read(path)
    forced, _ = read(path, force=True)
    assert len(forced) == 24
    assert upscale_video(path, tmp_path / "hr.mkv", rescaler, force=True).frames == 24
    assert source.header.lr_is_exact


def test_a_file_that_is_cut_gives_what_is_there(lr: Path, tmp_path: Path) -> None:
    data = lr.read_bytes()
    counts = []
    for share in (0.3, 0.6, 0.9):
        (tmp_path / "cut.mkv").write_bytes(data[: int(len(data) * share)])
        try:
            counts.append(len(read(tmp_path / "cut.mkv")[0]))
        except CorruptVideoError:
            counts.append(0)
    assert counts == sorted(counts)
    assert 0 < counts[-1] < 24


def test_a_file_that_is_cut_off_is_said_to_be(clips: Clips, tmp_path: Path, rescaler: Rescaler) -> None:
    """A download that stopped: whole clusters are there, and nothing else tells that more were to come."""
    path = tmp_path / "lr.mkv"
    downscale_video(clips["vfr_mp4"][0], path, rescaler)
    assert read(path)[1].problems.damaged == 0
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 4 // 10])
    frames, source = read(path)
    assert 0 < len(frames) < 24
    assert source.problems.damaged > 0
    with pytest.raises(CorruptPacketError, match="cut off after"):
        read(path, strict=True)


def test_frames_of_a_file_moved_in_time_stay_with_its_audio(lr: Path, tmp_path: Path) -> None:
    """Cutting and joining with other programs moves what Matroska says of both, and not the frames' own data."""
    expected, _ = read(lr)
    with pytest.warns(UserWarning, match="was cut, joined or moved"):
        frames, source = read(copied(lr, tmp_path / "moved.mkv", later_ms=1000))
    assert source.info.time_base == Fraction(1, 12288)
    assert [one.data.pts for one in frames] == [one.data.pts + 12288 for one in expected]


def test_frames_above_max_pixels_are_refused(lr: Path) -> None:
    with pytest.raises(ImageTooLargeError, match="96 x 64"):
        read(lr, max_pixels=96 * 64 - 1)


@pytest.mark.parametrize("width", [1, 2, 15, 16, 17, 480])
@pytest.mark.parametrize("bits", [0, 1, 8])
def test_a_frame_s_data_come_back_exactly(width: int, bits: int) -> None:
    rng = np.random.default_rng(width)
    header = dataclasses.replace(HEADER, width=2 * width, height=14, bits=bits, frame_data="rows" if bits else "track")
    boundary = rng.integers(0, 1 << bits, (7, width), dtype=np.uint8) if bits else None
    for data in (FrameData(-(2**63), 0, 0), FrameData(2**63 - 1, 2**32 - 1, 2**32 - 1), FrameData(-5, 1001, 77)):
        picture = join_frame(boundary, data)
        assert picture.shape == track_size(header)
        again, found = split_frame(picture, header)
        assert found == data
        assert np.array_equal(again, boundary) if bits else again is None  # type: ignore[arg-type]


def test_pictures_of_another_size_or_content_are_refused() -> None:
    data = FrameData(1, 2, 3)
    boundary = np.full((32, 48), 3, np.uint8)
    picture = join_frame(boundary, data)
    assert data_rows(48) == 1
    with pytest.raises(PacketMismatchError, match="48 x 34"):
        split_frame(np.pad(picture, ((0, 1), (0, 0))), HEADER)
    with pytest.raises(CorruptPacketError, match="level 4"):
        split_frame(join_frame(boundary + 1, data), HEADER)
    picture[-1, FRAME_BYTES] = 1
    with pytest.raises(CorruptPacketError, match="are not 0"):
        split_frame(picture, HEADER)


@pytest.mark.parametrize("values", [(2**63, 0, 0), (0, 2**32, 0), (0, -1, 0), (0, 0, 2**32), (0.5, 0, 0)])
def test_data_out_of_range_are_refused(values: Any) -> None:
    with pytest.raises(ArgumentError):
        FrameData(*values)


def test_the_header_is_found_where_one_of_its_places_is_damaged() -> None:
    data, tag = encode_header(HEADER), header_tag(HEADER)
    assert find_header(None, None) is None
    for attachment, text in ((data, tag), (data, None), (None, tag), (data[:-1], tag), (data, "no base64"), (data, "")):
        assert find_header(attachment, text) == HEADER
    for attachment, text in ((data[:-1], None), (None, "AAAA"), (b"", ""), (None, tag[:-4])):
        with pytest.raises(CorruptPacketError):
            find_header(attachment, text)


def test_a_later_version_is_said_to_be_one(lr: Path, tmp_path: Path) -> None:
    data = bytearray(encode_header(HEADER))
    data[9] = 2
    with pytest.raises(PacketVersionError):
        find_header(bytes(data), header_tag(HEADER))
