"""What is made once per machine and kept on disk: in which folder, who may have written it, how it is read and written.

Each kind has a folder beneath `cache_folder`. Its content runs as code or decides what runs, so one rule holds for
all: a folder that somebody else could have written to is refused, and a file counts only with the SHA-256 it had.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import stat
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from bdflow_rt.errors import CacheTrustError, OutputError, UnwritableOutputError
from bdflow_rt.files import write_private

CACHE_VARIABLE = "BDFLOW_CACHE"
"""Environment variable with the folder of everything that is kept for a machine."""
KINDS = ("kernels", "engines", "calibration", "timing")
"""The folders beneath it."""
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
_DIGEST_BYTES = 32
_MAX_BLOB_BYTES = 1 << 30


class DamagedFileError(ValueError):
    """A file of the cache is missing or is not what was written; never leaves the cache."""


def cache_folder() -> Path:
    """The folder that BDFLOW_CACHE names; else bdflow-rt in XDG_CACHE_HOME, else in ~/.cache.

    Raises:
        UnwritableOutputError: none is named, and the user has no home.
    """
    # Unlike pathlib's, os.path's expansion leaves an unknown "~user" as it is.
    if named := os.environ.get(CACHE_VARIABLE):
        return Path(os.path.expanduser(named))
    if base := os.environ.get("XDG_CACHE_HOME"):
        return Path(os.path.expanduser(base)) / "bdflow-rt"
    try:
        return Path.home() / ".cache" / "bdflow-rt"
    except RuntimeError as error:
        raise UnwritableOutputError(f"This user has no home folder. Name a cache in {CACHE_VARIABLE}.") from error


@dataclass(frozen=True)
class Blob:
    """One file of the cache: the SHA-256 of its content, 32 bytes, then the content.

    Attributes:
        kind: one of `KINDS`.
        name: of the file.
        base: None is `cache_folder()`.
    """

    kind: str
    name: str
    base: Path | None = None

    @property
    def path(self) -> Path:
        """Where it is, or would be."""
        return (self.base or cache_folder()) / self.kind / self.name

    def read(self) -> bytes | None:
        """What `write` wrote; None where it is missing, damaged, or could have been written by somebody else.

        Raises:
            CacheTrustError: as `check_folder`.
        """
        try:
            check_folder(self.path.parent)
            whole = read_cached(self.path, limit=_MAX_BLOB_BYTES, what=self.name)
        except (OSError, OutputError, DamagedFileError):
            return None
        content = whole[_DIGEST_BYTES:]
        return content if hashlib.sha256(content).digest() == whole[:_DIGEST_BYTES] else None

    def write(self, content: bytes) -> None:
        """Keep content. A cache that cannot be written costs time in the next process and no more, and is warned of.

        Raises:
            CacheTrustError: as `check_folder`.
        """
        try:
            make_folder(self.path.parent)
            write_private(self.path, hashlib.sha256(content).digest() + content)
        except (OSError, OutputError) as error:
            warnings.warn(
                f"The cache of {self.kind} cannot be written ({error}), so the next process does the same work again. "
                f"Set {CACHE_VARIABLE} to a folder that can be written.",
                RuntimeWarning,
                stacklevel=2,
            )


def make_folder(folder: Path) -> None:
    """Make a folder of the cache for this user alone, where it is missing.

    Raises:
        CacheTrustError: as `check_folder`.
        OSError: it cannot be made.
    """
    folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    check_folder(folder)


def check_folder(folder: Path) -> None:
    """Refuse a folder from which somebody else could make this process run their code.

    Raises:
        CacheTrustError: it is a link, belongs to another user than this one or root, or others can write to it.
        OSError: it is missing or no folder, or cannot be looked at.
    """
    status = os.lstat(folder)
    advice = f"Set {CACHE_VARIABLE} to a folder of your own."
    if stat.S_ISLNK(status.st_mode):
        raise CacheTrustError(f"The cache '{folder}' is a symbolic link; it must be a plain folder. {advice}")
    if not stat.S_ISDIR(status.st_mode):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder))
    if status.st_uid not in (os.geteuid(), 0):
        raise CacheTrustError(
            f"The cache '{folder}' belongs to user {status.st_uid}, this process to user {os.geteuid()}. What is in "
            f"it would run as you. {advice}"
        )
    if status.st_mode & _OTHERS_WRITE:
        raise CacheTrustError(
            f"Other users can write to the cache '{folder}' (mode {stat.S_IMODE(status.st_mode):o}), and what is in it "
            f"would run as you. If you trust what is there: chmod 700 '{folder}'. {advice}"
        )


def read_cached(path: Path, *, limit: int, what: str) -> bytes:
    """A file of the cache: a regular one that only this user or root can have written.

    Raises:
        DamagedFileError: it is missing, no such file, or larger than `limit` bytes.
    """
    try:
        # O_NONBLOCK: a pipe in its place must not make the process wait for a writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise DamagedFileError(f"{what} is no regular file")
            if status.st_uid not in (os.geteuid(), 0) or status.st_mode & _OTHERS_WRITE:
                raise DamagedFileError(f"{what} can be written by others")
            if status.st_size > limit:
                raise DamagedFileError(f"{what} has {status.st_size} bytes, more than {limit}")
            # Python sets aside at once what it is asked to read, and a sidecar may have been edited to say a terabyte.
            return file.read(min(limit, status.st_size) + 1)
    except FileNotFoundError:
        raise DamagedFileError(f"{what} is missing") from None
    except OSError as error:
        raise DamagedFileError(f"{what} cannot be read ({error.strerror})") from None


@contextmanager
def locked(path: Path, *, on_wait: Callable[[], None] | None) -> Iterator[bool]:
    """Hold a lock file against other threads and processes; the system frees it when its holder dies.

    Args:
        path: of the lock file.
        on_wait: called before waiting for another holder; None does not wait.

    Yields:
        Whether nobody else holds it. A folder that cannot be written has no locks: there, nobody does.
    """
    descriptor = -1
    try:
        held = True
        with suppress(OSError):
            while True:
                descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
                held = _acquire(descriptor, on_wait)
                # Who removes an engine removes its lock file too: only the one that still has the name counts.
                if not held or _names(path, descriptor):
                    break
                os.close(descriptor)
                descriptor = -1
        yield held
    finally:
        if descriptor >= 0:
            os.close(descriptor)


def _acquire(descriptor: int, on_wait: Callable[[], None] | None) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        if on_wait is None:
            return False
        on_wait()
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    return True


def _names(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(path, follow_symlinks=False), os.fstat(descriptor))
    except FileNotFoundError:
        return False
