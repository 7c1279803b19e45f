"""Packed boundary levels of a packet, whose bytes are those of `kernels.pack_bits`; a reader trusts none of them."""

from __future__ import annotations

import numpy as np

from bdflow_rt.errors import CorruptPacketError
from bdflow_rt.kernels.pack_bits import pack_picture, packed_size, unpack_picture
from bdflow_rt.packet import UInt8Array

__all__ = ["pack_levels", "packed_size", "unpack_levels"]


def pack_levels(levels: UInt8Array, bits: int) -> bytes:
    """Pack (h, w) uint8 levels below 2^bits, bits 1..8, into ceil(h * w * bits / 8) bytes; unused last bits are 0."""
    return pack_picture(levels, bits=bits).tobytes()


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
    unused = 8 * len(data) - pixels * bits
    if data[-1] & ((1 << unused) - 1):
        raise CorruptPacketError(
            f"The last {unused} bits of the boundary map are unused and must be 0, but are not. Get the file again "
            "from where it was made."
        )
    return unpack_picture(np.frombuffer(data, np.uint8), bits=bits, height=height, width=width)
