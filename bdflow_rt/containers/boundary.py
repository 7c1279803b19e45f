"""A boundary map as bytes: one byte that says how it is coded, then the levels (spec/boundary.md).

Raw levels have the bytes of `kernels.pack_bits`; a reader trusts none of them.
"""

from __future__ import annotations

import io
import struct

import numpy as np

from bdflow_rt.containers.decoders import decode_pixels
from bdflow_rt.containers.source import FILE_AGAIN
from bdflow_rt.errors import CorruptPacketError, InputError, PacketVersionError, plural
from bdflow_rt.kernels.pack_bits import pack_picture, packed_size, unpack_picture
from bdflow_rt.picture import UInt8Array

RAW, WEBP = 0, 1
"""How a map is coded."""
MAX_WEBP_SIDE = 16383
# Nearly the fewest bytes that lossless WebP gets to; the slowest method takes a hundred times as long for 2 % less.
_WEBP_OPTIONS = {"lossless": True, "quality": 50, "method": 4}
_RIFF = struct.Struct("<4sI4s4sI")
_VP8L = struct.Struct("<BI")
_VP8L_SIGNATURE = 0x2F


def encode_boundary(levels: UInt8Array, bits: int) -> bytes:
    """The bytes of a (h, w) uint8 map with levels 0..2^bits-1, bits 1..8: raw or WebP, whichever is shorter."""
    raw = pack_levels(levels, bits)
    if max(levels.shape) <= MAX_WEBP_SIDE:
        from PIL import Image

        stream = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(levels)).save(stream, "WEBP", **_WEBP_OPTIONS)
        if len(webp := stream.getvalue()) < len(raw):
            return bytes([WEBP]) + webp
    return bytes([RAW]) + raw


def decode_boundary(data: bytes | memoryview, bits: int, height: int, width: int) -> UInt8Array:
    """Undo `encode_boundary`, trusting nothing.

    Raises:
        PacketVersionError: a coding that this release does not know.
        CorruptPacketError: the bytes are not those of a map of that size with levels below 2^bits.
    """
    if not len(data):
        raise _corrupt("it has no bytes")
    if data[0] == RAW:
        return unpack_levels(memoryview(data)[1:], bits, height, width)
    if data[0] != WEBP:
        raise PacketVersionError(f"The boundary map has coding {data[0]}: it needs a newer bdflow-rt.")
    levels = _decode_webp(bytes(data[1:]), height, width)
    if (level := int(levels.max())) >> bits:
        raise _corrupt(f"it has level {level}, and {plural(bits, 'bit')} hold 0 to {(1 << bits) - 1}")
    return levels


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
            f"The boundary map has {len(data)} bytes; {width} x {height} pixels of {plural(bits, 'bit')} take "
            f"{packed_size(pixels, bits)}. {FILE_AGAIN}"
        )
    unused = 8 * len(data) - pixels * bits
    if data[-1] & ((1 << unused) - 1):
        raise CorruptPacketError(
            f"The last {plural(unused, 'bit')} of the boundary map are unused and must be 0, but are not. {FILE_AGAIN}"
        )
    return unpack_picture(np.frombuffer(data, np.uint8), bits=bits, height=height, width=width)


def _decode_webp(data: bytes, height: int, width: int) -> UInt8Array:
    """One lossless, opaque WebP picture of that size, in which red, green and blue are equal, and nothing beside it."""
    if len(data) < _RIFF.size + _VP8L.size:
        raise _corrupt(f"its WebP ends after {len(data)} bytes")
    riff, riff_size, webp, kind, size = _RIFF.unpack_from(data)
    if (riff, webp, kind) != (b"RIFF", b"WEBP", b"VP8L") or not riff_size == 12 + size + size % 2 == len(data) - 8:
        raise _corrupt("its WebP is not one lossless picture of the length it claims")
    signature, head = _VP8L.unpack_from(data, _RIFF.size)
    actual = (1 + (head >> 14 & 0x3FFF), 1 + (head & 0x3FFF))
    if signature != _VP8L_SIGNATURE or head >> 28 or actual != (height, width):
        raise _corrupt(f"its WebP is {actual[1]} x {actual[0]} with alpha and version {head >> 28}; {width} x {height} "
                       "and 0 are needed")  # fmt: skip
    try:
        pixels = decode_pixels(io.BytesIO(data), name="The boundary map", max_pixels=height * width)
    except InputError as error:
        raise CorruptPacketError(str(error)) from error
    if pixels.shape != (height, width, 3) or (pixels[..., :2] != pixels[..., 1:]).any():
        raise _corrupt("its WebP is not grey")
    return np.ascontiguousarray(pixels[..., 0])


def _corrupt(what: str) -> CorruptPacketError:
    return CorruptPacketError(f"The boundary map is damaged: {what}. {FILE_AGAIN}")
