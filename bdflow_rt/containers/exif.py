"""The two facts in EXIF data that change a picture: which way is up, and that its colours are Adobe RGB.

What XMP says of the orientation is not heeded: browsers and other decoders do not, and some versions of Pillow do.

Source: EXIF 3.0 (CIPA DC-008), sections 4.6.2 (pointers), 4.6.5 (orientation) and 4.6.8 (interoperability); DCF 2.0.
"""

from __future__ import annotations

import io

from bdflow_rt.containers.tiff_directory import read_path

_MARK = b"Exif\0\0"
_ORIENTATION, _EXIF_IFD, _INTEROPERABILITY_IFD, _INTEROPERABILITY_INDEX = 0x0112, 0x8769, 0xA005, 1
_ADOBE_RGB = b"R03"


def exif_orientation(data: bytes) -> int:
    """The orientation, 1 to 8, in EXIF data with or without the mark `Exif` before it.

    1 where it says nothing, or does not parse: viewers ignore such data too.
    """
    values = read_path(io.BytesIO(data.removeprefix(_MARK)), _ORIENTATION).get(_ORIENTATION, ())
    return values[0] if values and 1 <= values[0] <= 8 else 1


def exif_says_adobe_rgb(data: bytes) -> bool:
    """Whether the colours are Adobe RGB by DCF, which cameras say instead of an ICC profile."""
    path = _EXIF_IFD, _INTEROPERABILITY_IFD, _INTEROPERABILITY_INDEX
    values = read_path(io.BytesIO(data.removeprefix(_MARK)), *path).get(_INTEROPERABILITY_INDEX, ())
    return bytes(value & 255 for value in values).startswith(_ADOBE_RGB)
