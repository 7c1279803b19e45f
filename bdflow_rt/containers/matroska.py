"""What a Matroska file of ours says of its frames, as bytes: the caller brings the demuxer. Spec: spec/matroska.md."""

from __future__ import annotations

import base64
import binascii
import struct
import zlib
from dataclasses import dataclass

import numpy as np

from bdflow_rt.containers.header import MAX_HEADER_BYTES, decode_header, encode_header
from bdflow_rt.containers.source import FILE_AGAIN
from bdflow_rt.errors import CorruptPacketError, PacketMismatchError, check_whole, plural
from bdflow_rt.packet import StreamHeader
from bdflow_rt.picture import UInt8Array

HEADER_NAME = "bdflow-header.bin"
HEADER_TYPE = "application/x-bdflow-header"
"""Name and media type of the attachment that holds the header."""
HEADER_TAG = "BDFLOW_HEADER"
"""The file's tag that holds it too, in base64: some programs drop attachments, others tags."""
TRACK_TAG = "BDFLOW_TRACK"
"""A track's tag: "lr", or "boundary" for the map, or frame data alone."""
_FRAME = struct.Struct(">qII")
_CRC = struct.Struct(">I")
FRAME_BYTES = _FRAME.size + _CRC.size
MAX_DURATION = 2**32 - 1


@dataclass(frozen=True)
class FrameData:
    """What is kept of a frame beside its pixels.

    Attributes:
        pts: timestamp in units of the header's time base, a signed 64-bit number.
        duration: in the same units, 0 where it is not known; at most 2^32 - 1.
        lr_crc32: CRC-32 of the frame's LR pixels, see `Packet.crc32_of`.
    """

    pts: int
    duration: int
    lr_crc32: int

    def __post_init__(self) -> None:
        check_whole("pts", self.pts, -(2**63), 2**63 - 1)
        check_whole("duration", self.duration, 0, MAX_DURATION)
        check_whole("lr_crc32", self.lr_crc32, 0, 2**32 - 1)


def data_rows(width: int) -> int:
    """Rows below a map of that width that hold a frame's data."""
    return -(-FRAME_BYTES // width)


def track_size(header: StreamHeader) -> tuple[int, int]:
    """(rows, columns) of the pictures of the second track."""
    if header.bits == 0:
        return 1, FRAME_BYTES
    height, width = header.lr_size
    return height + data_rows(width), width


def join_frame(boundary: UInt8Array | None, data: FrameData) -> UInt8Array:
    """The picture of the second track: the boundary map with a frame's data in rows below it.

    Args:
        boundary: (h, w) uint8 levels; None for a model without a map, where the picture is the data alone.
        data: of the frame.

    Returns:
        (h + r, w) uint8, where r is `data_rows(w)`; (1, 20) without a map.
    """
    known = _FRAME.pack(data.pts, data.duration, data.lr_crc32)
    packed = np.frombuffer(known + _CRC.pack(_crc32(known, boundary)), np.uint8)
    if boundary is None:
        return packed[None].copy()
    height, width = boundary.shape
    joined = np.zeros((height + data_rows(width), width), np.uint8)
    joined[:height] = boundary
    joined[height:].reshape(-1)[:FRAME_BYTES] = packed
    return joined


def split_frame(picture: UInt8Array, header: StreamHeader) -> tuple[UInt8Array | None, FrameData]:
    """Undo `join_frame`, trusting nothing.

    Returns:
        (h, w) uint8 levels, or None for a model without a map; and the frame's data.

    Raises:
        PacketMismatchError: the picture has another size than the header calls for.
        CorruptPacketError: levels above those of the header's bits, bytes behind the data that are not 0, or a map or
            data that were changed.
    """
    expected = track_size(header)
    if picture.shape != expected:
        raise PacketMismatchError(
            f"The boundary track has pictures of {picture.shape[1]} x {picture.shape[0]}, and the header calls for "
            f"{expected[1]} x {expected[0]}. Use the file as downscale wrote it."
        )
    height = header.lr_size[0] if header.bits else 0
    rows = np.ascontiguousarray(picture[height:]).reshape(-1)
    if rows[FRAME_BYTES:].any():
        raise _corrupt("bytes behind a frame's data are not 0")
    known, stored = rows[: _FRAME.size].tobytes(), rows[_FRAME.size : FRAME_BYTES].tobytes()
    boundary = np.ascontiguousarray(picture[:height]) if header.bits else None
    if _CRC.unpack(stored)[0] != _crc32(known, boundary):
        raise _corrupt("its CRC-32 does not fit")
    data = FrameData(*_FRAME.unpack(known))
    if boundary is not None and (level := int(boundary.max())) >> header.bits:
        raise _corrupt(f"it has level {level}, and {plural(header.bits, 'bit')} hold 0 to {(1 << header.bits) - 1}")
    return boundary, data


def _crc32(data: bytes, boundary: UInt8Array | None) -> int:
    """CRC-32 of a frame's data, and of its map behind them."""
    return zlib.crc32(data if boundary is None else data + boundary.tobytes())


def file_end(prefix: bytes) -> int | None:
    """Bytes that a whole Matroska file has at least, by the size of its segment; None where that was not known.

    Args:
        prefix: the first `PREFIX_BYTES` of the file.

    Source: RFC 8794, section 6, and RFC 9559, section 5.1.
    """
    place = 0
    for identity in (b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"):
        if prefix[place : place + 4] != identity or place + 5 > len(prefix):
            return None
        width = 9 - prefix[place + 4].bit_length()
        size = int.from_bytes(prefix[place + 4 : place + 4 + width], "big") & ((1 << 7 * width) - 1)
        place += 4 + width + size
    return None if size == (1 << 7 * width) - 1 else place


def header_tag(header: StreamHeader) -> str:
    """The header as the file's tag holds it."""
    return base64.b64encode(encode_header(header)).decode("ascii")


def find_header(attachment: bytes | None, tag: str | None) -> StreamHeader | None:
    """The header of a file from its attachment, or where that is not there or damaged from its tag; None without both.

    Raises:
        PacketVersionError: the header has a format version that this release does not know.
        CorruptPacketError: it is damaged, or not of a video.
    """
    errors = []
    for data in (attachment, None if tag is None else _from_base64(tag)):
        if data is None:
            continue
        try:
            header = decode_header(data)
        except CorruptPacketError as error:
            errors.append(error)
            continue
        if isinstance(header, StreamHeader):
            return header
        errors.append(_corrupt("its header is that of a picture"))
    if errors:
        raise errors[0]
    return None


def _from_base64(text: str) -> bytes:
    try:
        return base64.b64decode(text[: 2 * MAX_HEADER_BYTES], validate=True)
    except (binascii.Error, ValueError):
        return b""


def _corrupt(what: str) -> CorruptPacketError:
    return CorruptPacketError(f"The boundary track is damaged: {what}. {FILE_AGAIN}")
