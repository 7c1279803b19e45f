"""The chunks of a PNG that say what its colours mean. Pillow hands on any ICC profile and drops the others.

The first that is there counts: cICP, an iCCP that can be used, sRGB, gAMA with cHRM; each of them before the pixels.

Source: PNG specification, third edition (W3C, 2025), section 11.3.2; code points of cICP are those of ITU-T H.273.
"""

from __future__ import annotations

import struct
import warnings
import zlib
from typing import BinaryIO

from bdflow_rt.containers.chunks import CHUNK_CRC, CHUNK_HEAD, MAX_CHUNKS, SIGNATURE
from bdflow_rt.containers.icc import rgb_profile
from bdflow_rt.errors import CorruptImageError, UnsupportedImageError
from bdflow_rt.picture import MAX_ICC_BYTES

_SIZES = {b"cICP": 4, b"sRGB": 1, b"gAMA": 4, b"cHRM": 32}
# Beyond the profile: its name, and what deflate adds where nothing can be compressed.
_MAX_PROFILE_CHUNK = MAX_ICC_BYTES + (1 << 16)
_SRGB_CODE_POINTS = (1, 13, 0, 1)
# In units of 1/100000. sRGB is written as 45455, sometimes as 45000 (1/2.2 rounded) or 0.46.
_SRGB_GAMMA = range(44000, 47001)
_SRGB_CHROMATICITIES = (31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)
_CHROMATICITY_TOLERANCE = 500


def check_png_colour(stream: BinaryIO, *, name: str) -> tuple[bytes, int]:
    """Refuse a PNG whose colours would come back different, and leave the stream at its start.

    Faults in the file are left for the decoder to find. `name` starts the messages.

    Returns:
        The ICC profile that counts, empty where none does; and the bytes of the one in the file, used or not.

    Raises:
        UnsupportedImageError: no ICC profile says so, but it is not sRGB; or the profile has more than 16 MiB.
        CorruptImageError: so many chunks before its pixels that it cannot be an honest file.

    Warns:
        UserWarning: there is an ICC profile that does not count.
    """
    chunks = _read_chunks(stream, name)
    stream.seek(25)
    colour = "grey" if stream.read(1) in (b"\0", b"\4") else "rgb"
    stream.seek(0)
    profile = _inflate_profile(chunks[b"iCCP"]) if b"iCCP" in chunks else b""
    check_profile_size(len(profile), name=name)
    usable = b"cICP" not in chunks and rgb_profile(profile, colour=colour) is not None
    fault = None if usable else _difference(chunks)
    if fault:
        kind, what = fault
        raise UnsupportedImageError(
            f"{name} is not sRGB but has {what} (chunk {kind}) and no ICC profile that counts, so its colours would "
            "change; convert it to sRGB in an editor that manages colours, such as GIMP, or, where the chunk is wrong, "
            f"remove it, for example with: pngcrush -rem {kind} IN OUT"
        )
    if b"iCCP" in chunks and not usable:
        reason = "its chunk cICP says that it is sRGB" if b"cICP" in chunks else "it cannot be used"
        warn_unused_profile(name, reason)
    return profile if usable else b"", len(profile)


def warn_unused_profile(name: str, reason: str) -> None:
    """Say that a picture's ICC profile is left out."""
    warnings.warn(f"{name} is taken as sRGB, without the ICC profile in it: {reason}.", stacklevel=2)


def check_profile_size(size: int, *, name: str) -> None:
    """Refuse a profile that no packet would take, before long work.

    Raises:
        UnsupportedImageError: `size`, in bytes, is more than 16 MiB.
    """
    if size > MAX_ICC_BYTES:
        raise UnsupportedImageError(
            f"{name} has a colour profile of more than {MAX_ICC_BYTES} bytes, the most that is carried along; convert "
            "it to sRGB first, for example with: magick IN -profile sRGB.icc OUT"
        )


def _read_chunks(stream: BinaryIO, name: str) -> dict[bytes, bytes]:
    """The sound colour chunks before the pixels, by type; a profile that is too long is cut."""
    found: dict[bytes, bytes] = {}
    stream.seek(len(SIGNATURE))
    for _ in range(MAX_CHUNKS):
        head = stream.read(CHUNK_HEAD.size)
        if len(head) < CHUNK_HEAD.size:
            return found
        length, kind = CHUNK_HEAD.unpack(head)
        if kind in (b"IDAT", b"fdAT", b"IEND"):
            return found
        if kind == b"iCCP" and length > _MAX_PROFILE_CHUNK:
            found[kind] = stream.read(_MAX_PROFILE_CHUNK + 1)
            return found  # will be refused
        if kind == b"iCCP" or length == _SIZES.get(kind):
            data = stream.read(length)
            if stream.read(CHUNK_CRC.size) == CHUNK_CRC.pack(zlib.crc32(kind + data)):
                found.setdefault(kind, data)
        else:
            stream.seek(length + CHUNK_CRC.size, 1)
    raise CorruptImageError(
        f"{name} is damaged or made to do harm: it has more than {MAX_CHUNKS} chunks before its pixels. Get the "
        "picture again from where it was made."
    )


def _inflate_profile(data: bytes) -> bytes:
    """The profile in a chunk iCCP up to one byte more than is allowed; longer chunks are given back as they are."""
    if len(data) > _MAX_PROFILE_CHUNK:
        return data
    try:
        return zlib.decompressobj().decompress(data[data.find(b"\0") + 2 :], MAX_ICC_BYTES + 1)
    except zlib.error:
        return b""  # viewers ignore it


def _difference(chunks: dict[bytes, bytes]) -> tuple[str, str] | None:
    """The chunk that says how the colours differ from sRGB, and its content in words; None where they do not."""
    if b"cICP" in chunks:  # goes before those below
        points = tuple(chunks[b"cICP"])
        return None if points == _SRGB_CODE_POINTS else ("cICP", f"code points {', '.join(map(str, points))}")
    if b"sRGB" in chunks:
        return None
    if b"gAMA" in chunks:
        (gamma,) = struct.unpack(">I", chunks[b"gAMA"])
        if gamma and gamma not in _SRGB_GAMMA:  # 0 means nothing and is ignored, says the specification
            return "gAMA", f"gamma {gamma / 100000:g}"
    if b"cHRM" in chunks:
        points = struct.unpack(">8I", chunks[b"cHRM"])
        pairs = zip(points, _SRGB_CHROMATICITIES, strict=True)
        if any(abs(value - srgb) > _CHROMATICITY_TOLERANCE for value, srgb in pairs):
            return "cHRM", f"chromaticities {', '.join(f'{value / 100000:g}' for value in points)}"
    return None
