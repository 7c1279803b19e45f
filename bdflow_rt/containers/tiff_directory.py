"""The directories of a TIFF, read without trust: tags of whole numbers and text, and where the next directory is.

EXIF data has the same form.

Source: TIFF 6.0, section 2; BigTIFF as libtiff has it; TIFF Technical Note 1 (SubIFDs).
"""

from __future__ import annotations

import struct
from collections.abc import Collection
from typing import BinaryIO

_SUB_IFDS = 330
_TYPES = {1: "B", 2: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}
_MAX_DIRECTORIES, _MAX_ENTRIES, _MAX_VALUES = 64, 4096, 64
_MAX_OFFSET = 1 << 40
"""A terabyte. File systems refuse to seek to numbers that hostile files have."""

Directory = dict[int, tuple[int, ...]]
"""Values by tag: numbers, or the bytes of a text, at most 64. Tags of other types are left out."""


def read_directories(stream: BinaryIO, wanted: Collection[int]) -> tuple[list[tuple[bool, Directory]], bool]:
    """The directories up to the first that cannot be read, and whether these are all; at most 64.

    Args:
        stream: at the start of the TIFF.
        wanted: tags to read.

    Returns:
        Those of the chain with False, after each its sub-directories with True.
    """
    found: list[tuple[bool, Directory]] = []
    try:
        _walk(stream, found, wanted)
    except (ValueError, struct.error):
        return found, False
    return found, True


def read_path(stream: BinaryIO, *steps: int) -> Directory:
    """The first directory, or the one that tags with an offset lead to from there, one after the other.

    Args:
        stream: a TIFF from its very start.
        steps: tags that hold offsets, and last the tag that is wanted.

    Returns:
        The directory with that tag at most; empty where there is no way to it.
    """
    try:
        order, big, link = _header(stream)
        directory: Directory = {}
        for step in steps:
            directory, _ = _directory(stream, link, order, big, (step,))
            link = directory.get(step, (0,))[0]
            if step != steps[-1] and not link:
                return {}
    except (ValueError, struct.error):
        return {}
    return directory


def _header(stream: BinaryIO) -> tuple[str, bool, int]:
    """Byte order, whether it is BigTIFF, and where the first directory is."""
    head = stream.read(16)
    order = "<" if head[:2] == b"II" else ">"
    big = head[2:4] in (b"+\0", b"\0+")
    return order, big, struct.unpack_from(order + ("Q" if big else "I"), head, 8 if big else 4)[0]


def _walk(stream: BinaryIO, found: list[tuple[bool, Directory]], wanted: Collection[int]) -> None:
    """Append the directories of the chain, and after each its sub-directories, with True."""
    order, big, link = _header(stream)
    wanted = {*wanted, _SUB_IFDS}
    seen: set[int] = set()
    while link and link not in seen and len(seen) < _MAX_DIRECTORIES:
        seen.add(link)
        directory, behind = _directory(stream, link, order, big, wanted)
        found.append((False, directory))
        for sub in directory.get(_SUB_IFDS, ()):
            if sub and sub not in seen and len(seen) < _MAX_DIRECTORIES:
                seen.add(sub)
                found.append((True, _directory(stream, sub, order, big, wanted)[0]))
        link = _read(stream, behind, order + ("Q" if big else "I"))[0]


def _directory(stream: BinaryIO, start: int, order: str, big: bool, wanted: Collection[int]) -> tuple[Directory, int]:
    """The wanted tags of a directory, and where its link to the next one is."""
    count_type, word, entry_bytes = ("Q", "Q", 20) if big else ("H", "I", 12)
    count = _read(stream, start, order + count_type)[0]
    if count > _MAX_ENTRIES:
        raise ValueError(f"{count} tags")
    at = start + struct.calcsize(order + count_type)
    directory: Directory = {}
    for entry in range(at, at + count * entry_bytes, entry_bytes):
        tag, kind, length = _read(stream, entry, f"{order}HH{word}")
        if tag not in wanted or kind not in _TYPES:
            continue
        values = f"{order}{min(length, _MAX_VALUES)}{_TYPES[kind]}"
        place = entry + struct.calcsize(f"{order}HH{word}")
        if length * struct.calcsize(_TYPES[kind]) > struct.calcsize(word):
            place = _read(stream, place, order + word)[0]
        if found := _read(stream, place, values):
            directory[tag] = found
    return directory, at + count * entry_bytes


def _read(stream: BinaryIO, start: int, layout: str) -> tuple[int, ...]:
    if start > _MAX_OFFSET:
        raise ValueError(f"offset {start}")
    stream.seek(start)
    return struct.unpack(layout, stream.read(struct.calcsize(layout)))
