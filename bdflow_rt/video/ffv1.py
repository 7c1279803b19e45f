"""The checksums that FFV1 keeps of its slices. FFmpeg conceals a damaged slice and does not mark the frame.

Source: RFC 9043, sections 4.6 and 4.8.
"""

from __future__ import annotations

import zlib

_FOOTER_BYTES = 8
"""Slice size, 3 bytes; error status, 1; CRC, 4."""
_REVERSED = bytes(int(f"{value:08b}"[::-1], 2) for value in range(256))


class SliceCheck:
    """Tells damaged packets of one FFV1 track, where its slices have checksums.

    Whether they have is coded in the track's configuration; a packet all of whose checksums fit says it as well.
    """

    def __init__(self) -> None:
        self._has_checksums = False

    def is_damaged(self, packet: bytes) -> bool:
        """Whether a slice of a packet does not fit its checksum; False for packets before the first one that fits."""
        fits = _fits(packet)
        self._has_checksums |= fits
        return self._has_checksums and not fits


def _fits(packet: bytes) -> bool:
    """Whether a packet is a row of slices whose CRCs fit."""
    end = len(packet)
    while end >= _FOOTER_BYTES:
        footer = end - _FOOTER_BYTES
        start = footer - int.from_bytes(packet[footer : footer + 3], "big")
        if start < 0 or _remainder(packet[start:end]):
            return False
        end = start
    return end == 0 and bool(packet)


def _remainder(data: bytes) -> int:
    """Of the CRC with polynomial 0x04C11DB7 from 0, most significant bit first: zlib's, of the bits the other way."""
    return zlib.crc32(data.translate(_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
