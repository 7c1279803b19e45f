"""Any PNG as a picture: its chunks are looked at here, and Pillow is given those that its pixels need.

So nothing that Pillow thinks of texts, profiles and metadata matters, and damage in them does not. Of the pixels
nothing is left to Pillow's tolerance either: it leaves rows that are missing black, and checks no checksum of theirs.

Source: PNG specification, third edition (W3C, 2025), sections 5, 8, 11 and 13.
"""

from __future__ import annotations

import io
import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import dropwhile, takewhile
from typing import IO, BinaryIO

from bdflow_rt.containers.chunks import (
    CHUNK_CRC,
    CHUNK_HEAD,
    IHDR_BYTES,
    MAX_CHUNKS,
    PACKET_CHUNK,
    SIGNATURE,
    Ihdr,
    chunk,
    chunk_heads,
)
from bdflow_rt.errors import CorruptImageError
from bdflow_rt.options import check_area
from bdflow_rt.picture import MAX_ICC_BYTES

_GREY, _PALETTE = 0, 3
_TRANSPARENT_BYTES = {_GREY: 2, 2: 6}
"""Length of the one transparent colour in tRNS by colour type."""
_SAMPLES = {_GREY: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""Samples of a pixel by colour type."""
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""First column, first row, and the steps between columns and rows of each pass (PNG specification, section 8)."""
_BLOCK_BYTES = 1 << 16
_SPARE_BYTES = 1 << 16
"""What some programs write beyond the last row is left alone; more would keep a reader busy for nothing."""
_LIMITS = {
    b"PLTE": 3 * 256, b"tRNS": 256, b"cICP": 4, b"sRGB": 1, b"gAMA": 4, b"cHRM": 32, b"acTL": 8, b"eXIf": 1 << 26,
    # Beyond the profile: its name, and what deflate adds where nothing can be compressed.
    b"iCCP": MAX_ICC_BYTES + (1 << 16),
}  # fmt: skip
"""Chunks that are read, and the most bytes of each that are."""
_METADATA = {b"eXIf": "EXIF", b"tEXt": "text", b"zTXt": "text", b"iTXt": "text", b"pHYs": "resolution"}
_XMP_KEYWORD = b"XML:com.adobe.xmp\0"
_OF_PIXELS = (b"PLTE", b"tRNS")
_OF_COLOURS = (b"cICP", b"iCCP", b"sRGB", b"gAMA", b"cHRM")
_AFTER_PIXELS = (b"eXIf", b"iCCP")
"""Chunks that are looked for behind the pixels too: the first counts there, the second is said not to."""


@dataclass
class PngPicture:
    """What a PNG holds besides its pixels.

    Attributes:
        chunks: data of the sound chunks of interest before the pixels, by type, the first of each; `iCCP` cut off one
            byte beyond its limit.
        exif: data of the first chunk eXIf, wherever it is.
        has_late_profile: a profile follows the pixels, where none counts.
        has_packet: there is a chunk bdFL.
        unread: type of a chunk about colours that has a wrong CRC; empty where there is none.
        metadata: kinds of it that are in the file.
        is_cgbi: it is of the variant in iPhone apps, which begins with a chunk CgBI: colours are stored as BGR, and
            multiplied by alpha.
    """

    chunks: dict[bytes, bytes] = field(default_factory=dict)
    exif: bytes = b""
    has_late_profile: bool = False
    has_packet: bool = False
    unread: bytes = b""
    metadata: frozenset[str] = frozenset()
    is_cgbi: bool = False
    _pixels: tuple[int, int] = (0, 0)
    _frames: int = 0
    _pixels_are_a_frame: bool = False

    @property
    def is_animated(self) -> bool:
        """Whether it has several frames; pixels of which no chunk fcTL speaks are one beside those of the animation."""
        return self._frames > self._pixels_are_a_frame

    def stream(self, source: BinaryIO) -> BinaryIO:
        """A PNG of nothing but what decoding its pixels takes.

        Raises:
            ValueError, zlib.error: it is Apple's, and its pixels are damaged.
        """
        head = [chunk(b"IHDR", self.chunks[b"IHDR"])]
        head += [chunk(kind, data) for kind in _OF_PIXELS if (data := self._of_pixels(kind)) is not None]
        if self.is_cgbi:
            pixels = _cgbi_as_zlib(source, Ihdr.parse(self.chunks[b"IHDR"]))
            return io.BytesIO(b"".join((SIGNATURE, *head, chunk(b"IDAT", pixels), chunk(b"IEND", b""))))
        return io.BufferedReader(_Parts(source, SIGNATURE + b"".join(head), self._pixels, chunk(b"IEND", b"")))

    def _of_pixels(self, kind: bytes) -> bytes | None:
        """The data of a chunk for Pillow, which compares a transparent grey of few bits with greys of 8.

        None where there is no such chunk, or a tRNS of a length that means nothing, which libpng ignores as well.
        """
        data, ihdr = self.chunks.get(kind), Ihdr.parse(self.chunks[b"IHDR"])
        if data is None or kind != b"tRNS":
            return data
        if ihdr.colour_type != _PALETTE and len(data) != _TRANSPARENT_BYTES.get(ihdr.colour_type):
            return None
        if ihdr.colour_type == _GREY and ihdr.bit_depth < 8:
            most = (1 << ihdr.bit_depth) - 1
            return (int.from_bytes(data, "big") % (most + 1) * (255 // most)).to_bytes(2, "big")
        return data


def scan_png(source: BinaryIO, *, name: str, max_pixels: int) -> PngPicture:
    """Look at every chunk of a PNG; `name` starts the messages.

    Chunks that say nothing of pixels or colours may be damaged, and so may everything behind the pixels.

    Raises:
        CorruptImageError: no IHDR or no IDAT, damage in the order of the chunks or in one that pixels need, a file cut
            off before its pixels, or more chunks than an honest file has.
        ImageTooLargeError: more than `max_pixels`, whatever else is wrong.
    """
    picture = PngPicture()
    size = source.seek(0, os.SEEK_END)
    for index, (kind, length, position) in enumerate(chunk_heads(source)):
        if index == MAX_CHUNKS:
            raise _damaged(name, f"it has more than {MAX_CHUNKS} chunks")
        behind = position + CHUNK_HEAD.size + length + CHUNK_CRC.size
        if kind == b"IEND" or (picture._pixels[0] and not kind.isalpha()):
            break
        if behind > size and not picture._pixels[0]:
            raise _damaged(name, f"its chunk {_name(kind)} claims {length} bytes, more than the file has")
        _look_at(picture, source, kind, length, position, min(behind, size), name)
        if kind == b"IHDR":
            ihdr = Ihdr.parse(picture.chunks[kind])
            check_area(f"{name} has", ihdr.width, ihdr.height, max_pixels=max_pixels)
    if not picture._pixels[0]:
        raise _damaged(name, "it ends before its pixels")
    _check_palette(picture, name)
    return picture


def check_idat(stream: IO[bytes]) -> None:
    """Inflate the pixels of a PNG, whose header was found sound, without keeping them.

    Raises:
        ValueError, zlib.error: rows are missing, too much follows the last one, the CRC of an IDAT chunk is wrong, or
            the zlib stream in them is damaged or does not reach its end. Bytes behind that end are not looked at.
    """
    stream.seek(len(SIGNATURE) + CHUNK_HEAD.size)
    expected = _rows_bytes(Ihdr.parse(stream.read(IHDR_BYTES)))
    inflater, inflated = zlib.decompressobj(), 0
    for length, crc in _idat_chunks(stream):
        block = b""
        for start in range(0, length, _BLOCK_BYTES):
            block = stream.read(min(_BLOCK_BYTES, length - start))
            crc = zlib.crc32(block, crc)
            while block and not inflater.eof and inflated <= expected + _SPARE_BYTES:
                inflated += len(inflater.decompress(block, _BLOCK_BYTES))
                block = inflater.unconsumed_tail
        stored = stream.read(CHUNK_CRC.size)
        if inflated > expected + _SPARE_BYTES:
            break
        if len(stored) == CHUNK_CRC.size and CHUNK_CRC.unpack(stored)[0] != crc:
            raise ValueError("the checksum of a chunk of its pixels is wrong")
    if not expected <= inflated <= expected + _SPARE_BYTES:
        raise ValueError(f"its pixels inflate to {inflated} bytes, and its rows have {expected}")
    if not inflater.eof:
        raise ValueError("its pixels end without their checksum")


def _look_at(
    picture: PngPicture, source: BinaryIO, kind: bytes, length: int, position: int, behind: int, name: str
) -> None:
    """Take note of one chunk, of `length` bytes, between two positions of the file."""
    if not picture.chunks and kind == b"CgBI":
        picture.is_cgbi = True
        return
    if not picture.chunks and kind != b"IHDR":
        raise _damaged(name, f"it begins with a chunk {_name(kind)} instead of IHDR")
    start, end = picture._pixels
    if kind in _METADATA:
        is_xmp = kind == b"iTXt" and source.read(min(length, len(_XMP_KEYWORD))) == _XMP_KEYWORD
        source.seek(position + CHUNK_HEAD.size)
        picture.metadata |= {"XMP" if is_xmp else _METADATA[kind]}
    if not kind.isalpha():
        raise _damaged(name, f"it has a chunk of impossible type {_name(kind)}")
    if kind == b"IDAT":
        if start and end != position:
            raise _damaged(name, "its chunks IDAT do not follow each other")
        picture._pixels = (start or position, behind)
    elif kind == b"fcTL":
        picture._pixels_are_a_frame |= not start
    elif kind == PACKET_CHUNK:
        picture.has_packet = True
    elif kind[:1].isupper() and kind not in (b"IHDR", *_OF_PIXELS):
        raise _damaged(name, f"it has a critical chunk of unknown type {_name(kind)}")
    elif kind in picture.chunks and kind in (b"IHDR", b"PLTE"):
        raise _damaged(name, f"it has a second chunk {_name(kind)}")
    elif kind in picture.chunks or (start and kind not in _AFTER_PIXELS):
        return
    elif kind == b"IHDR" or kind in _LIMITS:
        _keep(picture, source, kind, length, name, late=bool(start))


def _keep(picture: PngPicture, source: BinaryIO, kind: bytes, length: int, name: str, *, late: bool) -> None:
    """Read a chunk and note it where its CRC is right."""
    limit = _LIMITS.get(kind, IHDR_BYTES)
    data = source.read(min(length, limit + 1))
    if len(data) <= limit and source.read(CHUNK_CRC.size) != CHUNK_CRC.pack(zlib.crc32(kind + data)):
        if kind == b"IHDR" or kind in _OF_PIXELS:
            raise _damaged(name, f"the CRC of its chunk {_name(kind)} is wrong")
        if kind in _OF_COLOURS and not late:
            picture.unread = kind
        return
    if kind == b"IHDR":
        if len(data) != IHDR_BYTES:
            raise _damaged(name, f"its chunk IHDR has {length} bytes instead of {IHDR_BYTES}")
    elif len(data) > limit and kind != b"iCCP":
        return
    if kind == b"eXIf":
        picture.exif = picture.exif or data
    elif late:
        picture.has_late_profile = True
    elif kind == b"acTL":
        picture._frames = int.from_bytes(data[:4], "big")
    else:
        picture.chunks[kind] = data


def _check_palette(picture: PngPicture, name: str) -> None:
    """Refuse palette pictures without a palette, for which Pillow makes up greys or fails."""
    if Ihdr.parse(picture.chunks[b"IHDR"]).colour_type != _PALETTE:
        return
    size = len(picture.chunks.get(b"PLTE", b""))
    if not size or size % 3:
        problem = f"the chunk PLTE before its pixels has {size} bytes" if b"PLTE" in picture.chunks else "it has none"
        raise _damaged(name, f"it needs a palette of 1 to 256 colours, and {problem}")


class _Parts(io.RawIOBase):
    """Bytes, a range of a file, and bytes, read as one file."""

    def __init__(self, source: BinaryIO, head: bytes, middle: tuple[int, int], tail: bytes) -> None:
        super().__init__()
        self._source, self._head, self._middle, self._tail = source, head, middle, tail
        self._size = len(head) + middle[1] - middle[0] + len(tail)
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._position = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        return self._position

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        data = self._at(self._position, len(buffer))
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)

    def _at(self, position: int, count: int) -> bytes:
        head, (start, end) = len(self._head), self._middle
        if position < head:
            return self._head[position : position + count]
        if position < head + end - start:
            self._source.seek(start + position - head)
            return self._source.read(min(count, end - start - position + head))
        position -= head + end - start
        return self._tail[position : position + count]


def _rows_bytes(ihdr: Ihdr) -> int:
    """Bytes of all rows with their filter bytes; a pass without columns has no rows."""
    pixel_bits = ihdr.bit_depth * _SAMPLES[ihdr.colour_type]
    total = 0
    for x, y, right, down in _ADAM7 if ihdr.interlace else ((0, 0, 1, 1),):
        columns, rows = len(range(x, ihdr.width, right)), len(range(y, ihdr.height, down))
        total += rows * (1 + -(-columns * pixel_bits // 8)) if columns else 0
    return total


def _idat_chunks(stream: IO[bytes]) -> Iterator[tuple[int, int]]:
    """Length and begun CRC of each chunk IDAT of the first run of them; the stream is at its data."""
    others_first = dropwhile(lambda head: head[0] != b"IDAT", chunk_heads(stream))
    for kind, length, _ in takewhile(lambda head: head[0] == b"IDAT", others_first):
        yield length, zlib.crc32(kind)


def _cgbi_as_zlib(source: BinaryIO, ihdr: Ihdr) -> bytes:
    """The pixels of a PNG of Apple's variant, a deflate stream without header and checksum, as a zlib stream."""
    inflater, rows = zlib.decompressobj(-zlib.MAX_WBITS), bytearray()
    most = _rows_bytes(ihdr) + _SPARE_BYTES
    for length, crc in _idat_chunks(source):
        data = source.read(length)
        if source.read(CHUNK_CRC.size) != CHUNK_CRC.pack(zlib.crc32(data, crc)):
            raise ValueError("the checksum of a chunk of its pixels is wrong")
        if len(rows) < most:  # more is for `check_idat` to refuse
            rows += inflater.decompress(data, most + 1 - len(rows))
    if len(rows) <= most and not inflater.eof:
        raise ValueError("its pixels are cut off")
    return zlib.compress(rows, 0)


def _damaged(name: str, problem: str) -> CorruptImageError:
    return CorruptImageError(f"{name} is damaged or cut off: {problem}. Get the picture again from where it was made.")


def _name(kind: bytes) -> str:
    return kind.decode("ascii") if kind.isalpha() else repr(kind)
