"""A strict walk over the chunks of a PNG: nothing is decoded, everything is checked.

Source: PNG specification, third edition (W3C, 2025), sections 5 and 11.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO

from bdflow_rt.options import MAX_SIDE

SIGNATURE = b"\x89PNG\r\n\x1a\n"
CHUNK_HEAD, CHUNK_CRC = struct.Struct(">I4s"), struct.Struct(">I")
"""Length and type before the data of a chunk, and the CRC-32 behind it."""
_IHDR = struct.Struct(">IIBBBBB")
IHDR_BYTES = _IHDR.size
_CRITICAL = (b"IHDR", b"PLTE", b"IDAT", b"IEND")
PACKET_CHUNK = b"bdFL"
KEPT = (b"IHDR", b"iCCP", b"eXIf", PACKET_CHUNK, b"IDAT")
"""Types whose data `walk` keeps."""
MAX_CHUNKS = 1 << 18
"""Cap on the chunks of a file; 2^28 pixels of RGB in the 8 KiB chunks of libpng are 98,304."""


@dataclass(frozen=True)
class Ihdr:
    """A PNG's IHDR chunk."""

    width: int
    height: int
    bit_depth: int
    colour_type: int
    interlace: int

    @classmethod
    def parse(cls, data: bytes | memoryview) -> Ihdr:
        """Read the 13 bytes of the chunk."""
        width, height, depth, colour, _, _, interlace = _IHDR.unpack(data)
        return cls(width, height, depth, colour, interlace)


@dataclass
class PngChunks:
    """The chunks up to the first problem: those of `KEPT` as views into the file, others only counted.

    `last` is the type of the last chunk that was begun. `problem` is None, or half a sentence that says what is wrong
    with that chunk or behind it.
    """

    kept: dict[bytes, list[memoryview]] = field(default_factory=lambda: {kind: [] for kind in KEPT})
    count: int = 0
    last: bytes = b""
    problem: str | None = None

    def has(self, kind: bytes) -> bool:
        """Whether a chunk of that type, one of `KEPT`, was begun, be it whole or not."""
        return self.last == kind or bool(self.kept[kind])


def chunk(kind: bytes, data: bytes | memoryview) -> bytes:
    """One chunk as it stands in a file: length, type, data, CRC."""
    return b"".join((CHUNK_HEAD.pack(len(data), kind), data, CHUNK_CRC.pack(zlib.crc32(data, zlib.crc32(kind)))))


def chunk_heads(stream: IO[bytes]) -> Iterator[tuple[bytes, int, int]]:
    """Type, length and position of every chunk of a PNG, by seeking; the stream is at the chunk's data then.

    Ends where no whole head is left. Nothing is checked: lengths may lead out of the file.
    """
    position = len(SIGNATURE)
    while True:
        stream.seek(position)
        head = stream.read(CHUNK_HEAD.size)
        if len(head) < CHUNK_HEAD.size:
            return
        length, kind = CHUNK_HEAD.unpack(head)
        yield kind, length, position
        position += CHUNK_HEAD.size + length + CHUNK_CRC.size


def walk(data: memoryview) -> PngChunks:
    """Check every chunk of the PNG in `data`, which starts with `SIGNATURE`, up to the first problem.

    What follows the last chunk is no part of the picture, and no problem: some programs append to files.

    Takes time and memory in proportion to the number of chunks, of which more than `MAX_CHUNKS` are a problem.
    """
    chunks = PngChunks()
    position = len(SIGNATURE)
    while chunks.problem is None and chunks.last != b"IEND":
        start = position + CHUNK_HEAD.size
        if start > len(data):
            chunks.problem = f"it is cut off after {len(data)} bytes"
            break
        length, kind = CHUNK_HEAD.unpack_from(data, position)
        previous, chunks.last = chunks.last, kind
        end = start + length
        if chunks.count == MAX_CHUNKS:
            chunks.problem = f"it has more than {MAX_CHUNKS} chunks"
        elif end + CHUNK_CRC.size > len(data):
            chunks.problem = f"its chunk {_name(kind)} claims {length} bytes, more than the file has"
        elif zlib.crc32(data[position + 4 : end]) != CHUNK_CRC.unpack_from(data, end)[0]:
            chunks.problem = f"the CRC of its chunk {_name(kind)} is wrong"
        else:
            chunks.problem = _problem_of(chunks, previous, data[start:end])
            chunks.count += 1
            if kind in chunks.kept:
                chunks.kept[kind].append(data[start:end])
        position = end + CHUNK_CRC.size
    return chunks


def _problem_of(chunks: PngChunks, previous: bytes, data: memoryview) -> str | None:
    """What is wrong with the order or content of the last chunk, whose CRC is right."""
    kind = chunks.last
    if not kind.isalpha():
        return f"it has a chunk of impossible type {_name(kind)}"
    if (kind == b"IHDR") != (chunks.count == 0):
        return "its chunk IHDR is not the first, or not the only one"
    if kind == b"IHDR":
        return _ihdr_problem(data)
    if kind[:1].isupper() and kind not in _CRITICAL:
        return f"it has a critical chunk of unknown type {_name(kind)}"
    if kind == b"IDAT" and chunks.kept[b"IDAT"] and previous != b"IDAT":
        return "its chunks IDAT do not follow each other"
    if kind == b"IEND" and (len(data) or not chunks.kept[b"IDAT"]):
        return "it ends without pixels, or its chunk IEND is not empty"
    return None


def _ihdr_problem(data: memoryview) -> str | None:
    if len(data) != _IHDR.size:
        return f"its chunk IHDR has {len(data)} bytes instead of {_IHDR.size}"
    width, height, _, _, compression, filtering, interlace = _IHDR.unpack(data)
    if not (1 <= width <= MAX_SIDE and 1 <= height <= MAX_SIDE):
        return f"its size is given as {width} x {height}"
    if compression or filtering or interlace > 1:
        return f"its compression, filter and interlace methods are {compression}, {filtering}, {interlace}"
    return None


def _name(kind: bytes) -> str:
    return kind.decode("ascii") if kind.isalpha() else repr(kind)
