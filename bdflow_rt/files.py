"""Writing whole files: a failed or killed write leaves the old file, never half of the new one.

Names that stand for an open descriptor, such as /dev/stdout, are written through it. And what JSON can hold, and what
a process is started with: descriptors 0 to 2, and the streams of Python on them.
"""

from __future__ import annotations

import errno
import fcntl
import io
import math
import os
import re
import secrets
import select
import shutil
import stat
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import Any, BinaryIO, TypeGuard

from bdflow_rt.errors import ArgumentError, DiskFullError, OutputError, OutputExistsAsInputError, UnwritableOutputError

PathLike = str | os.PathLike[str]
Writer = Callable[[BinaryIO], None]
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_DESCRIPTOR = re.compile(r"/dev/(?:stdin|stdout|stderr)|/(?:dev|proc/self)/fd/(\d{1,9})")
_STANDARD = {"/dev/stdin": 0, "/dev/stdout": 1, "/dev/stderr": 2}


def is_path(value: object) -> TypeGuard[PathLike]:
    """Whether something is meant as the name of a file."""
    return isinstance(value, (str, os.PathLike))


def as_path(path: PathLike) -> Path:
    """A name as a `Path`.

    Raises:
        ArgumentError: it is neither a string nor a path, or an empty string.
    """
    if not isinstance(path, (str, os.PathLike)) or not isinstance(os.fspath(path), str):
        raise ArgumentError(f"The path is a {type(path).__name__}; it must be a string or a pathlib.Path.")
    if not os.fspath(path):
        raise ArgumentError("The name of a file is empty (''); give the name of a file.")
    return Path(path)


def descriptor_of(path: PathLike) -> int | None:
    """The number of the open descriptor that a name stands for, such as 1 for /dev/stdout; None for other names."""
    name = os.fspath(path)
    named = _DESCRIPTOR.fullmatch(name)
    return None if named is None else _STANDARD[name] if named[1] is None else int(named[1])


def shown(path: PathLike) -> str:
    """What messages call a file: its name in quotes, or which of the standard streams it is."""
    number = descriptor_of(path)
    return f"'{path}'" if number not in (0, 1) else "standard output" if number else "standard input"


def write_atomically(path: PathLike, content: bytes | Writer) -> int:
    """Write a file by way of a temporary one in the same folder: write, fsync, rename, fsync the folder.

    An existing file keeps its permissions, a new one gets those of the umask; a symbolic link stays one, and its
    target is replaced. Pipes, devices and open descriptors such as /dev/stdout are written straight, since a rename
    would replace them; so is, with a `UserWarning`, a file that is mounted by itself, which no rename replaces.

    Args:
        path: where to.
        content: the bytes, or a function that writes them to the binary file it is given.

    Returns:
        Bytes that were written.

    Raises:
        DiskFullError: disk, quota or file size limit reached; the partial file was removed.
        UnwritableOutputError: missing or read-only folder, or `path` is a folder; or a descriptor is closed, a
            terminal, or a pipe whose reader has gone, which is a `BrokenPipeError` as the cause.
    """
    name = as_path(path)
    with _typed_errors(name):
        if (number := descriptor_of(name)) is not None:
            _check_descriptor(name, number)
            return _write_through(number, _whole(content))
        status = _status(name)
        target = Path(os.path.realpath(name))
        if status is not None and not _is_replaceable(status, target):
            with open(name, "wb") as file:
                return file.write(_whole(content))
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
        try:
            os.replace(temporary, target)
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            _write_in_place(temporary, target)
    except BaseException:  # an interrupt, too, leaves nothing behind
        with suppress(OSError):
            os.unlink(temporary)
        raise
    sync_folder(target.parent)
    return size


def _write_in_place(temporary: Path, target: Path) -> None:
    """Write the content of a file over another one that cannot be renamed over: in a container, one that is mounted."""
    with open(temporary, "rb") as source, open(target, "r+b") as file:
        try:
            file.truncate()
            shutil.copyfileobj(source, file, 1 << 20)
            file.flush()
            os.fsync(file.fileno())
        except OSError as error:
            raise UnwritableOutputError(
                f"'{target}', which is mounted by itself, could not be written in place ({error.strerror}), and what "
                "is in it now is not whole. Free some space and write it again."
            ) from error
    temporary.unlink()
    warnings.warn(
        f"'{target}' is mounted by itself, so it was written in place: had that failed, half a file would be left. "
        "Mount its folder instead to have it replaced as a whole.",
        stacklevel=6,
    )


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
                same = is_file(status) and os.path.samestat(status, os.stat(source))
            if same:
                raise OutputExistsAsInputError(
                    f"The output {shown(name)} is the same file as the input {shown(source)}, which would be lost. "
                    "Choose another name for the output."
                )
        if (number := descriptor_of(name)) is not None:
            _check_descriptor(name, number)
            return
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
        if descriptor_of(name) is not None:
            raise _typed_of_descriptor(name, code, reason) from error
        if code in _FULL and _is_special(name):
            raise DiskFullError(
                f"'{name}' is a pipe or device and could not be written whole ({reason}); choose another output."
            ) from error
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


def _typed_of_descriptor(name: Path, code: int | None, reason: str) -> OutputError:
    what = shown(name)
    what = what[:1].upper() + what[1:]
    if code in _FULL:
        return DiskFullError(
            f"{what} could not be written whole ({reason}), so what is there is no picture. Free some space or choose "
            "another disk."
        )
    if code == errno.EBADF:
        return UnwritableOutputError(f"{what} is closed; send it to a file or a pipe, or name a file.")
    return UnwritableOutputError(f"{what} cannot be written ({reason}). Send it to a file or a pipe, or name a file.")


def _check_descriptor(name: Path, number: int) -> None:
    """Refuse a descriptor that is closed, or a terminal, which would show the bytes."""
    mode = fcntl.fcntl(number, fcntl.F_GETFL) & os.O_ACCMODE
    if mode == os.O_RDONLY:  # as `fill_descriptors` leaves one that was closed
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))
    if os.isatty(number):
        what = shown(name)
        raise UnwritableOutputError(
            f"{what[:1].upper() + what[1:]} is a terminal, and a picture is no text; send it to a file or a pipe, or "
            "name a file."
        )


def is_file(status: os.stat_result | None) -> TypeGuard[os.stat_result]:
    """Whether something is there, and is a file: no folder, pipe or device."""
    return status is not None and stat.S_ISREG(status.st_mode)


def _is_special(name: Path) -> bool:
    """Whether something is there that is neither a file nor a folder."""
    with suppress(OSError, ValueError):
        mode = os.stat(name).st_mode
        return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)
    return False


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
    return is_file(status) and at_target is not None and os.path.samestat(status, at_target)


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
    with suppress(OSError):  # only root can give a file away, and in a user namespace only to users that it knows
        os.fchown(descriptor, status.st_uid, status.st_gid)
    os.fchmod(descriptor, stat.S_IMODE(status.st_mode))


def _fill(file: BinaryIO, content: bytes | Writer) -> None:
    if callable(content):
        content(file)
    else:
        file.write(content)


def _write_through(number: int, content: bytes | memoryview) -> int:
    """Write all to an open descriptor, and wait for its reader also where another program has it not wait."""
    left = memoryview(content)
    with open(os.dup(number), "wb", buffering=0) as file:
        while left:
            written = file.write(left)
            if written is None:  # another program has it not wait
                select.select([], [file], [])
            else:
                left = left[written:]
    return len(content)


def _whole(content: bytes | Writer) -> bytes | memoryview:
    if not callable(content):
        return content
    data = io.BytesIO()  # what writes to a file may seek in it
    content(data)
    return data.getbuffer()


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
