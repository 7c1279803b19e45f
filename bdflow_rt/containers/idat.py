"""Damage inside the pixels of PNG files: Pillow leaves rows that are missing black, and checks no checksum."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import IO

from bdflow_rt.containers.chunks import CHUNK_CRC, CHUNK_HEAD, IHDR_BYTES, SIGNATURE, Ihdr

_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""Samples of a pixel by colour type."""
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""First column, first row, and the steps between columns and rows of each pass (PNG specification, section 8)."""
_BLOCK_BYTES = 1 << 16
_SPARE_BYTES = 1 << 16
"""What some programs write beyond the last row is left alone; more would keep a reader busy for nothing."""


def check_idat(stream: IO[bytes]) -> None:
    """Inflate the pixels of a PNG, whose header was found sound, without keeping them.

    Raises:
        ValueError, zlib.error: rows are missing, too much follows the last one, or the zlib stream in the IDAT chunks
            is damaged or does not reach its end. Bytes behind that end are not looked at.
    """
    stream.seek(len(SIGNATURE) + CHUNK_HEAD.size)
    expected = _rows_bytes(Ihdr.parse(stream.read(IHDR_BYTES)))
    inflater, inflated = zlib.decompressobj(), 0
    for block in _blocks(stream):
        while block and not inflater.eof and inflated <= expected + _SPARE_BYTES:
            inflated += len(inflater.decompress(block, _BLOCK_BYTES))
            block = inflater.unconsumed_tail
    if not expected <= inflated <= expected + _SPARE_BYTES:
        raise ValueError(f"its pixels inflate to {inflated} bytes, and its rows have {expected}")
    if not inflater.eof:
        raise ValueError("its pixels end without their checksum")


def _rows_bytes(ihdr: Ihdr) -> int:
    """Bytes of all rows with their filter bytes; a pass without columns has no rows."""
    pixel_bits = ihdr.bit_depth * _SAMPLES[ihdr.colour_type]
    total = 0
    for x, y, right, down in _ADAM7 if ihdr.interlace else ((0, 0, 1, 1),):
        columns, rows = len(range(x, ihdr.width, right)), len(range(y, ihdr.height, down))
        total += rows * (1 + -(-columns * pixel_bits // 8)) if columns else 0
    return total


def _blocks(stream: IO[bytes]) -> Iterator[bytes]:
    """The data of the IDAT chunks that follow one another, in blocks of at most `_BLOCK_BYTES`."""
    stream.seek(len(SIGNATURE))
    previous = b""
    while len(head := stream.read(CHUNK_HEAD.size)) == CHUNK_HEAD.size:
        length, kind = CHUNK_HEAD.unpack(head)
        if kind == b"IDAT":
            for start in range(0, length, _BLOCK_BYTES):
                yield stream.read(min(_BLOCK_BYTES, length - start))
        elif previous == b"IDAT":
            return
        else:
            stream.seek(length, 1)
        stream.seek(CHUNK_CRC.size, 1)
        previous = kind
