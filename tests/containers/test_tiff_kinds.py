"""Kinds of TIFF: compressions, tiles, pages, BigTIFF. OpenCV decodes through libtiff."""

from __future__ import annotations

import itertools
import struct
import zlib
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps

from bdflow_rt.containers import read_picture
from bdflow_rt.errors import CorruptImageError, UnsupportedImageError
from tests.containers.build import encoded, refused
from tests.containers.tiff import (
    BYTE,
    COMPRESSION,
    COUNTS,
    LONG,
    OFFSETS,
    ORIENTATION,
    PLANAR,
    ROWS,
    SHORT,
    SUBFILE_TYPE,
    Page,
    Value,
    encode_tiff,
    grey_page,
    rgb_page,
)
from tests.support import photo

PIXELS = photo(37, 53, 6)
TILE_WIDTH, TILE_LENGTH, TILE_OFFSETS, TILE_COUNTS, XMP = 322, 323, 324, 325, 700


def opencv(data: bytes) -> NDArray[np.uint8]:
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert decoded is not None
    return decoded[..., ::-1].astype(np.uint8)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB"])
@pytest.mark.parametrize(
    "compression",
    ["raw", "tiff_lzw", "tiff_adobe_deflate", "tiff_deflate", "packbits", "lzma", "zstd", "group3", "group4"],
)
def test_compressions_that_pillow_lists(compression: str, mode: str) -> None:
    if (mode != "1") == compression.startswith("group"):
        pytest.skip("fax codes are for pictures of one bit, and those are tried with them alone")
    image = Image.fromarray(PIXELS).quantize(17) if mode == "P" else Image.fromarray(PIXELS).convert(mode)
    data = encoded(image, "TIFF", compression=compression)
    expected = np.asarray(image.convert("RGB"))
    assert np.array_equal(read_picture(data).pixels, expected)
    if compression not in ("lzma", "zstd"):  # which OpenCV's libtiff is built without
        assert np.array_equal(opencv(data), expected)


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_jpeg_inside(mode: str) -> None:
    image = Image.fromarray(PIXELS).convert(mode)
    data = encoded(image, "TIFF", compression="jpeg", quality=95)
    assert np.abs(read_picture(data).pixels.astype(int) - opencv(data)).max() <= 2


BY_TIFFFILE, BY_ITS_PROGRAM = "pip install tifffile imagecodecs", "in the program that made it"


@pytest.mark.parametrize(
    ("number", "name", "way"),
    [
        *((34712, "JPEG 2000", BY_TIFFFILE), (33003, "JPEG 2000", BY_TIFFFILE), (50001, "WebP", BY_TIFFFILE)),
        *((50002, "JPEG XL", BY_TIFFFILE), (34887, "LERC", BY_TIFFFILE)),
        *((34661, "JBIG", BY_ITS_PROGRAM), (4711, "method 4711", BY_ITS_PROGRAM)),
    ],
)
def test_other_compressions_are_refused_by_name_before_a_decoder_tries(
    number: int, name: str, way: str, capfd: pytest.CaptureFixture[str]
) -> None:
    data = encode_tiff(rgb_page(4, 4, bytes(48), {COMPRESSION: (SHORT, [number])}))
    with refused(UnsupportedImageError, f"compressed by {name}", way):
        read_picture(data)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(("order", "big"), [("<", False), (">", False), ("<", True)])
@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("size", [(37, 53), (32, 48), (5, 7)])
def test_tiles(size: tuple[int, int], compress: bool, order: str, big: bool) -> None:
    pixels = photo(*size, 7)
    rows, columns = -(-size[0] // 16), -(-size[1] // 32)
    padded = np.pad(pixels, ((0, rows * 16 - size[0]), (0, columns * 32 - size[1]), (0, 0)))
    page = rgb_page(*size, b"", {ROWS: (LONG, []), COMPRESSION: (SHORT, [8 if compress else 1])})
    page.tags |= {TILE_WIDTH: (LONG, [32]), TILE_LENGTH: (LONG, [16])}
    tiles = [
        padded[16 * row : 16 * row + 16, 32 * column : 32 * column + 32].tobytes()
        for row, column in itertools.product(range(rows), range(columns))
    ]
    page.strips = [zlib.compress(tile) if compress else tile for tile in tiles]
    data = retagged(encode_tiff(page, order=order, big=big), page, order=order, big=big)
    assert np.array_equal(read_picture(data).pixels, pixels)
    if compress:  # OpenCV calls uncompressed tiles too short
        assert np.array_equal(opencv(data), pixels)


def retagged(data: bytes, page: Page, *, order: str, big: bool) -> bytes:
    """The file with its strips' offsets and counts under the numbers of tiles, which sort behind the others too."""
    for old, new in ((OFFSETS, TILE_OFFSETS), (COUNTS, TILE_COUNTS)):
        kind = 16 if big else LONG
        entry = struct.pack(f"{order}HH{'Q' if big else 'I'}", old, kind, len(page.strips))
        assert data.count(entry) == 1
        data = data.replace(entry, struct.pack(f"{order}HH{'Q' if big else 'I'}", new, kind, len(page.strips)))
    return data


def page_of(seed: int, kind: int = 0, *, side: int = 12) -> Page:
    tags: dict[int, Value] = {SUBFILE_TYPE: (LONG, [kind])} if kind else {}
    return grey_page(side, side, photo(side, side, seed)[..., 0].tobytes(), tags)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("kinds", [(1,), (4,), (1, 1), (5, 1)])
def test_reduced_copies_and_masks_behind_a_page_are_no_pages(kinds: tuple[int, ...], order: str) -> None:
    data = encode_tiff(page_of(1), *(page_of(2 + at, kind, side=4) for at, kind in enumerate(kinds)), order=order)
    assert np.array_equal(read_picture(data).pixels[..., 1], photo(12, 12, 1)[..., 0])


@pytest.mark.parametrize("kinds", [(0,), (2,), (1, 0)])
def test_several_pages_are_refused(kinds: tuple[int, ...]) -> None:
    data = encode_tiff(page_of(1), *(page_of(2, kind) for kind in kinds))
    with refused(UnsupportedImageError, "several pages", "convert 'IN[0]' OUT.png"):
        read_picture(data)


def test_a_chain_of_pages_that_leaves_the_file_is_refused() -> None:
    data = encode_tiff(page_of(1))
    with refused(UnsupportedImageError, "several pages"):
        read_picture(data[:-4] + b"\xff\xff\0\0")


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("compression", [1, 8])
def test_the_tag_turns_a_picture_and_xmp_does_not(orientation: int, compression: int) -> None:
    xmp = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    raw = PIXELS.tobytes()
    page = rgb_page(37, 53, zlib.compress(raw) if compression == 8 else raw, {COMPRESSION: (SHORT, [compression])})
    page.tags[XMP] = BYTE, list(xmp)
    assert np.array_equal(read_picture(encode_tiff(page)).pixels, PIXELS)
    page.tags[ORIENTATION] = SHORT, [orientation]
    image = Image.fromarray(PIXELS)
    image.getexif()[274] = orientation
    assert np.array_equal(read_picture(encode_tiff(page)).pixels, np.asarray(ImageOps.exif_transpose(image)))


@pytest.mark.parametrize("order", "<>")
def test_a_bigtiff_of_little_endian_is_read_and_one_of_big_endian_refused_by_name(order: str) -> None:
    data = encode_tiff(rgb_page(37, 53, PIXELS.tobytes()), order=order, big=True)
    assert np.array_equal(opencv(data), PIXELS)
    if order == "<":
        assert np.array_equal(read_picture(data).pixels, PIXELS)
        return
    with refused(UnsupportedImageError, "big-endian BigTIFF", "convert 'IN[0]'"):
        read_picture(data)


@pytest.mark.parametrize("options", [{}, {"compression": "tiff_lzw"}, {"compression": "jpeg"}])
def test_a_tiff_that_is_cut_off_is_damage(options: dict[str, Any], capfd: pytest.CaptureFixture[str]) -> None:
    data = (
        encode_tiff(rgb_page(37, 53, PIXELS.tobytes()))
        if not options
        else encoded(Image.fromarray(PIXELS), "TIFF", **options)
    )
    for share in (0.1, 0.5, 0.9):
        with refused(CorruptImageError):
            read_picture(data[: int(share * len(data))])
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("lost", ["left out", "without a place"])
@pytest.mark.parametrize("kind", ["strips", "planes", "tiles"])
def test_parts_that_are_missing_are_not_made_black(kind: str, lost: str) -> None:
    parts = [PIXELS[start : start + 8].tobytes() for start in range(0, 37, 8)]
    tags: dict[int, Value] = {ROWS: (LONG, [8])}
    if kind == "planes":
        parts, tags = [PIXELS[..., channel].tobytes() for channel in range(3)], {PLANAR: (SHORT, [2])}
    if kind == "tiles":
        padded = np.pad(PIXELS, ((0, 11), (0, 11), (0, 0)))
        parts = [padded[y : y + 16, x : x + 16].tobytes() for y in range(0, 48, 16) for x in range(0, 64, 16)]
        tags = {ROWS: (LONG, []), TILE_WIDTH: (LONG, [16]), TILE_LENGTH: (LONG, [16])}
    page = rgb_page(37, 53, b"", tags)
    offsets, counts = (TILE_OFFSETS, TILE_COUNTS) if kind == "tiles" else (OFFSETS, COUNTS)

    def encode(present: Sequence[int]) -> bytes:
        """The parts behind the directory, and where some of them are."""
        lengths = [len(part) for part in parts][: len(present)]
        return encode_tiff(Page(page.tags | {offsets: (LONG, present), counts: (LONG, lengths)})) + b"".join(parts)

    def places(count: int) -> list[int]:
        start = len(encode([0] * count)) - sum(map(len, parts))
        return [start + sum(map(len, parts[:index])) for index in range(count)]

    count = len(parts)
    assert np.array_equal(read_picture(encode(places(count))).pixels, PIXELS)
    present = places(count - 1) if lost == "left out" else [*places(count)[:-1], 0]
    with refused(CorruptImageError, f"needs {count} strips or tiles and has {count - 1}"):
        read_picture(encode(present))
