"""What libtiff says while Pillow decodes through it: of damage, for which it makes up pixels and goes on.

Pillow drops its warnings, and its errors go to the stderr of the process. libtiff has no handlers but the process's:
here they are others for as long as anybody listens, and lines of threads that do not go where they went before.

Source: libtiff's TIFFError, TIFFWarning and TIFFSetTagExtender; Pillow's TiffDecode.c.
"""

from __future__ import annotations

import ctypes
import importlib
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from bdflow_rt.containers.jpeg import is_harmless
from bdflow_rt.fork import fork_safe_lock

_HANDLER = ctypes.CFUNCTYPE(None, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_void_p)
"""Module, format and a `va_list`, which every ABI of Linux passes as an address."""
_EXTENDER = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
_DECODERS = re.compile(rb"Fax[34]Decode\w*|JPEGLib|LibJpeg|PackBitsDecode")
"""Whose warnings are of damaged pixels. Others are of tags, or of what old writers did."""
_WITHOUT_EOL = "Try to decode (read) fax Group 3 data without EOL"
"""Said of sound files; damage gets a line of its own behind it."""
_MAX_BYTES = 300
_LOCK = fork_safe_lock()


class _Listener:
    """The handlers, and the lines of each thread that listens."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._users = 0
        self._own = threading.local()
        self._set_error, self._set_warning = library.TIFFSetErrorHandler, library.TIFFSetWarningHandler
        self._set_extender = library.TIFFSetTagExtender
        self._set_error.restype = self._set_warning.restype = _HANDLER
        self._set_extender.restype = _EXTENDER
        self._format = ctypes.CDLL(None).vsnprintf
        # Kept for good: a thread of the host's may be inside one when the last listener goes.
        self._error, self._warning = _HANDLER(self._on_error), _HANDLER(self._on_warning)
        self._extender = _EXTENDER(self._on_open)
        self._host_error: Any = None
        self._host_extender: Any = None

    @contextmanager
    def listening(self, lines: list[str]) -> Iterator[None]:
        """Inside, what libtiff says in this thread is appended to the lines."""
        with _LOCK:
            self._users += 1
            if self._users == 1:
                self._host_error = self._set_error(self._error)
                self._host_extender = self._set_extender(self._extender)
        self._own.lines = lines
        try:
            yield
        finally:
            self._own.lines = None
            with _LOCK:
                self._users -= 1
                if not self._users:
                    self._set_error(self._host_error)
                    self._set_extender(self._host_extender)
                    self._set_warning(None)  # as Pillow leaves it

    def _on_open(self, tiff: int) -> None:
        # Pillow takes the handler away, for all threads, right before it opens a file.
        self._set_warning(self._warning)
        if self._host_extender:
            self._host_extender(tiff)

    def _on_error(self, module: bytes | None, form: bytes, values: int) -> None:
        if self._listens():
            self._append(form, values)
        elif self._host_error:
            self._host_error(module, form, values)

    def _on_warning(self, module: bytes | None, form: bytes, values: int) -> None:
        if self._listens() and _DECODERS.fullmatch(module or b""):
            self._append(form, values)

    def _listens(self) -> bool:
        return getattr(self._own, "lines", None) is not None

    def _append(self, form: bytes, values: int) -> None:
        text = ctypes.create_string_buffer(_MAX_BYTES)
        self._format(text, ctypes.c_size_t(_MAX_BYTES), form, ctypes.c_void_p(values))
        self._own.lines.append(text.value.decode("ascii", "replace"))


def _listener() -> _Listener | None:
    """The only one of the process; None where Pillow's libtiff cannot be reached: not built as a shared library."""
    with _LOCK:  # a cache alone lets two threads make two
        return _load()


@cache
def _load() -> _Listener | None:
    try:
        return _Listener(ctypes.CDLL(importlib.import_module("PIL._imaging").__file__))
    except (AttributeError, OSError, TypeError):
        return None


@contextmanager
def heard_libtiff() -> Iterator[bool]:
    """Around the decoding of a TIFF: nothing of libtiff's reaches stderr, and it fails where pixels are damaged.

    Yields:
        Whether libtiff can be heard.

    Raises:
        ValueError: it is damaged, with libtiff's words. Damage whose codes give as many pixels as there should be is
            not seen.
    """
    listener = _listener()
    if listener is None:
        yield False
        return
    lines: list[str] = []
    failure: OSError | None = None
    with listener.listening(lines):
        try:
            yield True
        except OSError as error:  # Pillow's "decoder error -2"
            failure = error
    damage = [line for line in lines if not is_harmless(line) and not line.startswith(_WITHOUT_EOL)]
    if damage:
        raise ValueError(damage[0]) from failure
    if failure is not None:
        raise failure
