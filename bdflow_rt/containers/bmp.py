"""What Pillow does not read right in a BMP: run-length codes, arrays of OS/2, colours, and alpha in 16 bits.

Source: Microsoft's BITMAPV3INFOHEADER, BITMAPV4HEADER and BITMAPV5HEADER, "Bitmap Compression"; OS/2's
BITMAPARRAYFILEHEADER.
"""

from __future__ import annotations

import io
import struct
import warnings
from typing import BinaryIO

from bdflow_rt.containers import icc_matrix
from bdflow_rt.containers.advice import TO_8_BIT_RGB
from bdflow_rt.containers.colour import FileColour
from bdflow_rt.containers.source import max_file_bytes
from bdflow_rt.errors import CorruptImageError, UnsupportedImageError
from bdflow_rt.options import check_area
from bdflow_rt.picture import MAX_ICC_BYTES

_FILE_BYTES, _V1_BYTES, _V3_BYTES, _V4_BYTES, _V5_BYTES = 14, 40, 56, 108, 124
_EMBEDDED, _LINKED, _CALIBRATED = (int.from_bytes(mark, "big") for mark in (b"MBED", b"LINK", bytes(4)))
_RGB, _BIT_FIELDS = 0, 3
_RUN_LENGTHS = ((8, 1), (4, 2))
"""Bits and compression of the two run-length codes."""
_END_OF_LINE, _END_OF_BITMAP, _DELTA = 0, 1, 2
_ARRAY_BYTES = 14


def is_array(prefix: bytes) -> bool:
    """Whether a file is an array of OS/2, by its first 16 bytes or more, and begins with a bitmap."""
    return prefix.startswith(b"BA") and prefix.startswith(b"BM", _ARRAY_BYTES)


def read_bmp(stream: BinaryIO, *, name: str, max_pixels: int) -> tuple[BinaryIO, FileColour]:
    """A BMP that Pillow reads, of a BMP or the first bitmap of an array, and what it says of its colours.

    Raises:
        UnsupportedImageError: it has 16 bits and an alpha channel.
        ImageTooLargeError: it is run-length coded and has more than `max_pixels`.
        CorruptImageError: its run-length code is damaged or cut off.

    Warns:
        UserWarning: other bitmaps follow in the array.
    """
    prefix = stream.read(_ARRAY_BYTES + 2)
    stream.seek(0)
    if is_array(prefix):
        stream = _first_of_array(stream, name, max_pixels)
    header = stream.read(_FILE_BYTES + _V5_BYTES)[_FILE_BYTES:]
    stream.seek(0)
    size, bits, compression = _number(header, 0), _number(header, 14, 2), _number(header, 16)
    if size >= _V3_BYTES and bits == 16 and compression == _BIT_FIELDS and any(header[52:56]):
        raise UnsupportedImageError(
            f"{name} is a 16-bit BMP with an alpha channel, which is not read here; convert it to an 8-bit RGB PNG, "
            f"for example with: {TO_8_BIT_RGB}"
        )
    colour = _colour(stream, header)
    if _is_misread(header):
        stream = _with_whole_palette(stream, header, name, max_pixels)
    return stream, colour


def _first_of_array(stream: BinaryIO, name: str, max_pixels: int) -> BinaryIO:
    """The first bitmap of an array as a file of its own; others show the same on screens of other kinds."""
    data = stream.read(max_file_bytes(max_pixels))
    if _number(data, 6):  # where the next one is
        warnings.warn(f"{name} is an array of bitmaps, of which the first is read; look at the result.", stacklevel=2)
    pixels_at = max(_number(data, 24) - _ARRAY_BYTES, 0)  # which counts from the start of the whole file
    return io.BytesIO(data[14:24] + struct.pack("<I", pixels_at) + data[28:])


def _number(header: bytes, at: int, count: int = 4) -> int:
    return int.from_bytes(header[at : at + count], "little")


def _is_misread(header: bytes) -> bool:
    """Whether Pillow decodes its levels wrong: by skips in a run-length code, or as bits where two colours are grey."""
    bits, compression, colours = _number(header, 14, 2), _number(header, 16), _number(header, 32)
    if min(_number(header, 0), len(header)) < _V1_BYTES:
        return False
    return (bits, compression) in (*_RUN_LENGTHS, (4, _RGB)) or ((bits, compression) == (8, _RGB) and 0 < colours < 3)


def _with_whole_palette(stream: BinaryIO, header: bytes, name: str, max_pixels: int) -> BinaryIO:
    """The bitmap without a run-length code, under a header of the first version and a palette of 256 colours."""
    width, height, bits = *struct.unpack_from("<Ii", header, 4), _number(header, 14, 2)
    check_area(f"{name} has", width, abs(height), max_pixels=max_pixels)
    data = stream.read(max_file_bytes(max_pixels))
    palette_at, pixels_at = _FILE_BYTES + _number(header, 0), _number(data, 10)
    palette_end = palette_at + 4 * min(_number(header, 32) or 1 << bits, 256)
    if pixels_at in (0, palette_at):  # some programs give no place, or that of the palette
        pixels_at = palette_end
    palette = data[palette_at : min(palette_end, pixels_at)].ljust(1024, b"\0")
    pixels = data[pixels_at:]
    if _number(header, 16) != _RGB:
        try:
            pixels, bits = _decoded(pixels, width, abs(height), has_nibbles=bits == 4), 8
        except ValueError as error:
            raise CorruptImageError(
                f"{name} is damaged or cut off, its run-length code does not decode ({error}). Get the picture again "
                "from where it was made."
            ) from error
    start = _FILE_BYTES + _V1_BYTES + len(palette)
    plain = struct.pack("<IIiHHIIiiII", _V1_BYTES, width, height, 1, bits, _RGB, len(pixels), 0, 0, 256, 0)
    return io.BytesIO(b"BM" + struct.pack("<IHHI", start + len(pixels), 0, 0, start) + plain + palette + pixels)


def _decoded(codes: bytes, width: int, height: int, *, has_nibbles: bool) -> bytes:
    """Rows of levels, each filled up to 4 bytes, of a run-length code; pixels that it skips have level 0.

    Raises:
        ValueError: the code gives out, or leaves the picture.
    """
    stride = (width + 3) // 4 * 4
    levels, at, x, y = bytearray(stride * height), 0, 0, 0
    while at + 2 <= len(codes):
        count, value = codes[at], codes[at + 1]
        at += 2
        if count:
            run = bytes((value >> 4, value & 15)) * 128 if has_nibbles else bytes((value,)) * count
        elif value == _END_OF_LINE:
            x, y = 0, y + 1
            continue
        elif value == _END_OF_BITMAP:
            return bytes(levels)
        elif value == _DELTA:
            right, up = (*codes[at : at + 2], 0, 0)[:2]
            at, x, y = at + 2, x + right, y + up
            continue
        else:
            count, size = value, (value + 1) // 2 if has_nibbles else value
            run = codes[at : at + size]
            run = bytes(level for pair in run for level in (pair >> 4, pair & 15)) if has_nibbles else run
            at += size + size % 2
        if len(run) < count or x + count > width or y >= height:
            raise ValueError(f"{count} pixels at column {x} of row {y}")
        levels[y * stride + x : y * stride + x + count] = run[:count]
        x += count
    if y < height - 1 or (y == height - 1 and x < width):  # some programs leave the end mark out
        raise ValueError(f"it ends in row {y} of {height}")
    return bytes(levels)


def _colour(stream: BinaryIO, header: bytes) -> FileColour:
    """What a BMP says of its colours; the stream is at its start before and afterwards."""
    size, kind = _number(header, 0), _number(header, 56)
    if size >= _V4_BYTES and kind == _CALIBRATED:
        return _calibrated([_number(header, at) for at in range(60, 108, 4)])
    if size < _V5_BYTES or kind not in (_EMBEDDED, _LINKED):
        return FileColour()
    start, length = _number(header, 112), _number(header, 116)
    if kind == _LINKED:
        return FileColour(other="a colour profile in another file")
    stream.seek(_FILE_BYTES + start)
    profile = stream.read(min(length, MAX_ICC_BYTES + 1))
    stream.seek(0)
    return FileColour(profile or b"missing")


def _calibrated(numbers: list[int]) -> FileColour:
    """Colours by the XYZ of red, green and blue (2.30 fixed point) and the exponents of each (16.16)."""
    xyz = [[value / (1 << 30) for value in numbers[at : at + 3]] for at in (0, 3, 6)]
    gammas = {value / 65536 for value in numbers[9:]}
    sums = [sum(xyz[0]), sum(xyz[1]), sum(xyz[2])]
    if not all(sums) or len(gammas) != 1 or not all(gammas):  # most programs leave these fields empty
        return FileColour()
    white = [sum(axis) for axis in zip(*xyz, strict=True)]
    points = [(x / (x + y + z), y / (x + y + z)) for x, y, z in (white, *xyz)]
    flat = tuple(value for point in points for value in point)
    made = icc_matrix.matrix_profile(flat, icc_matrix.Transfer(gammas.pop()), "BMP calibrated RGB")
    return FileColour(other="calibrated colours in its header", made=made)
