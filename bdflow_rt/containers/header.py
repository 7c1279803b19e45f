"""The versioned binary header of a packet, the same in every container. Version 1, big-endian:

| offset | bytes | field |
|---|---|---|
| 0 | 4 | magic "bdFH" |
| 4 | 2 | format version, 1 |
| 6 | 2 | length L of the whole header in bytes, CRC included |
| 8 | 8 | first bytes of the SHA-256 of the weights |
| 16 | 1 | scale: 2, 4, 8, 16, 32 or 64 |
| 17 | 1 | bits per boundary pixel, 0..8 |
| 18 | 1 | colour model: 0 RGB, 1 grey |
| 19 | 1 | colour range: 0 limited, 1 full |
| 20 | 3 | H.273 code points: primaries, transfer, matrix |
| 23 | 1 | reserved, 0 |
| 24 | 4 | width of the HR original, 1..2^31-1 |
| 28 | 4 | its height |
| 32 | 4 | CRC-32 of the LR pixels, row-major RGB |
| 36 | 8 | temperature of Z, IEEE 754 double, 0..10; 0 means Z = 0 |
| 44 | 8 | seed of Z |
| 52 | 1 | length m of the model id |
| 53 | m | model id in ASCII, [a-z0-9][a-z0-9._-]{0,63}@[1-9][0-9]{0,5} |
| 53 + m | 4 | CRC-32 of all bytes before it |

L = 57 + m, at most 128. Files live longer than software: version 1 is never changed. Later versions keep the first
8 bytes, so that every reader can name the version it does not know and skip the header.
"""

from __future__ import annotations

import struct
import zlib

from bdflow_rt.errors import ArgumentError, CorruptPacketError, PacketVersionError
from bdflow_rt.packet import ColourInfo, PacketHeader, ZPolicy

MAGIC = b"bdFH"
VERSION = 1
_PREFIX = struct.Struct(">4sHH")
_BODY = struct.Struct(">8s8BIIIdQB")
_CRC = struct.Struct(">I")
_FIXED = _PREFIX.size + _BODY.size
_MODELS = ("rgb", "grey")
MAX_HEADER_BYTES = _FIXED + 71 + _CRC.size


def encode_header(header: PacketHeader) -> bytes:
    """The header as bytes of format version 1, at most `MAX_HEADER_BYTES`."""
    model = header.model.encode("ascii")
    colour = header.colour
    length = _FIXED + len(model) + _CRC.size
    data = (
        _PREFIX.pack(MAGIC, VERSION, length)
        + _BODY.pack(
            header.weights_hash,
            header.scale,
            header.bits,
            _MODELS.index(colour.model),
            colour.full_range,
            colour.primaries,
            colour.transfer,
            colour.matrix,
            0,
            header.width,
            header.height,
            header.lr_crc32,
            header.z.temperature,
            header.z.seed,
            len(model),
        )
        + model
    )
    return data + _CRC.pack(zlib.crc32(data))


def header_length(data: bytes | memoryview) -> int:
    """Length in bytes of the header that `data` starts with, from its first 8 bytes.

    Raises:
        CorruptPacketError: no header starts here, or it is longer than `data`.
        PacketVersionError: it has a format version this release does not know.
    """
    if len(data) < _PREFIX.size:
        raise _corrupt(f"it ends after {len(data)} bytes")
    magic, version, length = _PREFIX.unpack_from(data)
    if magic != MAGIC:
        raise _corrupt(f"it starts with {magic!r} instead of {MAGIC!r}")
    if version != VERSION:
        raise PacketVersionError(
            f"The packet has format version {version}, but this release reads only version {VERSION}. Update bdflow-rt "
            "to read it."
        )
    if not _FIXED + _CRC.size < length <= MAX_HEADER_BYTES:
        raise _corrupt(f"its length is given as {length} bytes, and at most {MAX_HEADER_BYTES} are possible")
    if length > len(data):
        raise _corrupt(f"it ends after {len(data)} of {length} bytes")
    return int(length)


def decode_header(data: bytes | memoryview) -> PacketHeader:
    """Read what `encode_header` wrote; `data` is the header and nothing else.

    Raises:
        PacketVersionError: another format version; nothing else was interpreted.
        CorruptPacketError: wrong length or CRC, or a value that is not allowed.
    """
    length = header_length(data)
    if length != len(data):
        raise _corrupt(f"{len(data) - length} bytes follow its end")
    end = length - _CRC.size
    if zlib.crc32(data[:end]) != _CRC.unpack_from(data, end)[0]:
        raise _corrupt("its CRC is wrong")
    fields = _BODY.unpack_from(data, _PREFIX.size)
    weights_hash, scale, bits, model, full_range, primaries, transfer, matrix, reserved = fields[:9]
    width, height, lr_crc32, temperature, seed, id_length = fields[9:]
    if id_length != end - _FIXED:
        raise _corrupt(f"its model id should have {id_length} bytes and has {end - _FIXED}")
    if model >= len(_MODELS) or full_range > 1 or reserved:
        raise _corrupt(f"its colour fields are {model}, {full_range}, {reserved}, which have no meaning in version 1")
    try:
        return PacketHeader(
            model=bytes(data[_FIXED:end]).decode("ascii"),
            weights_hash=weights_hash,
            scale=scale,
            width=width,
            height=height,
            bits=bits,
            lr_crc32=lr_crc32,
            z=ZPolicy(temperature=temperature, seed=seed),
            colour=ColourInfo(
                model="grey" if model else "rgb",
                primaries=primaries,
                transfer=transfer,
                matrix=matrix,
                full_range=bool(full_range),
            ),
        )
    except UnicodeDecodeError:
        raise _corrupt("its model id is not ASCII") from None
    except ArgumentError as error:
        raise _corrupt(str(error).rstrip(".")) from None


def _corrupt(what: str) -> CorruptPacketError:
    return CorruptPacketError(f"The packet's header is damaged: {what}. Get the file again from where it was made.")
