"""Packing of k-bit boundary levels: row-major, most significant bit first, no padding but in the last byte."""

from __future__ import annotations

import numpy as np

from bdflow_rt.errors import CorruptPacketError
from bdflow_rt.packet import UInt8Array

_BLOCK = 1 << 20
"""Pixels per step; a multiple of 8, so that every step ends on a whole byte. Bounds the memory to 8 bytes each."""


def packed_size(pixels: int, bits: int) -> int:
    """Bytes that `pixels` levels of `bits` bits take."""
    return (pixels * bits + 7) // 8


def pack_levels(levels: UInt8Array, bits: int) -> bytes:
    """Pack (h, w) uint8 levels below 2^bits, bits 1..8, into ceil(h * w * bits / 8) bytes; unused last bits are 0."""
    flat = np.ascontiguousarray(levels).reshape(-1)
    if bits == 8:
        return flat.tobytes()
    parts = []
    for start in range(0, flat.size, _BLOCK):
        planes = np.unpackbits(flat[start : start + _BLOCK, None], axis=1)[:, 8 - bits :]
        parts.append(np.packbits(planes).tobytes())
    return b"".join(parts)


def unpack_levels(data: bytes | memoryview, bits: int, height: int, width: int) -> UInt8Array:
    """Undo `pack_levels`.

    Returns:
        (height, width) uint8 with levels 0..2^bits-1.

    Raises:
        CorruptPacketError: `data` has another length, or unused bits that are not 0.
    """
    pixels = height * width
    if len(data) != packed_size(pixels, bits):
        raise CorruptPacketError(
            f"The boundary map has {len(data)} bytes; {width} x {height} pixels of {bits} bits take "
            f"{packed_size(pixels, bits)}. Get the file again from where it was made."
        )
    packed = np.frombuffer(data, np.uint8)
    unused = 8 * packed.size - pixels * bits
    if packed[-1] & ((1 << unused) - 1):
        raise CorruptPacketError(
            f"The last {unused} bits of the boundary map are unused and must be 0, but are not. Get the file again "
            "from where it was made."
        )
    levels = np.empty(pixels, np.uint8)
    for start in range(0, pixels, _BLOCK):
        count = min(_BLOCK, pixels - start)
        first = start * bits // 8
        block = packed[first : first + packed_size(count, bits)]
        planes = np.unpackbits(block, count=count * bits).reshape(count, bits)
        levels[start : start + count] = np.packbits(planes, axis=1)[:, 0] >> (8 - bits)
    return levels.reshape(height, width)
