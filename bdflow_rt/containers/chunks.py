"""A strict walk over the chunks of a PNG: nothing is decoded, everything is checked.

Source: PNG specification, third edition (W3C, 2025), sections 5 and 11.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, field

from bdflow_rt.packet import MAX_SIDE

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_HEAD = struct.Struct(">I4s")
_CRC = struct.Struct(">I")
_IHDR = struct.Struct(">IIBBBBB")
_CRITICAL = (b"IHDR", b"PLTE", b"IDAT", b"IEND")
PACKET_CHUNK = b"bdFL"
KEPT = (b"IHDR", b"iCCP", PACKET_CHUNK, b"IDAT")
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


@dataclass
class PngChunks:
    """What `walk` found up to the first fault: the chunks of `KEPT` as views into the file, others only counted.

    `last` is the type of the last chunk that was begun. `fault` is None, or half a sentence that says what is wrong
    with that chunk or behind it.
    """

    kept: dict[bytes, list[memoryview]] = field(default_factory=lambda: {kind: [] for kind in KEPT})
    count: int = 0
    last: bytes = b""
    fault: str | None = None

    def all(self, kind: bytes) -> list[memoryview]:
        """The data of every chunk of that type, one of `KEPT`, in order."""
        return self.kept[kind]

    def has(self, kind: bytes) -> bool:
        """Whether a chunk of that type, one of `KEPT`, was begun, be it whole or not."""
        return self.last == kind or bool(self.kept[kind])

    @property
    def ihdr(self) -> Ihdr:
        """The picture's header; only where `fault` is None."""
        width, height, depth, colour, _, _, interlace = _IHDR.unpack(self.all(b"IHDR")[0])
        return Ihdr(width, height, depth, colour, interlace)


def chunk(kind: bytes, data: bytes | memoryview) -> bytes:
    """One chunk as it stands in a file: length, type, data, CRC."""
    return b"".join((_HEAD.pack(len(data), kind), data, _CRC.pack(zlib.crc32(data, zlib.crc32(kind)))))


def walk(data: memoryview) -> PngChunks:
    """Check every chunk of the PNG in `data`, which starts with `SIGNATURE`; stops at the first fault and names it.

    What follows the last chunk is no part of the picture, and no fault: some programs append to files.

    Takes time and memory in proportion to the number of chunks, of which more than `MAX_CHUNKS` are a fault.
    """
    found = PngChunks()
    position = len(SIGNATURE)
    while found.fault is None and found.last != b"IEND":
        if len(data) - position < _HEAD.size + _CRC.size:
            found.fault = f"it is cut off after {len(data)} bytes"
            return found
        if found.count == MAX_CHUNKS:
            found.fault = f"it has more than {MAX_CHUNKS} chunks"
            return found
        length, kind = _HEAD.unpack_from(data, position)
        previous, found.last = found.last, kind
        start, end = position + _HEAD.size, position + _HEAD.size + length
        if end + _CRC.size > len(data):
            found.fault = f"its chunk {_name(kind)} claims {length} bytes, more than the file has"
            return found
        if zlib.crc32(data[position + 4 : end]) != _CRC.unpack_from(data, end)[0]:
            found.fault = f"the CRC of its chunk {_name(kind)} is wrong"
            return found
        found.fault = _fault_of(found, previous, data[start:end])
        found.count += 1
        if kind in found.kept:
            found.kept[kind].append(data[start:end])
        position = end + _CRC.size
    return found


def _fault_of(found: PngChunks, previous: bytes, data: memoryview) -> str | None:
    """What is wrong with the order or content of the last chunk, whose CRC is right."""
    kind = found.last
    if not kind.isalpha():
        return f"it has a chunk of impossible type {_name(kind)}"
    if (kind == b"IHDR") != (found.count == 0):
        return "its chunk IHDR is not the first, or not the only one"
    if kind == b"IHDR":
        return _ihdr_fault(data)
    if kind[:1].isupper() and kind not in _CRITICAL:
        return f"it has a critical chunk of unknown type {_name(kind)}"
    if kind == b"IDAT" and found.all(b"IDAT") and previous != b"IDAT":
        return "its chunks IDAT do not follow each other"
    if kind == b"IEND" and (len(data) or not found.all(b"IDAT")):
        return "it ends without pixels, or its chunk IEND is not empty"
    return None


def _ihdr_fault(data: memoryview) -> str | None:
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
