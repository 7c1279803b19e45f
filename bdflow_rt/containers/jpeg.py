"""JPEG files: what is in their segments, and damage inside them.

Pillow is given the segments that decoding takes, so that nothing depends on what it makes of the others.

Source: ITU-T T.81, annex B; JFIF 1.02 and Adobe's technical note 5116 as libjpeg reads them; ICC.1:2022, annex B.4.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from bdflow_rt.containers.advice import FROM_RARE_JPEG
from bdflow_rt.errors import CorruptImageError, UnsupportedImageError

END_MARK = b"\xff\xd9"
"""EOI. Some sound files lack it; behind the first one nothing belongs to the picture."""
_END, _SCAN, _APP0, _APP1, _APP2, _APP13, _APP14, _APP15, _COMMENT = (
    0xD9,
    0xDA,
    0xE0,
    0xE1,
    0xE2,
    0xED,
    0xEE,
    0xEF,
    0xFE,
)
_WITHOUT_DATA = (0x01, *range(0xD0, 0xD9))
_DHP = 0xDE
"""Stands before the frames of a hierarchical file, the first of which alone is a small picture."""
_FRAMES = {_DHP, *(kind for kind in range(0xC0, 0xD0) if kind not in (0xC4, 0xC8, 0xCC))}
_READABLE_FRAMES = (0xC0, 0xC1, 0xC2, 0xC9, 0xCA)
"""Baseline, extended and progressive, with Huffman or arithmetic coding; others are lossless or hierarchical."""
_MARK = re.compile(rb"\xff[^\x00\x01\xd0-\xd7\xff]")
"""What ends the codes of a scan: a mark that is neither a stuffed byte nor a restart."""
_MAX_SCANS = 256
"""Each scan takes the time of a whole picture, however few bytes it has; encoders write about ten."""
_JFIF, _ADOBE, _EXIF, _ICC = b"JFIF\0", b"Adobe", b"Exif\0\0", b"ICC_PROFILE\0"
_METADATA = (
    (_APP1, _EXIF, "EXIF"),
    (_APP1, b"http://ns.adobe.com/xap/1.0/\0", "XMP"),
    (_APP13, b"Photoshop 3.0\0", "IPTC"),
    (_COMMENT, b"", "text"),
)
"""Segments, how they begin, and the kind of metadata that is in them."""
_JFIF_UNITS = 7
"""Where a JFIF segment says that its density is in inches (1) or centimetres (2)."""
_LEAST_JFIF, _LEAST_ADOBE = 14, 12
"""Bytes below which libjpeg takes the segment for another program's."""
_HARMLESS = re.compile(r"Corrupt JPEG data: [1-8] extraneous bytes before marker 0xd9")
"""What some cameras' padding makes libjpeg say."""
_UNKNOWN_SUBSAMPLING = "Could not determine subsampling level"


@dataclass(frozen=True)
class JpegFile:
    """A JPEG file taken apart.

    Attributes:
        data: a file of the segments that decoding takes.
        profile: the ICC profile, empty where there is none, and nothing usable where a part of it is missing.
        exif: EXIF data with its mark, empty where there is none.
        metadata: kinds of it that are in the file.
    """

    data: bytes
    profile: bytes
    exif: bytes
    metadata: frozenset[str]


def read_jpeg(data: bytes, *, name: str) -> JpegFile:
    """Take a JPEG apart up to its first scan; what does not hold together is left to the decoder.

    Raises:
        UnsupportedImageError: 12 bits, lossless or hierarchical.
        CorruptImageError: more scans than an honest file has.
    """
    kept, position, exif = [data[:2]], 2, b""
    profile: dict[int, bytes] = {}
    metadata = set()
    while position + 4 <= len(data) and data[position] == 0xFF:
        kind = data[position + 1]
        if kind == 0xFF:  # a fill byte
            position += 1
            continue
        if kind in _WITHOUT_DATA:
            position += 2
            continue
        end = position + 2 + int.from_bytes(data[position + 2 : position + 4], "big")
        if kind in (_SCAN, _END) or end < position + 4 or end > len(data):
            break
        payload = data[position + 4 : end]
        if kind in _FRAMES:
            _check_frame(kind, payload, name)
        metadata |= {what for segment, mark, what in _METADATA if kind == segment and payload.startswith(mark)}
        if kind == _APP0 and payload.startswith(_JFIF) and payload[_JFIF_UNITS : _JFIF_UNITS + 1] in (b"\1", b"\2"):
            metadata.add("resolution")
        if kind == _APP1 and payload.startswith(_EXIF):
            exif = exif or payload
        elif kind == _APP2 and payload.startswith(_ICC) and len(payload) > len(_ICC) + 2:
            profile.setdefault(payload[len(_ICC)], payload[len(_ICC) + 1 :])
        if _is_needed(kind, payload):
            kept.append(data[position:end])
        position = end
    _check_scans(data, position, name)
    return JpegFile(b"".join((*kept, data[position:])), _joined(profile), exif, frozenset(metadata))


def check_jpeg(data: bytes, *, is_progressive: bool) -> bool:
    """Decode a JPEG coarsely for libjpeg's warnings: codes that give out, bytes that belong to none, missing scans.

    libjpeg makes up the pixels that are missing and warns, which Pillow and OpenCV keep to themselves.

    Args:
        data: the file. Other pictures behind the first one, as in a camera's MPO, are not looked at.
        is_progressive: such a picture is whole only with its end mark: scans may be missing before it.

    Returns:
        Whether it could be decoded coarsely: not where the chroma is subsampled in a way that few programs write.

    Raises:
        ValueError: it is damaged or cut off, with libjpeg's words. Damage whose codes give as many pixels as there
            should be is not seen.
    """
    import simplejpeg

    # An eighth of the size: all codes are read, and little else is done.
    options = {"fastdct": True, "fastupsample": True, "min_height": 1, "min_width": 1, "min_factor": 8}
    try:
        simplejpeg.decode_jpeg(data if is_progressive else data + END_MARK, "GRAY", strict=True, **options)
    except ValueError as warning:
        if _UNKNOWN_SUBSAMPLING in str(warning):
            return False
        if not is_harmless(str(warning)):
            raise
    return True


def is_harmless(warning: str) -> bool:
    """Whether libjpeg warns of nothing but padding behind the codes."""
    return _HARMLESS.fullmatch(warning) is not None


def _check_scans(data: bytes, start: int, name: str) -> None:
    """Count the scans from the first, at `start`, to the end mark; other pictures may follow that."""
    scans, position = 0, start
    while mark := _MARK.search(data, position):
        kind, position = data[mark.start() + 1], mark.end()
        if kind == _END:
            return
        scans += kind == _SCAN
        if scans > _MAX_SCANS:
            raise CorruptImageError(
                f"{name} is damaged: it has more than {_MAX_SCANS} scans. Get the picture again from where it was made."
            )
        position += int.from_bytes(data[position : position + 2], "big")


def _check_frame(kind: int, payload: bytes, name: str) -> None:
    bits = payload[0] if payload else 8
    if kind in _READABLE_FRAMES and bits == 8:
        return
    what = f"{bits}-bit" if kind in _READABLE_FRAMES else "lossless or hierarchical"
    raise UnsupportedImageError(
        f"{name} is a {what} JPEG, which is not read here; convert it to a PNG with Debian's packages libjpeg-tools "
        f"and imagemagick, for example with: {FROM_RARE_JPEG}"
    )


def _is_needed(kind: int, payload: bytes) -> bool:
    """Whether decoding takes the segment: tables, frames, and the two that say what the components are."""
    if kind == _APP0:
        return payload.startswith(_JFIF) and len(payload) >= _LEAST_JFIF
    if kind == _APP14:
        return payload.startswith(_ADOBE) and len(payload) >= _LEAST_ADOBE
    return not _APP0 <= kind <= _APP15 and kind != _COMMENT


def _joined(parts: dict[int, bytes]) -> bytes:
    """The profile of parts by their number from 1, each beginning with how many there are."""
    counts = {part[0] for part in parts.values()}
    if counts != {len(parts)} or set(parts) != set(range(1, len(parts) + 1)):
        return b"a part is missing" if parts else b""
    return b"".join(parts[number][1:] for number in sorted(parts))
