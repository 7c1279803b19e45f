"""The lossy codecs that users have anyway, as Pillow runs them, and the quality of each that fits a number of bytes."""

from __future__ import annotations

import bisect
import dataclasses
import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, features

from bdflow_rt.errors import ArgumentError, BackendUnavailableError
from bdflow_rt.packet import Packet
from bdflow_rt.picture import Picture

QUALITIES = range(1, 101)
"""What all three take; JPEG and WebP of quality 0 exist, and help nobody."""


@dataclass(frozen=True, eq=False)
class Codec:
    """One codec with what Pillow's `save` gets besides the quality.

    Attributes:
        key: its name in results.
        title: its name in tables and plots.
        settings: the options in words.
        format: Pillow's name.
        feature: Pillow's name of the library, which tells its version.
        options: for `save`.
    """

    key: str
    title: str
    settings: str
    format: str
    feature: str
    options: dict[str, Any]

    def encode(self, picture: Picture, quality: int) -> bytes:
        """The picture as a file without colour profile; a grey one as grey where the format can.

        Args:
            picture: what to encode.
            quality: one of `QUALITIES`.
        """
        pixels = picture.pixels[:, :, 0] if picture.colour == "grey" else picture.pixels
        stream = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(pixels)).save(stream, self.format, quality=quality, **self.options)
        return stream.getvalue()

    def describe(self) -> dict[str, str]:
        """Title, settings and version for a result file."""
        return {"title": self.title, "settings": self.settings, "version": features.version(self.feature) or "unknown"}


# Pillow's defaults are what most users get; optimal Huffman tables because our own PNG is optimised as well.
JPEG = Codec("jpeg", "JPEG", "4:2:0, optimal Huffman tables", "JPEG", "libjpeg_turbo", {"optimize": True})
JPEG_444 = Codec(
    "jpeg_444",
    "JPEG 4:4:4",
    "4:4:4, optimal Huffman tables",
    "JPEG",
    "libjpeg_turbo",
    {"optimize": True, "subsampling": "4:4:4"},
)
WEBP = Codec("webp", "WebP", "4:2:0, method 4", "WEBP", "webp", {})
AVIF = Codec("avif", "AVIF", "4:2:0, speed 6", "AVIF", "avif", {})


def rivals() -> list[Codec]:
    """JPEG, WebP and AVIF.

    Raises:
        BackendUnavailableError: this Pillow was built without one of them.
    """
    for codec in (WEBP, AVIF):
        if not features.check(codec.feature):
            raise BackendUnavailableError(
                f"This Pillow was built without {codec.title}, which is compared with. pip install 'pillow>=11.3'."
            )
    return [JPEG, WEBP, AVIF]


def decode(data: bytes, *, grey: bool = False) -> NDArray[np.uint8]:
    """The pixels of a coded picture, (H, W, 3) uint8; of a grey one three equal channels."""
    with Image.open(io.BytesIO(data)) as image:
        # Codecs without a grey mode may hand back channels that differ by a rounding.
        return np.array((image.convert("L") if grey else image).convert("RGB"))


def through(packet: Packet, codec: Codec, quality: int) -> tuple[Packet, int]:
    """The packet with its LR picture as a codec gives it back, the boundary map exact, and the bytes of that file.

    `Rescaler.upscale` takes it with `force=True`.
    """
    data = codec.encode(Picture(packet.lr), quality)
    return dataclasses.replace(packet, lr=decode(data)), len(data)


def parse_through(text: str) -> tuple[Codec, int]:
    """Parse "jpeg:75", or "jpeg_444:75" without subsampled chroma: a codec and its quality.

    Raises:
        ArgumentError: another codec, or no quality of 1 to 100.
    """
    key, _, quality = text.partition(":")
    codecs = {codec.key: codec for codec in (JPEG, JPEG_444)}
    if key not in codecs or not quality.isdecimal() or int(quality) not in QUALITIES:
        raise ArgumentError(f"The codec is {text!r}; it must be jpeg:Q or jpeg_444:Q, with a quality Q of 1 to 100.")
    return codecs[key], int(quality)


def encode_webp_lossless(pixels: NDArray[np.uint8]) -> bytes:
    """(H, W, 3) uint8 pixels as a lossless WebP file, as small as libwebp makes it."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "WEBP", lossless=True, quality=100, method=6)
    return stream.getvalue()


def encode_png_plain(pixels: NDArray[np.uint8]) -> bytes:
    """(H, W, 3) or grey (H, W) uint8 pixels as a PNG file and nothing else, as small as Pillow makes it."""
    stream = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(stream, "PNG", optimize=True)
    return stream.getvalue()


def smallest_quality(is_enough: Callable[[int], bool]) -> int | None:
    """The lowest quality that is enough, by bisection; None where even the highest is not.

    Args:
        is_enough: whether a quality is; must not become false again as the quality rises.
    """
    index = bisect.bisect_left(QUALITIES, True, key=is_enough)
    return QUALITIES[index] if index < len(QUALITIES) else None


def largest_quality(size_of: Callable[[int], int], limit: int) -> int | None:
    """The quality whose file is the largest that has at most `limit` bytes, by bisection; None where none has.

    Args:
        size_of: bytes of the file of a quality; must not fall with the quality. Where it does by a little, as AVIF's
            was seen to at its lowest qualities, the answer fits and the next quality does not.
        limit: in bytes.
    """
    index = bisect.bisect_right(QUALITIES, limit, key=size_of)
    return QUALITIES[index - 1] if index else None
