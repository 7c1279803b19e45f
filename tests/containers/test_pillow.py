"""The host program's settings of Pillow: put aside while a picture is decoded, whatever threads do, and given back."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import numpy as np
import pytest
from PIL import Image, ImageFile

from bdflow_rt.containers import read_picture
from bdflow_rt.containers.pillow import pillow_settings
from tests.containers.build import encoded
from tests.support import photo


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host program with settings of its own."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)


def settings() -> tuple[int | None, bool]:
    return Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("pixels", [(70, 90), (90, 70)])
def test_settings_hold_until_the_last_of_two_has_left_in_any_order(
    pixels: tuple[int, int], first: int, host: None
) -> None:
    both = ExitStack(), ExitStack()
    for stack, width in zip(both, pixels, strict=True):
        stack.enter_context(pillow_settings((width, 101)))
    assert settings() == (9090, False)
    both[first].close()
    limit, truncated = settings()
    left = pixels[1 - first] * 101
    assert (limit or 0) >= left
    assert not truncated
    both[1 - first].close()
    assert settings() == (1000, True)


def test_a_picture_within_the_hosts_limits_changes_none(host: None) -> None:
    with pillow_settings((10, 100)):
        assert settings() == (1000, False)
    assert settings() == (1000, True)


def test_a_host_without_a_limit_keeps_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    with pillow_settings((10, 100)):
        assert Image.MAX_IMAGE_PIXELS is None
    assert Image.MAX_IMAGE_PIXELS is None


def test_settings_come_back_after_an_error(host: None) -> None:
    with pytest.raises(ZeroDivisionError), pillow_settings((1000, 1000)):
        raise ZeroDivisionError
    assert settings() == (1000, True)


@pytest.fixture
def hasty_threads() -> Iterator[None]:
    """Threads take turns as often as they can."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


def test_threads_that_read_at_once_neither_fail_nor_change_the_hosts_settings(host: None, hasty_threads: None) -> None:
    pictures = [photo(61 + 8 * index, 67, index) for index in range(4)]
    files = [encoded(Image.fromarray(pixels), "WEBP", lossless=True) for pixels in pictures]
    together = threading.Barrier(len(files))

    def read(index: int) -> bool:
        together.wait()
        return all(np.array_equal(read_picture(files[index]).pixels, pictures[index]) for _ in range(100))

    with ThreadPoolExecutor(len(files)) as pool:
        assert all(pool.map(read, range(len(files))))
    assert settings() == (1000, True)
