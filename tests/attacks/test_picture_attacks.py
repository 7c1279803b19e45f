"""Pictures that are damaged, hostile, or of a kind that would be altered silently: one fault each, one error each."""

from __future__ import annotations

import io
import math
import os
import struct
import time
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile, TiffImagePlugin

from bdflow_rt.containers import read_packet, read_picture
from bdflow_rt.containers.chunks import MAX_CHUNKS
from bdflow_rt.containers.png_picture import check_idat
from bdflow_rt.errors import (
    ArgumentError,
    CorruptImageError,
    ImageTooLargeError,
    InputError,
    MissingFileError,
    UnreadableFileError,
    UnsupportedImageError,
)
from tests.containers.build import (
    INCOMPLETE_PIXELS,
    edit_chunk,
    encoded,
    huge_png,
    insert_chunks,
    join,
    ordinary_user,
    refused,
    split,
)
from tests.containers.test_icc import SRGB, long_profile, make_grey_profile
from tests.support import photo

PHOTO = Image.fromarray(photo(63, 65, 1))
KINDS = ["PNG", "JPEG", "WEBP", "TIFF", "BMP", "PPM", "GIF"]
SMALL = [encoded(Image.fromarray(photo(13, 17, 2)), kind) for kind in KINDS]


def opencv(kind: str, pixels: np.ndarray) -> bytes:
    """A picture of more than 8 bits per sample, which Pillow cannot write."""
    done, data = cv2.imencode(f".{kind}", pixels)
    assert done
    return data.tobytes()


DEEP = photo(13, 17, 3).astype(np.uint16) * 257


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("grey png", opencv("png", DEEP[..., 0])),
        ("rgb png", opencv("png", DEEP)),
        ("rgba png", opencv("png", np.dstack([DEEP, DEEP[..., :1]]))),
        ("grey tiff", opencv("tiff", DEEP[..., 0])),
        ("rgb tiff", opencv("tiff", DEEP)),
        ("float grey tiff", opencv("tiff", DEEP[..., 0].astype(np.float32))),
        ("float rgb tiff", opencv("tiff", DEEP.astype(np.float32))),
        ("rgb ppm", opencv("ppm", DEEP)),
        ("grey pgm", opencv("pgm", DEEP[..., 0])),
        ("plain ppm", b"P3 1 1 1000 1 2 3"),
        ("cmyk jpeg", encoded(PHOTO.convert("CMYK"), "JPEG")),
        ("cmyk tiff", encoded(PHOTO.convert("CMYK"), "TIFF")),
        ("lab tiff", encoded(PHOTO.convert("LAB"), "TIFF")),
        ("int32 tiff", encoded(PHOTO.convert("I"), "TIFF")),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_deep_and_foreign_colours_are_refused_with_the_way_out(name: str, data: bytes) -> None:
    with refused(UnsupportedImageError, "convert it"):
        read_picture(data)


def test_a_ycck_jpeg_is_refused() -> None:
    cmyk = encoded(PHOTO.convert("CMYK"), "JPEG")
    adobe = cmyk.index(b"Adobe")
    ycck = cmyk[: adobe + 11] + b"\2" + cmyk[adobe + 12 :]
    with refused(UnsupportedImageError, "CMYK", "convert it"):
        read_picture(ycck)


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_animated_and_multi_page_pictures_are_refused(kind: str) -> None:
    frames = [Image.fromarray(photo(13, 17, seed)) for seed in range(3)]
    with refused(UnsupportedImageError, "animated", "extract"):
        read_picture(encoded(frames[0], kind, save_all=True, append_images=frames[1:]))


def with_alpha(mode: str) -> Image.Image:
    image = PHOTO.convert(mode)
    alpha = np.full((63, 65), 255, np.uint8)
    alpha[62, 64] = 254
    image.putalpha(Image.fromarray(alpha))
    return image


@pytest.mark.parametrize(
    ("image", "kind", "options"),
    [
        (with_alpha("RGB"), "PNG", {}),
        (with_alpha("L"), "PNG", {}),
        (with_alpha("RGB"), "WEBP", {"lossless": True}),
        (with_alpha("RGB"), "TIFF", {}),
        (PHOTO.quantize(17), "PNG", {"transparency": 3}),
        (PHOTO.quantize(17), "GIF", {"transparency": 3}),
        (PHOTO.quantize(2), "PNG", {"transparency": bytes([255, 100])}),
        (PHOTO.convert("1"), "PNG", {"transparency": 0}),
        (Image.new("L", (5, 5), 7), "PNG", {"transparency": 7}),
        (Image.new("RGB", (5, 5), (1, 2, 3)), "PNG", {"transparency": (1, 2, 3)}),
    ],
)
def test_a_transparent_pixel_is_refused_without_a_background(
    image: Image.Image, kind: str, options: dict[str, Any]
) -> None:
    data = encoded(image, kind, **options)
    with refused(UnsupportedImageError, "transparent", "background"):
        read_picture(data)
    assert read_picture(data, background="white").pixels.shape == (image.height, image.width, 3)


@pytest.mark.parametrize("width", [20000, 2**31 - 1])
def test_huge_dimensions_are_refused_before_anything_is_decoded(width: int) -> None:
    start = time.perf_counter()
    with refused(ImageTooLargeError, str(width), "max_pixels"):
        read_picture(huge_png(width, width))
    assert time.perf_counter() - start < 1


@pytest.mark.parametrize("kind", KINDS)
def test_the_limit_is_the_callers_and_not_pillows(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1 << 20)
    data = encoded(Image.new("L", (3001, 1009)), kind)
    with pytest.raises(Image.DecompressionBombError):
        Image.open(io.BytesIO(data))
    assert read_picture(data, max_pixels=3001 * 1009).pixels.shape == (1009, 3001, 3)
    assert Image.MAX_IMAGE_PIXELS == 1 << 20
    with refused(ImageTooLargeError, "3001 x 1009", "max_pixels"):
        read_picture(data, max_pixels=3001 * 1009 - 1)


@pytest.mark.parametrize("options", [{}, {"lossless": True}, {"exif": b"Exif\0\0MM\0*\0\0\0\x08\0\0"}])
def test_a_large_webp_is_refused_before_its_decoder_takes_memory(options: dict[str, Any]) -> None:
    data = encoded(Image.new("RGB", (3001, 1009)), "WEBP", **options)
    with refused(ImageTooLargeError, "3001 x 1009"):
        read_picture(data[:30], max_pixels=3001 * 1009 - 1)
    with refused(CorruptImageError):
        read_picture(data[:30], max_pixels=3001 * 1009)


@pytest.mark.parametrize("size", [(0, 5), (5, 0), (0, 0)])
def test_a_picture_without_pixels_is_refused(size: tuple[int, int]) -> None:
    for data in (huge_png(*size), b"P6 %d %d 255 " % size):
        with refused(CorruptImageError, "no pixels"):
            read_picture(data)


def test_a_file_of_zero_bytes_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    for source in (tmp_path / "empty.png", b""):
        with refused(CorruptImageError, "empty (0 bytes)"):
            read_picture(source)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("kind", KINDS)
def test_a_picture_cut_off_anywhere_is_refused(kind: str, tmp_path: Path) -> None:
    image = PHOTO.convert("P") if kind == "GIF" else PHOTO
    data = encoded(image, kind)
    path = tmp_path / "cut"
    for length in {1, 7, 20, *range(1, len(data) - 32, len(data) // 40)}:
        path.write_bytes(data[:length])
        for source in (path, data[:length]):
            with refused(CorruptImageError):
                read_picture(source)


@pytest.mark.parametrize("kind", KINDS)
def test_half_a_picture_is_refused_although_the_host_program_tolerates_it(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    data = encoded(PHOTO, kind)
    with refused(CorruptImageError):
        read_picture(data[: len(data) // 2])
    assert read_picture(data).pixels.shape == (63, 65, 3)
    assert ImageFile.LOAD_TRUNCATED_IMAGES is True


@pytest.mark.parametrize("data", [b"x", b"hello, world", bytes(1000), b"\xff" * 1000, b"<svg></svg>", b"%PDF-1.7"])
def test_garbage_is_refused(data: bytes) -> None:
    with refused(CorruptImageError, "not a picture"):
        read_picture(data)


@pytest.mark.parametrize(
    ("start", "kind"),
    [
        (b"\0\0\0\x18ftypheic", "HEIC"),
        (b"\0\0\0\x1cftypavif", "AVIF"),
        (b"8BPS\0\1", "Photoshop"),
        (b"\0\0\0\x0cjP  \r\n", "JPEG 2000"),
        (b"\xff\x0a\xff\xff", "JPEG XL"),
        (b"v/1\x01", "OpenEXR"),
        (b"PF\n1 1\n", "PFM"),
    ],
)
def test_pictures_of_formats_that_are_not_read_are_named(start: bytes, kind: str) -> None:
    with refused(UnsupportedImageError, kind, "convert it"):
        read_picture(start + bytes(100))


def test_postscript_is_never_run() -> None:
    with refused(CorruptImageError, "not a picture"):
        read_picture(encoded(PHOTO, "EPS"))


def test_a_damaged_png_chunk_is_refused() -> None:
    data = bytearray(encoded(PHOTO, "PNG"))
    data[data.index(b"IDAT") + 30] ^= 1
    with refused(CorruptImageError):
        read_picture(bytes(data))


def test_a_png_whose_pixels_end_early_is_refused() -> None:
    with refused(CorruptImageError):
        read_picture(edit_chunk(encoded(PHOTO, "PNG"), b"IDAT", lambda data: data[: len(data) // 2]))


@pytest.mark.parametrize("name", INCOMPLETE_PIXELS)
@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGB", "RGBA"])
def test_a_png_without_all_rows_checksum_or_end_is_refused(mode: str, name: str) -> None:
    with refused(CorruptImageError, "damaged or cut off"):
        read_picture(edit_chunk(encoded(PHOTO.convert(mode), "PNG"), b"IDAT", INCOMPLETE_PIXELS[name]))


def test_a_little_behind_the_rows_and_anything_behind_their_stream_is_left_alone() -> None:
    expected = read_picture(encoded(PHOTO, "PNG")).pixels
    for extra in (
        lambda data: zlib.compress(zlib.decompress(data) + bytes(1 << 16)),
        lambda data: data + b"no zlib" * 100_000,
    ):
        found = read_picture(edit_chunk(encoded(PHOTO, "PNG"), b"IDAT", extra))
        assert np.array_equal(found.pixels, expected)


def test_pixels_that_are_a_bomb_are_refused_without_being_inflated() -> None:
    bomb = zlib.compress(zlib.compress(bytes(1 << 30), 9), 9)
    data = edit_chunk(encoded(PHOTO, "PNG"), b"IDAT", lambda _: zlib.decompress(bomb))
    begin = time.process_time()
    with refused(CorruptImageError, "inflate"):
        read_picture(data)
    assert time.process_time() - begin < 0.5


# The passes of Adam7 over a square of 8 x 8 pixels, as section 8 of the PNG specification draws them.
PASSES = ["16462646", "77777777", "56565656", "77777777", "36463646", "77777777", "56565656", "77777777"]


@pytest.mark.parametrize("interlaced", [0, 1])
@pytest.mark.parametrize(
    ("colour_type", "bits"), [(0, 1), (0, 2), (0, 4), (0, 8), (2, 24), (3, 1), (3, 2), (3, 4), (3, 8), (4, 16), (6, 32)]
)
def test_the_bytes_of_the_rows_are_those_of_the_specification(colour_type: int, bits: int, interlaced: int) -> None:
    depth = bits if bits < 8 else 8
    for width, height in ((1, 1), (3, 2), (5, 9), (13, 4), (17, 23)):
        size = 0
        for number in "1234567" if interlaced else "0":
            rows = [
                sum(1 for x in range(width) if not interlaced or PASSES[y % 8][x % 8] == number) for y in range(height)
            ]
            size += sum(1 + math.ceil(columns * bits / 8) for columns in rows if columns)
        ihdr = (b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, interlaced))
        for length in (size - 1, size):
            data = join([ihdr, (b"IDAT", zlib.compress(bytes(length))), (b"IEND", b"")])
            if length == size:
                check_idat(io.BytesIO(data))
            else:
                with pytest.raises(ValueError, match=f"inflate to {length} bytes, and its rows have {size}"):
                    check_idat(io.BytesIO(data))


def test_a_small_jpeg_takes_no_memory_for_the_largest_one(tmp_path: Path) -> None:
    path = tmp_path / "small.jpg"
    path.write_bytes(encoded(PHOTO, "JPEG"))
    tracemalloc.start()
    read_picture(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 << 20


@pytest.mark.parametrize("limit", [(2**31 - 1) ** 2 + 1, 10**20, 10**400, 0, -1, True, 1.0, None])
def test_a_limit_on_pixels_that_no_picture_reaches_is_refused(limit: Any, tmp_path: Path) -> None:
    path = tmp_path / "small.jpg"
    path.write_bytes(encoded(PHOTO, "JPEG"))
    with refused(ArgumentError, "max_pixels is", "whole number from 1 to 46116"):
        read_picture(path, max_pixels=limit)
    with refused(ArgumentError, "max_pixels is"):
        read_packet(path, max_pixels=limit)
    assert read_picture(path, max_pixels=(2**31 - 1) ** 2).pixels.shape == (63, 65, 3)


@pytest.mark.parametrize("kind", [b"zTXt", b"iTXt"])
@pytest.mark.parametrize("where", ["before the pixels", "behind them"])
def test_texts_are_skipped_however_long_they_inflate(kind: bytes, where: str) -> None:
    chunks = split(encoded(PHOTO, "PNG"))
    head = b"Comment\0\0" if kind == b"zTXt" else b"Comment\0\1\0\0\0"
    bomb = (kind, head + zlib.compress(bytes(100 << 20), 9))
    place = 1 if where == "before the pixels" else len(chunks) - 1
    tracemalloc.start()
    picture = read_picture(join([*chunks[:place], bomb, *chunks[place:]]))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert np.array_equal(picture.pixels, np.asarray(PHOTO))
    assert peak < 8 << 20


def png_with(*chunks: tuple[bytes, bytes]) -> bytes:
    return insert_chunks(encoded(PHOTO, "PNG"), *chunks)


SRGB_CHROMATICITIES = (31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)
DISPLAY_P3 = (31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000)
GAMMA = (b"gAMA", struct.pack(">I", 45455))
LINEAR = (b"gAMA", struct.pack(">I", 100000))
WIDE = (b"cHRM", struct.pack(">8I", *DISPLAY_P3))
PQ = (b"cICP", bytes([9, 16, 0, 1]))
PROFILE = (b"iCCP", b"name\0\0" + zlib.compress(SRGB))
GARBAGE = (b"iCCP", b"name\0\0" + zlib.compress(b"no profile"))
CMYK = (b"iCCP", b"name\0\0" + zlib.compress(SRGB[:16] + b"CMYK" + SRGB[20:]))
GREY = (b"iCCP", b"name\0\0" + zlib.compress(make_grey_profile()))


@pytest.mark.parametrize(
    ("chunks", "words"),
    [
        ([PQ], "9, 16, 0, 1"),
        ([(b"cICP", bytes([1, 13, 0, 0]))], "1, 13, 0, 0"),
        ([PQ, (b"sRGB", b"\0")], "chunk cICP"),
        ([PROFILE, PQ], "9, 16, 0, 1"),
        ([GREY, PQ], "chunk cICP"),
        ([(b"cHRM", struct.pack(">8I", *(31270, 32900) * 4))], "chunk cHRM"),
        ([(b"gAMA", struct.pack(">I", 1))], "chunk gAMA"),
    ],
    ids=["pq", "narrow range", "pq over srgb", "pq over profile", "pq over grey", "no primaries", "no gamma"],
)
def test_colours_that_no_profile_can_say_are_refused_or_taken_as_srgb(
    chunks: list[tuple[bytes, bytes]], words: str
) -> None:
    data = png_with(*chunks)
    for colours in ("keep", "convert"):
        with refused(UnsupportedImageError, "not sRGB", "--assume-srgb", words):
            read_picture(data, colours=colours)
    with pytest.warns(UserWarning, match="taken as sRGB, as asked"):
        picture = read_picture(data, colours="assume")
    assert np.array_equal(picture.pixels, np.asarray(PHOTO))
    assert picture.icc_profile is None


@pytest.mark.parametrize(
    "chunks",
    [
        [GAMMA, (b"cHRM", struct.pack(">8I", *SRGB_CHROMATICITIES))],
        [(b"gAMA", struct.pack(">I", 45000)), (b"cHRM", struct.pack(">8I", *(v + 400 for v in SRGB_CHROMATICITIES)))],
        [(b"gAMA", bytes(4))],
        [(b"sRGB", b"\0"), LINEAR, WIDE],
        [PROFILE, LINEAR, WIDE],
        [(b"cICP", bytes([1, 13, 0, 1])), LINEAR],
        [(b"cICP", b"\1\1")],
    ],
    ids=["srgb", "nearly srgb", "zero", "srgb first", "profile first", "cicp first", "broken cicp"],
)
def test_a_png_that_is_srgb_or_has_a_profile_is_read(chunks: list[tuple[bytes, bytes]]) -> None:
    picture = read_picture(png_with(*chunks))
    assert np.array_equal(picture.pixels, np.asarray(PHOTO))
    assert picture.icc_profile == (SRGB if PROFILE in chunks else None)


@pytest.mark.parametrize(
    ("chunks", "reason"),
    [
        ([(b"cICP", bytes([1, 13, 0, 1])), PROFILE], "its chunk cICP says that it is sRGB"),
        ([GARBAGE], "it cannot be used"),
        ([(b"iCCP", b"name\0\0no zlib stream")], "it cannot be used"),
        ([CMYK, GAMMA], "it cannot be used"),
        ([GREY, (b"sRGB", b"\0"), LINEAR], "it cannot be used"),
    ],
    ids=["under cicp", "garbage", "not deflated", "cmyk", "grey"],
)
def test_a_profile_of_a_png_that_does_not_count_is_left_out_with_a_warning(
    chunks: list[tuple[bytes, bytes]], reason: str
) -> None:
    with pytest.warns(UserWarning, match=f"taken as sRGB, without the ICC profile in it: {reason}") as caught:
        assert read_picture(png_with(*chunks)).icc_profile is None
    assert len(caught) == 1


def test_a_profile_behind_the_pixels_does_not_count() -> None:
    chunks = split(encoded(PHOTO, "PNG"))
    data = join([*chunks[:-1], PROFILE, chunks[-1]])
    with pytest.warns(UserWarning, match="it follows the pixels"):
        assert read_picture(data).icc_profile is None
    assert read_picture(join([chunks[0], PROFILE, *chunks[1:-1], PROFILE, chunks[-1]])).icc_profile == SRGB


@pytest.mark.parametrize("kind", ["JPEG", "TIFF", "WEBP"])
def test_a_profile_of_other_colours_is_left_out_with_a_warning(kind: str) -> None:
    data = encoded(PHOTO, kind, icc_profile=SRGB[:16] + b"CMYK" + SRGB[20:])
    with pytest.warns(UserWarning, match="it cannot be used"):
        assert read_picture(data).icc_profile is None


def bmp_with_profile(mark: bytes, profile: bytes) -> bytes:
    """A BMP with a BITMAPV5HEADER, its profile behind the pixels."""
    plain = encoded(PHOTO, "BMP")
    pixels = plain[54:]
    header = struct.pack("<I", 124) + plain[18:54] + bytes(124 - 40)
    head = bytearray(b"BM" + struct.pack("<IHHI", 138 + len(pixels) + len(profile), 0, 0, 138) + header)
    head[70:74] = mark[::-1]
    head[126:134] = struct.pack("<II", 124 + len(pixels), len(profile))
    return bytes(head) + pixels + profile


def test_the_profile_of_a_bmp_is_kept_and_one_in_another_file_is_refused() -> None:
    assert read_picture(bmp_with_profile(b"MBED", SRGB)).icc_profile == SRGB
    assert read_picture(bmp_with_profile(b"sRGB", b"")).icc_profile is None
    assert np.array_equal(read_picture(bmp_with_profile(b"MBED", SRGB)).pixels, np.asarray(PHOTO))
    with refused(UnsupportedImageError, "a colour profile in another file", "--assume-srgb"):
        read_picture(bmp_with_profile(b"LINK", b"C:\\profile.icc"))
    with pytest.warns(UserWarning, match="it cannot be used"):
        read_picture(bmp_with_profile(b"MBED", SRGB)[:-100])


def with_wrong_crc(data: bytes, kind: bytes) -> bytes:
    """The PNG with one bit of a chunk's CRC changed."""
    at = data.index(kind) - 4
    behind = at + 8 + int.from_bytes(data[at : at + 4], "big")
    return data[:behind] + bytes([data[behind] ^ 1]) + data[behind + 1 :]


@pytest.mark.parametrize("extra", [LINEAR, PROFILE, (b"tEXt", b"Title\0x"), (b"eXIf", b"MM\0*"), (b"abCd", b"")])
def test_a_wrong_crc_of_a_chunk_that_pixels_do_not_need_is_passed_over(extra: tuple[bytes, bytes]) -> None:
    data = with_wrong_crc(png_with(extra), extra[0])
    if extra in (LINEAR, PROFILE):
        with pytest.warns(UserWarning, match=f"taken as sRGB, since its chunk {extra[0].decode()} is damaged"):
            picture = read_picture(data)
    else:
        picture = read_picture(data)
    assert np.array_equal(picture.pixels, np.asarray(PHOTO))
    assert picture.icc_profile is None


@pytest.mark.parametrize("kind", [b"IHDR", b"PLTE", b"tRNS", b"IDAT"])
def test_a_wrong_crc_of_a_chunk_that_pixels_need_is_damage(kind: bytes) -> None:
    data = encoded(PHOTO.quantize(17), "PNG", transparency=200)
    with refused(CorruptImageError, "damaged"):
        read_picture(with_wrong_crc(data, kind), background="white")


@pytest.mark.parametrize("extra", [0, 1])
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_a_colour_profile_is_carried_up_to_16_mebibytes_and_refused_beyond(kind: str, extra: int) -> None:
    profile = long_profile((16 << 20) + extra)
    data = encoded(PHOTO, kind, icc_profile=profile)
    if extra:
        with refused(UnsupportedImageError, "16777216 bytes", "--assume-srgb"):
            read_picture(data)
    else:
        assert read_picture(data).icc_profile == profile


def test_a_profile_that_is_too_long_is_refused_before_the_pixels_are_decoded() -> None:
    chunks = split(encoded(PHOTO, "PNG", icc_profile=long_profile((16 << 20) + 1)))
    broken = [(kind, b"\0" if kind == b"IDAT" else data) for kind, data in chunks]
    with refused(UnsupportedImageError, "16777216 bytes"):
        read_picture(join(broken))


@pytest.mark.parametrize("payload", [zlib.compress(bytes(500 << 20), 9), bytes(17 << 20)], ids=["bomb", "stored"])
def test_a_profile_that_is_a_bomb_is_refused_without_being_inflated(payload: bytes) -> None:
    data = png_with((b"iCCP", b"name\0\0" + payload))
    tracemalloc.start()
    with refused(UnsupportedImageError, "16777216 bytes"):
        read_picture(data)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < (64 << 20)


@pytest.mark.parametrize(("kind", "value"), [(3, 5), (2, "text")])
def test_a_tiff_with_something_else_in_place_of_a_profile_is_read(kind: int, value: object) -> None:
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[34675] = value
    tags.tagtype[34675] = kind
    picture = read_picture(encoded(PHOTO, "TIFF", tiffinfo=tags))
    assert picture.icc_profile is None


def test_more_chunks_before_the_pixels_than_any_picture_has_are_refused() -> None:
    with refused(CorruptImageError, f"more than {MAX_CHUNKS} chunks"):
        read_picture(png_with(*[(b"teXt", b"")] * MAX_CHUNKS))


@pytest.mark.parametrize("name", ["missing.png", "missing/in.png", "n" * 300, "a\0b"])
def test_a_missing_file_is_named(name: str, tmp_path: Path) -> None:
    with refused(MissingFileError, "does not exist"):
        read_picture(f"{tmp_path}/{name}")


def test_a_dangling_link_is_a_missing_file(tmp_path: Path) -> None:
    (tmp_path / "link.png").symlink_to(tmp_path / "gone.png")
    with refused(MissingFileError, "link.png"):
        read_picture(tmp_path / "link.png")


def test_a_folder_is_no_picture(tmp_path: Path) -> None:
    with refused(MissingFileError, "is a folder"):
        read_picture(tmp_path)


def test_a_pipe_is_refused_without_waiting_for_its_other_end(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    with refused(MissingFileError, "pipe"):
        read_picture(tmp_path / "pipe.png")


def test_a_device_is_no_picture() -> None:
    with refused(MissingFileError, "device"):
        read_picture("/dev/zero")


def test_a_file_that_may_not_be_read_is_named(tmp_path: Path) -> None:
    path = tmp_path / "secret.png"
    path.write_bytes(SMALL[0])
    path.chmod(0)
    with ordinary_user(), refused(UnreadableFileError, "Permission denied", "permissions"):
        read_picture(path)


@settings(max_examples=1500, deadline=None, derandomize=True, database=None)
@given(
    st.integers(0, len(KINDS) - 1),
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=6),
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_mutated_pictures_give_typed_errors_or_pixels(which: int, changes: list[tuple[float, int]]) -> None:
    data = bytearray(SMALL[which])
    for where, value in changes:
        data[int(where * min(len(data), 300))] = value
    try:
        picture = read_picture(bytes(data), max_pixels=1 << 16, background="white")
    except InputError:
        return
    assert picture.pixels.size <= 3 << 16


def test_the_stream_is_closed_after_a_refusal(tmp_path: Path) -> None:
    path = tmp_path / "cut.png"
    path.write_bytes(encoded(PHOTO, "PNG")[:500])
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        with refused(CorruptImageError):
            read_picture(path)
    assert len(os.listdir("/proc/self/fd")) == before
