"""Opening input files, with one typed error per reason why that may fail."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from bdflow_rt.errors import CorruptImageError, ImageTooLargeError, MissingFileError, UnreadableFileError
from bdflow_rt.files import PathLike, as_path
from bdflow_rt.pipes import InputPipe

FILE_AGAIN = "Get the file again from where it was made."
_METADATA_ALLOWANCE = 32 << 20
START_BYTES = 30
"""What tells all formats apart, and the size of a WebP."""


def max_file_bytes(max_pixels: int) -> int:
    """What no packet or JPEG of so many pixels exceeds; other files may be longer.

    A pixel of LR takes at most 3 bytes and its boundary level 1, and neither grows by more than a fifth when packed.
    """
    return 5 * max_pixels + _METADATA_ALLOWANCE


@contextmanager
def open_input(path: PathLike) -> Iterator[BinaryIO]:
    """Open a regular, non-empty file for reading.

    Raises:
        MissingFileError: it does not exist, or is a folder, pipe or device.
        UnreadableFileError: it cannot be opened, or reading it fails.
        CorruptImageError: it is empty.
    """
    name = as_path(path)
    try:
        # Looked at before opening, since opening a pipe would wait for its other end.
        status = os.stat(name)
        if not stat.S_ISREG(status.st_mode):
            kind = "a folder" if stat.S_ISDIR(status.st_mode) else "a pipe or device"
            raise MissingFileError(f"'{name}' is {kind}; the name of a file is needed.")
        if status.st_size == 0:
            raise CorruptImageError(f"'{name}' is empty (0 bytes); get it again from where it was made.")
        file = open(name, "rb")  # noqa: SIM115 - closed below; opening and reading fail with different messages
    except (OSError, ValueError) as error:  # ValueError: a name with a null byte
        raise _typed(name, error) from error
    with file:
        try:
            yield file
        except OSError as error:
            raise _typed(name, error) from error


def file_size(path: PathLike) -> int:
    """Bytes of a file that will be read: later it may be gone.

    Raises:
        MissingFileError, UnreadableFileError, CorruptImageError: as `open_input`.
    """
    with open_input(path) as file:
        return os.fstat(file.fileno()).st_size


def read_file(path: PathLike, *, max_bytes: int) -> bytes:
    """The content of a file.

    Raises:
        MissingFileError, UnreadableFileError, CorruptImageError: as `open_input`.
        ImageTooLargeError: it has more than `max_bytes`.
    """
    with open_input(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > max_bytes:
            raise ImageTooLargeError(
                f"'{path}' has {size} bytes, more than any picture within max_pixels needs ({max_bytes}). "
                "Raise max_pixels if it really is one."
            )
        return file.read(size)


def read_pipe(pipe: InputPipe, *, name: str, max_bytes: int, check: Callable[[bytes], None]) -> bytes:
    """All that comes from a pipe; `name` is what messages call it.

    `check` sees what has come when that are 30 bytes or more, and what it raises ends the reading: a program that
    writes no picture may never stop.

    Raises:
        UnreadableFileError: reading fails.
        CorruptImageError: nothing comes.
        ImageTooLargeError: more than `max_bytes` come.
    """
    data = bytearray(pipe.peek(START_BYTES))
    if len(data) == START_BYTES:
        check(bytes(data))
    data.clear()
    while len(data) <= max_bytes and (part := pipe.read()):
        data += part
    if not data:
        raise CorruptImageError(f"{name} is empty (0 bytes); check the program that was to write something to it.")
    if len(data) > max_bytes:
        raise ImageTooLargeError(
            f"{name} has more than {max_bytes} bytes, which no picture within max_pixels needs. Raise max_pixels if it "
            "really is one."
        )
    return bytes(data)


def _typed(name: Path, error: OSError | ValueError) -> MissingFileError | UnreadableFileError:
    missing = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.ENXIO)
    if isinstance(error, ValueError) or error.errno in missing:
        return MissingFileError(f"'{name}' does not exist; check the name and the folder.")
    reason = error.strerror or str(error)
    return UnreadableFileError(f"'{name}' cannot be read ({reason}); check its permissions and the disk.")
