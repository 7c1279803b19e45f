"""The commands that messages name work: what comes out of them is read. Tried where their programs are installed."""

from __future__ import annotations

import re
import shlex
import shutil
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from bdflow_rt.containers import advice, read_picture
from bdflow_rt.errors import UnsupportedImageError
from tests.containers.bmps import BIT_FIELDS, encode_bmp
from tests.containers.build import encoded
from tests.containers.pngs import Png
from tests.containers.tiff import BITS, EXTRA_SAMPLES, PLANAR, SAMPLES, SHORT, Value, encode_tiff, rgb_page
from tests.support import photo

PIXELS = photo(24, 32, 3)
PHOTO = Image.fromarray(PIXELS)
DEEP = PIXELS.astype(np.uint16) * 257


def opencv(kind: str, pixels: np.ndarray[Any, Any]) -> bytes:
    done, data = cv2.imencode(f".{kind}", pixels[..., ::-1])
    assert done
    return data.tobytes()


def extra_channels(count: int, kinds: list[int], *, planar: bool) -> bytes:
    """RGB with so many channels more, and what kinds of them the file names."""
    pixels = np.dstack([PIXELS, *[np.full((24, 32), 9, np.uint8)] * count])
    tags: dict[int, Value] = {
        BITS: (SHORT, [8] * (3 + count)), SAMPLES: (SHORT, [3 + count]), EXTRA_SAMPLES: (SHORT, kinds),
        PLANAR: (SHORT, [2 if planar else 1]),
    }  # fmt: skip
    page = rgb_page(24, 32, pixels.tobytes(), tags)
    if planar:
        page.strips = [pixels[..., plane].tobytes() for plane in range(3 + count)]
    return encode_tiff(page)


def alpha_bmp() -> bytes:
    data = np.full((24, 32), 0x801F, "<u2").view(np.uint8).tobytes()
    return encode_bmp(data, (24, 32), 16, header="V4", compression=BIT_FIELDS, masks=(0x7C00, 0x3E0, 0x1F, 0x8000))


def pages(kind: str) -> bytes:
    return encoded(PHOTO, kind, save_all=True, append_images=[PHOTO.rotate(90), PHOTO.rotate(180)])


def part_of_canvas() -> bytes:
    data = encoded(PHOTO.quantize(16), "GIF")
    return data[:6] + struct.pack("<HH", 50, 40) + data[10:]


FILES: dict[str, Callable[[], bytes]] = {
    "deep.png": lambda: opencv("png", DEEP),
    "deep-grey.png": lambda: Png.random(0, 16, 1).encode(),
    "deep.tif": lambda: opencv("tiff", DEEP),
    "float.tif": lambda: opencv("tiff", (PIXELS / 255).astype(np.float32)),
    "deep.ppm": lambda: opencv("ppm", DEEP),
    "cmyk.jpg": lambda: encoded(PHOTO.convert("CMYK"), "JPEG"),
    "cmyk.tif": lambda: encoded(PHOTO.convert("CMYK"), "TIFF"),
    "lab.tif": lambda: encoded(PHOTO.convert("LAB"), "TIFF"),
    "animated.gif": lambda: pages("GIF"),
    "animated.webp": lambda: pages("WEBP"),
    "pages.tif": lambda: pages("TIFF"),
    "big-endian-bigtiff.tif": lambda: encode_tiff(rgb_page(24, 32, PIXELS.tobytes()), order=">", big=True),
    "extra-channel.tif": lambda: extra_channels(1, [0], planar=False),
    "extra-channel-planar.tif": lambda: extra_channels(1, [0], planar=True),
    "extra-channels-without-names.tif": lambda: extra_channels(7, [], planar=False),
    "alpha-16.bmp": alpha_bmp,
    "part-of-canvas.gif": part_of_canvas,
    "picture.pam": lambda: b"P7\nWIDTH 32\nHEIGHT 24\nDEPTH 3\nMAXVAL 255\nTUPLTYPE RGB\nENDHDR\n" + PIXELS.tobytes(),
}
"""Pictures that are refused, each with a command to convert it."""
SAME = ("deep.png", "deep.tif", "deep.ppm", "big-endian-bigtiff.tif", "picture.pam")
"""What the commands make PIXELS of."""


def command_of(message: str) -> str:
    """The command that a message names; words may follow it behind " or"."""
    found = re.search(r"example with: (.*?)(?: or.*)?$", message)
    assert found is not None, message
    return found[1]


def program(name: str) -> str | None:
    """ImageMagick's `convert` by Debian's own name where another program may be in its place."""
    return shutil.which("convert-im6.q16") or shutil.which(name) if name == "convert" else shutil.which(name)


@pytest.mark.parametrize("name", FILES)
def test_the_command_of_a_refusal_makes_a_picture_that_is_read(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(FILES[name]())
    with pytest.raises(UnsupportedImageError) as caught:
        read_picture(path)
    words = shlex.split(command_of(str(caught.value)))
    executable = program(words[0])
    if executable is None:
        pytest.skip(f"{words[0]} is not installed")
    out = next(word for word in words if word.startswith("OUT")).replace("OUT", str(tmp_path / "out"))
    words = [executable, *(word.replace("IN", str(path)) if not word.startswith("OUT") else out for word in words[1:])]
    done = subprocess.run(words, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    assert done.returncode == 0, done.stderr
    pixels = read_picture(out, background="white").pixels
    assert pixels.shape[:2] in ((24, 32), (23, 29))
    if name.startswith("extra") or name in (
        "deep.png",
        "deep.tif",
        "deep.ppm",
        "big-endian-bigtiff.tif",
        "picture.pam",
    ):
        assert np.abs(pixels.astype(int) - PIXELS).max() <= 1


def test_every_command_is_tried_but_for_kinds_that_nothing_here_writes() -> None:
    named = set()
    for name, make in FILES.items():
        with pytest.raises(UnsupportedImageError) as caught:
            read_picture(make())
        named.add(command_of(str(caught.value)))
        assert len(str(caught.value)) < 300, name
    sentences = {advice.ASSUME_SRGB, advice.OR_IN_AN_EDITOR}
    commands = {value for key, value in vars(advice).items() if key.isupper()} - sentences
    assert commands - named == {advice.FROM_JPEG_XL, advice.TO_LZW, advice.FROM_IPHONE_PNG}
