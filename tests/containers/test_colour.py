"""Colours that are not sRGB: kept by a profile, converted, or taken as sRGB, compared with plain arithmetic."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageCms

from bdflow_rt.containers import read_picture
from bdflow_rt.containers.icc_matrix import adobe_rgb_profile, assemble, cicp_profile
from bdflow_rt.errors import ArgumentError, UnsupportedImageError
from tests.containers.build import encoded, insert_chunks, refused
from tests.containers.test_icc import SRGB, make_grey_profile
from tests.support import photo

PIXELS = photo(61, 67, 3)
PHOTO = Image.fromarray(PIXELS)
P3 = (31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000)
ALPHA = Image.fromarray(np.array([[255] * 4 + [0] * 4] * 5, np.uint8))
P3_TO_SRGB = np.array([[1.2249, -0.2247, 0.0], [-0.0420, 1.0419, 0.0], [-0.0197, -0.0786, 1.0979]])
"""Of linear Display P3 to linear sRGB, both D65 (CSS Color 4)."""


def to_linear(encoded_values: NDArray[Any]) -> NDArray[np.float64]:
    v = np.asarray(encoded_values, np.float64)
    return np.where(v <= 0.04045, v / 12.92, ((v + 0.055) / 1.055) ** 2.4)


def to_srgb(linear: NDArray[Any]) -> NDArray[np.float64]:
    v = np.clip(linear, 0, 1)
    return 255 * np.where(v <= 0.0031308, v * 12.92, 1.055 * v ** (1 / 2.4) - 0.055)


def png(*chunks: tuple[bytes, bytes], image: Image.Image = PHOTO) -> bytes:
    return insert_chunks(encoded(image, "PNG"), *chunks)


def gama(value: int) -> tuple[bytes, bytes]:
    return b"gAMA", struct.pack(">I", value)


def difference(pixels: NDArray[Any], expected: NDArray[Any]) -> float:
    return float(np.abs(pixels.astype(float) - expected).max())


@pytest.mark.parametrize("gamma", [0.35, 0.55556, 0.7, 1.0, 2.5])
def test_a_gamma_is_converted(gamma: float) -> None:
    with pytest.warns(UserWarning, match=f"converted from gamma {gamma:g} "):
        picture = read_picture(png(gama(round(gamma * 100_000))), colours="convert")
    expected = to_srgb((PIXELS / 255) ** (1 / gamma))
    assert picture.icc_profile is None
    assert difference(picture.pixels, expected) <= 2


def test_chromaticities_are_converted() -> None:
    with pytest.warns(UserWarning, match="chunk cHRM"):
        picture = read_picture(png((b"cHRM", struct.pack(">8I", *P3))), colours="convert")
    expected = to_srgb(to_linear(PIXELS / 255) @ P3_TO_SRGB.T)
    assert difference(picture.pixels, expected) <= 2


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        ((12, 13, 0, 1), to_srgb(to_linear(PIXELS / 255) @ P3_TO_SRGB.T)),
        ((1, 8, 0, 1), to_srgb(PIXELS / 255)),
        ((1, 4, 0, 1), to_srgb((PIXELS / 255) ** 2.2)),
    ],
    ids=["P3", "linear", "gamma 2.2"],
)
def test_code_points_are_kept_by_a_profile_and_converted(points: tuple[int, ...], expected: NDArray[Any]) -> None:
    data = png((b"cICP", bytes(points)))
    with pytest.warns(UserWarning, match="keeps its colours"):
        kept = read_picture(data)
    assert np.array_equal(kept.pixels, PIXELS)
    assert kept.icc_profile == cicp_profile(points)
    with pytest.warns(UserWarning, match="converted from the code points"):
        converted = read_picture(data, colours="convert")
    assert difference(converted.pixels, expected) <= 2


def test_code_points_of_bt709_follow_its_curve() -> None:
    with pytest.warns(UserWarning, match="1, 1, 0, 1"):
        picture = read_picture(png((b"cICP", bytes((1, 1, 0, 1)))), colours="convert")
    v = PIXELS / 255
    expected = to_srgb(np.where(v < 0.081, v / 4.5, ((v + 0.099) / 1.099) ** (1 / 0.45)))
    assert difference(picture.pixels, expected) <= 2


@pytest.mark.parametrize(
    "points", [(9, 16, 0, 1), (9, 18, 0, 1), (1, 13, 0, 0), (1, 13, 1, 1), (2, 13, 0, 1), (10, 8, 0, 1)]
)
def test_code_points_that_no_profile_holds(points: tuple[int, ...]) -> None:
    assert cicp_profile(points) is None


def test_the_profile_for_adobe_rgb_is_that_of_its_definition() -> None:
    """The matrix to XYZ of D50 in Adobe RGB (1998) Color Image Encoding, annex C, and gamma 2.19921875."""
    matrix = np.array([[0.60974, 0.20528, 0.14919], [0.31111, 0.62567, 0.06322], [0.01947, 0.06087, 0.74457]])
    profile = ImageCms.ImageCmsProfile(io.BytesIO(adobe_rgb_profile())).profile
    columns = [colorant[0] for name in ("red", "green", "blue") if (colorant := getattr(profile, f"{name}_colorant"))]
    assert np.abs(np.array(columns).T - matrix).max() < 2e-4
    assert "Adobe RGB" in (profile.profile_description or "")


def camera_jpeg(index: bytes = b"R03\0", *, order: str = "<", **options: Any) -> bytes:
    """A JPEG whose EXIF data has an interoperability index, as cameras write it."""
    mark = b"II*\0" if order == "<" else b"MM\0*"
    first = struct.pack(f"{order}HHHII", 1, 0x8769, 4, 1, 26) + struct.pack(f"{order}I", 0)
    second = struct.pack(f"{order}HHHII", 1, 0xA005, 4, 1, 44) + struct.pack(f"{order}I", 0)
    third = struct.pack(f"{order}HHHI", 1, 1, 2, 4) + index + struct.pack(f"{order}I", 0)
    exif = b"Exif\0\0" + mark + struct.pack(f"{order}I", 8) + first + second + third
    return encoded(PHOTO, "JPEG", quality=95, exif=exif, **options)


@pytest.mark.parametrize("order", "<>")
def test_adobe_rgb_that_exif_alone_says_is_kept(order: str) -> None:
    with pytest.warns(UserWarning, match="Adobe RGB"):
        picture = read_picture(camera_jpeg(order=order))
    assert picture.icc_profile == adobe_rgb_profile()
    assert read_picture(camera_jpeg(b"R98\0", order=order)).icc_profile is None
    assert read_picture(camera_jpeg(order=order, icc_profile=SRGB)).icc_profile == SRGB


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP"])
def test_an_icc_profile_is_converted_from(kind: str) -> None:
    options: dict[str, Any] = {"lossless": True} if kind == "WEBP" else {"quality": 100} if kind == "JPEG" else {}
    data = encoded(PHOTO, kind, icc_profile=adobe_rgb_profile(), **options)
    stored = read_picture(data).pixels
    picture = read_picture(data, colours="convert")
    target = ImageCms.createProfile("sRGB")
    source = ImageCms.ImageCmsProfile(io.BytesIO(adobe_rgb_profile()))
    expected = ImageCms.profileToProfile(Image.fromarray(stored), source, target, ImageCms.Intent.RELATIVE_COLORIMETRIC)
    assert expected is not None
    assert difference(picture.pixels, np.asarray(expected)) <= 1
    assert picture.icc_profile is None
    with pytest.warns(UserWarning, match="taken as sRGB, as asked, whatever its ICC profile says"):
        assumed = read_picture(data, colours="assume")
    assert np.array_equal(assumed.pixels, stored)
    assert assumed.icc_profile is None


def test_a_grey_picture_with_a_profile_of_its_own_is_converted_and_stays_grey() -> None:
    ramp = np.arange(256, dtype=np.uint8)[None].repeat(4, 0)
    data = encoded(Image.fromarray(ramp), "PNG", icc_profile=make_grey_profile(gamma=1.0))
    picture = read_picture(data, colours="convert")
    assert (picture.colour, picture.icc_profile) == ("grey", None)
    assert difference(picture.pixels[..., 0], to_srgb(ramp / 255)) <= 2


def test_what_is_srgb_or_says_nothing_is_left_as_it_is() -> None:
    for data in (png(), png((b"sRGB", b"\0")), png(gama(45455))):
        for colours in ("keep", "convert", "assume"):
            assert np.array_equal(read_picture(data, colours=colours).pixels, PIXELS)


def test_cmyk_with_a_profile_is_converted_and_without_one_refused() -> None:
    cmyk = PHOTO.convert("CMYK")
    for kind in ("JPEG", "TIFF"):
        with refused(UnsupportedImageError, "CMYK", "--convert-srgb", "convert IN"):
            read_picture(encoded(cmyk, kind))
        with refused(UnsupportedImageError, "CMYK picture without a colour profile"):
            read_picture(encoded(cmyk, kind), colours="convert")


def cmyk_profile() -> bytes:
    """A printer of ideal inks: a table of the 16 corners of CMYK (ICC.1:2022, lut8Type)."""
    identity = bytes(range(256))
    corners = []
    for number in range(16):
        cyan, magenta, yellow, black = (number >> bit & 1 for bit in (3, 2, 1, 0))
        rgb = np.array([[[255 * (1 - ink) * (1 - black) for ink in (cyan, magenta, yellow)]]], np.uint8)
        lab = ImageCms.profileToProfile(
            Image.fromarray(rgb), ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
        )
        assert lab is not None
        corners.append(bytes(np.asarray(lab).astype(np.uint8)[0, 0] + np.array([0, 128, 128], np.uint8)))
    table = (
        b"mft1" + bytes(4) + bytes((4, 3, 2, 0)) + struct.pack(">9i", *(65536 * v for v in (1, 0, 0, 0, 1, 0, 0, 0, 1)))
    )
    table += identity * 4 + b"".join(corners) + identity * 3
    table += bytes(-len(table) % 4)
    head = struct.pack(">I", 144 + len(table)) + bytes(4) + b"\2\x40\0\0" + b"prtrCMYKLab " + bytes(12) + b"acsp"
    head += bytes(28) + struct.pack(">3i", 63190, 65536, 54061) + bytes(48)
    return head + struct.pack(">I4sII", 1, b"A2B0", 144, len(table)) + table


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk_is_converted_by_its_profile(kind: str) -> None:
    """These inks multiply, as plain arithmetic does; between the corners of the table Lab is interpolated."""
    flat = np.zeros((16, 64, 4), np.uint8)
    for index, inks in enumerate([(0, 0, 0, 0), (255, 0, 0, 0), (0, 255, 0, 0), (0, 0, 255, 0), (255, 255, 0, 0)]):
        flat[:, 12 * index : 12 * index + 12] = inks
    flat[:, 60:] = (0, 0, 0, 255)
    options: dict[str, Any] = {"quality": 100, "subsampling": 0} if kind == "JPEG" else {}
    data = encoded(Image.fromarray(flat, "CMYK"), kind, icc_profile=cmyk_profile(), **options)
    picture = read_picture(data, colours="convert")
    expected = [(255, 255, 255), (0, 255, 255), (255, 0, 255), (255, 255, 0), (0, 0, 255), (0, 0, 0)]
    for index, colour in enumerate(expected):
        assert difference(picture.pixels[8, 12 * index + 2], np.array(colour)) <= 6
    assert (picture.colour, picture.icc_profile) == ("rgb", None)


@pytest.mark.parametrize("profile", [b"no profile", SRGB[:200], SRGB[:16] + b"CMYK" + SRGB[20:]])
def test_a_profile_that_cannot_be_used_is_not_converted_from(profile: bytes) -> None:
    with pytest.warns(UserWarning, match="it cannot be used"):
        picture = read_picture(encoded(PHOTO, "TIFF", icc_profile=profile), colours="convert")
    assert np.array_equal(picture.pixels, PIXELS)


def test_a_profile_that_lcms_does_not_take_is_an_error_of_its_own() -> None:
    empty = SRGB[:128] + struct.pack(">I", 0)
    with refused(UnsupportedImageError, "cannot be converted from", "--assume-srgb"):
        read_picture(encoded(PHOTO, "TIFF", icc_profile=empty), colours="convert")


@pytest.mark.parametrize("value", ["srgb", "", None, 1, ["keep"]])
def test_another_way_with_colours_is_refused(value: Any) -> None:
    with refused(ArgumentError, "colours is", "keep, assume, convert"):
        read_picture(png(), colours=value)


def test_a_transparent_picture_is_flattened_behind_its_conversion_as_browsers_do() -> None:
    rgba = np.dstack([PIXELS, np.full(PIXELS.shape[:2], 100, np.uint8)])
    data = insert_chunks(encoded(Image.fromarray(rgba), "PNG"), gama(100_000))
    with pytest.warns(UserWarning, match="converted"):
        picture = read_picture(data, background="white", colours="convert")
    assert difference(picture.pixels, 100 / 255 * to_srgb(PIXELS / 255) + 155 / 255 * 255) <= 3


@pytest.mark.parametrize("mode", ["LA", "RGBA", "L with a transparent value", "P"])
def test_a_background_is_a_colour_of_srgb_whatever_is_converted(mode: str) -> None:
    profile = make_grey_profile() if mode.startswith("L") else adobe_rgb_profile()
    options: dict[str, Any] = {"icc_profile": profile}
    if mode in ("LA", "RGBA"):
        image = Image.merge(mode, [*Image.new(mode[:-1], (8, 5), 77 if mode == "LA" else (77, 99, 3)).split(), ALPHA])
    else:
        image = Image.new(mode[0], (8, 5), 77)
        image.paste(3, (4, 0, 8, 5))
        options["transparency"] = 3
        if mode == "P":
            image.putpalette([value for index in range(256) for value in (index, 99, 255 - index)])
    data = encoded(image, "PNG", **options)
    picture = read_picture(data, background="#20c040", colours="convert")
    assert (picture.pixels[:, 4:] == (32, 192, 64)).all()
    opaque = encoded(image.convert("RGB" if mode in ("RGBA", "P") else "L"), "PNG", icc_profile=profile)
    assert np.array_equal(picture.pixels[:, :4], read_picture(opaque, colours="convert").pixels[:, :4])
    assert picture.colour == "rgb"


R03 = b"Exif\0\0MM\0*" + struct.pack(
    ">IHHHIIIHHHIIIHHHI4sI", 8, 1, 0x8769, 4, 1, 26, 0, 1, 0xA005, 4, 1, 44, 0, 1, 1, 2, 4, b"R03\0", 0
)


@pytest.mark.parametrize("kind", ["no profile", "of RGB", "broken", "without tables"])
@pytest.mark.parametrize("exif", [b"", R03], ids=["no EXIF", "Adobe RGB by EXIF"])
def test_a_cmyk_picture_that_cannot_be_converted_is_never_called_srgb(
    kind: str, exif: bytes, recwarn: pytest.WarningsRecorder
) -> None:
    cmyk = assemble({b"desc": bytes(40)})
    cmyk = cmyk[:16] + b"CMYK" + cmyk[20:]
    profile = {"no profile": b"", "of RGB": SRGB, "broken": b"broken", "without tables": cmyk}[kind]
    data = encoded(PHOTO.convert("CMYK"), "JPEG", exif=exif, **({"icc_profile": profile} if profile else {}))
    with pytest.raises(UnsupportedImageError) as caught:
        read_picture(data, colours="convert")
    assert "assume" not in str(caught.value)
    assert not recwarn.list
