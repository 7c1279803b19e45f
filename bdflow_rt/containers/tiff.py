"""What a TIFF's tags say of its pixels that Pillow does not heed, and checksums that libtiff does not look at.

Source: TIFF 6.0; for colour maps, missing tags and YCbCr libtiff's TIFFReadRGBAImage.
"""

from __future__ import annotations

import itertools
import zlib
from typing import IO, TYPE_CHECKING, Any

from bdflow_rt.containers.advice import TO_8_BIT_RGB, TO_LZW, WITHOUT_EXTRA_CHANNELS
from bdflow_rt.containers.pillow import is_before_13
from bdflow_rt.containers.tiff_directory import Directory
from bdflow_rt.errors import CorruptImageError, UnsupportedImageError

if TYPE_CHECKING:
    from PIL.TiffImagePlugin import TiffImageFile

_BITS, _COMPRESSION, _PHOTOMETRIC, _COLOUR_MAP, _EXTRA_SAMPLES = 258, 259, 262, 320, 338
_LENGTH, _ROWS, _PLANAR, _SAMPLES, _OFFSETS = 257, 278, 284, 277, 273
_WIDTH, _TILE_WIDTH, _TILE_LENGTH, _TILE_OFFSETS = 256, 322, 323, 324
_COUNTS, _TILE_COUNTS = 279, 325
_COEFFICIENTS, _SUBSAMPLING, _REFERENCE = 529, 530, 532
_FILL_ORDER, _REVERSED = 266, bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
_FAX = (2, 3, 4, 32771)
"""Compressions that TIFFReadRGBAImage, too, takes for black on white where the file does not say."""
_UNCOMPRESSED, _OLD_JPEG = 1, 6
_DEFLATE, _BLOCK_BYTES, _SPARE_BYTES = (8, 32946), 1 << 20, 1024
"""Compressions; what is inflated at a time; and what a part may have beyond twice its pixels."""
_READABLE = {1, 2, 3, 4, 5, 6, 7, 8, 32771, 32773, 32809, 32946, 34676, 34677, 34925, 50000}
"""Compressions that Pillow's own builds of libtiff read."""
_COMPRESSIONS = {
    9: "JBIG", 10: "JBIG", 33003: "JPEG 2000", 33004: "JPEG 2000", 33005: "JPEG 2000", 34661: "JBIG",
    34712: "JPEG 2000", 34715: "JBIG 2", 34887: "LERC", 34892: "lossy JPEG of DNG", 34926: "an old Zstandard",
    34927: "WebP", 34933: "PNG", 34934: "JPEG XR", 50001: "WebP", 50002: "JPEG XL", 52546: "JPEG XL",
}  # fmt: skip
"""Others, by the names that people know."""
_OF_FEW = {9, 10, 34661, 34715, 34892, 34926}
"""Those of them that tifffile and imagecodecs do not unpack either."""
_METADATA = {
    270: "text", 282: "resolution", 305: "text", 306: "text", 315: "text", 33432: "text", 700: "XMP", 33723: "IPTC",
    34665: "EXIF", 34853: "EXIF",
}  # fmt: skip
"""Kinds of metadata by tag: ImageDescription, XResolution, Software, DateTime, Artist, Copyright and others' blocks."""
_UNSPECIFIED, _MAX_SAMPLES = 0, 6
"""An extra sample that is no alpha channel; Pillow's most samples, beyond which it writes to stderr."""
_YCBCR = 6
_BT601, _FULL_RANGE = (0.299, 0.587, 0.114), (0, 255, 128, 255, 128, 255)


def check_first_directory(tags: Directory, *, name: str) -> None:
    """Refuse a TIFF that no decoder here unpacks, before one tries and calls it damaged, or leaves channels out.

    Raises:
        UnsupportedImageError: of such a compression, with samples beside the colours that are no alpha channel, or
            with more samples than Pillow knows.
    """
    compression = tags.get(_COMPRESSION, (_UNCOMPRESSED,))[0]
    if compression not in _READABLE:
        what = f"{name} is a TIFF compressed by {_COMPRESSIONS.get(compression, f'method {compression}')}"
        way = (
            "in the program that made it."
            if compression in _OF_FEW or compression not in _COMPRESSIONS
            else f"for example with: {TO_LZW}"
        )
        raise UnsupportedImageError(f"{what}, which is not read here; save it with LZW or Deflate, {way}")
    dropped = tags.get(_EXTRA_SAMPLES, ()).count(_UNSPECIFIED)
    if dropped:
        raise UnsupportedImageError(
            f"{name} is a TIFF with {dropped} channel{'s' * (dropped > 1)} beside its colours that would be lost, and "
            f"the file does not say what for. Remove them, for example with: {WITHOUT_EXTRA_CHANNELS}"
        )
    samples = tags.get(_SAMPLES, (1,))[0]
    if samples > _MAX_SAMPLES:
        raise UnsupportedImageError(
            f"{name} is a TIFF of {samples} samples per pixel; at most {_MAX_SAMPLES} are read here. Remove the "
            f"channels beside its colours, for example with: {WITHOUT_EXTRA_CHANNELS}"
        )


def tiff_metadata(image: TiffImageFile) -> frozenset[str]:
    """The kinds of metadata that an opened TIFF's first page has."""
    return frozenset(kind for tag, kind in _METADATA.items() if tag in image.tag_v2)


def prepare_tiff(image: TiffImageFile, *, name: str) -> None:
    """Have an opened TIFF decode to the colours that it means.

    A colour map with no entry of 256 or more holds 8-bit values, as in libtiff; Pillow would make it black.

    Raises:
        CorruptImageError: a colour map of another length than the bits call for, or strips or tiles that are missing,
            which Pillow would leave black.
        UnsupportedImageError: no PhotometricInterpretation; or uncompressed YCbCr that is subsampled or of other
            coefficients than BT.601 at full range, which Pillow decodes to wrong colours.
    """
    tags = image.tag_v2
    compression = tags.get(_COMPRESSION, _UNCOMPRESSED)
    if _PHOTOMETRIC not in tags and compression not in (*_FAX, _OLD_JPEG):
        raise UnsupportedImageError(
            f"{name} is a TIFF without the tag PhotometricInterpretation, so it may be a negative; save it again with "
            "a program that writes the tag."
        )
    if tags.get(_PHOTOMETRIC) == _YCBCR and compression == _UNCOMPRESSED and not _is_plain_ycbcr(tags):
        raise UnsupportedImageError(
            f"{name} is a TIFF of uncompressed YCbCr of a kind that is not decoded right here; convert it to "
            f"8-bit RGB, for example with: {TO_8_BIT_RGB}"
        )
    if compression == _UNCOMPRESSED:  # libtiff looks at those of the others
        _check_parts(tags, name)
    if image.mode in ("P", "PA"):
        _set_palette(image, name)


def check_deflate(tags: Any, stream: IO[bytes]) -> None:
    """Inflate the strips or tiles for their checksums: libtiff stops as soon as it has pixels enough.

    Args:
        tags: of a TIFF whose pixels Pillow has decoded.
        stream: the file.

    Raises:
        ValueError, zlib.error: one is damaged, or does not reach its end.
    """
    if tags.get(_COMPRESSION) not in _DEFLATE:
        return
    needed, across, down = _parts(tags)
    row_bytes = -(-across * max(tags.get(_BITS, (1,))) * tags.get(_SAMPLES, 1) // 8)
    most = 2 * row_bytes * (min(down, tags[_LENGTH]) if _OFFSETS in tags else down) + _SPARE_BYTES
    counts = tags.get(_COUNTS, tags.get(_TILE_COUNTS, ()))
    for offset, count in itertools.islice(zip(_offsets(tags), counts, strict=False), needed):
        stream.seek(offset)
        if not _reaches_its_end(stream, min(count, most), most, is_reversed=tags.get(_FILL_ORDER) == 2):
            raise ValueError("its pixels end without their checksum")


def _reaches_its_end(stream: IO[bytes], count: int, most: int, *, is_reversed: bool) -> bool:
    """Whether a zlib stream of so many bytes does, having inflated to not much more than `most`."""
    inflater, inflated = zlib.decompressobj(), 0
    while (block := stream.read(min(count, _BLOCK_BYTES))) and inflated <= most:
        count -= len(block)
        block = block.translate(_REVERSED) if is_reversed else block
        while block and not inflater.eof and inflated <= most:
            inflated += len(inflater.decompress(block, _BLOCK_BYTES))
            block = inflater.unconsumed_tail
        if inflater.eof:
            return True
    return False


def _parts(tags: Any) -> tuple[int, int, int]:
    """How many strips or tiles the picture needs, and the pixels of one across and down."""
    width, length = tags[_WIDTH], tags[_LENGTH]
    across, down = (width, tags.get(_ROWS, length)) if _OFFSETS in tags else (tags[_TILE_WIDTH], tags[_TILE_LENGTH])
    planes = tags.get(_SAMPLES, 1) if tags.get(_PLANAR, 1) == 2 else 1
    return -(-width // across) * -(-length // down) * planes, across, down


def _offsets(tags: Any) -> Any:
    return tags.get(_OFFSETS, tags.get(_TILE_OFFSETS, ()))


def _check_parts(tags: Any, name: str) -> None:
    """Refuse a picture some of whose strips or tiles have no place in the file."""
    needed, _, _ = _parts(tags)
    present = sum(offset > 0 for offset in _offsets(tags))
    if present < needed:
        raise CorruptImageError(
            f"{name} is damaged: it needs {needed} strips or tiles and has {present}. Get the picture again from where "
            "it was made."
        )


def _set_palette(image: TiffImageFile, name: str) -> None:
    from PIL import ImagePalette

    bits = image.tag_v2.get(_BITS, (1,))[0]
    values = image.tag_v2[_COLOUR_MAP]
    if len(values) != 3 << bits:
        raise CorruptImageError(
            f"{name} has a colour map of {len(values)} entries where {bits} bits per pixel need {3 << bits}. Get the "
            "picture again from where it was made."
        )
    if max(values) < 256:
        image.palette = ImagePalette.raw("RGB;L", bytes(values))


def _is_plain_ycbcr(tags: Any) -> bool:
    """Whether each pixel has its own chroma, plain BT.601 at full range makes RGB of it, and Pillow decodes that."""
    coefficients, reference = tags.get(_COEFFICIENTS, _BT601), tags.get(_REFERENCE, _FULL_RANGE)
    return (
        not is_before_13()
        and tuple(tags.get(_SUBSAMPLING, (2, 2))) == (1, 1)
        and [round(float(value), 3) for value in coefficients] == list(_BT601)
        and [round(float(value)) for value in reference] == list(_FULL_RANGE)
    )
