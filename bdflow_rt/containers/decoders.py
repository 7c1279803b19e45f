"""Pillow behind a fence: known formats only, size checked before anything is decoded, every failure typed."""

from __future__ import annotations

import errno
import importlib
import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO

from bdflow_rt.containers.camera_raw import check_first_page, check_mark
from bdflow_rt.containers.colour import check_png_colour, check_profile_size
from bdflow_rt.containers.idat import check_idat
from bdflow_rt.containers.jpeg import END_MARK, check_jpeg
from bdflow_rt.containers.pillow import pillow_settings
from bdflow_rt.containers.source import max_file_bytes
from bdflow_rt.containers.tiff import prepare_tiff
from bdflow_rt.errors import BdflowError, CorruptImageError, UnsupportedImageError, shorten
from bdflow_rt.options import check_area

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile

# The plugin is chosen by the first bytes, so that Pillow never tries its other fifty parsers on a hostile file. Its
# constructor is called instead of Image.open, whose pixel limit is a global setting of the host program.
_PLUGINS = (
    (b"\x89PNG\r\n\x1a\n", "PngImagePlugin", "PngImageFile"),
    # Also for the MPO files of cameras: their first frame is the picture, the others are previews.
    (b"\xff\xd8\xff", "JpegImagePlugin", "JpegImageFile"),
    (b"GIF87a", "GifImagePlugin", "GifImageFile"),
    (b"GIF89a", "GifImagePlugin", "GifImageFile"),
    (b"BM", "BmpImagePlugin", "BmpImageFile"),
    (b"II*\0", "TiffImagePlugin", "TiffImageFile"),
    (b"MM\0*", "TiffImagePlugin", "TiffImageFile"),
    (b"II+\0", "TiffImagePlugin", "TiffImageFile"),
    *((b"P%d" % kind, "PpmImagePlugin", "PpmImageFile") for kind in range(1, 7)),
)
_OTHER_KINDS = (
    (0, b"MM\0+", "a big-endian BigTIFF"),
    (0, b"8BPS", "a Photoshop file"),
    (0, b"\0\0\0\x0cjP  ", "a JPEG 2000 file"),
    (0, b"\xff\x0a", "a JPEG XL file"),
    (0, b"\0\0\0\x0cJXL ", "a JPEG XL file"),
    (0, b"v/1\x01", "an OpenEXR file"),
    (0, b"Pf", "a PFM file"),
    (0, b"PF", "a PFM file"),
    (4, b"ftyp", "a HEIC, AVIF or video file"),
)
# Pillow raises the same exceptions for damaged pictures and for sound ones that it does not know; the words differ.
_UNSUPPORTED_REASONS = ("unknown pixel mode", "unknown raw mode", "cannot handle", "Unsupported BMP")
_EMBEDDED_PROFILE, _LINKED_PROFILE = (int.from_bytes(mark, "big") for mark in (b"MBED", b"LINK"))
_SOURCE_FORMATS = "PNG, JPEG, WebP, TIFF, BMP, PPM and GIF"


def open_picture(stream: BinaryIO, *, name: str, max_pixels: int) -> ImageFile:
    """Read a picture's header, strictly; no pixel is decoded. `name` starts the messages.

    Raises:
        CorruptImageError: not a picture, or its header does not parse or gives it no pixels.
        UnsupportedImageError: a picture, but of a format that is not read here, camera raw included; a TIFF whose
            first page or colours are not what they seem; or a PNG of other colours than sRGB that are not described by
            a profile, or by one of more than 16 MiB.
        ImageTooLargeError: more than `max_pixels`.
    """
    prefix = stream.read(30)
    stream.seek(0)
    plugin, cls = _plugin(prefix, name)
    module = importlib.import_module(f"PIL.{plugin}")
    # The WebP decoder takes its memory as soon as it is opened.
    early = _webp_size(prefix) if plugin == "WebPImagePlugin" else (0, 0)
    check_area(f"{name} has", *early, max_pixels=max_pixels)
    profile, profile_bytes = check_png_colour(stream, name=name) if plugin == "PngImagePlugin" else (None, 0)
    if plugin == "TiffImagePlugin":
        check_first_page(stream, name=name)
    if plugin == "BmpImagePlugin":
        profile = _check_bmp(stream, name)
    if plugin == "JpegImagePlugin":
        # No sound picture is longer; what may follow it is not needed. Some files lack the end mark.
        size = min(stream.seek(0, io.SEEK_END), max_file_bytes(max_pixels))
        stream.seek(0)
        stream = io.BytesIO(stream.read(size) + END_MARK)
    with _typed_errors(name), pillow_settings(early, profile_bytes=profile_bytes):
        image: Any = getattr(module, cls)(stream)
    check_area(f"{name} has", *image.size, max_pixels=max_pixels)
    if profile is not None:
        image.info["icc_profile"] = profile
    if plugin == "TiffImagePlugin":
        with _typed_errors(name):
            prepare_tiff(image, name=name)
    return image


def load_pixels(image: ImageFile, *, name: str) -> None:
    """Decode all pixels of an opened picture, strictly.

    Raises:
        CorruptImageError: truncated or damaged.
    """
    with _typed_errors(name), pillow_settings(image.size):
        source = image.fp  # which Pillow lets go of
        image.load()
        if image.format == "JPEG" and isinstance(source, io.BytesIO):
            check_jpeg(source.getvalue().removesuffix(END_MARK), is_progressive="progressive" in image.info)
        if image.format == "PNG" and source is not None:
            check_idat(source)


def is_animated(image: ImageFile, *, name: str) -> bool:
    """Whether the picture has more than one frame or page.

    Raises:
        CorruptImageError: its list of frames is damaged.
    """
    with _typed_errors(name), pillow_settings(image.size):
        return bool(getattr(image, "is_animated", False))


def _plugin(prefix: bytes, name: str) -> tuple[str, str]:
    check_mark(prefix, name=name)
    for magic, module, cls in _PLUGINS:
        if prefix.startswith(magic):
            return module, cls
    if prefix[:4] == b"RIFF" and prefix[8:12] == b"WEBP":
        return "WebPImagePlugin", "WebPImageFile"
    for offset, magic, kind in _OTHER_KINDS:
        if prefix.startswith(magic, offset):
            raise UnsupportedImageError(
                f"{name} is {kind}, which is not read here; convert it first to one of {_SOURCE_FORMATS}."
            )
    raise CorruptImageError(
        f"{name} is not a picture: its first bytes are {prefix[:8]!r}. {_SOURCE_FORMATS} pictures are read."
    )


def _check_bmp(stream: BinaryIO, name: str) -> bytes:
    """The ICC profile of a BMP, which Pillow drops as it drops the alpha channel of 16 bits: that is refused.

    Source: BITMAPV3INFOHEADER: size, bits and compression at bytes 0, 14 and 16, the mask of alpha at byte 52; in
    BITMAPV5HEADER (124 bytes) the kind of colour space at byte 56, start and length of the profile at 112 and 116.
    """
    header = stream.read(14 + 124)[14:]
    size, bits, compression, kind, start, length = (
        int.from_bytes(header[at : at + count], "little")
        for at, count in ((0, 4), (14, 2), (16, 4), (56, 4), (112, 4), (116, 4))
    )
    if size >= 56 and bits == 16 and compression == 3 and any(header[52:56]):
        raise UnsupportedImageError(
            f"{name} is a 16-bit BMP with an alpha channel, which is not read here; convert it to an 8-bit RGB PNG "
            "first."
        )
    if size >= 124 and kind == _LINKED_PROFILE:
        raise UnsupportedImageError(
            f"{name} is a BMP whose colour profile is in another file; convert it to sRGB, for example with: "
            "magick IN -colorspace sRGB -depth 8 OUT.png"
        )
    profile = b""
    if size >= 124 and kind == _EMBEDDED_PROFILE:
        check_profile_size(length, name=name)
        stream.seek(14 + start)
        profile = stream.read(length)
    stream.seek(0)
    return profile


def _webp_size(prefix: bytes) -> tuple[int, int]:
    """(width, height) from the first 30 bytes of a WebP file, (0, 0) where they are not all there.

    Source: WebP container specification (Google), RFC 6386 section 9.1, WebP lossless bitstream section 3.
    """
    kind, data = prefix[12:16], prefix[20:30]
    if len(data) < 10:
        return 0, 0
    if kind == b"VP8X":
        return 1 + int.from_bytes(data[4:7], "little"), 1 + int.from_bytes(data[7:10], "little")
    if kind == b"VP8L":
        packed = int.from_bytes(data[1:5], "little")
        return 1 + (packed & 0x3FFF), 1 + (packed >> 14 & 0x3FFF)
    return int.from_bytes(data[6:8], "little") & 0x3FFF, int.from_bytes(data[8:10], "little") & 0x3FFF


@contextmanager
def _typed_errors(name: str) -> Iterator[None]:
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
    reason = shorten(error)
    if reason == "not identified by this driver":  # Pillow's words for this
        reason = "its header gives it no pixels, or none of a known kind"
    if reason.startswith(_UNSUPPORTED_REASONS):
        return UnsupportedImageError(
            f"{name} is of a kind that is not read here ({reason}); convert it to an 8-bit RGB PNG first."
        )
    return CorruptImageError(
        f"{name} is damaged or cut off, its data does not decode ({reason}). Get the picture again from where "
        "it was made."
    )
