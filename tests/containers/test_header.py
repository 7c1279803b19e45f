"""The binary header: what goes in comes out, and every byte of it is checked."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bdflow_rt.containers.header import MAX_HEADER_BYTES, decode_header, encode_header
from bdflow_rt.errors import CorruptPacketError, PacketVersionError
from bdflow_rt.packet import ColourInfo, PacketHeader, StreamHeader, ZPolicy
from tests.containers.build import STREAM, fields_of, make_packet, patch_header, refused, repair_header, with_fields

HEADER = make_packet().header
code_points = st.integers(0, 255)
crcs = st.none() | st.integers(0, 2**32 - 1)
common = {
    "model": st.from_regex(r"[a-z0-9][a-z0-9._-]{0,63}@[1-9][0-9]{0,5}", fullmatch=True),
    "identity": st.binary(min_size=8, max_size=8),
    "scale": st.sampled_from([2, 4, 8, 16, 32, 64]),
    "width": st.integers(1, 2**31 - 1),
    "height": st.integers(1, 2**31 - 1),
    "bits": st.integers(0, 8),
    "z": st.builds(ZPolicy, temperature=st.floats(0, 10), seed=st.integers(0, 2**64 - 1)),
    "colour": st.builds(
        ColourInfo,
        model=st.sampled_from(["rgb", "grey"]),
        primaries=code_points,
        transfer=code_points,
        matrix=code_points,
        full_range=st.booleans(),
    ),
}
pictures = st.builds(PacketHeader, **common, lr_crc32=crcs, profile_crc32=crcs)
streams = st.builds(
    StreamHeader,
    **common,
    time_base=st.tuples(*[st.integers(1, 2**32 - 1)] * 2),
    codec=st.from_regex(r"[a-z0-9][a-z0-9._-]{0,31}", fullmatch=True),
    lr_is_exact=st.booleans(),
    frame_data=st.sampled_from(["rows", "track", "none"]),
)


@given(pictures | streams)
@settings(deadline=None, derandomize=True)
def test_every_header_comes_back_equal_and_is_short(header: PacketHeader | StreamHeader) -> None:
    data = encode_header(header)
    assert decode_header(data) == header
    assert len(data) <= 190


@pytest.mark.parametrize("version", [0, 2, 65535])
def test_an_unknown_version_is_named_before_anything_else_is_looked_at(version: int) -> None:
    data = b"bdFH\0\0\0\0" + struct.pack(">H", version) + b"\xff" * 200
    with refused(PacketVersionError, str(version), "newer"):
        decode_header(data)


@pytest.mark.parametrize("header", [HEADER, STREAM])
def test_every_flipped_bit_is_noticed(header: PacketHeader | StreamHeader) -> None:
    data = encode_header(header)
    for bit in range(8 * len(data)):
        broken = bytearray(data)
        broken[bit // 8] ^= 1 << bit % 8
        with pytest.raises((CorruptPacketError, PacketVersionError)):
            decode_header(bytes(broken))


def test_every_cut_is_noticed() -> None:
    data = encode_header(HEADER)
    for length in range(len(data)):
        with refused(CorruptPacketError, "header"):
            decode_header(data[:length])


@pytest.mark.parametrize(
    ("offset", "new", "word"),
    [
        (11, b"\x03", "scale"),
        (11, b"\x00", "scale"),
        (20, bytes(4), "width"),
        (20, b"\x80\0\0\0", "width"),
        (24, b"\xff\xff\xff\xff", "height"),
        (28, b"\x00", "0 planes of 1 bit"),
        (29, b"\x00", "1 plane of 0 bits"),
        (29, b"\x09", "bits"),
        (34, b"/", "model"),
        (34, b"\xc3\xa9", "ASCII"),
    ],
)
def test_a_value_that_is_not_allowed_is_named_although_the_crc_is_right(offset: int, new: bytes, word: str) -> None:
    with refused(CorruptPacketError, word):
        decode_header(patch_header(HEADER, offset, new))


@pytest.mark.parametrize(
    ("code", "data", "word"),
    [
        (0x0002, bytes((2, 2, 2, 2, 1)), "colour"),
        (0x0002, bytes((0, 2, 2, 2, 2)), "colour"),
        (0x0002, bytes(4), "4 bytes instead of 5"),
        (0x0003, bytes(5), "5 bytes instead of 4"),
        (0x0004, b"", "0 bytes instead of 4"),
        (0x8001, struct.pack(">dQ", float("nan"), 0), "temperature"),
        (0x8001, struct.pack(">dQ", float("-inf"), 0), "temperature"),
        (0x8001, struct.pack(">dQ", 1e300, 0), "temperature"),
        (0x8001, bytes(15), "15 bytes instead of 16"),
        (0x8002, struct.pack(">IIBB", 1, 25, 1, 0) + b"ffv1", "field of a video"),
    ],
)
def test_a_field_that_is_not_allowed_is_named(code: int, data: bytes, word: str) -> None:
    with refused(CorruptPacketError, word):
        decode_header(with_fields(HEADER, {**fields_of(HEADER), code: data}))


@pytest.mark.parametrize(
    ("code", "data", "word"),
    [
        (0x8002, struct.pack(">IIBB", 0, 25, 1, 0) + b"ffv1", "time_base"),
        (0x8002, struct.pack(">IIBB", 1, 0, 1, 0) + b"ffv1", "time_base"),
        (0x8002, struct.pack(">IIBB", 1, 25, 2, 0) + b"ffv1", "exact by 2"),
        (0x8002, struct.pack(">IIBB", 1, 25, 1, 3) + b"ffv1", "frame data at 3"),
        (0x8002, struct.pack(">IIBB", 1, 25, 1, 0), "10 bytes instead of 11 to 42"),
        (0x8002, struct.pack(">IIBB", 1, 25, 1, 0) + b"FFV1", "codec"),
        (0x8002, struct.pack(">IIBB", 1, 25, 1, 0) + b"\xff", "ASCII"),
        (0x8002, b"short", "5 bytes instead of 11 to 42"),
        (0x0003, bytes(4), "those of a picture"),
        (0x0004, bytes(4), "those of a picture"),
    ],
)
def test_a_field_of_a_video_that_is_not_allowed_is_named(code: int, data: bytes, word: str) -> None:
    with refused(CorruptPacketError, word):
        decode_header(with_fields(STREAM, {**fields_of(STREAM), code: data}))


def test_a_header_without_a_model_and_a_video_without_its_field_are_refused() -> None:
    for header, code, word in ((HEADER, 0x0001, "model"), (STREAM, 0x8002, "lacks its field")):
        fields = {key: data for key, data in fields_of(header).items() if key != code}
        with refused(CorruptPacketError, word):
            decode_header(with_fields(header, fields))


@pytest.mark.parametrize(("code", "size"), [(0x0001, 2), (0x0001, 72), (0x8002, 10), (0x8002, 43)])
def test_a_length_that_is_not_allowed_decides_before_a_critical_field_behind_it(code: int, size: int) -> None:
    with refused(CorruptPacketError, f"{code:#06x} has {size} bytes"):
        decode_header(with_fields(STREAM, {**fields_of(STREAM), code: bytes(size), 0x8003: b""}))


@pytest.mark.parametrize("planes", [b"\0\1", b"\1\0"])
def test_planes_without_bits_are_damage_only_where_every_critical_field_is_known(planes: bytes) -> None:
    data = with_fields(HEADER, {**fields_of(HEADER), 0x8003: b""})
    with refused(PacketVersionError, "0x8003"):
        decode_header(repair_header(data[:28] + planes + data[30:]))


def test_unknown_fields_are_skipped_and_unknown_critical_ones_refused() -> None:
    for code in (0x0005, 0x0040, 0x7FFF):
        assert decode_header(with_fields(HEADER, {**fields_of(HEADER), code: b"?" * 1000})) == HEADER
    for code in (0x8000, 0x8003, 0xFFFF):
        with refused(PacketVersionError, f"{code:#06x}", "newer bdflow-rt"):
            decode_header(with_fields(HEADER, {**fields_of(HEADER), code: b""}))


def test_fields_that_repeat_or_come_out_of_order_are_refused() -> None:
    fields = [*fields_of(HEADER).items()]
    for order in (fields[::-1], [*fields, fields[-1]], [fields[0], *fields]):
        with refused(CorruptPacketError, "in ascending order"):
            decode_header(with_fields(HEADER, order))


def test_fields_that_overrun_the_header_or_leave_bytes_over_are_refused() -> None:
    data = encode_header(HEADER)
    with refused(CorruptPacketError, "claims 999 bytes"):
        decode_header(repair_header(data[:32] + struct.pack(">H", 999) + data[34:]))
    with refused(CorruptPacketError, "3 bytes follow its fields"):
        decode_header(repair_header(data[:-4] + bytes(3) + data[-4:]))


def test_64_kib_are_read_and_one_byte_more_is_refused() -> None:
    for excess, fits in ((0, True), (1, False)):
        free = MAX_HEADER_BYTES - len(encode_header(HEADER)) - 4 + excess
        data = with_fields(HEADER, {**fields_of(HEADER), 0x0040: bytes(free)})
        assert len(data) == MAX_HEADER_BYTES + excess
        if fits:
            assert decode_header(data) == HEADER
        else:
            with refused(CorruptPacketError, "65537 bytes", "65536 are allowed"):
                decode_header(data)


def test_several_planes_and_unknown_contents_need_a_newer_release() -> None:
    with refused(PacketVersionError, "2 planes", "newer bdflow-rt"):
        decode_header(patch_header(HEADER, 28, b"\x02"))
    with refused(PacketVersionError, "kind 2", "newer bdflow-rt"):
        decode_header(patch_header(HEADER, 10, b"\x02"))


def test_bytes_after_the_header_are_refused() -> None:
    with refused(CorruptPacketError, "3 bytes follow"):
        decode_header(encode_header(HEADER) + bytes(3))
