"""Writing whole files: a failed or killed write leaves the old file, never half of the new one.

And what JSON can hold, and what a process is started with: descriptors 0 to 2, and the streams of Python on them.
"""

from __future__ import annotations

import errno
import io
import math
import os
import secrets
import stat
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import Any, BinaryIO, TypeGuard

from bdflow_rt.errors import ArgumentError, DiskFullError, OutputError, OutputExistsAsInputError, UnwritableOutputError

PathLike = str | os.PathLike[str]
Writer = Callable[[BinaryIO], None]
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def is_path(value: object) -> TypeGuard[PathLike]:
    """Whether something is meant as the name of a file."""
    return isinstance(value, (str, os.PathLike))


def as_path(path: PathLike) -> Path:
    """A name as a `Path`.

    Raises:
        ArgumentError: it is neither a string nor a path.
    """
    if not isinstance(path, (str, os.PathLike)) or not isinstance(os.fspath(path), str):
        raise ArgumentError(f"The path is a {type(path).__name__}; it must be a string or a pathlib.Path.")
    return Path(path)


def write_atomically(path: PathLike, content: bytes | Writer) -> int:
    """Write a file by way of a temporary one in the same folder: write, fsync, rename, fsync the folder.

    An existing file keeps its permissions, a new one gets those of the umask; a symbolic link stays one, and its
    target is replaced. Pipes and devices such as /dev/stdout are written straight, since a rename would replace them.

    Args:
        path: where to.
        content: the bytes, or a function that writes them to the binary file it is given.

    Returns:
        Bytes that were written.

    Raises:
        DiskFullError: disk, quota or file size limit reached; the partial file was removed.
        UnwritableOutputError: missing or read-only folder, or `path` is a folder.
    """
    name = as_path(path)
    with _typed_errors(name):
        status = _status(name)
        target = Path(os.path.realpath(name))
        if status is not None and not _is_replaceable(status, target):
            data = io.BytesIO()  # what writes to a file may seek in it
            _fill(data, content)
            with open(name, "wb") as file:
                return file.write(data.getbuffer())
        _check_writable(name, target, status)
        return _replace(target, content, status=status)


def write_private(path: PathLike, content: bytes) -> None:
    """As `write_atomically`, but a new file that only this user can read, in the place of whatever has the name.

    A symbolic link or pipe goes, and what a link leads to is left alone. A folder is refused.

    Raises:
        DiskFullError, UnwritableOutputError: as `write_atomically`.
    """
    with _typed_errors(Path(path)):
        _replace(Path(path), content, mode=0o600)


def _replace(target: Path, content: bytes | Writer, *, mode: int = 0o666, status: os.stat_result | None = None) -> int:
    """Write beside the target, with the owner and mode of the file of `status`, and rename; returns the size."""
    temporary = _temporary_beside(target)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        with open(descriptor, "wb") as file:
            if status is not None:
                _keep_owner_and_mode(descriptor, status)
            _fill(file, content)
            file.flush()
            os.fsync(descriptor)
            size = os.fstat(descriptor).st_size
        os.replace(temporary, target)
    except BaseException:  # an interrupt, too, leaves nothing behind
        with suppress(OSError):
            os.unlink(temporary)
        raise
    sync_folder(target.parent)
    return size


def check_output(path: PathLike, *, inputs: Iterable[PathLike] = ()) -> None:
    """Check before long work that `path` can be written and is none of the inputs.

    Raises:
        OutputExistsAsInputError: it is one of the inputs, also by way of a symbolic or hard link.
        UnwritableOutputError: as `write_atomically`.
        DiskFullError: not even an empty file fits.
    """
    name = as_path(path)
    with _typed_errors(name):
        status = _status(name)
        target = Path(os.path.realpath(name))
        for source in map(as_path, inputs):
            same = False
            with suppress(OSError, ValueError):  # an input that cannot be looked at gets its own error when it is read
                same = status is not None and os.path.samestat(status, os.stat(source))
            if same:
                raise OutputExistsAsInputError(
                    f"The output '{name}' is the same file as the input '{source}', which would be lost. "
                    "Choose another name for the output."
                )
        if status is not None and not _is_replaceable(status, target):
            return
        _check_writable(name, target, status)
        # Trying is the only test that also sees read-only file systems and folders like /proc, even as root.
        probe = _temporary_beside(target)
        os.close(os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        os.unlink(probe)


@contextmanager
def _typed_errors(name: Path) -> Iterator[None]:
    try:
        yield
    except (OutputError, ArgumentError):
        raise
    except (OSError, ValueError) as error:  # ValueError: a name with a null byte
        code = error.errno if isinstance(error, OSError) else None
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        if code in _FULL:
            raise DiskFullError(
                f"'{name}' could not be written ({reason}), and no partial file is left. Free some space or choose "
                "another disk."
            ) from error
        if code in (errno.ENOENT, errno.ENOTDIR):
            raise UnwritableOutputError(
                f"'{name}' cannot be written: no file can be made in the folder '{name.parent}' ({reason}). "
                "Create the folder or choose another one."
            ) from error
        raise UnwritableOutputError(
            f"'{name}' cannot be written ({reason}). Check the permissions or choose another name."
        ) from error


def _status(name: Path) -> os.stat_result | None:
    """What the name stands for, links followed, or None where it is free; a free name needs no folder yet."""
    try:
        return os.stat(name)
    except (FileNotFoundError, NotADirectoryError):
        return None


def _is_replaceable(status: os.stat_result, target: Path) -> bool:
    """Whether a rename over `target` is what the user means: not for pipes, devices, or deleted files in /proc."""
    if stat.S_ISDIR(status.st_mode):
        return True  # refused by _check_writable
    at_target = _status(target)
    return stat.S_ISREG(status.st_mode) and at_target is not None and os.path.samestat(status, at_target)


def _check_writable(name: Path, target: Path, status: os.stat_result | None) -> None:
    if status is not None and stat.S_ISDIR(status.st_mode):
        raise UnwritableOutputError(f"'{name}' is a folder; add the name of a file to write in it.")
    # A rename would get around the read-only flag of an existing file, which is there to protect it.
    if status is not None and not os.access(target, os.W_OK, effective_ids=True):
        raise UnwritableOutputError(f"'{name}' exists and is read-only; make it writable or choose another name.")


def _temporary_beside(target: Path) -> Path:
    # Not derived from the name, which may already be as long as the file system allows.
    return target.parent / f".bdflow-{secrets.token_hex(8)}.part"


def _keep_owner_and_mode(descriptor: int, status: os.stat_result) -> None:
    with suppress(PermissionError):  # only root can give a file away
        os.fchown(descriptor, status.st_uid, status.st_gid)
    os.fchmod(descriptor, stat.S_IMODE(status.st_mode))


def _fill(file: BinaryIO, content: bytes | Writer) -> None:
    if callable(content):
        content(file)
    else:
        file.write(content)


def finite(value: Any) -> Any:
    """A value as JSON can hold it: None for NaN and the infinities, such as the PSNR of equal pictures."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def sync_folder(folder: Path) -> None:
    """Make what was renamed in a folder last, where the file system can."""
    with suppress(OSError):  # the file is complete; some network file systems cannot sync a folder
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def fill_descriptors() -> None:
    """Give a process that was started without descriptors 0, 1 or 2 ones that can be read but not written.

    Files that are opened later would get these numbers, and what libraries write to stderr would be written into them.
    """
    while (descriptor := os.open(os.devnull, os.O_RDONLY)) <= 2:  # the lowest number that is free
        os.set_inheritable(descriptor, True)
    os.close(descriptor)


@contextmanager
def standard_streams() -> Iterator[None]:
    """Inside, `sys.stdout` and `sys.stderr` are streams, which lead nowhere where they were None or closed.

    None is what Python makes of closed descriptors (`2>&-`, daemons), and `print(file=None)` prints on stdout.
    """
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        out, err = (nowhere if stream is None or stream.closed else stream for stream in (sys.stdout, sys.stderr))
        with redirect_stdout(out), redirect_stderr(err):
            yield
