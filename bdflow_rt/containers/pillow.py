"""Pillow's global settings. They belong to the host program, which gets them back; here, other values hold."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from bdflow_rt.fork import fork_safe_lock

_LOCK = fork_safe_lock()


def is_before_13() -> bool:
    """Whether Pillow is older than version 13, which decodes some rare kinds that earlier ones call damaged."""
    return int(importlib.import_module("PIL").__version__.partition(".")[0]) < 13


class _Setting:
    """A global of a Pillow module, changed for as long as anybody here needs another value than the host's.

    Threads overlap in any order, so those who need it are counted, and the last of them puts the host's value back.
    """

    def __init__(self, module: str, name: str) -> None:
        self._module, self._name = module, name
        self._users = 0
        self._host: Any = None

    @contextmanager
    def made(self, wanted: Callable[[Any], Any]) -> Iterator[None]:
        """Inside, the setting has a value that `wanted`, called with any value, would leave as it is."""
        module = importlib.import_module(self._module)
        with _LOCK:
            now = getattr(module, self._name)
            host = self._host if self._users else now
            needed = wanted(host) != host
            if needed:
                self._users, self._host = self._users + 1, host
                setattr(module, self._name, wanted(now))
        try:
            yield
        finally:
            if needed:
                with _LOCK:
                    self._users -= 1
                    if not self._users:
                        setattr(module, self._name, self._host)


_MAX_PIXELS = _Setting("PIL.Image", "MAX_IMAGE_PIXELS")
_LOAD_TRUNCATED = _Setting("PIL.ImageFile", "LOAD_TRUNCATED_IMAGES")


@contextmanager
def pillow_settings(size: tuple[int, int]) -> Iterator[None]:
    """Inside, Pillow decodes strictly, and takes pictures of that size.

    Its TIFF and WebP decoders check the limit on pixels by themselves. Limits are raised only for pictures beyond
    them, by as little as needed; (0, 0) stands for an unknown size. May be entered by several threads at a time.
    """
    pixels = size[0] * size[1]
    with (
        _LOAD_TRUNCATED.made(lambda _: False),
        _MAX_PIXELS.made(lambda limit: limit if limit is None else max(limit, pixels)),
    ):
        yield
