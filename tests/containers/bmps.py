"""BMP files made by hand: every header from V1 to V5, every depth, both run-length codes."""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import NDArray

HEADERS = {"V1": 40, "V2": 52, "V3": 56, "V4": 108, "V5": 124}
RGB, RLE8, RLE4, BIT_FIELDS = 0, 1, 2, 3
SRGB_MARK, CALIBRATED, EMBEDDED = 0x73524742, 0, 0x4D424544


def encode_bmp(
    data: bytes,
    size: tuple[int, int],
    bits: int,
    *,
    header: str = "V1",
    compression: int = RGB,
    palette: NDArray[np.uint8] | None = None,
    masks: tuple[int, int, int, int] = (0, 0, 0, 0),
    space: int = SRGB_MARK,
    endpoints: bytes = bytes(36),
    gammas: tuple[int, int, int] = (0, 0, 0),
    profile: bytes = b"",
    top_down: bool = False,
) -> bytes:
    """A file of rows that are coded already, bottom row first unless `top_down`."""
    height, width = size
    length = HEADERS[header]
    colours = 0 if palette is None else len(palette)
    head = struct.pack(
        "<IiiHHIIiiII",
        *(length, width, -height if top_down else height, 1, bits, compression, len(data), 2835, 2835, colours, 0),
    )
    masked = struct.pack("<4I", *masks)
    outside = b""
    if length == 40:
        outside = masked[:12] if compression == BIT_FIELDS else b""
    head += masked[: {40: 0, 52: 12}.get(length, 16)]
    if length >= 108:
        head += struct.pack("<I", space) + endpoints + struct.pack("<3I", *gammas)
    table = b"" if palette is None else np.pad(palette[:, ::-1], ((0, 0), (0, 1))).tobytes()
    start = 14 + length + len(outside) + len(table)
    if length == 124:
        head += struct.pack("<4I", 4, length + len(table) + len(data) if profile else 0, len(profile), 0)
    whole = start + len(data) + len(profile)
    return b"BM" + struct.pack("<IHHI", whole, 0, 0, start) + head + outside + table + data + profile


def encode_array(*bitmaps: bytes) -> bytes:
    """An array of OS/2; places in it count from its start, and sizes are those that ImageMagick takes."""
    out = bytearray()
    for index, bitmap in enumerate(bitmaps):
        here = len(out) + 14
        following = here + len(bitmap) if index < len(bitmaps) - 1 else 0
        (start,) = struct.unpack_from("<I", bitmap, 10)
        out += b"BA" + struct.pack("<IIHH", 40, following, 0, 0)
        out += b"BM" + struct.pack("<IHHI", 14 + len(bitmap), 0, 0, start + here) + bitmap[14:]
    return bytes(out)


def rows(packed: NDArray[np.uint8]) -> bytes:
    """Rows of bytes, bottom row first, each filled up to 4 bytes."""
    return np.pad(packed[::-1], ((0, 0), (0, -packed.shape[1] % 4))).tobytes()


def run_length(levels: NDArray[np.uint8], bits: int) -> bytes:
    """Levels in RLE8 or RLE4: runs where values repeat, and absolute stretches elsewhere."""
    out = bytearray()
    for row in levels[::-1]:
        at = 0
        while at < len(row):
            run = 1
            while at + run < len(row) and run < 255 and row[at + run] == row[at]:
                run += 1
            if run >= 3 or len(row) - at < 3:
                count = min(run, 255)
                value = int(row[at])
                out += bytes((count, value if bits == 8 else value << 4 | value))
            else:
                count = min(len(row) - at, 7)
                values = row[at : at + count]
                coded = values.tobytes() if bits == 8 else _nibbles(values)
                out += bytes((0, count)) + coded + bytes(len(coded) % 2)
            at += count
        out += b"\0\0"
    return bytes(out[:-2] + b"\0\1")


LINE, END = b"\0\0", b"\0\1"


def delta(right: int, up: int) -> bytes:
    """The code that skips pixels."""
    return bytes((0, 2, right, up))


def run(count: int, level: int, bits: int) -> bytes:
    """The code of pixels of one level."""
    return bytes((count, level if bits == 8 else level << 4 | level))


def _nibbles(values: NDArray[np.uint8]) -> bytes:
    even = np.pad(values, (0, len(values) % 2))
    return bytes((even[::2] << 4 | even[1::2]).tobytes())
