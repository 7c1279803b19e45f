"""Kinds of BMP: read as OpenCV and ImageMagick read them, or refused."""

from __future__ import annotations

import shutil
import struct
import subprocess
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageCms

from bdflow_rt.containers import read_picture
from bdflow_rt.errors import CorruptImageError, ImageTooLargeError, UnsupportedImageError
from tests.containers.bmps import (
    BIT_FIELDS,
    CALIBRATED,
    EMBEDDED,
    END,
    HEADERS,
    LINE,
    RGB,
    RLE4,
    RLE8,
    delta,
    encode_array,
    encode_bmp,
    rows,
    run,
    run_length,
)
from tests.containers.build import refused
from tests.containers.test_icc import SRGB
from tests.support import photo

SIZE = HEIGHT, WIDTH = 21, 27
PIXELS = photo(HEIGHT, WIDTH, 5)
COLOUR_BYTES = rows(PIXELS[..., ::-1].reshape(HEIGHT, -1))


def opencv(data: bytes) -> NDArray[np.uint8]:
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert decoded is not None
    return decoded[..., ::-1].astype(np.uint8)


def imagemagick(data: bytes, folder: Path) -> NDArray[np.uint8]:
    executable = shutil.which("convert-im6.q16") or shutil.which("convert")
    if executable is None:
        pytest.skip("ImageMagick is not installed")
    (folder / "in.bmp").write_bytes(data)
    subprocess.run([executable, str(folder / "in.bmp"), f"PNG24:{folder / 'out.png'}"], check=True)
    return np.asarray(Image.open(folder / "out.png"))


def palette_picture(bits: int, seed: int = 0) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Levels with runs among them, and their colours."""
    rng = np.random.default_rng((bits, seed))
    levels = rng.integers(0, 1 << bits, SIZE).astype(np.uint8)
    levels[5:9, 3:20] = 1
    return levels, rng.integers(0, 256, (1 << bits, 3)).astype(np.uint8)


@pytest.mark.parametrize("header", HEADERS)
@pytest.mark.parametrize("top_down", [False, True])
def test_24_bits_under_every_header(header: str, top_down: bool) -> None:
    data = rows(PIXELS[::-1, :, ::-1].reshape(HEIGHT, -1)) if top_down else COLOUR_BYTES
    file = encode_bmp(data, SIZE, 24, header=header, top_down=top_down)
    assert np.array_equal(read_picture(file).pixels, PIXELS)
    assert np.array_equal(opencv(file), PIXELS)


@pytest.mark.parametrize("header", ["V1", "V4", "V5"])
@pytest.mark.parametrize("bits", [1, 4, 8])
def test_palettes(bits: int, header: str) -> None:
    levels, palette = palette_picture(bits)
    bit_rows = np.unpackbits(levels[..., None], axis=2)[..., 8 - bits :].reshape(HEIGHT, -1)
    file = encode_bmp(rows(np.packbits(bit_rows, axis=1)), SIZE, bits, header=header, palette=palette)
    assert np.array_equal(read_picture(file).pixels, palette[levels])
    assert np.array_equal(opencv(file), palette[levels])


@pytest.mark.parametrize("header", ["V1", "V5"])
@pytest.mark.parametrize("bits", [4, 8])
def test_run_lengths(bits: int, header: str) -> None:
    levels, palette = palette_picture(bits)
    data, method = run_length(levels, bits), RLE8 if bits == 8 else RLE4
    file = encode_bmp(data, SIZE, bits, header=header, palette=palette, compression=method)
    assert np.array_equal(read_picture(file).pixels, palette[levels])
    assert np.array_equal(opencv(file), palette[levels])


Steps = Sequence[bytes | tuple[int, int]]

SKIPPING: dict[str, Steps] = {
    "deltas": [(3, 1), delta(2, 1), (2, 2), LINE, (4, 3), LINE, LINE, END],
    "a delta to the end": [(2, 1), LINE, (3, 2), delta(0, 3)],
    "lines that end early": [LINE, (3, 1), LINE, (9, 2), LINE, LINE, END],
    "an early end": [(3, 1), LINE, (2, 2), END],
    "nothing but its end": [END],
    "no end": [(9, 1), LINE, (9, 2), LINE, (9, 3), LINE, (9, 1)],
}
"""Run-length codes of 4 x 9 pixels that leave some out, or their end mark."""
SKIPPED = {
    "deltas": ["111000000", "000002200", "333300000", "000000000"],
    "a delta to the end": ["110000000", "222000000", "000000000", "000000000"],
    "lines that end early": ["000000000", "111000000", "222222222", "000000000"],
    "an early end": ["111000000", "220000000", "000000000", "000000000"],
    "nothing but its end": ["000000000"] * 4,
    "no end": ["111111111", "222222222", "333333333", "111111111"],
}
"""Their levels, the bottom row first."""


def run_length_file(steps: Steps, bits: int) -> tuple[bytes, NDArray[np.uint8]]:
    """A file of 4 x 9 pixels, and its palette."""
    codes = b"".join(step if isinstance(step, bytes) else run(*step, bits) for step in steps)
    _, palette = palette_picture(bits)
    return encode_bmp(codes, (4, 9), bits, palette=palette, compression=RLE8 if bits == 8 else RLE4), palette


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("kind", SKIPPING)
def test_pixels_that_a_run_length_code_skips_have_the_first_colour(kind: str, bits: int, tmp_path: Path) -> None:
    file, palette = run_length_file(SKIPPING[kind], bits)
    expected = palette[[[int(level) for level in row] for row in SKIPPED[kind][::-1]]]
    assert np.array_equal(read_picture(file).pixels, expected)
    if bits == 8:  # OpenCV calls such codes of 4 bits too short
        assert np.array_equal(opencv(file), expected)
    if kind in ("deltas", "lines that end early"):  # others are too short for ImageMagick
        assert np.array_equal(imagemagick(file, tmp_path), expected)


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize(
    "steps",
    [
        [],
        [(9, 1), LINE, (9, 2), LINE],
        [(9, 1), LINE, (9, 2), LINE, (9, 3), LINE, (5, 1)],
        [(10, 1), LINE, END],
        [(5, 1), (5, 2), LINE, END],
        [LINE, LINE, LINE, LINE, (1, 1), END],
        [delta(0, 4), (1, 1), END],
        [delta(250, 0), (1, 1), END],
        [b"\0\7\1\2"],
        [b"\0\2\1"],
    ],
)
def test_a_run_length_code_that_is_cut_or_leaves_the_picture_is_damage(steps: Steps, bits: int) -> None:
    with refused(CorruptImageError, "run-length code does not decode"):
        read_picture(run_length_file(steps, bits)[0])


def test_a_run_length_code_claims_no_memory_beyond_the_limit() -> None:
    file = encode_bmp(END, (1 << 30, 1 << 30), 8, palette=palette_picture(8)[1], compression=RLE8)
    with refused(ImageTooLargeError, "1073741824 x 1073741824"):
        read_picture(file)


@pytest.mark.parametrize("place", ["of the palette", "none"])
def test_pixels_of_a_run_length_code_without_a_place_follow_the_palette(place: str) -> None:
    file, palette = run_length_file(SKIPPING["deltas"], 8)
    moved = file[:10] + struct.pack("<I", 0 if place == "none" else 54) + file[14:]
    assert np.array_equal(read_picture(moved).pixels, read_picture(file).pixels)
    assert np.array_equal(read_picture(file).pixels[-1, 0], palette[1])


@pytest.mark.parametrize("colours", [1, 2, 3, 16])
@pytest.mark.parametrize("bits", [4, 8])
def test_a_palette_of_few_greys_is_not_taken_for_bits(bits: int, colours: int) -> None:
    palette = np.repeat(np.arange(colours, dtype=np.uint8), 3).reshape(-1, 3) * (255 if colours == 2 else 1)
    levels = np.random.default_rng(colours).integers(0, colours, SIZE, np.uint8)
    even = np.pad(levels, ((0, 0), (0, WIDTH % 2)))
    packed = levels if bits == 8 else even[:, ::2] << 4 | even[:, 1::2]
    file = encode_bmp(rows(packed), SIZE, bits, palette=palette)
    assert np.array_equal(read_picture(file).pixels, palette[levels])
    assert np.array_equal(opencv(file), palette[levels])


def core_bmp() -> bytes:
    """The header of OS/2 1, with 16 bits for each side."""
    head = struct.pack("<IHHHH", 12, WIDTH, HEIGHT, 1, 24)
    return b"BM" + struct.pack("<IHHI", 26 + len(COLOUR_BYTES), 0, 0, 26) + head + COLOUR_BYTES


@pytest.mark.parametrize("inner", ["of OS/2 1", "V1"])
def test_the_bitmap_of_an_array_is_read(inner: str, tmp_path: Path) -> None:
    file = encode_array(encode_bmp(COLOUR_BYTES, SIZE, 24) if inner == "V1" else core_bmp())
    assert np.array_equal(read_picture(file).pixels, PIXELS)
    assert np.array_equal(imagemagick(file, tmp_path), PIXELS)


@pytest.mark.parametrize("kind", ["palette", "run lengths"])
def test_a_bitmap_of_an_array_keeps_its_palette(kind: str) -> None:
    levels, palette = palette_picture(8)
    data, method = (run_length(levels, 8), RLE8) if kind == "run lengths" else (rows(levels), RGB)
    file = encode_bmp(data, SIZE, 8, palette=palette, compression=method)
    assert np.array_equal(read_picture(encode_array(file)).pixels, palette[levels])


def test_of_several_bitmaps_of_an_array_the_first_is_read_with_a_word() -> None:
    file = encode_array(core_bmp(), encode_bmp(COLOUR_BYTES[::-1], SIZE, 24))
    with pytest.warns(UserWarning, match="an array of bitmaps, of which the first is read"):
        assert np.array_equal(read_picture(file).pixels, PIXELS)


@pytest.mark.parametrize("cut", [20, 27, 40, 100])
def test_an_array_that_is_cut_off_is_damage(cut: int) -> None:
    with refused(CorruptImageError):
        read_picture(encode_array(encode_bmp(COLOUR_BYTES, SIZE, 24))[:cut])


@pytest.mark.parametrize("header", ["V1", "V3", "V4", "V5"])
@pytest.mark.parametrize("masks", [(0x7C00, 0x3E0, 0x1F, 0), (0xF800, 0x7E0, 0x1F, 0)], ids=["555", "565"])
def test_16_bits(masks: tuple[int, int, int, int], header: str) -> None:
    green = 5 if masks[1] == 0x3E0 else 6
    levels = np.dstack([PIXELS[..., 0] >> 3, PIXELS[..., 1] >> (8 - green), PIXELS[..., 2] >> 3]).astype(np.uint16)
    packed = (levels[..., 0] << (5 + green) | levels[..., 1] << 5 | levels[..., 2]).astype("<u2")
    file = encode_bmp(
        rows(packed.view(np.uint8).reshape(HEIGHT, -1)), SIZE, 16, header=header, compression=BIT_FIELDS, masks=masks
    )
    scale = np.array([31, (1 << green) - 1, 31])
    assert np.abs(read_picture(file).pixels - levels * 255 / scale).max() <= 1


@pytest.mark.parametrize("header", ["V4", "V5"])
@pytest.mark.parametrize("alpha", [255, 100])
def test_32_bits_with_an_alpha_channel(header: str, alpha: int) -> None:
    bgra = np.dstack([PIXELS[..., ::-1], np.full(SIZE, alpha, np.uint8)])
    masks = (0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    file = encode_bmp(rows(bgra.reshape(HEIGHT, -1)), SIZE, 32, header=header, compression=BIT_FIELDS, masks=masks)
    if alpha == 255:
        assert np.array_equal(read_picture(file).pixels, PIXELS)
        return
    with refused(UnsupportedImageError, "transparent"):
        read_picture(file)
    expected = alpha / 255 * PIXELS + (1 - alpha / 255) * 255
    assert np.abs(read_picture(file, background="white").pixels - expected).max() <= 1


def test_a_profile_behind_the_pixels() -> None:
    file = encode_bmp(COLOUR_BYTES, SIZE, 24, header="V5", space=EMBEDDED, profile=SRGB)
    assert read_picture(file).icc_profile == SRGB
    cut = encode_bmp(COLOUR_BYTES, SIZE, 24, header="V5", space=EMBEDDED, profile=b"no profile")
    with pytest.warns(UserWarning, match="it cannot be used"):
        assert read_picture(cut).icc_profile is None


@pytest.mark.parametrize("header", ["V4", "V5"])
def test_calibrated_colours_are_kept_by_a_profile(header: str) -> None:
    """The primaries of Adobe RGB with its white of D65, and gamma 2.2."""
    columns = [(0.57667, 0.29734, 0.02703), (0.18556, 0.62736, 0.07069), (0.18823, 0.07529, 0.99134)]
    endpoints = struct.pack("<9I", *(round(value * (1 << 30)) for column in columns for value in column))
    calibrated = {"header": header, "space": CALIBRATED, "endpoints": endpoints}
    file = encode_bmp(COLOUR_BYTES, SIZE, 24, gammas=(round(2.2 * 65536),) * 3, **calibrated)  # type: ignore[arg-type]
    with pytest.warns(UserWarning, match="calibrated colours in its header"):
        picture = read_picture(file)
    assert picture.icc_profile is not None
    import io

    profile = ImageCms.ImageCmsProfile(io.BytesIO(picture.icc_profile)).profile
    assert profile.red_colorant is not None
    assert np.abs(np.array(profile.red_colorant[0]) - (0.60974, 0.31111, 0.01947)).max() < 1e-3
    empty = encode_bmp(COLOUR_BYTES, SIZE, 24, header=header, space=CALIBRATED)
    assert read_picture(empty).icc_profile is None
