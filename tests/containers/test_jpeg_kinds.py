"""Kinds of JPEG: read as a second decoder reads them, or refused by name."""

from __future__ import annotations

import io
import shutil
import struct
import subprocess
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps

from bdflow_rt.containers import read_picture
from bdflow_rt.errors import CorruptImageError, UnsupportedImageError
from tests.containers.build import encoded, refused
from tests.containers.test_icc import SRGB, long_profile
from tests.support import photo

PHOTO = Image.fromarray(photo(61, 83, 2))
JFIF = b"JFIF\0\1\1\0\0\1\0\1\0\0"


def opencv(data: bytes) -> NDArray[np.uint8]:
    """RGB as it is stored, by libjpeg-turbo."""
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    assert decoded is not None
    return decoded[..., ::-1].astype(np.uint8)


def segment(kind: int, payload: bytes) -> bytes:
    return bytes((0xFF, kind)) + struct.pack(">H", len(payload) + 2) + payload


def with_segments(data: bytes, *segments: bytes) -> bytes:
    """The file with more segments behind its start."""
    return data[:2] + b"".join(segments) + data[2:]


def without(data: bytes, kind: int) -> bytes:
    """The file without its first segment of a kind."""
    at = data.index(bytes((0xFF, kind)))
    return data[:at] + data[at + 2 + struct.unpack_from(">H", data, at + 2)[0] :]


def exif_of(orientation: int, order: str = "<") -> bytes:
    mark = b"II*\0" if order == "<" else b"MM\0*"
    return b"Exif\0\0" + mark + struct.pack(f"{order}IHHHIHHI", 8, 1, 274, 3, 1, orientation, 0, 0)


XMP = b'http://ns.adobe.com/xap/1.0/\0<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize(
    "options",
    [{}, {"subsampling": 0}, {"subsampling": 1}, {"progressive": True}, {"optimize": True}, {"restart_marker_rows": 1}],
    ids=lambda options: "-".join(options) or "plain",
)
def test_pixels_are_those_of_a_second_decoder(mode: str, options: dict[str, Any]) -> None:
    data = encoded(PHOTO.convert(mode), "JPEG", quality=90, **options)
    assert np.abs(read_picture(data).pixels.astype(int) - opencv(data)).max() <= 3


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("kind", ["JPEG", "MPO"])
def test_exif_turns_a_picture_and_xmp_does_not(orientation: int, order: str, kind: str) -> None:
    options: dict[str, Any] = {"save_all": True, "append_images": [PHOTO.resize((8, 8))]} if kind == "MPO" else {}
    data = encoded(PHOTO, kind, **options)
    turned = with_segments(data, segment(0xE1, XMP), segment(0xE1, exif_of(orientation, order)))
    stored = Image.fromarray(read_picture(data).pixels)
    stored.getexif()[274] = orientation
    assert np.array_equal(read_picture(turned).pixels, np.asarray(ImageOps.exif_transpose(stored)))
    assert np.array_equal(read_picture(with_segments(data, segment(0xE1, XMP))).pixels, np.asarray(stored))


@pytest.mark.parametrize("length", range(5, 14))
def test_a_short_jfif_segment_is_no_damage(length: int) -> None:
    data = without(encoded(PHOTO, "JPEG"), 0xE0)
    assert np.array_equal(
        read_picture(with_segments(data, segment(0xE0, JFIF[:length]))).pixels, read_picture(data).pixels
    )


@pytest.mark.parametrize(
    "extra",
    [
        segment(0xE0, b"JFXX\0\x10"),
        segment(0xE1, b"Exif\0\0"),
        segment(0xE1, b"Exif\0\0garbage that is long enough"),
        segment(0xE2, b"MPF\0garbage"),
        segment(0xE2, b"ICC_PROFILE\0"),
        segment(0xED, b"Photoshop 3.0\08BIM\x04\x04"),
        segment(0xEE, b"Adobe\0"),
        segment(0xFE, b""),
        segment(0xEC, b"Ducky\0\1"),
    ],
    ids=["jfxx", "empty exif", "exif garbage", "mpf", "icc", "photoshop", "short adobe", "comment", "ducky"],
)
def test_segments_that_say_nothing_of_pixels_change_none(extra: bytes) -> None:
    data = encoded(PHOTO, "JPEG")
    assert np.array_equal(read_picture(with_segments(data, extra)).pixels, read_picture(data).pixels)


def test_rgb_without_conversion_is_read_as_adobes_mark_says() -> None:
    pixels = photo(32, 48, 4)
    data = encoded(Image.fromarray(pixels), "JPEG", quality=100, subsampling=0, keep_rgb=True)
    assert np.abs(read_picture(data).pixels.astype(int) - pixels).max() <= 3


@pytest.mark.parametrize("frame", [0xC3, 0xC5, 0xC6, 0xC7, 0xCB, 0xCD, 0xCE, 0xCF, 0xDE])
def test_lossless_and_hierarchical_frames_are_refused_by_name(frame: int) -> None:
    data = encoded(PHOTO, "JPEG").replace(b"\xff\xc0\0\x11", bytes((0xFF, frame)) + b"\0\x11")
    with refused(UnsupportedImageError, "lossless or hierarchical JPEG", "libjpeg-tools"):
        read_picture(data)


def test_12_bits_are_refused_by_name() -> None:
    data = encoded(PHOTO, "JPEG").replace(b"\xff\xc0\0\x11\x08", b"\xff\xc1\0\x11\x0c")
    with refused(UnsupportedImageError, "12-bit JPEG"):
        read_picture(data)


@pytest.mark.parametrize("size", [70_000, 5_000_011])
def test_profiles_in_parts_are_put_together(size: int) -> None:
    profile = long_profile(size)
    parts = [profile[at : at + 65_519] for at in range(0, size, 65_519)]
    segments = [
        segment(0xE2, b"ICC_PROFILE\0" + bytes((number, len(parts))) + part) for number, part in enumerate(parts, 1)
    ]
    data = encoded(PHOTO, "JPEG")
    assert read_picture(with_segments(data, *reversed(segments))).icc_profile == profile
    with pytest.warns(UserWarning, match="it cannot be used"):
        assert read_picture(with_segments(data, *segments[:-1])).icc_profile is None


def test_a_profile_that_no_jpeg_holds_is_left_out_with_a_warning(tmp_path: Any) -> None:
    from bdflow_rt.containers import write_picture
    from bdflow_rt.picture import Picture

    with pytest.warns(UserWarning, match=r"cannot carry the picture's colour profile.*\.png"):
        write_picture(tmp_path / "p.jpg", Picture(photo(9, 11, 1), icc_profile=long_profile(16 << 20)))
    assert read_picture(tmp_path / "p.jpg").icc_profile is None
    write_picture(tmp_path / "q.jpg", Picture(photo(9, 11, 1), icc_profile=SRGB))
    assert read_picture(tmp_path / "q.jpg").icc_profile == SRGB


@pytest.mark.parametrize("length", range(2, 40))
def test_a_file_cut_off_in_its_segments_is_damage(length: int) -> None:
    with refused(CorruptImageError):
        read_picture(encoded(PHOTO, "JPEG")[:length].ljust(3, b"\xff"))


def test_a_camera_file_is_its_first_picture() -> None:
    first, preview = PHOTO, PHOTO.resize((16, 16))
    data = encoded(first, "MPO", save_all=True, append_images=[preview], quality=95)
    with Image.open(io.BytesIO(data)) as image:
        assert np.array_equal(read_picture(data).pixels, np.asarray(image))


@pytest.mark.parametrize("factors", ["4x2", "2x1,1x2,1x1", "3x1", "1x1,2x2,2x2"])
def test_subsampling_that_few_programs_write_is_read_with_a_warning(factors: str, tmp_path: Path) -> None:
    if not (convert := shutil.which("convert")):
        pytest.skip("ImageMagick is not installed; Pillow writes the usual kinds alone")
    PHOTO.save(tmp_path / "in.png")
    subprocess.run([convert, "in.png", "-sampling-factor", factors, "out.jpg"], cwd=tmp_path, check=True)
    data = (tmp_path / "out.jpg").read_bytes()
    with pytest.warns(UserWarning, match="unusual chroma subsampling"):
        assert np.array_equal(read_picture(data).pixels, opencv(data))


def scans_of(data: bytes) -> int:
    return data.count(b"\xff\xda")


@pytest.mark.parametrize("hidden", [b"", segment(0xFE, b"\xff\xd9")], ids=["plain", "end mark in a comment"])
def test_scans_without_end_are_refused_at_once(hidden: bytes) -> None:
    data = encoded(Image.new("L", (4000, 4000)), "JPEG", progressive=True)
    last = data[data.rindex(b"\xff\xda") : -2]
    started = time.monotonic()
    with refused(CorruptImageError, "more than 256 scans"):
        read_picture(data[:-2] + hidden + 10_000 * last + data[-2:])
    assert time.monotonic() - started < 5  # all of them take minutes


def test_scans_of_what_follows_the_picture_do_not_count() -> None:
    data = encoded(PHOTO, "JPEG", progressive=True)
    assert scans_of(30 * data) > 256
    assert np.array_equal(read_picture(30 * data).pixels, opencv(data))
