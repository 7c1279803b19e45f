"""Damage inside JPEG files: libjpeg makes up missing pixels and warns, which Pillow and OpenCV keep to themselves."""

from __future__ import annotations

import re

END_MARK = b"\xff\xd9"
"""EOI. Some sound files lack it; behind the first one nothing belongs to the picture."""
_HARMLESS = re.compile(r"Corrupt JPEG data: [1-8] extraneous bytes before marker 0xd9")
"""What some cameras' padding makes libjpeg say."""


def check_jpeg(data: bytes, *, is_progressive: bool) -> None:
    """Decode a JPEG coarsely for libjpeg's warnings: codes that give out, bytes that belong to none, missing scans.

    Args:
        data: the file. Other pictures behind the first one, as in a camera's MPO, are not looked at.
        is_progressive: such a picture is whole only with its end mark: scans may be missing before it.

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
        if not _HARMLESS.fullmatch(str(warning)):
            raise
