"""Files of every kind through both commands: down to a packet and up again, or refused or changed with a word."""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bdflow_rt.containers import read_packet, read_picture
from tests.cli.build import bdflow, failed, succeeded
from tests.containers.bmps import RLE8, encode_bmp, run_length
from tests.containers.build import encoded
from tests.containers.pngs import KINDS, Png
from tests.containers.test_advice import FILES as REFUSED
from tests.containers.test_colour import PHOTO, camera_jpeg, cmyk_profile
from tests.containers.tiff import SUBFILE_TYPE, encode_tiff, grey_page, rgb_page
from tests.support import photo

PIXELS = np.asarray(PHOTO)
HEIGHT, WIDTH, _ = PIXELS.shape
GREYS = np.arange(256, dtype=np.uint8)[:, None].repeat(3, 1)


def _png(colour: int, depth: int, interlace: int) -> bytes:
    return Png.random(colour, depth, interlace).encode()


def _levels() -> bytes:
    return run_length((photo(24, 32, 1)[..., 0] >> 3 << 3).astype(np.uint8), 8)


def _tiff(order: str, big: bool) -> bytes:
    return encode_tiff(rgb_page(HEIGHT, WIDTH, PIXELS.tobytes()), order=order, big=big)


def _page_and_thumbnail() -> bytes:
    thumbnail = grey_page(4, 4, bytes(16), {SUBFILE_TYPE: (4, [1])})
    return encode_tiff(rgb_page(HEIGHT, WIDTH, PIXELS.tobytes()), thumbnail)


SOUND: dict[str, Callable[[], bytes]] = {
    **{
        f"png of type {colour}, {depth} bits, interlace {interlace}": partial(_png, colour, depth, interlace)
        for colour, depth in KINDS
        if depth <= 8
        for interlace in (0, 1)
    },
    **{
        f"tiff by {compression}": partial(encoded, PHOTO, "TIFF", compression=compression)
        for compression in ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg", "lzma", "zstd")
    },
    "tiff, big-endian": lambda: _tiff(">", False),
    "bigtiff": lambda: _tiff("<", True),
    "tiff of a page and its thumbnail": _page_and_thumbnail,
    "bmp": lambda: encoded(PHOTO, "BMP"),
    "bmp, run-length": lambda: encode_bmp(_levels(), (24, 32), 8, palette=GREYS, compression=RLE8),
    "jpeg": lambda: encoded(PHOTO, "JPEG"),
    "jpeg, progressive": lambda: encoded(PHOTO, "JPEG", progressive=True),
    "jpeg without its end": lambda: encoded(PHOTO, "JPEG")[:-2],
    "mpo": lambda: encoded(PHOTO, "MPO", save_all=True, append_images=[PHOTO.resize((8, 8))]),
    "webp": lambda: encoded(PHOTO, "WEBP", lossless=True),
    "gif": lambda: encoded(PHOTO.quantize(17), "GIF"),
    "ppm": lambda: encoded(PHOTO, "PPM"),
}
SAID: dict[str, tuple[Callable[[], bytes], tuple[str, ...], str]] = {
    "gamma": (lambda: Png.random(2, 8, 0).encode((b"gAMA", struct.pack(">I", 100_000))), (), "keeps its colours"),
    "adobe rgb": (camera_jpeg, (), "Adobe RGB"),
    "hdr": (lambda: Png.random(2, 8, 0).encode((b"cICP", bytes((9, 16, 0, 1)))), ("--assume-srgb",), "as asked"),
    "profile": (lambda: camera_jpeg(b"R98\0", icc_profile=b"garbage"), (), "it cannot be used"),
    "cmyk": (
        lambda: encoded(PHOTO.convert("CMYK"), "TIFF", icc_profile=cmyk_profile()),
        ("--convert-srgb",),
        "",
    ),
}
"""Kinds that are taken with a word or by an option: file, options, and what is said."""


def _down_and_up(path: Path, *options: str) -> tuple[Any, str]:
    """The restored picture, and what the way down said."""
    small, restored = path.parent / "small.png", path.parent / "restored.png"
    done = bdflow("downscale", path, "-o", small, "--model", "tiny-x2", *options)
    assert done.code == 0, done.err
    succeeded("upscale", small, "-o", restored)
    expected = read_packet(small).header
    picture = read_picture(restored)
    assert picture.pixels.shape == (expected.height, expected.width, 3)
    return picture, done.err


@pytest.mark.parametrize("kind", SOUND)
def test_sound_files_go_down_and_up_without_a_word(kind: str, zoo: Path, tmp_path: Path) -> None:
    path = tmp_path / "picture"
    path.write_bytes(SOUND[kind]())
    original = read_picture(path)
    picture, said = _down_and_up(path)
    assert "warning" not in said
    assert picture.pixels.shape == original.pixels.shape
    assert picture.colour == original.colour


@pytest.mark.parametrize("kind", SAID)
def test_what_is_changed_is_said(kind: str, zoo: Path, tmp_path: Path) -> None:
    make, options, words = SAID[kind]
    path = tmp_path / "picture"
    path.write_bytes(make())
    _, said = _down_and_up(path, *options)
    assert words in said


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_names_a_command(name: str, zoo: Path, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(REFUSED[name]())
    failed(bdflow("downscale", path, "-o", tmp_path / "small.png"), 3, path.name, "for example with: ")
    assert not (tmp_path / "small.png").exists()
