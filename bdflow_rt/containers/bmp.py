"""What BMP headers say that Pillow drops: colours, and the alpha channel of 16-bit pixels.

Source: Microsoft's BITMAPV3INFOHEADER, BITMAPV4HEADER and BITMAPV5HEADER.
"""

from __future__ import annotations

from typing import BinaryIO

from bdflow_rt.containers import icc_matrix
from bdflow_rt.containers.advice import TO_8_BIT_RGB
from bdflow_rt.containers.colour import FileColour
from bdflow_rt.containers.pillow import is_before_13
from bdflow_rt.errors import UnsupportedImageError
from bdflow_rt.picture import MAX_ICC_BYTES

_V3_BYTES, _V4_BYTES, _V5_BYTES = 56, 108, 124
_EMBEDDED, _LINKED, _CALIBRATED = (int.from_bytes(mark, "big") for mark in (b"MBED", b"LINK", bytes(4)))
_RLE4, _BIT_FIELDS = 2, 3


def bmp_colour(stream: BinaryIO, *, name: str) -> FileColour:
    """What a BMP says of its colours; the stream is at its start afterwards.

    Raises:
        UnsupportedImageError: it has 16 bits and an alpha channel, or a code that Pillow before 13 does not read.
    """
    header = stream.read(14 + _V5_BYTES)[14:]
    stream.seek(0)

    def number(at: int, count: int = 4) -> int:
        return int.from_bytes(header[at : at + count], "little")

    size, bits, compression, kind = number(0), number(14, 2), number(16), number(56)
    if size >= _V3_BYTES and bits == 16 and compression == _BIT_FIELDS and any(header[52:56]):
        raise UnsupportedImageError(
            f"{name} is a 16-bit BMP with an alpha channel, which is not read here; convert it to an 8-bit RGB PNG, "
            f"for example with: {TO_8_BIT_RGB}"
        )
    if compression == _RLE4 and is_before_13():
        raise UnsupportedImageError(
            f"{name} is a BMP in 4-bit run-length code, which Pillow reads from version 13 on; convert it to a PNG, "
            f"for example with: {TO_8_BIT_RGB}"
        )
    if size >= _V4_BYTES and kind == _CALIBRATED:
        return _calibrated([number(at) for at in range(60, 108, 4)])
    if size < _V5_BYTES or kind not in (_EMBEDDED, _LINKED):
        return FileColour()
    start, length = number(112), number(116)
    if kind == _LINKED:
        return FileColour(other="a colour profile in another file")
    stream.seek(14 + start)
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
