"""Damage inside JPEG files, which decoders pass over in silence, is refused; odd files that are whole are not."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bdflow_rt.containers import read_picture
from bdflow_rt.errors import CorruptImageError
from tests.containers.build import encoded, refused
from tests.support import photo

ENCODINGS: dict[str, dict[str, Any]] = {
    "baseline": {},
    "fine": {"quality": 95, "subsampling": 0},
    "coarse": {"quality": 20, "optimize": True},
    "progressive": {"progressive": True},
    "restarts": {"restart_marker_rows": 1},
}
PHOTO = Image.fromarray(photo(203, 307, 1))
END = b"\xff\xd9"


def damaged(data: bytes, damage: str, at: float) -> bytes:
    """The file with its coded pixels damaged, at a share of their length."""
    start = data.index(b"\xff\xda") + 14
    place = start + int(at * (len(data) - 2 - start))
    behind = data[place + 400 :]
    return {
        "cut off": data[:place] + END,
        "zeroed": data[:place] + bytes(400) + behind,
        "shortened": data[:place] + behind,
    }[damage]


@pytest.mark.parametrize(
    ("encoding", "damage", "at"),
    [
        (encoding, damage, at)
        for encoding in ENCODINGS
        for damage in ("cut off", "zeroed", "shortened")
        for at in (0.1, 0.5, 0.85)
    ],
)
def test_damage_that_decoders_pass_over_is_refused(encoding: str, damage: str, at: float) -> None:
    data = damaged(encoded(PHOTO, "JPEG", **ENCODINGS[encoding]), damage, at)
    with refused(CorruptImageError, "damaged or cut off"):
        read_picture(data)


def test_a_large_picture_that_is_half_grey_is_refused() -> None:
    large = Image.fromarray(np.tile(photo(207, 203, 1), (6, 6, 1)))
    data = encoded(large, "JPEG")
    assert np.array_equal(read_picture(data).pixels, np.asarray(Image.open(io.BytesIO(data))))
    with refused(CorruptImageError, "damaged or cut off"):
        read_picture(damaged(data, "cut off", 0.5))


@pytest.mark.parametrize("encoding", ["baseline", "restarts"])
def test_a_whole_picture_needs_no_end_mark(encoding: str) -> None:
    data = encoded(PHOTO, "JPEG", **ENCODINGS[encoding])
    whole = read_picture(data).pixels
    assert np.array_equal(read_picture(data[:-2]).pixels, whole)
    for cut in (*range(4, 40), 400, len(data) - 30):
        with refused(CorruptImageError):
            read_picture(data[:-cut])


def test_progressive_scans_that_may_be_missing_are_refused() -> None:
    data = encoded(PHOTO, "JPEG", progressive=True)
    scans = [at for at in range(len(data)) if data.startswith(b"\xff\xda", at)]
    with refused(CorruptImageError, "damaged or cut off"):
        read_picture(data[: scans[3]])


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("size", [(1, 1), (16, 16), (17, 33), (8, 1200)])
def test_whole_pictures_are_read_as_pillow_reads_them(encoding: str, seed: int, size: tuple[int, int]) -> None:
    grey = seed == 3
    data = encoded(Image.fromarray(photo(*size, seed)).convert("L" if grey else "RGB"), "JPEG", **ENCODINGS[encoding])
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    assert np.array_equal(read_picture(data).pixels, expected)


@pytest.mark.parametrize("colour", [(128, 128, 128), (255, 255, 255), (0, 0, 0), (255, 0, 0)])
@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("flat", ["all", "above", "below"])
def test_flat_pictures_are_whole_although_their_codes_are_zeros(
    encoding: str, colour: tuple[int, int, int], flat: str
) -> None:
    picture = np.full((1031, 1033, 3), colour, np.uint8)
    if flat != "all":
        picture[slice(800, None) if flat == "above" else slice(230)] = photo(1, 1033, 2)
    data = encoded(Image.fromarray(picture), "JPEG", **ENCODINGS[encoding])
    assert np.array_equal(read_picture(data).pixels, np.asarray(Image.open(io.BytesIO(data))))


def _with_preview(data: bytes) -> bytes:
    preview = b"Exif\0\0" + encoded(PHOTO.resize((32, 24)), "JPEG")
    return data[:2] + b"\xff\xe1" + (len(preview) + 2).to_bytes(2, "big") + preview + data[2:]


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize(
    "oddity", ["trailing data", "several pictures", "preview", "fill bytes", "bytes before a mark"]
)
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_odd_files_that_are_whole_are_read(encoding: str, oddity: str) -> None:
    data = encoded(PHOTO, "JPEG", **ENCODINGS[encoding])
    odd = {
        "trailing data": data + b"a video\xff\xd8\xff\xda\0\0" * 100,
        "several pictures": data + damaged(data, "cut off", 0.5),
        "preview": _with_preview(data),
        "fill bytes": data[:-2] + b"\xff\xff\xff" + data[-2:],
        "bytes before a mark": data[:-2] + b"\x13\x37" + data[-2:],
    }[oddity]
    assert np.array_equal(read_picture(odd).pixels, read_picture(data).pixels)
