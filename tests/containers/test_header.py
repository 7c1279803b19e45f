"""The binary header: what goes in comes out, and every byte of it is checked."""

from __future__ import annotations

import dataclasses
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bdflow_rt.containers.header import MAX_HEADER_BYTES, decode_header, encode_header
from bdflow_rt.errors import CorruptPacketError, PacketVersionError
from bdflow_rt.packet import ColourInfo, PacketHeader, ZPolicy
from tests.containers.build import make_packet, patch_header, refused, repair_header

HEADER = make_packet().header
code_points = st.integers(0, 255)
headers = st.builds(
    PacketHeader,
    model=st.from_regex(r"[a-z0-9][a-z0-9._-]{0,63}@[1-9][0-9]{0,5}", fullmatch=True),
    weights_hash=st.binary(min_size=8, max_size=8),
    scale=st.sampled_from([2, 4, 8, 16, 32, 64]),
    width=st.integers(1, 2**31 - 1),
    height=st.integers(1, 2**31 - 1),
    bits=st.integers(0, 8),
    lr_crc32=st.integers(0, 2**32 - 1),
    z=st.builds(ZPolicy, temperature=st.floats(0, 10), seed=st.integers(0, 2**64 - 1)),
    colour=st.builds(
        ColourInfo,
        model=st.sampled_from(["rgb", "grey"]),
        primaries=code_points,
        transfer=code_points,
        matrix=code_points,
        full_range=st.booleans(),
    ),
)


@given(headers)
@settings(deadline=None, derandomize=True)
def test_every_header_comes_back_equal_and_is_short(header: PacketHeader) -> None:
    data = encode_header(header)
    assert decode_header(data) == header
    assert len(data) <= MAX_HEADER_BYTES == 128


def test_the_longest_model_id_fits() -> None:
    longest = dataclasses.replace(HEADER, model="a" * 64 + "@999999")
    assert len(encode_header(longest)) == MAX_HEADER_BYTES
    assert decode_header(encode_header(longest)) == longest


@pytest.mark.parametrize("version", [0, 2, 65535])
def test_an_unknown_version_is_named_before_anything_else_is_looked_at(version: int) -> None:
    data = b"bdFH" + struct.pack(">H", version) + b"\xff" * 200
    with refused(PacketVersionError, str(version), "Update"):
        decode_header(data)


def test_every_flipped_bit_is_noticed() -> None:
    data = encode_header(HEADER)
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
        (16, b"\x03", "scale"),
        (16, b"\x00", "scale"),
        (17, b"\x09", "bits"),
        (18, b"\x02", "colour"),
        (19, b"\x02", "colour"),
        (23, b"\x01", "colour"),
        (24, bytes(4), "width"),
        (24, b"\x80\0\0\0", "width"),
        (28, b"\xff\xff\xff\xff", "height"),
        (36, struct.pack(">d", float("nan")), "temperature"),
        (36, struct.pack(">d", float("-inf")), "temperature"),
        (36, struct.pack(">d", 1e300), "temperature"),
        (52, b"\x0a", "model id"),
        (53, b"/", "model"),
        (53, b"\xc3\xa9", "ASCII"),
    ],
)
def test_a_value_that_is_not_allowed_is_named_although_the_crc_is_right(offset: int, new: bytes, word: str) -> None:
    with refused(CorruptPacketError, word):
        decode_header(patch_header(HEADER, offset, new))


def test_bytes_after_the_header_are_refused() -> None:
    with refused(CorruptPacketError, "3 bytes follow"):
        decode_header(encode_header(HEADER) + bytes(3))


def test_a_model_id_longer_than_any_is_refused() -> None:
    data = encode_header(HEADER)
    with refused(CorruptPacketError, "length"):
        decode_header(repair_header(data[:52] + b"\x64" + b"a" * 98 + b"@1" + data[-4:]))
