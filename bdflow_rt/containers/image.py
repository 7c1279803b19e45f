"""Ordinary pictures, in and out. What would be altered silently is refused with the reason."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, BinaryIO, get_args

import numpy as np

from bdflow_rt.containers.advice import FIRST_PAGE, TO_8_BIT_RGB
from bdflow_rt.containers.colour import Kind, check_profile_size, choose_profile, srgb_converter
from bdflow_rt.containers.decoders import load_pixels, open_picture
from bdflow_rt.containers.icc import grey_profile, rgb_profile
from bdflow_rt.containers.pillow import pillow_settings
from bdflow_rt.containers.source import open_input
from bdflow_rt.errors import (
    ArgumentError,
    CorruptImageError,
    UnsupportedImageError,
    check_choice,
    check_type,
    check_whole,
    describe,
)
from bdflow_rt.files import PathLike, as_path, shown, write_atomically
from bdflow_rt.options import DEFAULT_MAX_PIXELS, MAX_SIDE, Colours, check_max_pixels
from bdflow_rt.picture import MAX_ICC_BYTES, Picture, UInt8Array, to_grey

if TYPE_CHECKING:
    from PIL import Image
    from PIL.ImageFile import ImageFile

Rgb = tuple[int, int, int]

_GREY_MODES = ("1", "L", "LA")
_MODES = (*_GREY_MODES, "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "YCbCr")
_BLOCK_ROWS, _BLOCK_COLUMNS = 256, 4096
_BITS_PER_SAMPLE, _SAMPLE_FORMAT = 258, 339  # TIFF tags


def read_picture(
    source: PathLike | bytes,
    *,
    background: str | None = None,
    colours: Colours = "keep",
    max_pixels: int = DEFAULT_MAX_PIXELS,
    name: str = "The picture",
) -> Picture:
    """Read a picture file: PNG, JPEG, WebP, TIFF, BMP, PPM or GIF.

    EXIF orientation is applied, palettes become RGB, an alpha channel that is opaque everywhere is dropped.

    Args:
        source: a file's name, or its content.
        background: colour to flatten transparent pictures over, as in CSS: "white", "#20c040". Others ignore it.
        colours: "keep" carries an ICC profile along, and makes one for colours that a file describes in another way
            (chunks gAMA, cHRM and cICP of a PNG, EXIF's Adobe RGB, calibrated BMP); "convert" converts such pictures to
            sRGB, CMYK with a profile too; "assume" takes every picture as sRGB.
        max_pixels: larger pictures are refused before they are decoded.
        name: what messages call content without a file's name.

    Raises:
        MissingFileError, UnreadableFileError: the file cannot be opened.
        CorruptImageError: damaged, cut off, without pixels, or not a picture.
        ImageTooLargeError: more than `max_pixels`.
        UnsupportedImageError: 16-bit, float, CMYK (unless it is converted), Lab, animated, transparent without a
            `background`, a colour profile of more than 16 MiB, or colours that no profile can say, such as HDR.
        ArgumentError: `background` is not a colour, or another `colours`.

    Warns:
        UserWarning: the colours are not what the file says, a profile was made for them, or the picture is a packet,
            whose hidden part is not looked at.
    """
    check_max_pixels(max_pixels)
    check_choice("colours", colours, get_args(Colours))
    fill = None if background is None else _parse_colour(background)
    if isinstance(source, bytes):
        if not source:
            raise CorruptImageError(f"{name} is empty (0 bytes); get it again from where it was made.")
        opened = nullcontext[BinaryIO](io.BytesIO(source))
    else:
        name, opened = f"'{as_path(source)}'", open_input(source)  # type: ignore[assignment]
    with opened as stream:
        image, facts = open_picture(stream, name=name, max_pixels=max_pixels)
        with image:
            converts_cmyk = image.mode == "CMYK" and colours == "convert"
            _check_kind(image, name, has_others=facts.has_others, converts_cmyk=converts_cmyk)
            kind: Kind = "cmyk" if converts_cmyk else "grey" if image.mode in _GREY_MODES else "rgb"
            profile = choose_profile(facts.colour, kind, colours=colours, name=name)
            if converts_cmyk and profile is None:
                raise UnsupportedImageError(
                    f"{name} is a CMYK picture without a colour profile to convert it by; convert it in another way, "
                    f"for example with: {TO_8_BIT_RGB}"
                )
            load_pixels(image, name=name)
            if facts.has_packet:
                warnings.warn(
                    f"{name} is a small picture that bdflow made; what restores its large original does not go along.",
                    stacklevel=2,
                )
            conversion = _Conversion(kind, profile, colours == "convert", fill, name)
            with pillow_settings(image.size):  # Pillow before 13 checks its limit on pixels in blocks too
                picture = conversion.run(image, facts.orientation)
    return replace(picture, left_behind=tuple(sorted(facts.metadata)))


def write_picture(path: PathLike, picture: Picture, *, quality: int | None = None, suffix: str | None = None) -> int:
    """Write a picture atomically, and return the bytes of the file; the suffix of the name chooses the format.

    .png, .webp, .tif, .tiff, .bmp and .ppm are lossless; .jpg and .jpeg are written without chroma subsampling. Grey
    pictures are written as grey where the format can. BMP and PPM cannot carry a colour profile: it is left out with
    a `UserWarning`.

    Args:
        path: where to.
        picture: what to write.
        quality: of JPEG, 1 to 100, None is 95; or of WebP, which becomes lossy with it.
        suffix: of the format, such as ".png", where the name has none: for pipes and /dev/stdout.

    Raises:
        ArgumentError: unknown suffix, a side longer than the format allows, a `quality` that the format does not have,
            or a "grey" picture whose channels differ.
        DiskFullError, UnwritableOutputError: the file could not be written; an older one is untouched.
    """
    from PIL import Image

    check_type("picture", picture, Picture, "a Picture")
    height, width = picture.pixels.shape[:2]
    check_picture_path(path, width=width, height=height, quality=quality, suffix=suffix)
    target = _FORMATS[_suffix(path, suffix)]
    profile, pixels = picture.icc_profile, picture.pixels
    if picture.colour == "grey":
        _check_grey(pixels)
        grey = grey_profile(profile) if profile else None
        # Without a grey twin of its profile the picture stays RGB, which looks the same everywhere.
        if target.grey and (grey or not profile):
            profile, pixels = grey, pixels[:, :, 0]
    options = {**target.options, **({} if quality is None else {**(target.lossy or {}), "quality": quality})}
    if profile and len(profile) <= target.max_icc_bytes:
        options["icc_profile"] = profile
    elif profile:
        warnings.warn(
            f"{shown(path)}: {target.name} cannot carry the picture's colour profile, so it was left out and colours "
            "may look different. Write .png, .tiff or .webp to keep it.",
            stacklevel=2,
        )
    image = Image.fromarray(np.ascontiguousarray(pixels))
    return write_atomically(path, lambda file: image.save(_Sink(file), target.name, **options))  # type: ignore[arg-type]


def check_picture_path(
    path: PathLike, *, width: int, height: int, quality: int | None = None, suffix: str | None = None
) -> None:
    """Check, before long work, that `write_picture` can write a picture of that size under that name.

    Args:
        path, quality, suffix: as for `write_picture`.
        width, height: of the picture.

    Raises:
        ArgumentError: unknown suffix, a side longer than the format allows, or a `quality` that it does not have.
    """
    check_whole("width", width, 1, MAX_SIDE)
    check_whole("height", height, 1, MAX_SIDE)
    chosen = _suffix(path, suffix)
    target = _FORMATS.get(chosen)
    if target is None:
        raise ArgumentError(
            f"'{path}' has {f'the suffix {chosen!r}' if chosen else 'no suffix'}, which names no picture format; "
            f"allowed: {', '.join(_FORMATS)}."
        )
    if quality is not None:
        check_whole("quality", quality, 1, 100)
        if target.lossy is None:
            lossy = [name for name, other in _FORMATS.items() if other.lossy is not None]
            raise ArgumentError(
                f"quality is {quality}, but {target.name} keeps every pixel; leave it out, or write "
                f"{', '.join(lossy[:-1])} or {lossy[-1]}."
            )
    if max(width, height) > target.max_side:
        others = [name for name, other in _FORMATS.items() if other.max_side >= max(width, height)]
        raise ArgumentError(
            f"A picture of {width} x {height} pixels cannot be written as {target.name}, which allows at most "
            f"{target.max_side} to each side; use {', '.join(others)}."
        )


def _suffix(path: PathLike, suffix: str | None) -> str:
    check_type("suffix", suffix, (str, type(None)), "a suffix such as '.png', or None")
    return as_path(path).suffix.lower() if suffix is None else suffix.lower()


@dataclass(frozen=True)
class _Format:
    name: str
    options: dict[str, Any] = field(default_factory=dict)
    max_side: int = MAX_SIDE
    max_icc_bytes: int = MAX_ICC_BYTES
    grey: bool = True
    lossy: dict[str, Any] | None = None
    """Options that go with a quality; None for a format that has none."""


# PNG level 3 takes half the time of the usual 6 and gives 2 % more bytes (1.25 MP photographs).
_PNG = _Format("PNG", {"compress_level": 3})
# A profile is in at most 255 segments of 65,519 bytes.
_JPEG = _Format("JPEG", {"quality": 95, "subsampling": 0}, max_side=65500, max_icc_bytes=255 * 65519, lossy={})
_TIFF = _Format("TIFF", {"compression": "tiff_adobe_deflate", "tiffinfo": {317: 2}})  # 317: horizontal predictor
_FORMATS = {
    ".png": _PNG,
    ".jpg": _JPEG,
    ".jpeg": _JPEG,
    ".webp": _Format("WEBP", {"lossless": True}, max_side=16383, grey=False, lossy={"lossless": False}),
    ".tif": _TIFF,
    ".tiff": _TIFF,
    ".bmp": _Format("BMP", max_icc_bytes=0),
    ".ppm": _Format("PPM", max_icc_bytes=0),
}


class _Sink:
    """A file without a descriptor: Pillow's C encoders would write to that and lose the reason of a failure."""

    def __init__(self, file: BinaryIO) -> None:
        self.write, self.flush, self.tell, self.seek = file.write, file.flush, file.tell, file.seek


def _check_kind(image: ImageFile, name: str, *, has_others: bool, converts_cmyk: bool) -> None:
    """Refuse what could only be read by changing it."""
    kind = None if converts_cmyk else _refused_kind(image)
    if kind:
        option = (
            " or, where it has a colour profile, with colours='convert' (--convert-srgb)"
            if image.mode == "CMYK"
            else ""
        )
        raise UnsupportedImageError(
            f"{name} is {kind}, which would be altered; convert it to 8-bit RGB, for example with: {TO_8_BIT_RGB}"
            f"{option}"
        )
    if has_others:
        raise UnsupportedImageError(
            f"{name} is animated or has several pages; pictures are handled one by one, so extract one, for example "
            f"with: {FIRST_PAGE}"
        )


def _refused_kind(image: ImageFile) -> str | None:
    args = image.tile[0][3] if image.tile else None
    if image.format == "PNG" and isinstance(args, str) and args.endswith("16B"):
        return "a 16-bit PNG"
    if image.mode not in _MODES:
        deep = image.mode.startswith(("I", "F"))
        return "a picture of more than 8 bits" if deep else f"a {image.mode} picture"
    # Pillow reduces the following to 8 bits without a word.
    if image.format == "PPM" and isinstance(args, tuple) and isinstance(args[-1], int) and args[-1] > 255:
        return f"a PPM with values up to {args[-1]}"
    if image.format == "TIFF":
        bits, kinds = _tiff_numbers(image, _BITS_PER_SAMPLE), _tiff_numbers(image, _SAMPLE_FORMAT)
        if max(bits, default=1) > 8:
            return f"a TIFF of {max(bits)} bits per sample"
        if max(kinds, default=1) > 1:
            return "a TIFF of signed or floating-point samples"
    return None


def _tiff_numbers(image: ImageFile, tag: int) -> list[int]:
    """The whole numbers of a TIFF tag, which a hostile file may fill with anything."""
    value = image.tag_v2.get(tag, ())  # type: ignore[attr-defined]
    return [entry for entry in (value if isinstance(value, tuple) else (value,)) if isinstance(entry, int)]


@dataclass(frozen=True)
class _Conversion:
    """How a decoded image becomes a `Picture`: turned, flattened, converted; by blocks, so that it exists once."""

    kind: Kind
    own: bytes | None
    """The ICC profile of the image's own pixels."""
    to_srgb: bool
    fill: Rgb | None
    name: str

    def run(self, image: ImageFile, orientation: int) -> Picture:
        """The picture.

        Raises:
            UnsupportedImageError: transparent, and there is no colour to flatten it over.
        """
        from PIL import Image

        is_grey = self.kind == "grey"
        # CMYK is converted from its own profile, all else as RGB.
        profile = self.own if self.kind == "cmyk" else rgb_profile(self.own, colour="grey" if is_grey else "rgb")
        check_profile_size(len(profile or b""), name=self.name)  # a twin may be longer than what it was made of
        transparent = image.has_transparency_data and any(_alpha_used(block) for _, _, block in _blocks(image))
        if transparent and self.fill is None:
            raise UnsupportedImageError(
                f"{self.name} is transparent in places, which an RGB picture cannot be; name a background colour to "
                "flatten it over, for example background='white' (--background white)."
            )
        convert = None
        if profile and self.to_srgb:
            convert = srgb_converter(profile, "CMYK" if self.kind == "cmyk" else "RGB", name=self.name)
            profile = None
        size = (image.width, image.height) if orientation >= 5 else (image.height, image.width)
        pixels = np.empty((*size, 3), np.uint8)
        stored = _as_stored(pixels, orientation)
        for x, y, block in _blocks(image):
            colours = block if self.kind == "cmyk" else _opaque(block)
            if convert:
                colours = convert(colours)
                colours = Image.fromarray(to_grey(np.asarray(colours))) if is_grey else colours
            if transparent and self.fill is not None:
                # Behind the conversion: the background is a colour of sRGB.
                colours = _flatten(colours, block, self.fill)
            stored[y : y + block.height, x : x + block.width] = np.asarray(colours)
        neutral = not transparent or self.fill is None or self.fill[0] == self.fill[1] == self.fill[2]
        return Picture(pixels, "grey" if is_grey and neutral else "rgb", profile)


def _blocks(image: Image.Image) -> Iterator[tuple[int, int, Image.Image]]:
    for y in range(0, image.height, _BLOCK_ROWS):
        for x in range(0, image.width, _BLOCK_COLUMNS):
            right, lower = min(image.width, x + _BLOCK_COLUMNS), min(image.height, y + _BLOCK_ROWS)
            yield x, y, image.crop((x, y, right, lower))


def _alpha_used(block: Image.Image) -> bool:
    lowest, _ = block.convert("RGBA").getchannel("A").getextrema()
    return lowest != 255


def _opaque(block: Image.Image) -> Image.Image:
    if block.mode == "RGBa":  # premultiplied
        block = block.convert("RGBA")
    if "transparency" in block.info:
        block = block.copy()  # which is asked for its alpha later
        del block.info["transparency"]
    return block.convert("RGB")


def _flatten(colours: Image.Image, block: Image.Image, fill: Rgb) -> Image.Image:
    """RGB colours with the alpha of the block that they are of, over a colour."""
    from PIL import Image

    under = Image.new("RGBA", block.size, (*fill, 255))
    colours.putalpha(block.convert("RGBA").getchannel("A"))
    under.alpha_composite(colours)
    return under.convert("RGB")


def _as_stored(upright: UInt8Array, orientation: int) -> UInt8Array:
    """A view of the upright picture laid out as its file stores it; `orientation` as in EXIF, 1..8."""
    if orientation in (2, 3):
        upright = upright[:, ::-1]
    if orientation in (3, 4):
        upright = upright[::-1]
    if orientation == 7:
        upright = upright[::-1, ::-1]
    if orientation in (5, 7):
        upright = upright.swapaxes(0, 1)
    if orientation in (6, 8):
        upright = np.rot90(upright, 1 if orientation == 6 else -1)
    return upright


def _check_grey(pixels: UInt8Array) -> None:
    for start in range(0, len(pixels), _BLOCK_ROWS):
        rows = pixels[start : start + _BLOCK_ROWS]
        if not (np.array_equal(rows[..., 0], rows[..., 1]) and np.array_equal(rows[..., 0], rows[..., 2])):
            raise ArgumentError(
                "The picture's colour is 'grey', but its three channels differ; make them equal, or use 'rgb'."
            )


def _parse_colour(text: str) -> Rgb:
    from PIL import ImageColor

    check_type("background", text, str, "the name of a colour")
    try:
        red, green, blue, *alpha = ImageColor.getrgb(text)
        if max(red, green, blue) > 255 or alpha not in ([], [255]):
            raise ValueError(text)
    except (ValueError, AttributeError) as error:
        raise ArgumentError(
            f"background is {describe(text)}; it must be an opaque colour such as 'white', '#20c040' or "
            "'rgb(32, 192, 64)'."
        ) from error
    return red, green, blue
