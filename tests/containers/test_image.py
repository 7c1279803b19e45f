"""Ordinary pictures in and out: what a user would expect comes back."""

from __future__ import annotations

import io
import struct
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps

from bdflow_rt.containers import check_picture_path, read_picture, write_picture
from bdflow_rt.errors import ArgumentError, DTypeError, EmptyImageError, ShapeError, UnsupportedImageError
from bdflow_rt.picture import Picture
from tests.containers.build import encoded, refused
from tests.containers.test_icc import long_profile, make_grey_profile, to_lab
from tests.containers.webps import ALPHA, animated_webp
from tests.support import photo

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
LOSSLESS = [".png", ".webp", ".tif", ".tiff", ".bmp", ".ppm"]
SIZES = [(1, 1), (1, 7), (5, 3), (63, 65), (127, 1), (257, 131)]


def grey_photo(height: int = 31, width: int = 47) -> np.ndarray:
    """A grey picture: three equal channels."""
    return np.repeat(photo(height, width, 5)[..., :1], 3, axis=2)


@pytest.mark.parametrize("suffix", LOSSLESS)
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_lossless_formats_give_back_every_pixel(suffix: str, height: int, width: int, tmp_path: Path) -> None:
    pixels = photo(height, width, 1)
    write_picture(tmp_path / f"picture{suffix}", Picture(pixels))
    picture = read_picture(tmp_path / f"picture{suffix}")
    assert np.array_equal(picture.pixels, pixels)
    assert (picture.colour, picture.icc_profile) == ("rgb", None)
    assert [path.name for path in tmp_path.iterdir()] == [f"picture{suffix}"]


@pytest.mark.parametrize("suffix", [".jpg", ".JPEG"])
def test_jpeg_is_written_at_high_quality_without_chroma_subsampling(suffix: str, tmp_path: Path) -> None:
    pixels = photo(101, 103, 2)
    write_picture(tmp_path / f"picture{suffix}", Picture(pixels))
    with Image.open(tmp_path / f"picture{suffix}") as image:
        assert [layer[1:3] for layer in image.layer] == [(1, 1)] * 3  # type: ignore[attr-defined]
    error = read_picture(tmp_path / f"picture{suffix}").pixels.astype(float) - pixels
    assert 10 * np.log10(255**2 / (error**2).mean()) > 36


@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp", ".ppm", ".jpg"])
def test_grey_pictures_are_written_as_grey_and_come_back_grey(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"grey{suffix}"
    write_picture(path, Picture(grey_photo(), "grey"))
    with Image.open(path) as image:
        assert image.mode == "L"
    picture = read_picture(path)
    assert picture.colour == "grey"
    assert np.abs(picture.pixels.astype(int) - grey_photo()).max() <= (12 if suffix == ".jpg" else 0)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif"])
def test_colour_profiles_travel(suffix: str, tmp_path: Path) -> None:
    write_picture(tmp_path / f"p{suffix}", Picture(photo(9, 11, 3), icc_profile=SRGB))
    assert read_picture(tmp_path / f"p{suffix}").icc_profile == SRGB


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif"])
def test_colour_profiles_of_several_mebibytes_travel(suffix: str, tmp_path: Path) -> None:
    profile = long_profile(5_000_011)
    write_picture(tmp_path / f"p{suffix}", Picture(photo(9, 11, 3), icc_profile=profile))
    assert read_picture(tmp_path / f"p{suffix}").icc_profile == profile


def test_a_colour_profile_that_could_not_be_read_back_is_refused() -> None:
    Picture(photo(9, 11, 3), icc_profile=bytes(16 << 20))
    with refused(ArgumentError, "16777217 bytes", "sRGB"):
        Picture(photo(9, 11, 3), icc_profile=bytes((16 << 20) + 1))


@pytest.mark.parametrize("suffix", [".bmp", ".ppm"])
def test_a_colour_profile_that_cannot_travel_is_left_out_with_a_warning(suffix: str, tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match=r"colour profile.*\.png"):
        write_picture(tmp_path / f"p{suffix}", Picture(photo(9, 11, 3), icc_profile=SRGB))
    assert read_picture(tmp_path / f"p{suffix}").icc_profile is None


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".webp"])
def test_a_grey_picture_with_its_own_profile_looks_the_same_through_rgb_and_back(suffix: str, tmp_path: Path) -> None:
    ramp = Image.fromarray(np.repeat(np.arange(256, dtype=np.uint8)[None], 16, axis=0))
    profile = make_grey_profile(gamma=1.3)
    expected = to_lab(profile, ramp)[..., 0]
    picture = read_picture(encoded(ramp, "PNG", icc_profile=profile))
    assert (picture.colour, picture.icc_profile is None) == ("grey", False)
    assert picture.icc_profile is not None
    assert np.abs(to_lab(picture.icc_profile, Image.fromarray(picture.pixels))[..., 0] - expected).max() <= 1
    write_picture(tmp_path / f"back{suffix}", picture)
    with Image.open(tmp_path / f"back{suffix}") as back:
        assert back.mode == ("RGB" if suffix == ".webp" else "L")
        error = np.abs(to_lab(back.info["icc_profile"], back)[..., 0] - expected)
        assert error.max() <= (4 if suffix == ".jpg" else 1)


def test_a_grey_picture_with_an_rgb_profile_of_different_curves_stays_rgb(tmp_path: Path) -> None:
    lut_profile = SRGB[:20] + b"Lab " + SRGB[24:]
    write_picture(tmp_path / "p.png", Picture(grey_photo(), "grey", lut_profile))
    with Image.open(tmp_path / "p.png") as image:
        assert (image.mode, image.info["icc_profile"]) == ("RGB", lut_profile)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_exif_orientation_is_applied_as_pillow_would(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(Image.fromarray(photo(300, 41, 4)), kind, exif=exif, **options)
    with Image.open(io.BytesIO(data)) as image:
        expected = np.asarray(ImageOps.exif_transpose(image))
    assert np.array_equal(read_picture(data).pixels, expected)
    assert expected.shape[:2] == ((41, 300) if orientation >= 5 else (300, 41))


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_an_impossible_exif_orientation_is_ignored(value: int) -> None:
    exif = Image.Exif()
    exif[274] = value
    pixels = photo(13, 17, 4)
    assert np.array_equal(read_picture(encoded(Image.fromarray(pixels), "PNG", exif=exif)).pixels, pixels)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_exif_data_that_does_not_parse_is_ignored() -> None:
    pixels = photo(13, 17, 4)
    data = encoded(Image.fromarray(pixels), "PNG", exif=b"Exif\0\0II*\0\xff\xff\xff\xffgarbage")
    assert np.array_equal(read_picture(data).pixels, pixels)


def test_palettes_become_rgb() -> None:
    image = Image.fromarray(photo(63, 65, 6)).quantize(17)
    for kind in ("PNG", "GIF", "TIFF", "BMP"):
        picture = read_picture(encoded(image, kind))
        assert np.array_equal(picture.pixels, np.asarray(image.convert("RGB")))
        assert picture.colour == "rgb"


def test_one_bit_pictures_become_grey_of_0_and_255() -> None:
    image = Image.fromarray(photo(63, 65, 6)).convert("1")
    for kind in ("PNG", "TIFF", "BMP", "PPM"):
        picture = read_picture(encoded(image, kind))
        assert np.array_equal(picture.pixels[..., 2], np.asarray(image).astype(np.uint8) * 255)
        assert picture.colour == "grey"


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_an_alpha_channel_that_is_opaque_everywhere_is_dropped(mode: str) -> None:
    pixels = photo(300, 31, 7)
    image = Image.fromarray(pixels).convert(mode)
    picture = read_picture(encoded(image, "PNG"))
    assert np.array_equal(picture.pixels, np.asarray(image.convert("RGB")))
    assert picture.colour == ("grey" if mode == "LA" else "rgb")


def test_a_palette_whose_transparent_entry_is_not_used_is_accepted() -> None:
    image = Image.fromarray(photo(63, 65, 6)).quantize(17)
    picture = read_picture(encoded(image, "PNG", transparency=200))
    assert np.array_equal(picture.pixels, np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_transparent_pictures_are_flattened_over_the_background(kind: str) -> None:
    rgba = np.dstack([photo(300, 31, 8), np.linspace(0, 255, 300 * 31).astype(np.uint8).reshape(300, 31)])
    options: dict[str, Any] = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    picture = read_picture(encoded(Image.fromarray(rgba), kind, **options), background="#20c040")
    alpha = rgba[..., 3:] / 255
    expected = alpha * rgba[..., :3] + (1 - alpha) * np.array([0x20, 0xC0, 0x40])
    assert np.abs(picture.pixels - expected).max() <= 1


def test_transparency_by_a_key_colour_is_flattened_too() -> None:
    pixels = photo(13, 17, 8)
    pixels[4:8] = (1, 2, 3)
    data = encoded(Image.fromarray(pixels), "PNG", transparency=(1, 2, 3))
    expected = np.where((pixels == (1, 2, 3)).all(-1, keepdims=True), 255, pixels)
    assert np.array_equal(read_picture(data, background="white").pixels, expected)


@pytest.mark.parametrize(("background", "colour"), [("white", "grey"), ("red", "rgb")])
def test_a_grey_picture_stays_grey_only_over_a_grey_background(background: str, colour: str) -> None:
    la = np.dstack([grey_photo()[..., 0], np.full((31, 47), 100, np.uint8)])
    picture = read_picture(encoded(Image.fromarray(la, "LA"), "PNG"), background=background)
    assert picture.colour == colour
    assert (picture.pixels[..., 0] == picture.pixels[..., 1]).all() == (colour == "grey")


@pytest.mark.parametrize("background", ["", "no colour", "#12", "rgb(1, 2)"])
def test_a_background_that_is_no_colour_is_refused(background: str) -> None:
    with refused(ArgumentError, "background", "white"):
        read_picture(encoded(Image.fromarray(photo(3, 3, 0)), "PNG"), background=background)


def test_a_camera_file_with_a_preview_gives_its_first_picture() -> None:
    first, preview = Image.fromarray(photo(63, 65, 9)), Image.fromarray(photo(16, 16, 9))
    data = encoded(first, "MPO", save_all=True, append_images=[preview], quality=95)
    with Image.open(io.BytesIO(data)) as image:
        assert image.n_frames == 2  # type: ignore[attr-defined]
        assert np.array_equal(read_picture(data).pixels, np.asarray(image))


@pytest.mark.parametrize("name", ["picture.xyz", "picture", "picture.gif", ".png"])
def test_an_unknown_suffix_is_refused_with_the_known_ones(name: str, tmp_path: Path) -> None:
    with refused(ArgumentError, ".png", ".tiff", ".jpg"):
        write_picture(tmp_path / name, Picture(photo(3, 3, 0)))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("suffix", "limit"), [(".jpg", 65500), (".webp", 16383)])
def test_a_picture_beyond_the_limit_of_a_format_is_refused_and_one_at_the_limit_is_not(
    suffix: str, limit: int, tmp_path: Path
) -> None:
    write_picture(tmp_path / f"fits{suffix}", Picture(np.zeros((1, limit, 3), np.uint8)))
    assert read_picture(tmp_path / f"fits{suffix}").pixels.shape == (1, limit, 3)
    with refused(ArgumentError, str(limit), ".png"):
        write_picture(tmp_path / f"beyond{suffix}", Picture(np.zeros((limit + 1, 1, 3), np.uint8)))
    with refused(ArgumentError, str(limit), ".png"):
        check_picture_path(f"beyond{suffix}", width=1, height=limit + 1)
    assert len(list(tmp_path.iterdir())) == 1


def test_a_grey_picture_that_has_colours_is_refused(tmp_path: Path) -> None:
    with refused(ArgumentError, "grey", "differ"):
        write_picture(tmp_path / "p.png", Picture(photo(13, 17, 1), "grey"))


def test_pictures_of_another_kind_are_refused() -> None:
    with refused(DTypeError, "float32"):
        Picture(photo(3, 3, 0).astype(np.float32))
    with refused(ShapeError, "(3, 3)"):
        Picture(photo(3, 3, 0)[..., 0])
    with refused(EmptyImageError, "no pixels"):
        Picture(photo(3, 3, 0)[:, :0])
    with refused(ArgumentError, "cmyk"):
        Picture(photo(3, 3, 0), "cmyk")  # type: ignore[arg-type]


def test_reading_holds_the_pixels_once_besides_the_decoder(tmp_path: Path) -> None:
    pixels = np.zeros((3000, 2000, 3), np.uint8)
    write_picture(tmp_path / "p.png", Picture(pixels))
    read_picture(tmp_path / "p.png")  # imports are not counted
    tracemalloc.start()
    read_picture(tmp_path / "p.png")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1.5 * pixels.nbytes  # the decoder's own pixels are not Python's


@pytest.mark.parametrize("alpha", [0, 0x8000])
def test_a_16_bit_bmp_with_an_alpha_channel_is_not_read_as_opaque(alpha: int) -> None:
    """The alpha of every pixel is 0 here: without a mask for it that means nothing."""
    size, masks = 2 * 4 * 2, struct.pack("<4I", 0x7C00, 0x3E0, 0x1F, alpha).ljust(68, b"\0")
    header = struct.pack("<IiiHHIIiiII", 108, 4, 2, 1, 16, 3, size, 0, 0, 0, 0) + masks
    data = b"BM" + struct.pack("<IHHI", 122 + size, 0, 0, 122) + header + struct.pack("<8H", *[0x7C00] * 8)
    if alpha:
        with refused(UnsupportedImageError, "16-bit BMP", "alpha"):
            read_picture(data)
    else:
        assert np.array_equal(read_picture(data).pixels, np.full((2, 4, 3), (255, 0, 0)))


def test_a_gif_that_covers_a_part_of_its_canvas_is_transparent_around_it_or_refused() -> None:
    image = Image.fromarray(photo(9, 11, 3)).quantize(16)
    whole = encoded(image, "GIF")
    data = whole[:6] + (20).to_bytes(2, "little") + (15).to_bytes(2, "little") + whole[10:]
    with refused(UnsupportedImageError, "11 x 9 pixels leaves a part of its canvas of 20 x 15 empty"):
        read_picture(data, background="#20c040")
    assert np.array_equal(read_picture(whole).pixels, np.asarray(image.convert("RGB")))


def test_a_webp_that_leaves_a_part_of_its_canvas_empty_comes_back_with_black_around() -> None:
    image = Image.fromarray(photo(9, 11, 1))
    with refused(UnsupportedImageError, "WebP whose picture of 11 x 9 pixels leaves a part of its canvas of 20 x 15"):
        read_picture(animated_webp(image, canvas=(20, 15)))
    assert np.array_equal(read_picture(animated_webp(image, canvas=(11, 9), at=(0, 0))).pixels, np.asarray(image))
    transparent = animated_webp(image, canvas=(20, 15), flags=ALPHA)
    with refused(UnsupportedImageError, "transparent", "--background"):
        read_picture(transparent)
    pixels = read_picture(transparent, background="white").pixels
    assert np.array_equal(pixels[6:15, 4:15], np.asarray(image))
    assert (pixels[:6] == 255).all()
