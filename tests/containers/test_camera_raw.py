"""Camera raw is refused by name, and a reduced copy before the picture is not taken for the picture."""

from __future__ import annotations

import contextlib
import warnings
from pathlib import Path

import numpy as np
import pytest

from bdflow_rt.cli.main import main
from bdflow_rt.containers import read_picture
from bdflow_rt.errors import BdflowError, CorruptImageError, UnsupportedImageError
from tests.containers.build import refused
from tests.containers.tiff import (
    ASCII,
    BITS,
    BYTE,
    COMPRESSION,
    DNG_VERSION,
    LONG,
    MAKE,
    PHOTOMETRIC,
    SHORT,
    SUB_IFDS,
    SUBFILE_TYPE,
    Page,
    Value,
    encode_tiff,
    grey_page,
    rgb_page,
)
from tests.support import photo

CFA, LINEAR_RAW = 32803, 34892
CONTAINERS = [("<", False), (">", False), ("<", True)]


def preview(tags: dict[int, Value] | None = None, *, height: int = 12, width: int = 16) -> Page:
    """A small sound RGB page, marked as the reduced copy of another."""
    return rgb_page(height, width, photo(height, width, 1).tobytes(), {SUBFILE_TYPE: (LONG, [1]), **(tags or {})})


def sensor(colours: int = CFA, *, compression: int = 1) -> Page:
    """16-bit sensor data."""
    tags: dict[int, Value] = {
        BITS: (SHORT, [16]),
        PHOTOMETRIC: (SHORT, [colours]),
        SUBFILE_TYPE: (LONG, [0]),
        COMPRESSION: (SHORT, [compression]),
    }
    return grey_page(48, 64, bytes(2 * 48 * 64), tags)


def make(name: str) -> dict[int, Value]:
    return {MAKE: (ASCII, [*name.encode(), 0])}


DNG: dict[int, Value] = {DNG_VERSION: (BYTE, [1, 4, 0, 0])}


def with_subs(page: Page, *subs: Page) -> Page:
    page.subs = list(subs)
    return page


RAW: dict[str, tuple[Page, ...]] = {
    "DNG": (with_subs(preview(DNG | make("Canon")), sensor()),),
    "DNG, demosaiced": (with_subs(preview(DNG), sensor(LINEAR_RAW)),),
    "DNG, sensor first": (Page({**sensor().tags, **DNG}, sensor().strips),),
    "DNG, lossy": (with_subs(preview(DNG), sensor(LINEAR_RAW, compression=34892)),),
    "DNG, preview not marked": (with_subs(preview(DNG | {SUBFILE_TYPE: (LONG, [0])}), sensor()),),
    "Nikon NEF": (
        with_subs(preview(make("NIKON CORPORATION")), preview(height=24, width=32), sensor(compression=34713)),
    ),
    "Sony ARW": (with_subs(preview(make("SONY")), sensor(compression=32767)), preview()),
    "Pentax PEF": (Page({**sensor().tags, **make("PENTAX")}, sensor().strips), preview()),
    "Samsung SRW": (with_subs(preview(make("SAMSUNG")), sensor(compression=32770)),),
    "Hasselblad 3FR": (with_subs(preview(make("Hasselblad")), sensor()),),
    "Epson ERF": (with_subs(preview(make("SEIKO EPSON CORP.")), sensor(compression=32769)),),
    "of a kind unknown here": (preview(), sensor()),
}


@pytest.mark.parametrize(("order", "big"), CONTAINERS)
@pytest.mark.parametrize("kind", RAW)
def test_camera_raw_is_refused_by_name_and_never_reduced_to_its_preview(kind: str, order: str, big: bool) -> None:
    with refused(UnsupportedImageError, "camera raw", kind.partition(",")[0], "Develop it first"):
        read_picture(encode_tiff(*RAW[kind], order=order, big=big))


MARKS = {
    "Canon CR2": b"II*\0\x10\0\0\0CR\x02\0" + bytes(40),
    "Canon CR3": b"\0\0\0\x18ftypcrx " + bytes(40),
    "Canon CRW": b"II\x1a\0\0\0HEAPCCDR" + bytes(40),
    "Olympus ORF": b"IIRO\x08\0\0\0" + bytes(40),
    "Panasonic RW2": b"IIU\0\x18\0\0\0" + bytes(40),
    "Fujifilm RAF": b"FUJIFILMCCD-RAW 0201" + bytes(40),
    "Sigma X3F": b"FOVb" + bytes(40),
    "Minolta MRW": b"\0MRM" + bytes(40),
}


@pytest.mark.parametrize(("make_of", "level"), [("Phase One A/S", 73), ("Leaf", 77)])
def test_iiq_is_refused_and_a_picture_whose_pixels_look_like_its_mark_is_read(make_of: str, level: int) -> None:
    pixels = bytes([level]) * (16 * 12)
    sound, raw = (bytearray(encode_tiff(grey_page(12, 16, pixels, tags))) for tags in ({}, make(make_of)))
    assert sound[8:12] == raw[8:12] == bytes([level]) * 4
    assert (read_picture(bytes(sound)).pixels == level).all()
    with refused(UnsupportedImageError, "camera raw", "Phase One IIQ"):
        read_picture(bytes(raw))


@pytest.mark.parametrize("kind", MARKS)
def test_camera_raw_of_other_containers_is_refused_by_name(kind: str) -> None:
    with refused(UnsupportedImageError, "camera raw", kind, "Develop it first"):
        read_picture(MARKS[kind])


def test_the_command_line_refuses_camera_raw_with_the_way_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "photo.dng").write_bytes(encode_tiff(*RAW["DNG"]))
    assert main(["downscale", str(tmp_path / "photo.dng"), "-o", str(tmp_path / "small.png")]) == 3
    error = capsys.readouterr().err
    assert "camera raw (DNG)" in error
    assert "Develop it first" in error
    assert not (tmp_path / "small.png").exists()


@pytest.mark.parametrize("mark", [0, 1])
def test_a_picture_behind_its_reduced_copy_is_not_left_out(mark: int) -> None:
    full = rgb_page(48, 64, photo(48, 64, 2).tobytes())
    page = with_subs(preview({SUBFILE_TYPE: (LONG, [mark])}), full)
    with refused(UnsupportedImageError, "reduced copy", "16 x 12", "64 x 48"):
        read_picture(encode_tiff(page))


def test_the_full_size_before_its_pyramid_is_the_picture() -> None:
    pixels = photo(48, 64, 2)
    page = with_subs(rgb_page(48, 64, pixels.tobytes()), preview(height=24, width=32), preview())
    assert np.array_equal(read_picture(encode_tiff(page)).pixels, pixels)


def test_a_lone_page_that_is_marked_as_reduced_is_a_picture() -> None:
    """Overview files of maps have nothing else."""
    assert np.array_equal(read_picture(encode_tiff(preview())).pixels, photo(12, 16, 1))


def test_a_ring_of_directories_ends() -> None:
    data = bytearray(encode_tiff(rgb_page(4, 4, photo(4, 4, 1).tobytes())))
    data[-4:] = data[4:8]  # the next directory is this one
    assert np.array_equal(read_picture(bytes(data)).pixels, photo(4, 4, 1))


@pytest.mark.parametrize("offsets", [[1 << 20], [1], [(1 << 32) - 1], [0xFFFF] * 400])
def test_a_preview_whose_picture_is_cut_off_is_refused(offsets: list[int]) -> None:
    with refused(CorruptImageError, "cut off", "reduced copy"):
        read_picture(encode_tiff(preview({SUB_IFDS: (LONG, offsets)})))


def test_damaged_directories_end_in_a_picture_or_a_typed_error() -> None:
    whole = encode_tiff(*RAW["Nikon NEF"])
    random = np.random.default_rng(5)
    for _ in range(400):
        data = bytearray(whole[: random.integers(4, len(whole))])
        for at in random.integers(4, len(data), 6):
            data[at] = random.integers(256)
        with contextlib.suppress(BdflowError), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            read_picture(bytes(data))
