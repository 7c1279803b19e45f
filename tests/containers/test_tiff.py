"""TIFFs that decoders understand differently: colour maps of 8 bits, negatives, YCbCr, camera raw, reduced copies.

The files are made by hand; what they mean is computed here, and compared with OpenCV, which decodes through libtiff.
"""

from __future__ import annotations

import itertools
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from bdflow_rt import Rescaler
from bdflow_rt.cli.main import main
from bdflow_rt.containers import read_picture
from bdflow_rt.containers.pillow import is_before_13
from bdflow_rt.errors import CorruptImageError, UnsupportedImageError
from tests.containers.build import refused
from tests.containers.tiff import (
    ASCII,
    BITS,
    BYTE,
    COLOUR_MAP,
    COMPRESSION,
    EXTRA_SAMPLES,
    FILL_ORDER,
    LONG,
    PHOTOMETRIC,
    PLANAR,
    ROWS,
    SAMPLES,
    SHORT,
    SUBSAMPLING,
    Page,
    Value,
    encode_tiff,
    grey_page,
    rgb_page,
)
from tests.support import photo

UInt8Array = NDArray[np.uint8]
HEIGHT, WIDTH_PX = 19, 23
CFA, LINEAR_RAW = 32803, 34892
CONTAINERS = [("<", False), (">", False), ("<", True)]


def packed(values: UInt8Array, bits: int) -> bytes:
    """Rows of values of 1 to 8 bits, each row filled up to whole bytes."""
    rows = np.unpackbits(values[..., None], axis=2)[..., 8 - bits :]
    return np.packbits(rows.reshape(len(values), -1), axis=1).tobytes()


def opencv(data: bytes) -> UInt8Array:
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert decoded is not None
    return np.ascontiguousarray(decoded[..., ::-1]).astype(np.uint8)


def palette_page(bits: int, kind: int, scale: int, *, seed: int = 0, compress: bool = False) -> tuple[Page, UInt8Array]:
    """A palette picture in strips of 4 rows, whose map has 8-bit colours times `scale`; and its pixels."""
    random = np.random.default_rng((bits, seed))
    levels = random.integers(0, 1 << bits, (HEIGHT, WIDTH_PX), np.uint8)
    colours = random.integers(0, 256, (3, 1 << bits))
    tags: dict[int, Value] = {
        BITS: (SHORT, [bits]),
        PHOTOMETRIC: (SHORT, [3]),
        ROWS: (LONG, [4]),
        COMPRESSION: (SHORT, [8 if compress else 1]),
        COLOUR_MAP: (kind, [int(value) * scale for value in colours.ravel()]),
    }
    page = grey_page(HEIGHT, WIDTH_PX, b"", tags)
    strips = [packed(levels[top : top + 4], bits) for top in range(0, HEIGHT, 4)]
    page.strips = [zlib.compress(strip) if compress else strip for strip in strips]
    return page, colours.T[levels].astype(np.uint8)


@pytest.mark.parametrize(("order", "big"), CONTAINERS)
@pytest.mark.parametrize(("kind", "scale"), [(SHORT, 1), (BYTE, 1), (LONG, 1), (SHORT, 256), (SHORT, 257)])
@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("compress", [False, True])
def test_a_colour_map_of_8_bit_values_is_not_black(
    bits: int, kind: int, scale: int, order: str, big: bool, compress: bool
) -> None:
    page, expected = palette_page(bits, kind, scale, compress=compress)
    data = encode_tiff(page, order=order, big=big)
    assert np.array_equal(read_picture(data).pixels, expected)
    if bits != 2:  # OpenCV knows no 2 bits
        assert np.array_equal(opencv(data), expected)


@pytest.mark.parametrize("largest", [0, 1, 255, 256, 511])
def test_the_bits_of_a_colour_map_follow_from_its_largest_entry_as_in_libtiff(largest: int) -> None:
    colours = np.random.default_rng(largest).integers(0, largest, (3, 256), endpoint=True)
    colours[1, 77] = largest
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    tags: dict[int, Value] = {PHOTOMETRIC: (SHORT, [3]), COLOUR_MAP: (SHORT, colours.ravel().tolist())}
    data = encode_tiff(grey_page(16, 16, levels.tobytes(), tags))
    expected = (colours >> (8 if largest > 255 else 0)).T[levels].astype(np.uint8)
    assert np.array_equal(read_picture(data).pixels, expected)
    assert np.array_equal(opencv(data), expected)


def test_an_8_bit_colour_map_is_read_alike_by_the_rescaler_and_the_command_line(tmp_path: Path) -> None:
    page, expected = palette_page(8, SHORT, 1)
    (tmp_path / "scan.tif").write_bytes(encode_tiff(page))
    with Rescaler.from_pretrained("bdflow-x2-fast", threads=1) as rescaler:
        packet = rescaler.downscale(tmp_path / "scan.tif")
        assert np.array_equal(packet.lr, rescaler.downscale(expected).lr)
    target = tmp_path / "small.png"
    assert main(["downscale", str(tmp_path / "scan.tif"), "-o", str(target), "--model", "bdflow-x2-fast"]) == 0
    assert np.array_equal(read_picture(target).pixels, packet.lr)


@pytest.mark.parametrize("bits", [1, 4, 8])
@pytest.mark.parametrize("change", [-3, -1, 3])
def test_a_colour_map_of_the_wrong_length_is_refused_and_not_shifted(bits: int, change: int) -> None:
    page, _ = palette_page(bits, SHORT, 257)
    values = [*page.tags[COLOUR_MAP][1], 0, 0, 0]
    page.tags[COLOUR_MAP] = SHORT, values[: len(values) - 3 + change]
    with pytest.raises(CorruptImageError, match=r"colour map|palette"):
        read_picture(encode_tiff(page))


@pytest.mark.parametrize("kind", [ASCII, 5, 12])
def test_a_colour_map_of_other_things_than_whole_numbers_is_refused(kind: int) -> None:
    page, _ = palette_page(8, BYTE, 1)
    data = bytearray(encode_tiff(page))
    at = data.index(COLOUR_MAP.to_bytes(2, "little") + BYTE.to_bytes(2, "little"))
    data[at + 2] = kind
    with pytest.raises((CorruptImageError, UnsupportedImageError)):
        read_picture(bytes(data))


@pytest.mark.parametrize(("order", "big"), CONTAINERS)
@pytest.mark.parametrize(("bits", "white", "fill"), list(itertools.product([1, 2, 4, 8], [0, 1], [1, 2])))
@pytest.mark.parametrize("compress", [False, True])
def test_white_and_the_order_of_bits_are_taken_from_the_tags(
    bits: int, white: int, fill: int, order: str, big: bool, compress: bool
) -> None:
    levels = np.random.default_rng(bits).integers(0, 1 << bits, (HEIGHT, WIDTH_PX), np.uint8)
    data = packed(levels, bits)
    data = zlib.compress(data) if compress else data
    if fill == 2:
        data = np.packbits(np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")).tobytes()
    tags: dict[int, Value] = {
        BITS: (SHORT, [bits]),
        PHOTOMETRIC: (SHORT, [white]),
        FILL_ORDER: (SHORT, [fill]),
        COMPRESSION: (SHORT, [8 if compress else 1]),
    }
    encoded = encode_tiff(grey_page(HEIGHT, WIDTH_PX, data, tags), order=order, big=big)
    if bits == 8 and white == 0 and fill == 2 and not compress:
        with pytest.raises(UnsupportedImageError):
            read_picture(encoded)
        return
    grey = np.rint(levels * (255 / ((1 << bits) - 1))).astype(np.uint8)
    picture = read_picture(encoded)
    assert picture.colour == "grey"
    assert np.array_equal(picture.pixels[..., 0], grey if white else 255 - grey)


def test_a_tiff_that_does_not_say_which_value_is_white_is_refused() -> None:
    page = grey_page(HEIGHT, WIDTH_PX, photo(HEIGHT, WIDTH_PX, 1)[..., 0].tobytes(), {PHOTOMETRIC: (SHORT, [])})
    with refused(UnsupportedImageError, "PhotometricInterpretation"):
        read_picture(encode_tiff(page))


def ycbcr_tiff(pixels: UInt8Array, across: int, down: int, *, compress: bool, tags: dict[int, Value]) -> bytes:
    """YCbCr of BT.601 at full range, in units of `across` x `down` lumas and one chroma of each kind."""
    red, green, blue = np.moveaxis(pixels.astype(np.float64), -1, 0)
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    chroma = np.stack((128 + (blue - luma) / 1.772, 128 + (red - luma) / 1.402))
    units = bytearray()
    for top in range(0, pixels.shape[0], down):
        for left in range(0, pixels.shape[1], across):
            area = slice(top, top + down), slice(left, left + across)
            units += np.rint(luma[area]).astype(np.uint8).tobytes()
            units += np.rint(chroma[(..., *area)].mean(axis=(1, 2))).astype(np.uint8).tobytes()
    usual: dict[int, Value] = {
        PHOTOMETRIC: (SHORT, [6]),
        SUBSAMPLING: (SHORT, [across, down]),
        COMPRESSION: (SHORT, [8 if compress else 1]),
    }
    data = zlib.compress(bytes(units)) if compress else bytes(units)
    return encode_tiff(rgb_page(pixels.shape[0], pixels.shape[1], data, usual | tags))


@pytest.mark.parametrize(("across", "down"), [(1, 1), (2, 1), (1, 2), (2, 2), (4, 2)])
@pytest.mark.parametrize("compress", [False, True])
def test_subsampled_ycbcr_is_decoded_right_or_refused(across: int, down: int, compress: bool) -> None:
    flat = np.random.default_rng(1).integers(0, 256, (4, 5, 3), np.uint8).repeat(4, axis=0).repeat(4, axis=1)
    data = ycbcr_tiff(flat, across, down, compress=compress, tags={})
    if not compress and ((across, down) != (1, 1) or is_before_13()):
        with refused(UnsupportedImageError, "YCbCr"):
            read_picture(data)
        return
    assert np.abs(opencv(data).astype(int) - flat).max() <= 3
    assert np.abs(read_picture(data).pixels.astype(int) - flat).max() <= 3


@pytest.mark.parametrize("tag", [SUBSAMPLING, 529, 532])
def test_uncompressed_ycbcr_of_another_meaning_is_refused(tag: int) -> None:
    values: dict[int, Value] = {SUBSAMPLING: (SHORT, []), 529: (LONG, [1, 0, 0]), 532: (LONG, [16, 235] * 3)}
    data = ycbcr_tiff(photo(8, 8, 1), 1, 1, compress=False, tags={tag: values[tag]})
    with refused(UnsupportedImageError, "YCbCr"):
        read_picture(data)


@pytest.mark.parametrize("compress", [False, True])
def test_planes_one_after_the_other_are_put_together(compress: bool) -> None:
    expected = photo(HEIGHT, WIDTH_PX, 3)
    page = rgb_page(HEIGHT, WIDTH_PX, b"", {PLANAR: (SHORT, [2]), ROWS: (LONG, [5])})
    page.tags[COMPRESSION] = SHORT, [8 if compress else 1]
    strips = [expected[top : top + 5, :, plane].tobytes() for plane in range(3) for top in range(0, HEIGHT, 5)]
    page.strips = [zlib.compress(strip) if compress else strip for strip in strips]
    data = encode_tiff(page)
    assert np.array_equal(read_picture(data).pixels, expected)
    assert np.array_equal(opencv(data), expected)


def test_a_big_endian_bigtiff_is_refused_by_name() -> None:
    page = rgb_page(4, 4, photo(4, 4, 1).tobytes())
    with refused(UnsupportedImageError, "big-endian BigTIFF"):
        read_picture(encode_tiff(page, order=">", big=True))


@pytest.mark.parametrize("planar", [1, 2])
@pytest.mark.parametrize("extra", [[0], [0, 0], [2, 0], [1, 0, 0]])
@pytest.mark.parametrize("order", "<>")
def test_channels_that_would_be_lost_are_refused(extra: list[int], order: str, planar: int) -> None:
    count = 3 + len(extra)
    tags: dict[int, Value] = {
        BITS: (SHORT, [8] * count), SAMPLES: (SHORT, [count]), EXTRA_SAMPLES: (SHORT, extra), PLANAR: (SHORT, [planar]),
    }  # fmt: skip
    lost = len([kind for kind in extra if not kind])
    page = rgb_page(2, 3, bytes(range(6 * count)), tags)
    if planar == 2:
        page.strips = [bytes(range(6 * plane, 6 * plane + 6)) for plane in range(count)]
    with refused(UnsupportedImageError, f"{lost} channel{'s' * (lost > 1)} beside its colours"):
        read_picture(encode_tiff(page, order=order))


@pytest.mark.parametrize("planar", [1, 2])
@pytest.mark.parametrize("extra", [[], [0] * 4])
def test_more_samples_than_pillow_takes_are_refused_by_name(
    extra: list[int], planar: int, caplog: pytest.LogCaptureFixture
) -> None:
    tags: dict[int, Value] = {
        BITS: (SHORT, [8] * 7), SAMPLES: (SHORT, [7]), EXTRA_SAMPLES: (SHORT, extra), PLANAR: (SHORT, [planar]),
    }  # fmt: skip
    words = "4 channels beside its colours" if extra else "7 samples per pixel; at most 6 are read"
    with refused(UnsupportedImageError, words, "convert IN -alpha off OUT.png"):
        read_picture(encode_tiff(rgb_page(2, 3, bytes(42), tags)))
    assert not caplog.records


@pytest.mark.parametrize("kind", [0, 2])
def test_a_second_channel_of_grey_is_alpha_or_refused(kind: int) -> None:
    tags: dict[int, Value] = {BITS: (SHORT, [8, 8]), SAMPLES: (SHORT, [2]), EXTRA_SAMPLES: (SHORT, [kind])}
    data = encode_tiff(grey_page(1, 2, bytes((10, 255, 20, 255)), tags))
    if kind:
        assert read_picture(data).pixels[0, :, 0].tolist() == [10, 20]
        return
    with refused(UnsupportedImageError, "1 channel beside its colours"):
        read_picture(data)
