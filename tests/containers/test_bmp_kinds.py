"""Kinds of BMP: read as OpenCV reads them, or refused."""

from __future__ import annotations

import struct

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import ImageCms

from bdflow_rt.containers import read_picture
from bdflow_rt.containers.pillow import is_before_13
from bdflow_rt.errors import UnsupportedImageError
from tests.containers.bmps import (
    BIT_FIELDS,
    CALIBRATED,
    EMBEDDED,
    HEADERS,
    RLE4,
    RLE8,
    encode_bmp,
    rows,
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
    if method == RLE4 and is_before_13():
        with refused(UnsupportedImageError, "4-bit run-length code", "from version 13 on"):
            read_picture(file)
        return
    assert np.array_equal(read_picture(file).pixels, palette[levels])
    assert np.array_equal(opencv(file), palette[levels])


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
