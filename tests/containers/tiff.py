"""TIFF files made by hand, so that every tag can be what a writer ever put there."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

BYTE, ASCII, SHORT, LONG = 1, 2, 3, 4
WIDTH, LENGTH, BITS, COMPRESSION, PHOTOMETRIC, FILL_ORDER, MAKE = 256, 257, 258, 259, 262, 266, 271
OFFSETS, ORIENTATION, SAMPLES, ROWS, COUNTS, PLANAR = 273, 274, 277, 278, 279, 284
PREDICTOR, COLOUR_MAP, SUB_IFDS, EXTRA_SAMPLES, SAMPLE_FORMAT, SUBSAMPLING = 317, 320, 330, 338, 339, 530
SUBFILE_TYPE, DNG_VERSION = 254, 50706
_SIZES = {BYTE: 1, ASCII: 1, SHORT: 2, LONG: 4}
_CODES = {BYTE: "B", ASCII: "B", SHORT: "H", LONG: "I", 13: "I", 16: "Q"}

Value = tuple[int, Sequence[int]]
"""A tag's type and its numbers."""


@dataclass
class Page:
    """An image file directory.

    Attributes:
        tags: by number; offsets, byte counts and sub-directories are added.
        strips: the encoded pixels.
        subs: directories that the tag SubIFDs names.
    """

    tags: dict[int, Value]
    strips: list[bytes] = field(default_factory=list)
    subs: list[Page] = field(default_factory=list)


def grey_page(height: int, width: int, data: bytes, tags: dict[int, Value] | None = None) -> Page:
    """One uncompressed strip of 8-bit grey, unless the tags say otherwise; a tag of no numbers is left out."""
    usual: dict[int, Value] = {
        WIDTH: (LONG, [width]),
        LENGTH: (LONG, [height]),
        BITS: (SHORT, [8]),
        COMPRESSION: (SHORT, [1]),
        PHOTOMETRIC: (SHORT, [1]),
        SAMPLES: (SHORT, [1]),
        ROWS: (LONG, [height]),
    }
    merged = usual | (tags or {})
    return Page({tag: value for tag, value in merged.items() if value[1]}, [data])


def rgb_page(height: int, width: int, data: bytes, tags: dict[int, Value] | None = None) -> Page:
    """One uncompressed strip of 8-bit RGB, unless the tags say otherwise."""
    usual: dict[int, Value] = {BITS: (SHORT, [8, 8, 8]), PHOTOMETRIC: (SHORT, [2]), SAMPLES: (SHORT, [3])}
    return grey_page(height, width, data, usual | (tags or {}))


def encode_tiff(*pages: Page, order: str = "<", big: bool = False) -> bytes:
    """A TIFF, or with `big` a BigTIFF, of these pages; `order` is "<" or ">"."""
    mark = b"II" if order == "<" else b"MM"
    blob = bytearray(mark + struct.pack(order + ("HHHQ" if big else "HI"), *((43, 8, 0, 0) if big else (42, 0))))
    link = len(blob) - (8 if big else 4)
    for page in pages:
        start, following = _append(blob, page, order, big)
        struct.pack_into(order + ("Q" if big else "I"), blob, link, start)
        link = following
    return bytes(blob)


def _append(blob: bytearray, page: Page, order: str, big: bool) -> tuple[int, int]:
    """Write a directory and what it names; give where it starts, and where the offset of the next one is."""
    tags = dict(page.tags)
    word, wide = ("Q", 16) if big else ("I", LONG)
    if page.subs:
        tags[SUB_IFDS] = wide, [_append(blob, sub, order, big)[0] for sub in page.subs]
    if page.strips:
        starts = []
        for strip in page.strips:
            starts.append(len(blob))
            blob += strip + b"\0" * (len(strip) % 2)
        tags.setdefault(OFFSETS, (wide, starts))
        tags.setdefault(COUNTS, (wide, [len(strip) for strip in page.strips]))
    room = struct.calcsize(word)
    entries = []
    for tag, (kind, values) in sorted(tags.items()):
        data = struct.pack(f"{order}{len(values)}{_CODES[kind]}", *values)
        if len(data) > room:
            at = len(blob)
            blob += data + b"\0" * (len(data) % 2)
            data = struct.pack(order + word, at)
        entries.append(struct.pack(f"{order}HH{word}", tag, kind, len(values)) + data.ljust(room, b"\0"))
    start = len(blob)
    blob += struct.pack(order + ("Q" if big else "H"), len(entries)) + b"".join(entries) + b"\0" * room
    return start, len(blob) - room
