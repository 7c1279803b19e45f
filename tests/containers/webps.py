"""WebP files that Pillow does not write."""

from __future__ import annotations

import struct

from PIL import Image

from tests.containers.build import encoded

ALPHA = 16
"""The flag of a file that has alpha."""


def animated_webp(
    image: Image.Image, *, canvas: tuple[int, int], at: tuple[int, int] = (4, 6), flags: int = 0
) -> bytes:
    """An animation of one lossless frame; `canvas` is its width and height, `at` the even place of the frame on it."""
    frame = b"".join(_number(value) for value in (at[0] // 2, at[1] // 2, image.width - 1, image.height - 1, 100))
    body = b"".join(
        (
            _chunk(b"VP8X", bytes((2 | flags, 0, 0, 0)) + _number(canvas[0] - 1) + _number(canvas[1] - 1)),
            _chunk(b"ANIM", bytes(6)),
            _chunk(b"ANMF", frame + b"\0" + encoded(image, "WEBP", lossless=True)[12:]),
        )
    )
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


def _chunk(kind: bytes, data: bytes) -> bytes:
    return kind + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)


def _number(value: int) -> bytes:
    return value.to_bytes(3, "little")
