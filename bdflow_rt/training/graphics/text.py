"""Text in the fonts that the packages of training bring along, in many sizes and colours."""

from __future__ import annotations

import functools
import importlib.util
import io
import pathlib
import string
from typing import cast

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from bdflow_rt.training.graphics.areas import gradient
from bdflow_rt.training.graphics.canvas import (
    BLACK,
    WHITE,
    Colour,
    Pixels,
    Random,
    any_colour,
    between,
    chance,
    edge,
    ink_and_paper,
    luma,
    pick,
    stamp,
    to_bytes,
)

FONT_FILES = (
    "DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSansMono", "DejaVuSansMono-Bold", "DejaVuSerif",
    "DejaVuSerif-Bold", "DejaVuSerif-Italic", "STIXGeneral", "STIXGeneralBol", "STIXGeneralItalic", "cmr10", "cmss10",
    "cmtt10", "cmb10",
)  # fmt: skip
"""Of matplotlib, without those that hold no letters."""
HERSHEY = (
    cv2.FONT_HERSHEY_SIMPLEX, cv2.FONT_HERSHEY_PLAIN, cv2.FONT_HERSHEY_DUPLEX, cv2.FONT_HERSHEY_COMPLEX,
    cv2.FONT_HERSHEY_TRIPLEX, cv2.FONT_HERSHEY_SCRIPT_SIMPLEX,
)  # fmt: skip
SIZES = (6, 40)
"""Pixels of an em."""
PILLOW = "Pillow"
"""Stands for the font that is part of Pillow."""
CONSONANTS, VOWELS = "bcdfghklmnprstvwz", "aeiouy"
SUBPIXEL = np.array([1, 2, 3, 2, 1], np.float32) / 9
"""Taps of the filter that spreads a third of a pixel over its neighbours, so that its colour fringes stay faint."""

Font = ImageFont.FreeTypeFont


@functools.cache
def font_names() -> tuple[str, ...]:
    """Pillow's own font, and matplotlib's where it is installed, as it is with the `train` extra."""
    spec = importlib.util.find_spec("matplotlib")  # not imported: that would write a cache of fonts
    if spec is None or spec.origin is None:
        return (PILLOW,)
    folder = pathlib.Path(spec.origin).parent / "mpl-data" / "fonts" / "ttf"
    return (PILLOW, *(str(file) for name in FONT_FILES if (file := folder / f"{name}.ttf").is_file()))


@functools.cache
def _font_bytes(name: str) -> bytes:
    return pathlib.Path(name).read_bytes()


@functools.lru_cache(maxsize=128)
def load_font(name: str, size: int) -> Font:
    """A font of `font_names`, `size` pixels to the em.

    From memory: an open file costs a descriptor per font and size, and forked processes would share its position.
    """
    if name == PILLOW:
        return cast("Font", ImageFont.load_default(size)).font_variant(layout_engine=ImageFont.Layout.BASIC)
    return ImageFont.truetype(io.BytesIO(_font_bytes(name)), size, layout_engine=ImageFont.Layout.BASIC)


def _ink(words: str, font: Font, smooth: bool, pitch: int, limit: tuple[int, int]) -> tuple[Pixels, int, int]:
    """A mask of lines, cut to what is inked, and where its corner lies from the start of the first line's baseline.

    Each line is set once: measuring it first would take as long again.
    """
    margin, size = round(font.size / 3), round(font.size)
    image = Image.new("L", (limit[1] + margin, limit[0] + size))
    draw = ImageDraw.Draw(image)
    draw.fontmode = "L" if smooth else "1"
    for number, row in enumerate(words.split("\n")):
        draw.text((margin, size + number * pitch), row, fill=255, font=font, anchor="ls")
    left, top, right, bottom = image.getbbox() or (0, 0, 1, 1)
    mask = np.asarray(image)[top : min(bottom, top + limit[0]), left : min(right, left + limit[1])]
    return mask, left - margin, top - size


def write(words: str, font: Font, *, smooth: bool = True, pitch: int = 0, limit: tuple[int, int]) -> Pixels:
    """(h, w) mask of lines `pitch` pixels apart, cut to its ink and to a limit of (rows, columns)."""
    return _ink(words, font, smooth, pitch, limit)[0]


def write_fringed(words: str, name: str, size: int, *, pitch: int = 0, limit: tuple[int, int]) -> Pixels:
    """(h, w, 3) mask with a channel of its own for each third of a pixel, as displays with stripes are given text."""
    large = write(words, load_font(name, 3 * size), pitch=3 * pitch, limit=(3 * limit[0], 3 * limit[1]))
    height, width = -(-large.shape[0] // 3), -(-(large.shape[1] + 4) // 3)
    padded = np.zeros((3 * height, 3 * width), np.float32)
    padded[: large.shape[0], 2 : 2 + large.shape[1]] = large
    thirds = padded.reshape(height, 3, 3 * width).mean(axis=1)
    wide = np.pad(thirds, ((0, 0), (2, 2)))
    spread = sum(tap * wide[:, at : at + 3 * width] for at, tap in enumerate(SUBPIXEL))
    return to_bytes(np.asarray(spread)).reshape(height, width, 3)


def label(pixels: Pixels, words: str, left: int, top: int, colour: Colour, *, font: Font, smooth: bool = True) -> None:
    """One line of text whose capitals have their upper left corner at about (left, top)."""
    size = round(font.size)
    limit = (3 * size // 2, min(size * len(words), 2 * pixels.shape[1]) + 1)
    mask, right, down = _ink(words, font, smooth, 0, limit)
    stamp(pixels, mask, left + right, top + down + round(0.73 * size), colour)


def word(random: Random) -> str:
    """Syllables, capitals, a number, a price, a date or what else is printed."""
    kind = random.random()
    if kind < 0.65:
        letters = [pick(random, VOWELS if at % 2 else CONSONANTS) for at in range(between(random, 2, 9))]
        case = random.random()
        text = "".join(letters)
        if case < 0.25:
            text = text.capitalize()
        elif case < 0.35:
            text = text.upper()
        return text + (pick(random, ".,;:!?-") if chance(random, 0.2) else "")
    if kind < 0.9:
        number = between(random, 0, 10 ** between(random, 1, 6))
        return pick(
            random, (f"{number}", f"{number / 100:.2f}", f"{number:,}", f"{number}%", f"${number}", f"-{number}")
        )
    if kind < 0.95:
        return f"{between(random, 1, 28):02}/{between(random, 1, 12):02}/{between(random, 1990, 2040)}"
    return "".join(pick(random, string.printable[:94]) for _ in range(between(random, 1, 6)))


def lines(random: Random, *, columns: int, rows: int) -> str:
    """So many rows of words, none much longer than a number of columns."""
    made = []
    for _ in range(rows):
        row = word(random)
        while len(row) < columns:
            row += " " + word(random)
        made.append(row)
    return "\n".join(made)


def _hershey(words: str, random: Random, size: int, limit: tuple[int, int]) -> Pixels:
    face, scale, thickness = pick(random, HERSHEY), size / 30, 1 + (size > 14 and chance(random, 0.3))
    rows = words.split("\n")
    extents = [cv2.getTextSize(row, face, scale, thickness) for row in rows]
    pitch = max(high + below for (_, high), below in extents) + 2
    width = max(wide for (wide, _), _ in extents) + 2 * thickness
    mask = np.zeros((min(pitch * len(rows), limit[0]), min(width, limit[1])), np.uint8)
    line = edge(random)
    for number, row in enumerate(rows):
        cv2.putText(mask, row, (thickness, number * pitch + extents[0][0][1]), face, scale, 255, thickness, line)
    return mask


def text_mask(random: Random, *, size: int, limit: tuple[int, int]) -> Pixels:
    """A word, a line or a paragraph in any font: (h, w), or (h, w, 3) with colour fringes."""
    form = random.random()
    if form < 0.3:
        words = word(random)
    elif form < 0.5:
        words = lines(random, columns=between(random, 4, 1.5 * limit[1] / size + 4), rows=1)
    else:
        rows = between(random, 2, min(max(2, limit[0] / size), 20))
        words = lines(random, columns=between(random, 3, min(2.2 * limit[1] / size + 3, 45)), rows=rows)
    kind = random.random()
    if kind < 0.1:
        return _hershey(words, random, size, limit)
    name, pitch = pick(random, font_names()), between(random, size, 1.6 * size)
    if kind < 0.25:
        mask = write_fringed(words, name, size, pitch=pitch, limit=limit)
    else:
        mask = write(words, load_font(name, size), smooth=chance(random, 0.75), pitch=pitch, limit=limit)
    if mask.ndim == 2 and chance(random, 0.2):
        angle = random.normal(0, 8) if chance(random, 0.8) else 90.0
        turned = Image.fromarray(mask).rotate(angle, Image.Resampling.BICUBIC, expand=True)
        mask = np.asarray(turned)[: limit[0], : limit[1]]
    return mask


def draw_text(pixels: Pixels, random: Random) -> None:
    """Text over the picture, over a box, over a gradient, or over a page of one colour."""
    height, width = pixels.shape[:2]
    ink, paper = ink_and_paper(random)
    ground = random.random()
    if ground < 0.4:
        pixels[...] = paper
    elif ground < 0.5:
        pixels[...] = to_bytes(gradient(height, width, random))
    boxed = ground > 0.85
    for _ in range(1 if chance(random, 0.75) else between(random, 2, 3)):
        size = round(float(np.exp(random.uniform(*np.log(SIZES)))))
        mask = text_mask(random, size=size, limit=(round(1.3 * height), round(1.3 * width)))
        rows, columns = mask.shape[:2]
        left = between(random, -columns / 3, width - min(columns, width) / 1.5)
        top = between(random, -rows / 3, height - min(rows, height) / 1.5)
        if boxed:
            stamp(pixels, np.full((rows + 6, columns + 8), 255, np.uint8), left - 4, top - 3, paper)
        if chance(random, 0.15):  # an outline or a shadow
            behind = BLACK if luma(ink) > 127 else WHITE
            for right, down in ((1, 1),) if chance(random, 0.5) else ((1, 0), (-1, 0), (0, 1), (0, -1)):
                stamp(pixels, mask, left + right, top + down, behind)
        stamp(pixels, mask, left, top, ink)
        if chance(random, 0.3):
            ink = any_colour(random)
