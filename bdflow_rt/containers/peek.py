"""What a PNG says before its pixels, by seeking from chunk to chunk: a file of a gigabyte costs a few reads.

Nothing is vouched for but the header, which has a CRC of its own; `decode_png` checks the rest.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import BinaryIO

from bdflow_rt.containers.chunks import MAX_CHUNKS, PACKET_CHUNK, SIGNATURE, chunk_heads
from bdflow_rt.containers.header import MAX_HEADER_BYTES, decode_header, header_length
from bdflow_rt.packet import PacketHeader


@dataclass(frozen=True)
class PacketSummary:
    """What a file says of the packet in it.

    Attributes:
        header: of the packet.
        size_bytes: of the whole file.
        has_profile: whether a colour profile is there.
    """

    header: PacketHeader
    size_bytes: int
    has_profile: bool


def summarise(stream: BinaryIO) -> PacketSummary | None:
    """What a packet file says, or None where it is no PNG with a chunk of a packet before its pixels.

    Raises:
        PacketVersionError: the packet has a format version that this release does not know.
        CorruptPacketError: its header is damaged.
    """
    size = stream.seek(0, os.SEEK_END)
    stream.seek(0)
    header, has_profile = None, False
    for kind, length in _before_pixels(stream):
        has_profile |= kind == b"iCCP"
        if kind == PACKET_CHUNK and header is None:
            data = stream.read(min(length, MAX_HEADER_BYTES))
            header = decode_header(data[: header_length(data)])
    return PacketSummary(header, size, has_profile) if isinstance(header, PacketHeader) else None


def _before_pixels(stream: BinaryIO) -> Iterator[tuple[bytes, int]]:
    """Type and length of every chunk up to the pixels; the stream is at the chunk's data then."""
    if stream.read(len(SIGNATURE)) != SIGNATURE:
        return
    for kind, length, _ in islice(chunk_heads(stream), MAX_CHUNKS):
        if kind in (b"IDAT", b"IEND"):
            return
        yield kind, length
