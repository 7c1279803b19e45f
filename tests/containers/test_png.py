"""Packets as PNG files: they come back equal, and any viewer shows them."""

from __future__ import annotations

import dataclasses
import io
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from bdflow_rt.containers import decode_png, encode_png, read_packet, read_picture, write_packet
from bdflow_rt.containers.png import check_packet_path
from bdflow_rt.errors import ArgumentError
from bdflow_rt.packet import ColourInfo, Packet, ZPolicy
from tests.containers.build import join, make_packet, refused, same_packet, split

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@pytest.mark.parametrize("bits", range(9))
@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 7), (5, 3), (63, 65), (127, 1), (101, 103)])
def test_packets_come_back_equal(height: int, width: int, bits: int) -> None:
    packet = make_packet(height, width, bits=bits, scale=2)
    restored = decode_png(encode_png(packet))
    restored.check_unedited()
    assert same_packet(restored, packet)


@given(
    st.integers(1, 300),
    st.integers(1, 300),
    st.sampled_from([2, 4, 8, 16, 32, 64]),
    st.integers(0, 8),
    st.integers(0, 2**32 - 1),
    st.one_of(st.none(), st.binary(min_size=1, max_size=99)),
)
@settings(deadline=None, derandomize=True, max_examples=100)
def test_random_packets_come_back_equal(
    height: int, width: int, scale: int, bits: int, seed: int, icc: bytes | None
) -> None:
    packet = make_packet(height, width, scale=scale, bits=bits, seed=seed, icc=icc)
    colour = ColourInfo(model="grey" if seed % 2 else "rgb", transfer=seed % 256)
    header = dataclasses.replace(packet.header, z=ZPolicy(temperature=0.2**0.5, seed=seed), colour=colour)
    packet = dataclasses.replace(packet, header=header)
    assert same_packet(decode_png(encode_png(packet)), packet)


def test_the_file_is_an_ordinary_picture_to_other_libraries() -> None:
    packet = make_packet(icc=SRGB)
    data = encode_png(packet)
    with Image.open(io.BytesIO(data)) as image:
        assert (image.format, image.mode, image.info["icc_profile"]) == ("PNG", "RGB", SRGB)
        assert np.array_equal(np.asarray(image), packet.lr)
    bgr = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    assert np.array_equal(np.asarray(bgr)[..., ::-1], packet.lr)
    assert np.array_equal(read_picture(data).pixels, packet.lr)


def test_the_chunk_is_private_ancillary_unsafe_to_copy_and_before_the_pixels() -> None:
    kinds = [kind for kind, _ in split(encode_png(make_packet(icc=SRGB)))]
    assert kinds.index(b"bdFL") < kinds.index(b"IDAT")
    assert [bool(letter & 32) for letter in b"bdFL"] == [True, True, False, False]


@pytest.mark.parametrize("bits", range(9))
@pytest.mark.parametrize("kind", ["noise", "flat"])
def test_the_chunk_never_has_more_than_the_packed_map_and_256_bytes(bits: int, kind: str) -> None:
    packet = make_packet(401, 403, bits=bits)
    if kind == "flat" and bits:
        packet = dataclasses.replace(packet, boundary=np.zeros_like(packet.boundary))
    chunks = dict(split(encode_png(packet)))
    assert len(chunks[b"bdFL"]) <= 101 * 101 * bits / 8 + 256
    if kind == "flat":
        assert len(chunks[b"bdFL"]) < 160


def test_a_layout_that_is_not_contiguous_is_written_right() -> None:
    packet = make_packet(bits=3)
    turned = dataclasses.replace(packet, lr=np.asfortranarray(packet.lr), boundary=np.asfortranarray(packet.boundary))
    assert encode_png(turned) == encode_png(packet)


def test_harmless_chunks_that_other_programs_add_do_not_matter() -> None:
    packet = make_packet()
    chunks = split(encode_png(packet))
    chunks[1:1] = [(b"pHYs", bytes(9)), (b"zTXt", b"Comment\0\0" + b"\xff" * 50), (b"tRNS", bytes(6))]
    assert same_packet(decode_png(join(chunks)), packet)


def test_files_come_back_equal(tmp_path: Path) -> None:
    packet = make_packet(bits=2, icc=SRGB)
    for path in (tmp_path / "small.png", str(tmp_path / "small.PNG")):
        write_packet(path, packet)
        assert same_packet(read_packet(path), packet)


@pytest.mark.parametrize("name", ["small.jpg", "small", "small.bdf"])
def test_a_packet_under_a_name_that_hides_its_kind_is_refused(name: str, tmp_path: Path) -> None:
    with refused(ArgumentError, name, "small.png"):
        write_packet(tmp_path / name, make_packet())
    assert list(tmp_path.iterdir()) == []


def test_a_packet_may_go_to_a_pipe_or_device() -> None:
    check_packet_path("/dev/stdout" if not Path("/dev/stdout").is_file() else "/dev/null")
    write_packet("/dev/null", make_packet())


@pytest.mark.parametrize(  # Named, since a profile holds the time it was made at and workers must agree on the names.
    ("own", "noted"),
    [(SRGB, None), (None, 5), (SRGB, zlib.crc32(SRGB) ^ 1)],
    ids=["not-noted", "missing", "another"],
)
def test_a_packet_whose_profile_is_not_the_one_of_its_header_is_not_written(own: bytes | None, noted: int) -> None:
    packet = make_packet(icc=own)
    with refused(ArgumentError, "profile_crc32", "equal, or both None"):
        encode_png(dataclasses.replace(packet, header=dataclasses.replace(packet.header, profile_crc32=noted)))


def test_edited_pixels_with_the_old_chunk_are_read_but_do_not_pass_the_check() -> None:
    packet = make_packet()
    edited = Packet(255 - packet.lr, packet.boundary, packet.header)
    restored = decode_png(encode_png(edited))
    assert np.array_equal(restored.lr, 255 - packet.lr)
    assert restored.crc32_of(restored.lr) != restored.header.lr_crc32
