"""The chunks of a PNG that say what its colours mean.

The first that is there counts: cICP, an iCCP that can be used, sRGB, gAMA with cHRM; each of them before the pixels.

Source: PNG specification, third edition (W3C, 2025), section 11.3.2; code points of cICP are those of ITU-T H.273.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import replace

from bdflow_rt.containers import icc_matrix
from bdflow_rt.containers.colour import FileColour
from bdflow_rt.containers.png_picture import PngPicture
from bdflow_rt.picture import MAX_ICC_BYTES

_SRGB_CODE_POINTS = (1, 13, 0, 1)
_UNIT = 100_000
# In units of 1/100000. sRGB is written as 45455, sometimes as 45000 (1/2.2 rounded) or 0.46.
_SRGB_GAMMA = range(44000, 47001)
_SRGB_CHROMATICITIES = tuple(round(value * _UNIT) for value in icc_matrix.SRGB)
_CHROMATICITY_TOLERANCE = 500


def png_colour(picture: PngPicture) -> FileColour:
    """What the chunks of a PNG say of its colours."""
    unread = f"its chunk {picture.unread.decode()}" if picture.unread else ""
    return replace(_sound_colour(picture), unread=unread)


def _sound_colour(picture: PngPicture) -> FileColour:
    chunks = picture.chunks
    profile = _inflate(chunks[b"iCCP"]) if b"iCCP" in chunks else b""
    has_cicp = len(chunks.get(b"cICP", b"")) == 4
    if has_cicp:
        points = tuple(chunks[b"cICP"])
        colour = FileColour(profile, "its chunk cICP says that it is sRGB")
        if points == _SRGB_CODE_POINTS:
            return colour
        words = f"the code points {', '.join(map(str, points))} (chunk cICP)"
        return replace(colour, overruled="its chunk cICP goes first", other=words, made=icc_matrix.cicp_profile(points))
    if not profile and picture.has_late_profile:
        return FileColour(b"late", "it follows the pixels")
    if b"iCCP" in chunks and not profile:
        return replace(_by_numbers(chunks), profile=b"broken")
    return replace(_by_numbers(chunks), profile=profile or None)


def _by_numbers(chunks: dict[bytes, bytes]) -> FileColour:
    """What gAMA and cHRM say where no chunk sRGB goes before them."""
    gamma, points = _gamma(chunks.get(b"gAMA", b"")), _chromaticities(chunks.get(b"cHRM", b""))
    if len(chunks.get(b"sRGB", b"")) == 1 or (gamma is None and points is None):
        return FileColour()
    words = []
    if gamma is not None:
        words.append(f"gamma {gamma / _UNIT:g} (chunk gAMA)")
    if points is not None:
        words.append(f"the chromaticities {', '.join(f'{value / _UNIT:g}' for value in points)} (chunk cHRM)")
    transfer = icc_matrix.SRGB_TRANSFER if gamma is None else icc_matrix.Transfer(_UNIT / gamma)
    xy = icc_matrix.SRGB if points is None else tuple(value / _UNIT for value in points)
    made = icc_matrix.matrix_profile(xy, transfer, "PNG gAMA and cHRM")  # type: ignore[arg-type]
    return FileColour(other=" and ".join(words), made=made)


def _gamma(data: bytes) -> int | None:
    """A gamma that is not that of sRGB, in units of 1/100000."""
    if len(data) != 4:
        return None
    (gamma,) = struct.unpack(">I", data)
    return gamma if gamma and gamma not in _SRGB_GAMMA else None  # 0 means nothing and is ignored, says the source


def _chromaticities(data: bytes) -> tuple[int, ...] | None:
    """Chromaticities that are not those of sRGB, in units of 1/100000."""
    if len(data) != 32:
        return None
    points = struct.unpack(">8I", data)
    pairs = zip(points, _SRGB_CHROMATICITIES, strict=True)
    return points if any(abs(value - srgb) > _CHROMATICITY_TOLERANCE for value, srgb in pairs) else None


def _inflate(data: bytes) -> bytes:
    """The profile in a chunk iCCP up to one byte more than is allowed; longer chunks are given back as they are."""
    if len(data) > MAX_ICC_BYTES + (1 << 16):
        return data
    try:
        return zlib.decompressobj().decompress(data[data.find(b"\0") + 2 :], MAX_ICC_BYTES + 1)
    except zlib.error:
        return b""
