"""WebP files: what their first chunks say of sizes.

Source: WebP container specification (Google), RFC 6386 section 9.1, WebP lossless bitstream section 3.
"""

from __future__ import annotations

from typing import BinaryIO

_RIFF_HEAD_BYTES, _CHUNK_HEAD_BYTES = 12, 8
_FRAME_HEAD_BYTES = 12
"""Of a chunk ANMF: its column, row, width and height, of 3 bytes each."""
_MAX_CHUNKS = 64
"""Chunks in which the first frame is looked for; it is the fourth at most in files that programs write."""


def webp_size(prefix: bytes) -> tuple[int, int]:
    """(width, height) from the first 30 bytes of a file, (0, 0) where they are not all there."""
    kind, data = prefix[12:16], prefix[20:30]
    if len(data) < 10:
        return 0, 0
    if kind == b"VP8X":
        return _side(data[4:7]), _side(data[7:10])
    if kind == b"VP8L":
        packed = int.from_bytes(data[1:5], "little")
        return 1 + (packed & 0x3FFF), 1 + (packed >> 14 & 0x3FFF)
    return int.from_bytes(data[6:8], "little") & 0x3FFF, int.from_bytes(data[8:10], "little") & 0x3FFF


def first_frame_size(stream: BinaryIO) -> tuple[int, int] | None:
    """(width, height) of the first frame of an animation, which its canvas may exceed; None of other files."""
    position = _RIFF_HEAD_BYTES
    for _ in range(_MAX_CHUNKS):
        stream.seek(position)
        head = stream.read(_CHUNK_HEAD_BYTES + _FRAME_HEAD_BYTES)
        if len(head) < _CHUNK_HEAD_BYTES + _FRAME_HEAD_BYTES:
            break
        if head.startswith(b"ANMF"):
            return _side(head[14:17]), _side(head[17:20])
        size = int.from_bytes(head[4:8], "little")
        position += _CHUNK_HEAD_BYTES + size + size % 2
    return None


def _side(data: bytes) -> int:
    return 1 + int.from_bytes(data, "little")
