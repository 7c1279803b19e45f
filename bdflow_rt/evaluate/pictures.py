"""Folders of pictures, and lists of held-out originals in training packs."""

from __future__ import annotations

import os
import pathlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from bdflow_rt.errors import MissingFileError, UnreadableFileError

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".ppm"}


def list_pictures(folder: pathlib.Path) -> list[pathlib.Path]:
    """The pictures of a folder by name.

    Raises:
        MissingFileError: the folder is missing or holds none.
        UnreadableFileError: it may not be listed.
    """
    if not os.path.isdir(folder):  # a name that is too long, for one, is no reason for an OSError
        raise MissingFileError(f"'{folder}' is not a folder; give a folder of pictures.")
    try:
        found = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    except OSError as error:
        raise UnreadableFileError(f"The folder '{folder}' cannot be listed: {error.strerror}.") from None
    if not found:
        raise MissingFileError(f"'{folder}' holds no pictures ({', '.join(sorted(SUFFIXES))}).")
    return found


@contextmanager
def open_pictures(place: pathlib.Path) -> Iterator[list[pathlib.Path]]:
    """The pictures of a folder by name, or those of a list of held-out originals (.json), unpacked while it lasts.

    Raises:
        MissingFileError, UnreadableFileError: as `list_pictures`.
        TrainingDataError: the list or one of its packs cannot be read.
    """
    if place.suffix.lower() != ".json":
        yield list_pictures(place)
        return
    if not place.is_file():
        raise MissingFileError(f"'{place}' does not exist; give a folder of pictures, or a list of held-out originals.")
    from bdflow_rt.training.sources import Split

    with tempfile.TemporaryDirectory() as folder:
        for name, data in Split.read(place).pictures():
            pathlib.Path(folder, pathlib.PurePath(name).name).write_bytes(data)
        yield list_pictures(pathlib.Path(folder))
