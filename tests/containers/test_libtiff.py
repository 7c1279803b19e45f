"""Damage that libtiff meets and makes up pixels for is refused, and its lines do not reach stderr."""

from __future__ import annotations

import contextlib
import io
import threading
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

from bdflow_rt.containers import libtiff, read_picture
from bdflow_rt.errors import CorruptImageError
from tests.containers.build import encoded, refused
from tests.containers.test_tiff_kinds import TILE_LENGTH, TILE_WIDTH, retagged
from tests.containers.tiff import (
    BITS,
    COMPRESSION,
    COUNTS,
    LONG,
    OFFSETS,
    PHOTOMETRIC,
    PLANAR,
    ROWS,
    SHORT,
    Value,
    encode_tiff,
    grey_page,
    rgb_page,
)
from tests.support import photo

SIZE = HEIGHT, WIDTH = 137, 153
PHOTO = Image.fromarray(photo(*SIZE, 6))
FAX, JPEG = ("group3", "group4"), ("jpeg",)
OTHERS = ("tiff_lzw", "tiff_adobe_deflate", "packbits", "lzma", "zstd")
FAX_TAGS: dict[int, Value] = {BITS: (SHORT, [1]), COMPRESSION: (SHORT, [3]), PHOTOMETRIC: (SHORT, [0])}


def picture(compression: str, mode: str = "RGB") -> bytes:
    return encoded(PHOTO.convert("1" if compression in FAX else mode), "TIFF", compression=compression)


def strip(data: bytes, index: int) -> slice:
    """Where a strip of a sound file lies, the last for -1."""
    tags = TiffImageFile(io.BytesIO(data)).tag_v2
    start, count = tags[OFFSETS][index], tags[COUNTS][index]
    return slice(start, start + count)


DAMAGE: dict[str, Callable[[bytes, int], bytes]] = {
    "zeroed": lambda codes, at: codes[:at] + bytes(60) + codes[at + 60 :],
    "cut out": lambda codes, at: codes[:at] + codes[at + 60 :] + bytes(60),
    "zeroed to its end": lambda codes, at: codes[:at] + bytes(len(codes) - at),
}


@pytest.mark.parametrize("where", [0.2, 0.5, 0.8])
@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("compression", [*FAX, *JPEG])
def test_damage_inside_a_strip_is_not_made_up(
    compression: str, damage: str, where: float, capfd: pytest.CaptureFixture[str]
) -> None:
    data = picture(compression)
    place = strip(data, 0)
    codes = data[place]
    damaged = data[: place.start] + DAMAGE[damage](codes, int(where * len(codes))) + data[place.stop :]
    assert len(damaged) == len(data)
    with refused(CorruptImageError, "is damaged or cut off, its data does not decode"):
        read_picture(damaged)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("share", [0, 0.3, 0.6])
@pytest.mark.parametrize("compression", [*FAX, *JPEG, *OTHERS])
def test_a_strip_whose_end_is_zeroed_is_damage_in_one_voice(
    compression: str, share: float, capfd: pytest.CaptureFixture[str]
) -> None:
    data = picture(compression)
    place = strip(data, -1)
    start = place.start + int(share * (place.stop - place.start))
    with refused(CorruptImageError):
        read_picture(data[:start] + bytes(place.stop - start) + data[place.stop :])
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("tiled", [False, True])
@pytest.mark.parametrize("planar", [1, 2])
def test_the_checksum_of_every_deflated_part_is_looked_at(planar: int, tiled: bool) -> None:
    pixels = photo(48, 64, 2)
    planes = [pixels] if planar == 1 else [pixels[..., channel] for channel in range(3)]
    sides = (16, 32) if tiled else (16, 64)
    parts = [
        plane[top : top + sides[0], left : left + sides[1]].tobytes()
        for plane in planes
        for top in range(0, 48, sides[0])
        for left in range(0, 64, sides[1])
    ]
    tags: dict[int, Value] = {COMPRESSION: (SHORT, [8]), PLANAR: (SHORT, [planar]), ROWS: (LONG, [16])}
    page = rgb_page(48, 64, b"", tags)
    if tiled:
        del page.tags[ROWS]
        page.tags |= {TILE_WIDTH: (LONG, [32]), TILE_LENGTH: (LONG, [16])}

    def encode(broken: int | None) -> bytes:
        page.strips = [zlib.compress(part) for part in parts]
        if broken is not None:
            page.strips[broken] = page.strips[broken][:-1] + bytes((page.strips[broken][-1] ^ 1,))
        data = encode_tiff(page)
        return retagged(data, page, order="<", big=False) if tiled else data

    assert np.array_equal(read_picture(encode(None)).pixels, pixels)
    for broken in range(len(parts)):
        with refused(CorruptImageError, "incorrect data check"):
            read_picture(encode(broken))


@pytest.mark.parametrize("compression", [*FAX, *JPEG, *OTHERS])
def test_a_sound_file_is_no_damage(compression: str, capfd: pytest.CaptureFixture[str]) -> None:
    data = picture(compression)
    assert np.array_equal(read_picture(data).pixels, np.asarray(TiffImageFile(io.BytesIO(data)).convert("RGB")))
    assert capfd.readouterr().err == ""


def test_fax_without_marks_between_its_rows_is_no_damage_but_its_end_is() -> None:
    codes = "".join("1011011" if row % 2 else "10011" for row in range(16))  # white 4 and black 4, and white 8
    data = int(codes, 2).to_bytes(len(codes) // 8, "big")
    pixels = np.full((16, 8), 255, np.uint8)
    pixels[1::2, 4:] = 0
    file = encode_tiff(grey_page(16, 8, data, FAX_TAGS))
    assert np.array_equal(read_picture(file).pixels[..., 0], pixels)
    with refused(CorruptImageError, "Premature EOL at line 12"):
        read_picture(encode_tiff(grey_page(16, 8, data[:-3], FAX_TAGS)))


def test_padding_behind_the_codes_of_a_jpeg_and_tags_that_are_not_known_are_no_damage() -> None:
    jpeg = encoded(PHOTO.convert("L"), "JPEG", quality=90)
    tags: dict[int, Value] = {COMPRESSION: (SHORT, [7]), 64999: (SHORT, [1, 2, 3])}
    file = encode_tiff(grey_page(*SIZE, jpeg[:-2] + b"\0\0\0\xff\xd9", tags))
    expected = np.asarray(Image.open(io.BytesIO(jpeg)))
    assert np.abs(read_picture(file).pixels[..., 0].astype(int) - expected).max() <= 1


def damaged_fax() -> bytes:
    data = picture("group4")
    middle = strip(data, 0).start + 1000
    return data[:middle] + b"\1\1\1" + data[middle + 3 :]


def decode_as_a_host() -> None:
    """Decode by Pillow alone, as other code of the process may."""
    with contextlib.suppress(OSError):
        TiffImageFile(io.BytesIO(damaged_fax())).load()


def test_what_libtiff_says_to_the_host_goes_where_it_went(capfd: pytest.CaptureFixture[str]) -> None:
    decode_as_a_host()
    before = capfd.readouterr().err
    assert "Fax4Decode" in before
    with refused(CorruptImageError):
        read_picture(damaged_fax())
    assert capfd.readouterr().err == ""
    decode_as_a_host()
    assert capfd.readouterr().err == before
    with libtiff.heard_libtiff() as is_heard:
        thread = threading.Thread(target=decode_as_a_host)
        thread.start()
        thread.join()
    assert is_heard
    assert capfd.readouterr().err == before


def test_threads_hear_their_own_files_alone() -> None:
    files = [picture("group4"), damaged_fax()]
    outcomes: dict[int, list[bool]] = {}

    def reads(file: bytes) -> bool:
        try:
            read_picture(file)
        except CorruptImageError:
            return False
        return True

    def read(index: int) -> None:
        outcomes[index] = [reads(files[index % 2]) for _ in range(40)]

    threads = [threading.Thread(target=read, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes == {index: [index % 2 == 0] * 40 for index in range(4)}


def test_a_pillow_whose_libtiff_cannot_be_reached_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libtiff, "_listener", lambda: None)
    with pytest.warns(UserWarning, match="this build of Pillow hides damage"):
        read_picture(picture("group4"))
