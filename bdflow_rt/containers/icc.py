"""ICC profiles of grey pictures, which an RGB file cannot carry.

A grey profile maps a value v to the neutral colour curve(v) * D50 white. An RGB profile with that same curve in all
three channels and primaries that add up to D50 white maps (v, v, v) to exactly the same colour. So a grey picture
with a profile travels as RGB with that twin, looks the same in every viewer, and gets its grey profile back at the end.

Source: ICC.1:2022, sections 7.2 (header), 8.3 (monochrome and matrix profiles) and F.2, F.3 (their mathematics).
"""

from __future__ import annotations

import struct

from bdflow_rt.containers.advice import OR_IN_AN_EDITOR
from bdflow_rt.errors import UnsupportedImageError

_HEADER_BYTES = 128
_MAX_TAGS = 200
_COPIED = (b"desc", b"cprt", b"wtpt", b"chad")
_CURVES = (b"rTRC", b"gTRC", b"bTRC")
_USED = (*_COPIED, *_CURVES, b"kTRC", b"A2B0")
# Columns of sRGB's primaries adapted to D50, as s15Fixed16 numbers; the blue one takes up the rounding, so that they
# add up to D50 (63190, 65536, 54061) exactly.
_PRIMARIES = {b"rXYZ": (28578, 14581, 912), b"gXYZ": (25241, 46981, 6362), b"bXYZ": (9371, 3974, 46787)}


def rgb_profile(profile: bytes | None, *, colour: str) -> bytes | None:
    """The profile that goes with the RGB pixels of a picture that was "rgb" or "grey".

    Returns:
        `profile` itself where it is an RGB profile; for a grey picture with a grey one its RGB twin; None where
        there is none, or one that is broken or of another colour space, which viewers ignore as well.

    Raises:
        UnsupportedImageError: a grey profile without a curve in XYZ, which has no RGB twin.
    """
    tags = _tags(profile) if profile else None
    if not profile or tags is None:
        return None
    space = profile[16:20]
    if space == b"RGB ":
        return profile
    if space != b"GRAY" or colour != "grey":
        return None
    curve = tags.get(b"kTRC")
    if curve is None or profile[20:24] != b"XYZ ":
        raise UnsupportedImageError(
            f"The grey picture has a colour profile that is a table, not a curve, and would be lost; {OR_IN_AN_EDITOR}."
        )
    primaries = {name: struct.pack(">4s4x3i", b"XYZ ", *column) for name, column in _PRIMARIES.items()}
    return _build(profile, b"RGB ", tags, {**primaries, **dict.fromkeys(_CURVES, curve)})


def cmyk_profile(profile: bytes | None) -> bytes | None:
    """The profile where it is one of CMYK, else None."""
    tags = _tags(profile) if profile else None
    return profile if profile and tags is not None and profile[16:20] == b"CMYK" else None


def grey_profile(profile: bytes) -> bytes | None:
    """The grey profile with the tone curve of an RGB one, or None where its three curves differ or it is a table."""
    tags = _tags(profile)
    if tags is None or profile[16:24] != b"RGB XYZ " or b"A2B0" in tags:
        return None
    curves = {tags.get(name) for name in _CURVES}
    curve = curves.pop()
    if curves or curve is None:
        return None
    return _build(profile, b"GRAY", tags, {b"kTRC": curve})


def _tags(profile: bytes) -> dict[bytes, bytes] | None:
    """The tags that matter here by signature, or None where the profile is broken."""
    if len(profile) < _HEADER_BYTES + 4 or profile[36:40] != b"acsp":
        return None
    (count,) = struct.unpack_from(">I", profile, _HEADER_BYTES)
    if count > _MAX_TAGS or len(profile) < _HEADER_BYTES + 4 + 12 * count:
        return None
    tags = {}
    for index in range(count):
        name, start, size = struct.unpack_from(">4sII", profile, _HEADER_BYTES + 4 + 12 * index)
        if start + size > len(profile):
            return None
        if name in _USED:  # the others are not copied: a hostile profile has 200, each as long as itself
            tags[name] = profile[start : start + size]
    return tags


def _build(like: bytes, space: bytes, tags: dict[bytes, bytes], own: dict[bytes, bytes]) -> bytes:
    """A display profile of another colour space with the header, names and white point of `like`."""
    content = {name: tags[name] for name in _COPIED if name in tags} | own
    position = _HEADER_BYTES + 4 + 12 * len(content)
    table, body, places = b"", b"", dict[bytes, int]()
    for name, data in content.items():
        if data not in places:  # equal tags share their data, as the specification allows
            places[data] = position + len(body)
            body += data + bytes(-len(data) % 4)
        table += struct.pack(">4sII", name, places[data], len(data))
    size = position + len(body)
    # Bytes 84..99 are an MD5 of the profile; zeros mean that it was not computed.
    header = struct.pack(">I", size) + like[4:12] + b"mntr" + space + b"XYZ " + like[24:84] + bytes(44)
    return header + struct.pack(">I", len(content)) + table + body
