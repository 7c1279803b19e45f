"""The binary header of a packet, the same in every container, byte by byte as spec/packet.md says it."""

from __future__ import annotations

import struct
import zlib
from typing import Any, cast, get_args

from bdflow_rt.containers.source import FILE_AGAIN
from bdflow_rt.errors import ArgumentError, CorruptPacketError, PacketVersionError, check_type, plural
from bdflow_rt.packet import ColourInfo, FrameData, PacketHeader, StreamHeader, ZPolicy

MAGIC = b"bdFH"
VERSION = 1
MAX_HEADER_BYTES = 1 << 16
_PREFIX = struct.Struct(">4sIH")
_FIXED = struct.Struct(">4sIHBB8sIIBB")
_FIELD = struct.Struct(">HH")
_CRC = struct.Struct(">I")
_CRITICAL = 0x8000
_MODEL, _COLOUR, _LR_CRC, _PROFILE = 1, 2, 3, 4
_Z, _STREAM = _CRITICAL | 1, _CRITICAL | 2
_SIZES = {_MODEL: (3, 71), _COLOUR: (5, 5), _LR_CRC: (4, 4), _PROFILE: (4, 4), _Z: (16, 16), _STREAM: (11, 42)}
"""Fewest and most bytes of each field that this release knows."""
_STREAM_FIXED = struct.Struct(">IIBB")
_COLOUR_MODELS = ("rgb", "grey")


def encode_header(header: PacketHeader | StreamHeader) -> bytes:
    """The header as bytes of format version 1."""
    check_type("header", header, (PacketHeader, StreamHeader), "a PacketHeader or StreamHeader")
    colour, z = header.colour, header.z
    fields = {_MODEL: header.model.encode("ascii")}
    if colour != ColourInfo():
        values = (_COLOUR_MODELS.index(colour.model), colour.primaries, colour.transfer, colour.matrix)
        fields[_COLOUR] = bytes((*values, colour.full_range))
    if isinstance(header, PacketHeader):
        for code, crc in ((_LR_CRC, header.lr_crc32), (_PROFILE, header.profile_crc32)):
            if crc is not None:
                fields[code] = _CRC.pack(crc)
    if z != ZPolicy():
        fields[_Z] = struct.pack(">dQ", z.temperature, z.seed)
    if isinstance(header, StreamHeader):
        place = get_args(FrameData).index(header.frame_data)
        fixed = _STREAM_FIXED.pack(*header.time_base, header.lr_is_exact, place)
        fields[_STREAM] = fixed + header.codec.encode("ascii")
    body = b"".join(_FIELD.pack(code, len(data)) + data for code, data in fields.items())
    data = _FIXED.pack(
        MAGIC,
        _FIXED.size + len(body) + _CRC.size,
        VERSION,
        isinstance(header, StreamHeader),
        header.scale,
        header.identity,
        header.width,
        header.height,
        header.bits > 0,
        header.bits,
    )
    return data + body + _CRC.pack(zlib.crc32(data + body))


def header_length(data: bytes | memoryview) -> int:
    """Length in bytes of the header that `data` starts with.

    Raises:
        CorruptPacketError: no header starts here, or it is longer than `data`.
        PacketVersionError: it has a format version this release does not know.
    """
    check_type("data", data, (bytes, bytearray, memoryview), "the bytes of a header")
    if len(data) < _PREFIX.size:
        raise _corrupt(f"it ends after {len(data)} bytes")
    magic, length, version = _PREFIX.unpack_from(data)
    if magic != MAGIC:
        raise _corrupt(f"it starts with {magic!r} instead of {MAGIC!r}")
    if version != VERSION:
        raise _too_new(f"format version {version}, and this release reads version {VERSION}")
    if not _FIXED.size + _CRC.size <= length <= MAX_HEADER_BYTES:
        raise _corrupt(f"its length is given as {length} bytes, and at most {MAX_HEADER_BYTES} are allowed")
    if length > len(data):
        raise _corrupt(f"it ends after {len(data)} of {length} bytes")
    return int(length)


def decode_header(data: bytes | memoryview) -> PacketHeader | StreamHeader:
    """Read what `encode_header` wrote; `data` is the header and nothing else.

    Raises:
        PacketVersionError: another format version, several planes of boundary, or a critical field that this release
            does not know.
        CorruptPacketError: wrong length or CRC, fields that repeat, overrun or are out of order, or a value that is
            not allowed.
    """
    length = header_length(data)
    if length != len(data):
        raise _corrupt(f"{len(data) - length} bytes follow its end")
    end = length - _CRC.size
    if zlib.crc32(data[:end]) != _CRC.unpack_from(data, end)[0]:
        raise _corrupt("its CRC is wrong")
    _, _, _, kind, scale, identity, width, height, planes, bits = _FIXED.unpack_from(data)
    if kind > 1:
        raise _too_new(f"contents of kind {kind}, and this release knows pictures (0) and videos (1)")
    if planes > 1:
        raise _too_new(f"{planes} planes of boundary, and this release reads one")
    fields = _fields(data[_FIXED.size : end])
    if (planes == 0) != (bits == 0):
        raise _corrupt(f"it says {plural(planes, 'plane')} of {plural(bits, 'bit')}")
    try:
        common = {"scale": scale, "identity": identity, "width": width, "height": height, "bits": bits}
        common |= _common_fields(fields)
        return _stream_header(common, fields) if kind else _picture_header(common, fields)
    except UnicodeDecodeError:
        raise _corrupt("a name in it is not ASCII") from None
    except ArgumentError as error:
        raise _corrupt(str(error).rstrip(".")) from None


def _fields(data: bytes | memoryview) -> dict[int, bytes]:
    """The fields this release knows, by code; others are skipped where they may be."""
    fields: dict[int, bytes] = {}
    position, last = 0, -1
    while position < len(data):
        if len(data) - position < _FIELD.size:
            raise _corrupt(f"{len(data) - position} bytes follow its fields")
        code, size = _FIELD.unpack_from(data, position)
        position += _FIELD.size
        if code <= last:
            raise _corrupt(f"field {code:#06x} comes after field {last:#06x}; each may come once, in ascending order")
        if size > len(data) - position:
            raise _corrupt(f"field {code:#06x} claims {size} bytes, and {len(data) - position} are left")
        if code & _CRITICAL and code not in _SIZES:
            raise _too_new(f"a field {code:#06x}, which restoring needs and this release does not know")
        if code in _SIZES:
            least, most = _SIZES[code]
            if not least <= size <= most:
                allowed = least if least == most else f"{least} to {most}"
                raise _corrupt(f"field {code:#06x} has {size} bytes instead of {allowed}")
            fields[code] = bytes(data[position : position + size])
        position, last = position + size, code
    return fields


def _common_fields(fields: dict[int, bytes]) -> dict[str, Any]:
    if _MODEL not in fields:
        raise ArgumentError("it names no model")
    values: dict[str, Any] = {"model": fields[_MODEL].decode("ascii")}
    if _COLOUR in fields:
        model, primaries, transfer, matrix, full_range = fields[_COLOUR]
        if model >= len(_COLOUR_MODELS) or full_range > 1:
            raise ArgumentError(f"its colour model is {model} and its range {full_range}; 0 and 1 exist")
        values["colour"] = ColourInfo(
            model=cast(Any, _COLOUR_MODELS[model]),
            primaries=primaries,
            transfer=transfer,
            matrix=matrix,
            full_range=bool(full_range),
        )
    if _Z in fields:
        temperature, seed = struct.unpack(">dQ", fields[_Z])
        values["z"] = ZPolicy(temperature=temperature, seed=seed)
    return values


def _picture_header(common: dict[str, Any], fields: dict[int, bytes]) -> PacketHeader:
    if _STREAM in fields:
        raise ArgumentError("it is of a picture, and has the field of a video")
    lr_crc32, profile_crc32 = (_CRC.unpack(fields[code])[0] if code in fields else None for code in (_LR_CRC, _PROFILE))
    return PacketHeader(**common, lr_crc32=lr_crc32, profile_crc32=profile_crc32)


def _stream_header(common: dict[str, Any], fields: dict[int, bytes]) -> StreamHeader:
    if _STREAM not in fields or _LR_CRC in fields or _PROFILE in fields:
        raise ArgumentError("it is of a video, and lacks its field or has those of a picture")
    numerator, denominator, is_exact, place = _STREAM_FIXED.unpack_from(fields[_STREAM])
    if is_exact > 1 or place >= len(get_args(FrameData)):
        raise ArgumentError(f"its video is exact by {is_exact} (0, 1), with frame data at {place} (0, 1, 2)")
    return StreamHeader(
        **common,
        time_base=(numerator, denominator),
        codec=fields[_STREAM][_STREAM_FIXED.size :].decode("ascii"),
        lr_is_exact=bool(is_exact),
        frame_data=get_args(FrameData)[place],
    )


def _corrupt(what: str) -> CorruptPacketError:
    return CorruptPacketError(f"The packet's header is damaged: {what}. {FILE_AGAIN}")


def _too_new(what: str) -> PacketVersionError:
    return PacketVersionError(f"The packet has {what}: it needs a newer bdflow-rt.")
