"""Files that are no packet, or no longer one: one fault each, one typed error each."""

from __future__ import annotations

import dataclasses
import io
import struct
import time
import tracemalloc
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile, PngImagePlugin

from bdflow_rt.containers import decode_png, encode_header, encode_png, read_packet
from bdflow_rt.containers.chunks import MAX_CHUNKS, SIGNATURE, chunk
from bdflow_rt.errors import (
    CorruptImageError,
    CorruptPacketError,
    EditedPictureError,
    ImageTooLargeError,
    MissingFileError,
    NotAPacketError,
    PacketMismatchError,
    PacketVersionError,
)
from tests.containers.build import (
    INCOMPLETE_PIXELS,
    edit_chunk,
    encoded,
    fields_of,
    huge_png,
    insert_chunks,
    join,
    make_packet,
    patch_header,
    refused,
    same_packet,
    split,
    with_fields,
    with_header,
)
from tests.support import photo

PACKET = make_packet(37, 53, bits=2)
PNG = encode_png(PACKET)
HEADER = encode_header(PACKET.header)
PHOTO = Image.fromarray(photo(63, 65, 1))


def saved_again(image: Image.Image, **options: object) -> bytes:
    """The picture as an editor writes it that keeps the chunk."""
    extra = PngImagePlugin.PngInfo()
    extra.add(b"bdFL", dict(split(PNG))[b"bdFL"])
    return encoded(image, "PNG", pnginfo=extra, **options)


def test_an_ordinary_png_is_no_packet() -> None:
    with refused(NotAPacketError, "this picture was not made by bdflow, so its detail cannot be restored"):
        decode_png(encoded(PHOTO, "PNG"))


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1", "I;16"])
def test_an_ordinary_png_of_another_kind_is_no_packet_either(mode: str) -> None:
    image = PHOTO.convert("L").convert(mode) if mode == "I;16" else PHOTO.convert(mode)
    with refused(NotAPacketError, "not made by bdflow"):
        decode_png(encoded(image, "PNG"))


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "TIFF", "BMP", "PPM", "GIF"])
def test_a_sound_picture_of_another_format_is_no_packet(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "picture"
    path.write_bytes(encoded(PHOTO, kind))
    with refused(NotAPacketError, "not made by bdflow"):
        read_packet(path)


def test_a_cmyk_jpeg_is_no_packet() -> None:
    with refused(NotAPacketError, "not made by bdflow"):
        decode_png(encoded(PHOTO.convert("CMYK"), "JPEG"))


@pytest.mark.parametrize("data", [b"", b"x", b"GIF89a", b"\xff\xd8\xff\xe0", bytes(1000), SIGNATURE, SIGNATURE + b"x"])
def test_garbage_is_no_picture(data: bytes) -> None:
    with refused(CorruptImageError):
        decode_png(data)


@pytest.mark.parametrize("start", [b"\0\0\0\x18ftypheic", b"\xff\x0a\xff\xff", b"8BPS\0\1", b"v/1\x01"])
def test_a_picture_of_a_format_that_is_not_read_is_no_packet(start: bytes) -> None:
    with refused(NotAPacketError, "no bdflow chunk"):
        decode_png(start + bytes(100))


def test_a_cut_off_jpeg_is_damaged_rather_than_no_packet() -> None:
    data = encoded(PHOTO, "JPEG")
    with refused(CorruptImageError, "cut off"):
        decode_png(data[: len(data) // 2])


def test_pixels_that_end_early_are_refused_although_the_host_program_tolerates_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    with refused(CorruptPacketError, "cut off"):
        decode_png(edit_chunk(PNG, b"IDAT", lambda data: data[: len(data) // 2]))
    assert ImageFile.LOAD_TRUNCATED_IMAGES is True


@pytest.mark.parametrize("name", INCOMPLETE_PIXELS)
def test_pixels_without_all_rows_checksum_or_end_are_refused(name: str) -> None:
    with refused(CorruptPacketError, "damaged or cut off"):
        decode_png(edit_chunk(PNG, b"IDAT", INCOMPLETE_PIXELS[name]))


def test_a_file_cut_off_anywhere_is_refused() -> None:
    chunk_seen = PNG.index(b"bdFL") + 4  # a packet is begun where the type of its chunk is there
    for length in range(len(PNG)):
        fault = CorruptPacketError if length >= chunk_seen else CorruptImageError
        with pytest.raises((CorruptImageError, CorruptPacketError)) as caught:
            decode_png(PNG[:length])
        assert caught.type is fault


def test_every_flipped_byte_of_the_chunk_is_noticed() -> None:
    start = PNG.index(b"bdFL")
    length = len(dict(split(PNG))[b"bdFL"])
    for position in range(start + 4, start + 4 + length + 4):
        broken = bytearray(PNG)
        broken[position] ^= 0x10
        with refused(CorruptPacketError, "CRC of its chunk bdFL"):
            decode_png(bytes(broken))


def test_a_chunk_that_claims_more_than_the_file_has_is_refused() -> None:
    at = PNG.index(b"bdFL") - 4
    for length in (2**31, 2**32 - 1, len(PNG)):
        with refused(CorruptPacketError, "claims"):
            decode_png(PNG[:at] + struct.pack(">I", length) + PNG[at + 4 :])


def test_two_chunks_are_refused() -> None:
    chunks = split(PNG)
    doubled = [entry for entry in chunks for _ in range(2 if entry[0] == b"bdFL" else 1)]
    with refused(CorruptPacketError, "2 chunks bdFL"):
        decode_png(join(doubled))


def test_bytes_appended_to_the_file_are_no_damage() -> None:
    assert same_packet(decode_png(PNG + b"extra"), PACKET)


def test_trailing_bytes_inside_the_chunk_are_refused() -> None:
    with refused(CorruptPacketError):
        decode_png(edit_chunk(PNG, b"bdFL", lambda data: data + b"x"))


def test_a_chunk_that_ends_early_is_refused() -> None:
    whole = dict(split(PNG))[b"bdFL"]
    for length in range(len(whole)):
        with refused(CorruptPacketError):
            decode_png(edit_chunk(PNG, b"bdFL", lambda data, length=length: data[:length]))  # type: ignore[misc]


def test_a_newer_format_version_is_named() -> None:
    future = HEADER[:8] + struct.pack(">H", 2) + b"something else entirely"
    with refused(PacketVersionError, "version 2", "newer bdflow-rt"):
        decode_png(edit_chunk(PNG, b"bdFL", lambda _: future))


@pytest.mark.parametrize(
    ("offset", "new", "words"),
    [
        (11, b"\x03", ["scale", "3"]),
        (29, b"\x0a", ["bits", "10"]),
        (34, b"BDFLOW-X4@1", ["model", "BDFLOW"]),
        (20, bytes(4), ["width", "0"]),
    ],
)
def test_impossible_header_values_with_a_right_crc_are_named(offset: int, new: bytes, words: list[str]) -> None:
    with refused(CorruptPacketError, *words):
        decode_png(with_header(PNG, patch_header(PACKET.header, offset, new)))


@pytest.mark.parametrize(("offset", "new"), [(11, b"\x02"), (20, struct.pack(">I", 500)), (24, struct.pack(">I", 1))])
def test_a_header_of_another_scale_or_size_contradicts_the_picture(offset: int, new: bytes) -> None:
    with refused(PacketMismatchError, "14 x 10"):
        decode_png(with_header(PNG, patch_header(PACKET.header, offset, new)))


@pytest.mark.parametrize("bits", [1, 3, 8])
def test_a_header_of_other_bits_contradicts_the_boundary_map(bits: int) -> None:
    with refused(CorruptPacketError, "boundary map"):
        decode_png(with_header(PNG, patch_header(PACKET.header, 29, bytes([bits]))))


def test_a_boundary_map_where_the_header_says_none_is_refused() -> None:
    with refused(CorruptPacketError, "0 bits"):
        decode_png(with_header(PNG, patch_header(PACKET.header, 28, bytes(2))))


@pytest.mark.parametrize("coding", [2, 3, 255])
def test_an_unknown_coding_of_the_map_needs_a_newer_release(coding: int) -> None:
    with refused(PacketVersionError, f"coding {coding}", "newer bdflow-rt"):
        decode_png(edit_chunk(PNG, b"bdFL", lambda _: HEADER + bytes([coding]) + bytes(35)))


def webp(levels: object, **options: object) -> bytes:
    """A WebP picture of an array, lossless unless the options say otherwise."""
    return encoded(Image.fromarray(np.asarray(levels)), "WEBP", **{"lossless": True, **options})


LEVELS = np.asarray(PACKET.boundary)
WEBP = webp(LEVELS)


def test_a_map_in_webp_is_read() -> None:
    assert same_packet(decode_png(edit_chunk(PNG, b"bdFL", lambda _: HEADER + b"\1" + WEBP)), PACKET)


@pytest.mark.parametrize(
    "stream",
    [
        b"", b"no webp", WEBP[:-2], WEBP + b"xx", WEBP[:30], webp(LEVELS[:-1]), webp(LEVELS.T),
        webp(np.full_like(LEVELS, 4)), webp(np.stack([LEVELS, LEVELS, LEVELS + 1], axis=-1)),
        webp(np.stack([LEVELS] * 4, axis=-1)), webp(LEVELS, lossless=False),
        webp(LEVELS, save_all=True, append_images=[Image.fromarray(LEVELS + 1)]), webp(LEVELS, exif=b"Exif\0\0x"),
    ],
    ids=[
        "empty", "garbage", "cut", "trailing", "short", "size", "turned", "level", "colour", "alpha",
        "lossy", "animated", "metadata",
    ],
)  # fmt: skip
def test_a_webp_that_is_not_exactly_the_map_is_refused(stream: bytes) -> None:
    with refused(CorruptPacketError, "boundary map"):
        decode_png(edit_chunk(PNG, b"bdFL", lambda _: HEADER + b"\1" + stream))


def test_the_header_of_a_video_or_of_a_lossy_file_is_refused_in_a_png() -> None:
    video = with_fields(
        PACKET.header, {**fields_of(PACKET.header), 0x8002: struct.pack(">IIBB", 1, 25, 1, 0) + b"ffv1"}
    )
    fields = fields_of(PACKET.header)
    del fields[0x0003]
    with refused(CorruptPacketError, "field of a video"):
        decode_png(with_header(PNG, video))
    with refused(CorruptPacketError, "lossy file"):
        decode_png(with_header(PNG, with_fields(PACKET.header, fields)))


def test_a_stripped_colour_profile_is_noticed() -> None:
    data = encode_png(make_packet(icc=b"stands for a profile"))
    chunks = [entry for entry in split(data) if entry[0] != b"iCCP"]
    with refused(EditedPictureError, "lost its colour profile", "--force"):
        decode_png(join(chunks)).check_unedited()


def test_a_profile_that_is_a_deflate_bomb_is_refused_without_being_inflated() -> None:
    data = insert_chunks(PNG, (b"iCCP", b"name\0\0" + zlib.compress(bytes(200 << 20), 9)))
    tracemalloc.start()
    with refused(CorruptPacketError, "more than"):
        decode_png(data)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < (40 << 20)


@pytest.mark.parametrize(
    "profile",
    [b"", b"name", b"\0\0" + zlib.compress(b"x"), b"n" * 80 + b"\0\0" + zlib.compress(b"x"), b"name\0\1xx", b"n\0\0xx"],
)
def test_a_colour_profile_that_cannot_be_read_is_refused(profile: bytes) -> None:
    chunks = split(PNG)
    with refused(CorruptPacketError, "profile"):
        decode_png(join([chunks[0], (b"iCCP", profile), *chunks[1:]]))


def test_two_colour_profiles_are_refused() -> None:
    chunks = split(PNG)
    profile = (b"iCCP", b"name\0\0" + zlib.compress(b"x"))
    with refused(CorruptPacketError, "two"):
        decode_png(join([chunks[0], profile, profile, *chunks[1:]]))


def test_unused_bits_of_the_boundary_map_must_be_zero() -> None:
    packet = make_packet(25, 23, bits=1)
    data = edit_chunk(encode_png(packet), b"bdFL", lambda data: data[:-1] + bytes([data[-1] | 1]))
    with refused(CorruptPacketError, "unused"):
        decode_png(data)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1", "LA"])
def test_a_packet_that_was_saved_again_as_another_kind_of_png_is_refused(mode: str) -> None:
    with refused(PacketMismatchError, "saved it again"):
        decode_png(saved_again(Image.fromarray(PACKET.lr).convert(mode)))


def test_a_packet_that_was_resized_is_refused() -> None:
    with refused(PacketMismatchError, "resized", "28 x 20"):
        decode_png(saved_again(Image.fromarray(PACKET.lr).resize((28, 20))))


def test_a_packet_whose_pixels_were_edited_is_noticed_by_its_crc() -> None:
    edited = PACKET.lr.copy()
    edited[2, 2] = 0
    packet = decode_png(saved_again(Image.fromarray(edited)))
    with refused(EditedPictureError, "edited", "--force"):
        packet.check_unedited()
    assert np.array_equal(packet.lr, edited)


def test_a_packet_that_was_saved_again_unchanged_is_accepted() -> None:
    decode_png(saved_again(Image.fromarray(PACKET.lr), compress_level=1)).check_unedited()


@pytest.mark.parametrize("keep", [0, 1, 10, 0.5, -20])
def test_pixel_data_that_ends_early_is_refused_although_the_crcs_are_right(keep: float) -> None:
    def cut(data: bytes) -> bytes:
        return data[: int(keep if keep != 0.5 else len(data) / 2)]

    with refused(CorruptPacketError):
        decode_png(edit_chunk(PNG, b"IDAT", cut))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda chunks: chunks[1:], "IHDR is not the first"),
        (lambda chunks: [*chunks[:2], chunks[0], *chunks[2:]], "IHDR"),
        (lambda chunks: [*chunks[:1], (b"ABCD", b""), *chunks[1:]], "unknown type ABCD"),
        (lambda chunks: [*chunks[:2], (b"ab1d", b""), *chunks[2:]], "impossible type"),
        (lambda chunks: [*chunks[:2], chunks[-1]], "without pixels"),
        (lambda chunks: [*chunks[:-1], (b"IEND", b"x")], "IEND"),
        (lambda chunks: [*chunks[:-1], (b"tEXt", b"a\0b"), *chunks[-2:]], "IDAT do not follow"),
        (lambda chunks: [(b"IHDR", chunks[0][1] + b"x"), *chunks[1:]], "14 bytes"),
        (lambda chunks: [(b"IHDR", bytes(8) + chunks[0][1][8:]), *chunks[1:]], "0 x 0"),
        (lambda chunks: [(b"IHDR", chunks[0][1][:10] + b"\1\0\0"), *chunks[1:]], "methods"),
        (lambda chunks: chunks[:-1], "cut off"),
    ],
)
def test_a_png_whose_chunks_are_out_of_order_is_refused(change, words: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises((CorruptPacketError, CorruptImageError), match=words):
        decode_png(join(change(split(PNG))))


def test_a_packet_of_a_picture_beyond_max_pixels_is_refused_before_it_is_decoded() -> None:
    with refused(ImageTooLargeError, "53 x 37", "1960"):
        decode_png(PNG, max_pixels=1960)
    decode_png(PNG, max_pixels=53 * 37)


def test_a_header_that_claims_a_huge_picture_is_refused_before_memory_is_spent() -> None:
    header = dataclasses.replace(PACKET.header, width=2**31 - 1, height=2**31 - 1)
    chunks = split(huge_png(2**29, 2**29))
    data = join([chunks[0], (b"bdFL", encode_header(header) + b"\0"), *chunks[1:]])
    with refused(ImageTooLargeError, "max_pixels"):
        decode_png(data)


def test_a_file_larger_than_any_packet_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "sparse.png"
    with path.open("wb") as file:
        file.write(PNG)
        file.truncate(1 << 40)
    with refused(ImageTooLargeError, str(1 << 40)):
        read_packet(path)


@pytest.mark.parametrize("name", ["missing.png", "missing/small.png", "n" * 300, "a\0b"])
def test_a_missing_packet_is_named(name: str, tmp_path: Path) -> None:
    with refused(MissingFileError, "does not exist"):
        read_packet(f"{tmp_path}/{name}")


def test_a_folder_is_no_packet(tmp_path: Path) -> None:
    with refused(MissingFileError, "is a folder"):
        read_packet(tmp_path)


@contextmanager
def quick(seconds: float) -> Iterator[None]:
    """The block takes no more processor time than that."""
    start = time.process_time()
    yield
    assert time.process_time() - start < seconds


def flooded(png: bytes, count: int) -> bytes:
    """The PNG with that many empty chunks that nobody knows."""
    at = len(SIGNATURE) + 25
    return png[:at] + chunk(b"teXt", b"") * count + png[at:]


def test_a_mebibyte_of_empty_chunks_is_walked_in_no_time() -> None:
    count = (1 << 20) // 12
    with quick(1):
        decode_png(flooded(PNG, count)).check_unedited()
    with quick(1), refused(NotAPacketError, "not made by bdflow"):
        decode_png(flooded(encoded(PHOTO, "PNG"), count))


def test_more_chunks_than_any_picture_has_are_refused() -> None:
    most = MAX_CHUNKS - len(split(PNG))
    decode_png(flooded(PNG, most)).check_unedited()
    with refused(CorruptPacketError, f"more than {MAX_CHUNKS} chunks"):
        decode_png(flooded(PNG[:-12], most) + chunk(b"teXt", b"") + PNG[-12:])
    with quick(2), refused(CorruptImageError, f"more than {MAX_CHUNKS} chunks"):
        decode_png(flooded(PNG, 1_000_000))


@pytest.mark.parametrize("empty", [0, 60_000])
def test_pixels_in_sixty_thousand_chunks_are_read_in_no_time(empty: int) -> None:
    packet = make_packet(601, 607, scale=2, bits=1)
    chunks = split(encode_png(packet))
    pixels = b"".join(data for kind, data in chunks if kind == b"IDAT")
    assert len(pixels) > 60_000
    parts = [(b"IDAT", pixels[at : at + 1]) for at in range(59_999)] + [(b"IDAT", pixels[59_999:])]
    data = join([*chunks[:2], *[(b"IDAT", b"")] * empty, *parts, chunks[-1]])
    with quick(2):
        assert same_packet(decode_png(data), packet)


def test_nothing_of_the_chunk_is_shown_to_the_picture_decoder() -> None:
    with Image.open(io.BytesIO(PNG)) as image:
        assert np.array_equal(np.asarray(image), PACKET.lr)
