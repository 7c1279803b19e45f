"""Packets, pictures and broken versions of them, made at run time."""

from __future__ import annotations

import dataclasses
import io
import os
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from bdflow_rt.containers.chunks import SIGNATURE, chunk
from bdflow_rt.containers.header import encode_header
from bdflow_rt.errors import BdflowError
from bdflow_rt.packet import Header, Packet, PacketHeader, StreamHeader
from tests.support import photo

UInt8Array = npt.NDArray[np.uint8]
Chunks = list[tuple[bytes, bytes]]


def make_packet(
    height: int = 37, width: int = 53, *, scale: int = 4, bits: int = 1, seed: int = 0, icc: bytes | None = None
) -> Packet:
    """A packet of an HR picture of that size; the boundary has every level that fits."""
    lr_height, lr_width = -(-height // scale), -(-width // scale)
    lr = photo(lr_height, lr_width, seed)
    levels = np.random.default_rng(seed).integers(0, 1 << bits, (lr_height, lr_width), np.uint8, endpoint=False)
    header = PacketHeader(
        model=f"bdflow-x{scale}@1",
        identity=bytes(range(8)),
        scale=scale,
        width=width,
        height=height,
        bits=bits,
        lr_crc32=Packet.crc32_of(lr),
        profile_crc32=None if icc is None else zlib.crc32(icc),
    )
    return Packet(lr, levels if bits else None, header, icc)


STREAM = StreamHeader(
    **{field.name: getattr(make_packet().header, field.name) for field in dataclasses.fields(Header)},
    time_base=(1001, 30000),
    codec="h264",
    lr_is_exact=True,
    frame_data="rows",
)


def same_packet(one: Packet, other: Packet) -> bool:
    """Whether two packets are equal in every pixel, level and field."""
    if one.boundary is None or other.boundary is None:
        boundaries = one.boundary is other.boundary
    else:
        boundaries = np.array_equal(one.boundary, other.boundary)
    fields = (one.header, one.icc_profile) == (other.header, other.icc_profile)
    return boundaries and fields and np.array_equal(one.lr, other.lr)


def split(png: bytes) -> Chunks:
    """The chunks of a sound PNG."""
    chunks, at = [], len(SIGNATURE)
    while at < len(png):
        length, kind = struct.unpack_from(">I4s", png, at)
        chunks.append((kind, png[at + 8 : at + 8 + length]))
        at += 12 + length
    return chunks


def join(chunks: Chunks) -> bytes:
    """A PNG of these chunks, with right lengths and CRCs."""
    return SIGNATURE + b"".join(chunk(kind, data) for kind, data in chunks)


def edit_chunk(png: bytes, kind: bytes, edit: Callable[[bytes], bytes]) -> bytes:
    """The PNG with the data of its chunks of that type replaced, CRCs repaired."""
    return join([(name, edit(data) if name == kind else data) for name, data in split(png)])


def without_end(stream: bytes) -> bytes:
    """The same content as a zlib stream that never says where it ends."""
    deflate = zlib.compressobj()
    return deflate.compress(zlib.decompress(stream)) + deflate.flush(zlib.Z_SYNC_FLUSH)


INCOMPLETE_PIXELS: dict[str, Callable[[bytes], bytes]] = {
    "a-half": lambda data: zlib.compress(zlib.decompress(data)[: len(zlib.decompress(data)) // 2]),
    "a-third": lambda data: zlib.compress(zlib.decompress(data)[: len(zlib.decompress(data)) // 3]),
    "one-byte-missing": lambda data: zlib.compress(zlib.decompress(data)[:-1]),
    "no-checksum": lambda data: data[:-4],
    "half-a-checksum": lambda data: data[:-2],
    "no-final-block": without_end,
    "100-kib-too-many": lambda data: zlib.compress(zlib.decompress(data) + bytes(100 << 10)),
}
"""What may be wrong with the IDAT data of a PNG that inflates without an error; some are cut between two rows."""


def insert_chunks(png: bytes, *chunks: tuple[bytes, bytes]) -> bytes:
    """The PNG with more chunks behind its IHDR."""
    first, *others = split(png)
    return join([first, *chunks, *others])


def with_header(png: bytes, header: bytes) -> bytes:
    """The packet with another header in its chunk."""

    def replace(data: bytes) -> bytes:
        (length,) = struct.unpack_from(">I", data, 4)
        return header + data[length:]

    return edit_chunk(png, b"bdFL", replace)


def fields_of(header: PacketHeader | StreamHeader) -> dict[int, bytes]:
    """The fields of an encoded header by their code."""
    data, fields = encode_header(header)[30:-4], {}
    while data:
        code, size = struct.unpack_from(">HH", data)
        fields[code], data = data[4 : 4 + size], data[4 + size :]
    return fields


def with_fields(header: PacketHeader | StreamHeader, fields: dict[int, bytes] | list[tuple[int, bytes]]) -> bytes:
    """The encoded header with other fields: in ascending order, or a list in its own; length and CRC are right."""
    pairs = sorted(fields.items()) if isinstance(fields, dict) else fields
    body = b"".join(struct.pack(">HH", code, len(data)) + data for code, data in pairs)
    return repair_header(encode_header(header)[:30] + body + bytes(4))


def patch_header(header: PacketHeader, offset: int, new: bytes) -> bytes:
    """The encoded header with bytes changed at an offset and its CRC repaired."""
    data = encode_header(header)
    return repair_header(data[:offset] + new + data[offset + len(new) :])


def repair_header(data: bytes) -> bytes:
    """The header with its length field and CRC made right."""
    data = data[:4] + struct.pack(">I", len(data)) + data[8:-4]
    return data + struct.pack(">I", zlib.crc32(data))


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    """A picture file of Pillow's format `kind`."""
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def huge_png(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds next to nothing."""
    ihdr = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return join([(b"IHDR", ihdr), (b"IDAT", zlib.compress(bytes(100))), (b"IEND", b"")])


@contextmanager
def refused(fault: type[BdflowError], *words: str) -> Iterator[None]:
    """The block raises exactly that class, with a message for people: a line or two that contain `words`."""
    with pytest.raises(fault) as caught:
        yield
    message = str(caught.value)
    assert caught.type is fault, f"{caught.type.__name__}: {message}"
    assert 30 <= len(message) <= 450, message
    assert message.count(". ") <= 2, message
    assert "\n" not in message
    assert not [word for word in words if word not in message], message


@contextmanager
def ordinary_user() -> Iterator[None]:
    """Runs the block without root's right to read and write everything."""
    Image.init()  # loaded now: the block may not be able to read the installation
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)
