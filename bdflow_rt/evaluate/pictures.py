"""Folders of pictures, and lists of held-out originals in training packs."""

from __future__ import annotations

import contextlib
import os
import pathlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from bdflow_rt.errors import MissingFileError, UnreadableFileError

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".gif"}


def list_pictures(folder: pathlib.Path, *, recursive: bool = False) -> list[pathlib.Path]:
    """The pictures of a folder by name, with `recursive` those of its subfolders too.

    Names that begin with "._" are left out: macOS keeps what other file systems cannot in files of such names.

    Raises:
        MissingFileError: the folder is missing or holds none.
        UnreadableFileError: it, or one in it, may not be listed.
    """
    if not os.path.isdir(folder):  # a name that is too long, for one, is no reason for an OSError
        raise MissingFileError(f"'{folder}' is not a folder; give a folder of pictures.")
    found = sorted(_pictures(folder, recursive=recursive))
    if not found:
        below = subfolders_with_pictures(folder)
        advice = f" Its subfolders do ({', '.join(below[:3])}): give --recursive." if below and not recursive else ""
        raise MissingFileError(f"'{folder}' holds no pictures ({', '.join(sorted(SUFFIXES))}).{advice}")
    return found


def subfolders_with_pictures(folder: pathlib.Path) -> list[str]:
    """The folders right inside a folder that hold pictures, at whatever depth; links to folders are not followed."""
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
    with contextlib.suppress(UnreadableFileError):
        return [name for name in names if next(_pictures(folder / name, recursive=True), None)]
    return []


def _pictures(folder: pathlib.Path, *, recursive: bool) -> Iterator[pathlib.Path]:
    try:
        with os.scandir(folder) as entries:
            found = list(entries)
    except OSError as error:
        raise UnreadableFileError(f"The folder '{folder}' cannot be listed: {error.strerror}.") from None
    for entry in found:
        path = folder / entry.name
        if path.suffix.lower() in SUFFIXES and not entry.name.startswith("._"):
            yield path
        elif recursive and entry.is_dir(follow_symlinks=False):
            yield from _pictures(path, recursive=True)


@contextmanager
def open_pictures(place: pathlib.Path, *, recursive: bool = False) -> Iterator[list[pathlib.Path]]:
    """The pictures of a folder by name, or those of a list of held-out originals (.json), unpacked while it lasts.

    Raises:
        MissingFileError, UnreadableFileError: as `list_pictures`.
        TrainingDataError: the list or one of its packs cannot be read.
    """
    if place.suffix.lower() != ".json":
        yield list_pictures(place, recursive=recursive)
        return
    if not place.is_file():
        raise MissingFileError(f"'{place}' does not exist; give a folder of pictures, or a list of held-out originals.")
    from bdflow_rt.training.sources import Split

    with tempfile.TemporaryDirectory() as folder:
        for name, data in Split.read(place).pictures():
            pathlib.Path(folder, pathlib.PurePath(name).name).write_bytes(data)
        yield list_pictures(pathlib.Path(folder))
