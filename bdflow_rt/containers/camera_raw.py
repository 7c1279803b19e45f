"""Files whose first picture is not the picture: camera raw, and TIFFs that begin with a reduced copy.

Source: TIFF 6.0; TIFF/EP (ISO 12234-2); DNG 1.7; the makers' own marks as LibRaw and ExifTool know them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import BinaryIO

from bdflow_rt.containers.tiff_directory import Directory, read_directories
from bdflow_rt.errors import CorruptImageError, UnsupportedImageError

_DEVELOP = (
    "Develop it first, for example with darktable or RawTherapee, to an 8-bit sRGB TIFF or PNG, and give that file."
)
_MARKS = (
    (8, b"CR\x02", "Canon CR2"),
    (4, b"ftypcrx", "Canon CR3"),
    (6, b"HEAPCCDR", "Canon CRW"),
    (0, b"IIRO", "Olympus ORF"),
    (0, b"IIRS", "Olympus ORF"),
    (0, b"MMOR", "Olympus ORF"),
    (0, b"IIU\0", "Panasonic RW2"),
    (0, b"FUJIFILMCCD-RAW", "Fujifilm RAF"),
    (0, b"FOVb", "Sigma X3F"),
    (0, b"\0MRM", "Minolta MRW"),
)
"""Offset and bytes of kinds that are not TIFF, or have more than TIFF's own mark; those at 8 follow that."""
_IIQ_MARKS, _IIQ_MAKERS = (b"IIII", b"MMMM"), ("PHASE", "LEAF", "MAMIYA")
"""At byte 8 of Phase One's files, where the pixels of other TIFFs may lie: so the maker has to fit as well."""
_TIFF_MARKS = (b"II*\0", b"MM\0*")

_WIDTH, _LENGTH, _COMPRESSION, _PHOTOMETRIC, _MAKE = 256, 257, 259, 262, 271
_SUBFILE_TYPE, _OLD_SUBFILE_TYPE, _SUB_IFDS, _DNG_VERSION = 254, 255, 330, 50706
_SAMPLES, _EXTRA_SAMPLES = 277, 338
_WANTED = (
    _SUBFILE_TYPE, _OLD_SUBFILE_TYPE, _WIDTH, _LENGTH, _COMPRESSION, _PHOTOMETRIC, _MAKE, _SUB_IFDS, _DNG_VERSION,
    _SAMPLES, _EXTRA_SAMPLES,
)  # fmt: skip
_SENSOR_COLOURS = (32803, 34892)
"""PhotometricInterpretation of a colour filter array, and of linear raw."""
_SENSOR_COMPRESSIONS = (32767, 32769, 32770, 34713, 65000, 65535)
"""Of Sony, Epson, Samsung, Nikon, Kodak and Pentax."""
_MAKERS = {
    "NIKON": "Nikon NEF", "SONY": "Sony ARW", "PENTAX": "Pentax PEF", "RICOH": "Pentax PEF", "SAMSUNG": "Samsung SRW",
    "CANON": "Canon", "HASSELBLAD": "Hasselblad 3FR", "EASTMAN": "Kodak", "KODAK": "Kodak", "SEIKO": "Epson ERF",
    "LEAF": "Leaf MOS", "MAMIYA": "Mamiya MEF",
}  # fmt: skip


def check_mark(prefix: bytes, *, name: str) -> None:
    """Refuse camera raw that shows by the first bytes of the file, 16 or more.

    Raises:
        UnsupportedImageError: it is.
    """
    for offset, mark, kind in _MARKS:
        if prefix.startswith(mark, offset) and (offset != 8 or prefix.startswith(_TIFF_MARKS)):
            raise _camera_raw(name, kind)


@dataclass(frozen=True)
class FirstPage:
    """What the directories of a TIFF say of its first page."""

    directory: Directory
    has_others: bool
    """Whether other pages follow it; reduced copies and masks of it are none."""


def check_first_page(stream: BinaryIO, *, name: str) -> FirstPage:
    """Refuse a TIFF whose first page is not its picture; the stream is where it was afterwards.

    Raises:
        UnsupportedImageError: camera raw, whose first page is at best a preview; or a first page that is a reduced
            copy of a picture in a sub-directory.
        CorruptImageError: such a copy, and the picture's directory is damaged.
    """
    start = stream.tell()
    found, complete = read_directories(stream, _WANTED)
    stream.seek(start + 8)
    is_iiq = stream.read(4) in _IIQ_MARKS
    stream.seek(start)
    if not found:
        return FirstPage({}, has_others=False)  # the decoder says what is wrong
    first = found[0][1]
    if is_iiq and _maker(first) in _IIQ_MAKERS:
        raise _camera_raw(name, "Phase One IIQ")
    if (kind := _kind_of_raw(found)) is not None:
        raise _camera_raw(name, kind)
    pictures = [directory for is_sub, directory in found if is_sub and not _is_mask(directory)]
    pictures = [
        directory
        for directory in pictures
        if _pixels(directory) > _pixels(first) or (_is_reduced(first) and not _is_reduced(directory))
    ]
    if not complete and _is_reduced(first):
        raise CorruptImageError(
            f"{name} is damaged or cut off: its first page is a reduced copy, and the directory of the picture itself "
            "cannot be read. Get the picture again from where it was made."
        )
    if pictures:
        raise UnsupportedImageError(
            f"{name} is a TIFF whose first page, {_size(first)}, is a reduced copy; the picture itself lies in a "
            f"sub-directory ({_size(max(pictures, key=_pixels))}). Save it as a TIFF or PNG of that picture alone."
        )
    others = [page for is_sub, page in found[1:] if not (is_sub or _is_reduced(page) or _is_mask(page))]
    return FirstPage(first, has_others=bool(others) or not complete)


def _kind_of_raw(found: list[tuple[bool, Directory]]) -> str | None:
    """The kind of camera raw, or None for other TIFFs."""
    first = found[0][1]
    if _DNG_VERSION in first:
        return "DNG"
    for _, directory in found:
        colours, compression = directory.get(_PHOTOMETRIC, ()), directory.get(_COMPRESSION, ())
        if set(colours) & set(_SENSOR_COLOURS) or set(compression) & set(_SENSOR_COMPRESSIONS):
            return _MAKERS.get(_maker(first), "of a kind unknown here")
    return None


def _maker(directory: Directory) -> str:
    """The first word of the maker's name, in capitals."""
    words = "".join(chr(value & 255) for value in directory.get(_MAKE, ())).strip("\0 ").upper().split()
    return words[0] if words else ""


def _camera_raw(name: str, kind: str) -> UnsupportedImageError:
    return UnsupportedImageError(
        f"{name} is camera raw ({kind}): the data of a sensor, with a preview at most as a picture. {_DEVELOP}"
    )


def _is_reduced(directory: Directory) -> bool:
    return bool(directory.get(_SUBFILE_TYPE, (0,))[0] & 1) or directory.get(_OLD_SUBFILE_TYPE, (0,))[0] == 2


def _is_mask(directory: Directory) -> bool:
    return bool(directory.get(_SUBFILE_TYPE, (0,))[0] & 4)


def _pixels(directory: Directory) -> int:
    return directory.get(_WIDTH, (0,))[0] * directory.get(_LENGTH, (0,))[0]


def _size(directory: Directory) -> str:
    return f"{directory.get(_WIDTH, (0,))[0]} x {directory.get(_LENGTH, (0,))[0]}"
