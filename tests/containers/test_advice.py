"""The commands that messages name work: what comes out of them is read. Tried where their programs are installed."""

from __future__ import annotations

import importlib.util
import re
import shutil
import struct
import subprocess
import sys
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
from tests.containers.jpegs import EIGHT_BITS, lossless_jpeg, twelve_bit_jpeg
from tests.containers.pngs import Png
from tests.containers.tiff import BITS, EXTRA_SAMPLES, PLANAR, SAMPLES, SHORT, Value, encode_tiff, rgb_page
from tests.containers.webps import animated_webp
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
    "part-of-canvas.webp": lambda: animated_webp(PHOTO, canvas=(50, 40)),
    "12-bit.jpg": lambda: twelve_bit_jpeg(PHOTO),
    "12-bit-grey.jpg": lambda: twelve_bit_jpeg(PHOTO.convert("L")),
    "lossless.jpg": lambda: lossless_jpeg(PIXELS[..., 1]),
    "picture.pam": lambda: b"P7\nWIDTH 32\nHEIGHT 24\nDEPTH 3\nMAXVAL 255\nTUPLTYPE RGB\nENDHDR\n" + PIXELS.tobytes(),
}
"""Pictures that are refused, each with a command to convert it."""
SAME = ("deep.png", "deep.tif", "deep.ppm", "big-endian-bigtiff.tif", "picture.pam")
"""What the commands make PIXELS of."""


MADE = {
    "lossless-arithmetic.jpg": "jpeg -p -c -a IN OUT",
    "lossless-of-colours.jpg": "jpeg -p -c IN OUT",
    "hierarchical.jpg": "jpeg -h -q 100 -c -y 1 IN OUT",
    "picture.jxl": "cjxl -d 0 IN OUT",
    **{
        f"{kind}.tif": "python3 -c \"import imagecodecs, tifffile as t; t.imwrite('OUT', t.imread('IN'), "
        f"photometric='rgb', compression='{kind}')\""
        for kind in ("webp", "jpeg2000", "jpegxl", "jpegxr", "png", "lerc")
    },
}
"""Others, by what makes them of a PPM, or of a TIFF where they are one; nothing is lost but a level or two."""


def command_of(message: str) -> str:
    """The command that a message names; words may follow it behind " or"."""
    found = re.search(r"example with: (.*?)(?: or.*)?$", message)
    assert found is not None, message
    return found[1]


def shell(command: str, folder: Path, source: Path, out: Path) -> Path:
    """Run a command with a file for IN and names beside `out` for OUT, and give what it wrote last.

    `pip` is not run; the test is skipped where it would install something, or a program is missing.
    """
    command = command.removeprefix("pip install tifffile imagecodecs && ")
    programs = {re.split(r"\s", part, maxsplit=1)[0] for part in command.split(" && ")}
    found = {"convert": shutil.which("convert-im6.q16") or shutil.which("convert"), "python3": sys.executable}
    for name in programs:  # `convert` may be another program's, and python3 is the one with the packages
        executable = found.get(name) or shutil.which(name)
        if executable is None:
            pytest.skip(f"{name} is not installed")
        (folder / name).write_text(f'#!/bin/sh\nexec "{executable}" "$@"\n')
        (folder / name).chmod(0o755)
    for package in ("imagecodecs", "tifffile"):
        if package in command and importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    if "tifffile" in command and importlib.util.find_spec("imagecodecs") is None:
        pytest.skip("imagecodecs is not installed")
    last = re.findall(r"OUT(?:\.\w+)?", command)[-1]
    line = command.replace("OUT", str(out)).replace("IN", str(source))
    done = subprocess.run(
        ["bash", "-c", f'PATH="{folder}:$PATH"; {line}'],
        capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return out.with_name(last.replace("OUT", out.name))


def read_by_advice(path: Path) -> np.ndarray[Any, Any]:
    """The pixels of what the command makes that the refusal of a file names."""
    with pytest.raises(UnsupportedImageError) as caught:
        read_picture(path)
    assert len(str(caught.value).replace(str(path.parent), "")) < 300
    folder = path.parent / "programs"
    folder.mkdir(exist_ok=True)
    out = shell(command_of(str(caught.value)), folder, path, path.parent / "out")
    return read_picture(out, background="white").pixels


@pytest.mark.parametrize("name", FILES)
def test_the_command_of_a_refusal_makes_a_picture_that_is_read(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(FILES[name]())
    pixels = read_by_advice(path)
    assert pixels.shape[:2] in ((24, 32), (23, 29))
    if name.startswith("extra") or name in (
        "deep.png",
        "deep.tif",
        "deep.ppm",
        "big-endian-bigtiff.tif",
        "picture.pam",
    ):
        assert np.abs(pixels.astype(int) - PIXELS).max() <= 1
    if name == "12-bit.jpg":
        assert np.abs(pixels.astype(int) - read_picture(encoded(PHOTO, "JPEG", **EIGHT_BITS)).pixels).max() <= 3
    if name == "part-of-canvas.webp":
        assert np.array_equal(pixels, PIXELS)
    if name == "lossless.jpg":
        assert np.array_equal(pixels, np.dstack([PIXELS[..., 1]] * 3))


@pytest.mark.parametrize("name", MADE)
def test_the_command_for_a_kind_that_other_programs_make_works(name: str, tmp_path: Path) -> None:
    source = tmp_path / ("source.tif" if name.endswith(".tif") else "source.ppm")
    PHOTO.save(source)
    (tmp_path / "programs").mkdir()
    shell(MADE[name], tmp_path / "programs", source, tmp_path / name)
    assert np.abs(read_by_advice(tmp_path / name).astype(int) - PIXELS).max() <= 1


def test_every_command_is_tried() -> None:
    named = set()
    for name, make in FILES.items():
        with pytest.raises(UnsupportedImageError) as caught:
            read_picture(make())
        named.add(command_of(str(caught.value)))
        assert len(str(caught.value)) < 300, name
    sentences = {advice.ASSUME_SRGB, advice.OR_IN_AN_EDITOR}
    commands = {value for key, value in vars(advice).items() if key.isupper()} - sentences
    assert commands - named == {advice.FROM_JPEG_XL, advice.TO_LZW}  # what `MADE` tries
