"""Pillow behind a fence: known formats only, size checked before anything is decoded, every failure typed."""

from __future__ import annotations

import errno
import importlib
import io
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from bdflow_rt.containers.advice import (
    FROM_JPEG_XL,
    FROM_OTHER_FORMAT,
    FROM_PART_OF_GIF,
    FROM_PART_OF_WEBP,
    TO_8_BIT_RGB,
)
from bdflow_rt.containers.bmp import is_array, read_bmp
from bdflow_rt.containers.camera_raw import check_first_page, check_mark
from bdflow_rt.containers.colour import FileColour
from bdflow_rt.containers.exif import exif_orientation, exif_says_adobe_rgb
from bdflow_rt.containers.icc_matrix import adobe_rgb_profile
from bdflow_rt.containers.jpeg import END_MARK, check_jpeg, read_jpeg
from bdflow_rt.containers.libtiff import heard_libtiff
from bdflow_rt.containers.pillow import pillow_settings
from bdflow_rt.containers.png_colour import png_colour
from bdflow_rt.containers.png_picture import check_idat, scan_png
from bdflow_rt.containers.source import START_BYTES, max_file_bytes
from bdflow_rt.containers.tiff import check_deflate, check_first_directory, prepare_tiff, tiff_metadata
from bdflow_rt.containers.webp import first_frame_size, webp_size
from bdflow_rt.errors import BdflowError, CorruptImageError, UnsupportedImageError, shorten
from bdflow_rt.options import check_area

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile

_OTHER_KINDS = (
    (0, b"MM\0+", "a big-endian BigTIFF", FROM_OTHER_FORMAT),
    (0, b"8BPS", "a Photoshop file", FROM_OTHER_FORMAT),
    (0, b"\0\0\0\x0cjP  ", "a JPEG 2000 file", FROM_OTHER_FORMAT),
    (0, b"\xff\x0a", "a JPEG XL file", FROM_JPEG_XL),
    (0, b"\0\0\0\x0cJXL ", "a JPEG XL file", FROM_JPEG_XL),
    (0, b"v/1\x01", "an OpenEXR file", FROM_OTHER_FORMAT),
    (0, b"Pf", "a PFM file", FROM_OTHER_FORMAT),
    (0, b"PF", "a PFM file", FROM_OTHER_FORMAT),
    (0, b"P7\n", "a PAM file", FROM_OTHER_FORMAT),
    (4, b"ftyp", "a HEIC, AVIF or video file", FROM_OTHER_FORMAT),
)
"""Offset and first bytes of formats that are not read here, what they are, and what converts them."""
# Pillow raises the same exceptions for damaged pictures and for sound ones that it does not know; the words differ.
_UNSUPPORTED_REASONS = ("unknown pixel mode", "unknown raw mode", "cannot handle", "Unsupported BMP")
_PILLOW_METADATA = {"exif": "EXIF", "xmp": "XMP", "comment": "text"}
"""Entries of an image's `info`, of the formats of which Pillow says all."""
_SOURCE_FORMATS = "PNG, JPEG, WebP, TIFF, BMP, PPM and GIF"


@dataclass(frozen=True)
class FileFacts:
    """What a picture's file says beside its pixels.

    Attributes:
        colour: of its colours.
        orientation: as in EXIF, 1 to 8, of the pixels that Pillow decodes.
        has_others: whether it has more frames or pages.
        has_packet: whether a packet is in it.
        metadata: the kinds that it has: "EXIF", "XMP", "IPTC", "resolution", "text".
        is_cgbi: whether it is a PNG whose colours are stored as BGR, and multiplied by alpha.
    """

    colour: FileColour = field(default_factory=FileColour)
    orientation: int = 1
    has_others: bool = False
    has_packet: bool = False
    metadata: frozenset[str] = frozenset()
    is_cgbi: bool = False


def open_picture(stream: BinaryIO, *, name: str, max_pixels: int) -> tuple[ImageFile, FileFacts]:
    """Read a picture's header, strictly; no pixel is decoded. `name` starts the messages.

    Raises:
        CorruptImageError: not a picture, or its header does not parse or gives it no pixels.
        UnsupportedImageError: a picture, but of a format or kind that is not read here, camera raw included; or a TIFF
            whose first page or colours are not what they seem.
        ImageTooLargeError: more than `max_pixels`.
    """
    prefix = stream.read(START_BYTES)
    stream.seek(0)
    form = _format(prefix, name)
    # The WebP decoder takes its memory as soon as it is opened.
    early = webp_size(prefix) if form.plugin == "WebPImagePlugin" else (0, 0)
    check_area(f"{name} has", *early, max_pixels=max_pixels)
    stream, facts = form.look(stream, name, max_pixels)
    # Not Image.open, whose limit on pixels is a global setting of the host program.
    constructor = getattr(importlib.import_module(f"PIL.{form.plugin}"), form.plugin.replace("Plugin", "File"))
    with typed_errors(name), pillow_settings(early):
        image: Any = constructor(stream)
        check_area(f"{name} has", *image.size, max_pixels=max_pixels)
        if form.plugin == "TiffImagePlugin":
            prepare_tiff(image, name=name)
            image.info.pop("xmp", None)  # Pillow turns a TIFF by its tag while it decodes, and by XMP too
            facts = replace(facts, colour=_pillow_colour(image), metadata=tiff_metadata(image))
        elif facts.is_cgbi:
            _decode_as_cgbi(image)
        elif form.look is _nothing:
            _check_covered(image, stream, name)
            exif = image.info.get("exif")
            orientation = exif_orientation(exif) if isinstance(exif, bytes) else 1
            metadata = frozenset(kind for key, kind in _PILLOW_METADATA.items() if image.info.get(key))
            is_animated = bool(getattr(image, "is_animated", False))
            facts = FileFacts(_pillow_colour(image), orientation, is_animated, metadata=metadata)
    return image, facts


def _decode_as_cgbi(image: Any) -> None:
    """Have an opened PNG of Apple's variant decode its colours from BGR, and from colours multiplied by alpha."""
    decoder, extents, offset, stored = image.tile[0]
    image._mode, stored = {"RGB": ("RGB", "BGR"), "RGBA": ("RGBa", "BGRa")}.get(stored, (image.mode, stored))
    image.tile = [(decoder, extents, offset, stored)]


def _check_covered(image: ImageFile, source: BinaryIO, name: str) -> None:
    """Refuse a GIF or WebP that leaves a part of its canvas without pixels, which viewers show as transparent.

    Pillow makes it the palette's first colour or black; it is transparent for it too where anything may be.
    """
    size, kind, command = image.size, "GIF", FROM_PART_OF_GIF
    if image.format == "GIF" and image.tile and "transparency" not in image.info:
        left, upper, right, lower = image.tile[0][1] or (0, 0, *image.size)
        size = (right - left, lower - upper)
    elif image.format == "WEBP" and image.mode == "RGB":
        size, kind, command = first_frame_size(source) or image.size, "WebP", FROM_PART_OF_WEBP
    if size != image.size:
        raise UnsupportedImageError(
            f"{name} is a {kind} whose picture of {size[0]} x {size[1]} pixels leaves a part of its canvas of "
            f"{image.width} x {image.height} empty; cut it out, for example with: {command}"
        )


def load_pixels(image: ImageFile, *, name: str) -> None:
    """Decode all pixels of an opened picture, strictly.

    Raises:
        CorruptImageError: truncated or damaged.

    Warns:
        UserWarning: damage inside the file could not be looked for.
    """
    with typed_errors(name), pillow_settings(image.size):
        source = image.fp  # which Pillow lets go of
        with heard_libtiff() if image.format == "TIFF" else nullcontext(True) as is_heard:
            image.load()
        if image.format == "TIFF" and source is not None:
            check_deflate(image.tag_v2, source)  # type: ignore[attr-defined]
        if not is_heard:
            warnings.warn(
                f"{name} is a TIFF, and this build of Pillow hides damage that libtiff meets; look at the result.",
                stacklevel=2,
            )
        if image.format == "JPEG" and isinstance(source, io.BytesIO):
            data = source.getvalue().removesuffix(END_MARK)
            if not check_jpeg(data, is_progressive="progressive" in image.info):
                warnings.warn(
                    f"{name} is a JPEG of unusual chroma subsampling, in which damage is not seen here; look at the "
                    "result.",
                    stacklevel=2,
                )
        if image.format == "PNG" and source is not None:
            check_idat(source)


def decode_pixels(stream: BinaryIO, *, name: str, max_pixels: int) -> NDArray[np.uint8]:
    """The pixels of a picture as they are stored, whatever else its file says.

    Raises:
        As `open_picture` and `load_pixels`.
    """
    image, _ = open_picture(stream, name=name, max_pixels=max_pixels)
    with image:
        load_pixels(image, name=name)
        return np.array(image)


Look = Callable[[BinaryIO, str, int], tuple[BinaryIO, FileFacts]]
"""Looks at a file before Pillow does, with its name and `max_pixels`, and says what Pillow is to see of it."""


def _nothing(stream: BinaryIO, name: str, max_pixels: int) -> tuple[BinaryIO, FileFacts]:
    """For formats of which Pillow says all."""
    return stream, FileFacts()


def _look_at_png(stream: BinaryIO, name: str, max_pixels: int) -> tuple[BinaryIO, FileFacts]:
    picture = scan_png(stream, name=name, max_pixels=max_pixels)
    orientation = exif_orientation(picture.exif)
    facts = FileFacts(
        png_colour(picture), orientation, picture.is_animated, picture.has_packet, picture.metadata, picture.is_cgbi
    )
    with typed_errors(name):
        return picture.stream(stream), facts


def _look_at_jpeg(stream: BinaryIO, name: str, max_pixels: int) -> tuple[BinaryIO, FileFacts]:
    # No sound picture is longer; what may follow it is not needed. Some files lack the end mark.
    size = min(stream.seek(0, io.SEEK_END), max_file_bytes(max_pixels))
    stream.seek(0)
    file = read_jpeg(stream.read(size), name=name)
    colour = FileColour(file.profile or None)
    if exif_says_adobe_rgb(file.exif):
        colour = replace(colour, other="Adobe RGB (EXIF, interoperability R03)", made=adobe_rgb_profile())
    # Also for the MPO files of cameras: their first frame is the picture, the others are previews.
    return io.BytesIO(file.data + END_MARK), FileFacts(colour, exif_orientation(file.exif), metadata=file.metadata)


def _look_at_tiff(stream: BinaryIO, name: str, max_pixels: int) -> tuple[BinaryIO, FileFacts]:
    page = check_first_page(stream, name=name)
    check_first_directory(page.directory, name=name)
    return stream, FileFacts(has_others=page.has_others)


def _look_at_bmp(stream: BinaryIO, name: str, max_pixels: int) -> tuple[BinaryIO, FileFacts]:
    stream, colour = read_bmp(stream, name=name, max_pixels=max_pixels)
    return stream, FileFacts(colour)


@dataclass(frozen=True)
class _Format:
    """A format by its first bytes, so that Pillow never tries its other fifty parsers on a hostile file."""

    magic: bytes
    plugin: str
    look: Look = _nothing


_BMP = _Format(b"BM", "BmpImagePlugin", _look_at_bmp)
_FORMATS = (
    _Format(b"\x89PNG\r\n\x1a\n", "PngImagePlugin", _look_at_png),
    _Format(b"\xff\xd8\xff", "JpegImagePlugin", _look_at_jpeg),
    _Format(b"GIF87a", "GifImagePlugin"),
    _Format(b"GIF89a", "GifImagePlugin"),
    _BMP,
    *(_Format(magic, "TiffImagePlugin", _look_at_tiff) for magic in (b"II*\0", b"MM\0*", b"II+\0")),
    *(_Format(b"P%d" % kind, "PpmImagePlugin") for kind in range(1, 7)),
)
_WEBP = _Format(b"RIFF", "WebPImagePlugin")


def _format(prefix: bytes, name: str) -> _Format:
    check_mark(prefix, name=name)
    for form in _FORMATS:
        if prefix.startswith(form.magic):
            return form
    if prefix.startswith(_WEBP.magic) and prefix[8:12] == b"WEBP":
        return _WEBP
    if is_array(prefix):
        return _BMP
    for offset, magic, kind, command in _OTHER_KINDS:
        if prefix.startswith(magic, offset):
            raise UnsupportedImageError(
                f"{name} is {kind}, which is not read here; convert it to a PNG, for example with: {command}"
            )
    raise CorruptImageError(
        f"{name} is not a picture: its first bytes are {prefix[:8].hex(' ')}. {_SOURCE_FORMATS} pictures are read."
    )


def _pillow_colour(image: ImageFile) -> FileColour:
    """The ICC profile that Pillow finds; a hostile TIFF may have a number in its place."""
    profile = image.info.get("icc_profile")
    return FileColour(profile if isinstance(profile, bytes) else None)


def check_start(prefix: bytes, *, name: str) -> None:
    """Refuse content that begins like no picture, whatever follows its first 30 bytes.

    Raises:
        CorruptImageError: it does.
    """
    with suppress(UnsupportedImageError):
        _format(prefix, name)


@contextmanager
def typed_errors(name: str) -> Iterator[None]:
    """Turn whatever a decoder raises inside into a typed error.

    Raises:
        UnsupportedImageError, CorruptImageError: it is of a kind that is not read here, or anything else is wrong.
    """
    try:
        yield
    except BdflowError:
        raise
    except Exception as error:
        raise _typed(name, error) from error


def _typed(name: str, error: Exception) -> Exception:
    """The typed error for whatever a decoder raised on bad bytes, which may be anything."""
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.EIO):
        return error  # not the picture's fault
    is_plain = isinstance(error, (OSError, SyntaxError, ValueError, zlib.error))
    reason = shorten(error) if is_plain else "its parts do not fit together"
    if reason == "not identified by this driver":  # Pillow's words for this
        reason = "its header gives it no pixels, or none of a known kind"
    if reason.startswith(_UNSUPPORTED_REASONS):
        return UnsupportedImageError(
            f"{name} is of a kind that is not read here ({reason}); convert it to an 8-bit RGB PNG, for "
            f"example with: {TO_8_BIT_RGB}"
        )
    return CorruptImageError(
        f"{name} is damaged or cut off, its data does not decode ({reason}). Get the picture again from where it "
        "was made."
    )
