"""Open descriptors as streams of bytes: pipes to read from and to write to, which can be waited for and given up."""

from __future__ import annotations

import errno
import os
import select
import stat
from contextlib import suppress

from bdflow_rt.errors import MissingFileError, StalledError, UnreadableFileError

_CHUNK_BYTES = 1 << 20


class InputPipe:
    """What comes from an open descriptor, as a file object without `seek`; it is read once.

    Args:
        number: of the descriptor, which is duplicated.
        name: what messages call it.

    Attributes:
        name: as given.
        taken: bytes that have come so far.

    Raises:
        MissingFileError: it is closed, a terminal or a folder.
    """

    def __init__(self, number: int, *, name: str) -> None:
        self.name, self._ahead = name, b""
        try:
            if os.isatty(number):
                raise MissingFileError(f"{name} is a terminal; pipe something in, or give the name of a file.")
            if stat.S_ISDIR(os.fstat(number).st_mode):
                raise MissingFileError(f"{name} is a folder; pipe something in, or give the name of a file.")
            self._number = os.dup(number)
        except OSError as error:
            raise MissingFileError(f"{name} is closed; pipe something in, or give the name of a file.") from error
        self._woken, self._wakes = os.pipe()
        self._is_over, self.taken = False, 0

    def peek(self, size: int) -> bytes:
        """The next bytes, as many as asked for or all there are, which `read` gives again.

        Raises:
            UnreadableFileError: reading fails.
        """
        while len(self._ahead) < size and (more := self._more(size - len(self._ahead))):
            self._ahead += more
        return self._ahead[:size]

    def read(self, size: int = -1) -> bytes:
        """The next bytes, at most as many as asked for and as soon as there are any; b"" at the end.

        Raises:
            UnreadableFileError: reading fails.
        """
        if not self._ahead:
            return self._more(size)
        size = len(self._ahead) if size < 0 else size
        given, self._ahead = self._ahead[:size], self._ahead[size:]
        return given

    def interrupt(self) -> None:
        """End it: a thread that waits for input gets the end."""
        self._is_over = True
        with suppress(OSError):
            os.write(self._wakes, b".")

    def close(self) -> None:
        """Let go of the descriptor; the one it was made of stays open."""
        self._is_over = True
        for number in (self._number, self._woken, self._wakes):
            with suppress(OSError):
                os.close(number)

    def _more(self, size: int) -> bytes:
        if self._is_over:
            return b""
        try:
            waiting = select.poll()
            for number in (self._number, self._woken):
                waiting.register(number, select.POLLIN)
            if self._woken in dict(waiting.poll()):
                return b""
            data = os.read(self._number, min(size, _CHUNK_BYTES) if size >= 0 else _CHUNK_BYTES)
            self.taken += len(data)
            return data
        except OSError as error:
            raise UnreadableFileError(
                f"{self.name} cannot be read ({error.strerror}); check what writes to it."
            ) from error


class OutputPipe:
    """An open descriptor to write to, as a file object without `seek`.

    Args:
        number: of the descriptor, which is duplicated.
        name: what messages call it.
        timeout: seconds to wait for a reader that takes nothing; None waits for ever.

    Attributes:
        name: as given.
        written: bytes so far.
    """

    def __init__(self, number: int, *, name: str, timeout: float | None = None) -> None:
        self._number, self.name, self._timeout = os.dup(number), name, timeout
        self._woken, self._wakes = os.pipe()
        # A pipe that is ready has room for so many bytes, and waits for its reader to take the rest of more.
        self._most = select.PIPE_BUF if stat.S_ISFIFO(os.fstat(number).st_mode) else _CHUNK_BYTES
        self.written = 0

    def write(self, data: bytes | memoryview) -> int:
        """Write all of it, and wait for the reader where it is slow.

        Raises:
            OSError: it cannot be written, `BrokenPipeError` where the reader has gone.
            StalledError: the reader took nothing for as long as was allowed.
        """
        left = memoryview(data).cast("B")
        size = len(left)
        while left:
            waiting = select.poll()
            waiting.register(self._number, select.POLLOUT)
            waiting.register(self._woken, select.POLLIN)
            ready = dict(waiting.poll(None if self._timeout is None else 1000 * self._timeout))
            if self._number not in ready and self._woken in ready:
                raise BrokenPipeError(errno.EPIPE, "given up")
            if not ready:
                raise StalledError(
                    f"The write stage has made no progress for {self._timeout:g} s: the program that reads {self.name} "
                    "takes nothing. Look after it, or raise timeout (--timeout)."
                )
            try:
                left = left[os.write(self._number, left[: self._most]) :]
            except OSError as error:
                if error.errno != errno.EAGAIN:
                    raise
        self.written += size
        return size

    def interrupt(self) -> None:
        """Do not wait for the reader from now on: a thread that does fails."""
        with suppress(OSError):
            os.write(self._wakes, b".")

    def close(self) -> None:
        """Let go of the descriptor; the one it was made of stays open."""
        for number in (self._number, self._woken, self._wakes):
            with suppress(OSError):
                os.close(number)
