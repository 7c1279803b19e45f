"""User interfaces: windows, panels, menus, buttons, fields, tables and icons, in light and dark themes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import cv2
import numpy as np

from bdflow_rt.training.graphics.areas import gradient
from bdflow_rt.training.graphics.canvas import (
    BLACK,
    SHIFT,
    WHITE,
    Colour,
    Pixels,
    Random,
    any_colour,
    between,
    chance,
    fixed,
    hsv,
    luma,
    pick,
    saturated_colour,
    shade,
    to_bytes,
)
from bdflow_rt.training.graphics.text import Font, font_names, label, load_font, word

CORNER = np.linspace(0, math.pi / 2, 6)
"""Directions along a quarter of a circle."""


class Theme(NamedTuple):
    """What all parts of an interface share."""

    paper: Colour
    ink: Colour
    panel: Colour
    border: Colour
    accent: Colour
    font: Font
    row: int
    radius: int
    smooth: bool


def any_theme(random: Random) -> Theme:
    """Light, dark, or in loud colours; corners square or round."""
    tint, kind = hsv(random.random(), random.uniform(0, 0.15), 1), random.random()
    if kind < 0.5:
        paper, ink = shade(WHITE, tint, random.uniform(0, 1)), pick(random, (BLACK, (40, 40, 40), (70, 70, 80)))
    elif kind < 0.85:
        level = between(random, 0, 60)
        paper, ink = shade((level, level, level), tint, 0.05), pick(random, (WHITE, (220, 220, 220), (170, 180, 190)))
    else:
        paper = any_colour(random)
        ink = BLACK if luma(paper) > 127 else WHITE
    accent = saturated_colour(random) if chance(random, 0.35) else hsv(random.random(), random.uniform(0.5, 1), 0.85)
    size = between(random, 8, 15)
    return Theme(
        paper, ink, panel=shade(paper, ink, random.uniform(0.03, 0.15)),
        border=shade(paper, ink, random.uniform(0.15, 0.6)), accent=accent,
        font=load_font(pick(random, font_names()), size), row=size + between(random, 5, 12),
        radius=pick(random, (0, 0, 2, 4, 8, 12)), smooth=chance(random, 0.8),
    )  # fmt: skip


def rounded_box(
    pixels: Pixels, left: int, top: int, width: int, height: int, colour: Colour, *, radius: int, outline: bool = False
) -> None:
    """A box with round corners and smoothed edges; square and sharp where the radius is 0."""
    radius = max(0, min(radius, width // 2, height // 2))
    if radius == 0:
        end = (left + max(width, 1) - 1, top + max(height, 1) - 1)
        cv2.rectangle(pixels, (left, top), end, colour, 1 if outline else cv2.FILLED)
        return
    corners = []
    for quarter, (x, y) in enumerate(((1, 1), (-1, 1), (-1, -1), (1, -1))):
        turn = CORNER + quarter * math.pi / 2
        centre_x = left + width - 1 - radius if x > 0 else left + radius
        centre_y = top + height - 1 - radius if y > 0 else top + radius
        corners.append(np.stack([centre_x + radius * np.cos(turn), centre_y + radius * np.sin(turn)], axis=1))
    points = fixed(np.concatenate(corners))
    if outline:
        cv2.polylines(pixels, [points], True, colour, 1, cv2.LINE_AA, SHIFT)
    else:
        cv2.fillPoly(pixels, [points], colour, cv2.LINE_AA, SHIFT)


def _write(pixels: Pixels, theme: Theme, words: str, left: int, top: int, colour: Colour | None = None) -> None:
    label(pixels, words, left, top, theme.ink if colour is None else colour, font=theme.font, smooth=theme.smooth)


def _button(pixels: Pixels, theme: Theme, random: Random, left: int, top: int, width: int) -> int:
    words = word(random)
    wide = min(width, round(theme.font.getlength(words)) + between(random, 8, 20))
    filled = chance(random, 0.6)
    box = (left, top, wide, theme.row)
    colour = (theme.accent if chance(random, 0.6) else theme.panel) if filled else theme.paper
    rounded_box(pixels, *box, colour, radius=theme.radius)
    if not filled or chance(random, 0.4):
        rounded_box(pixels, *box, theme.border, radius=theme.radius, outline=True)
    ink = BLACK if luma(colour) > 140 else WHITE
    _write(pixels, theme, words, left + 5, top + theme.row // 4, ink)
    return theme.row + between(random, 3, 8)


def _switches(pixels: Pixels, theme: Theme, random: Random, left: int, top: int, width: int) -> int:
    """A checkbox, a radio button or a slider's switch, with its words."""
    side, kind, on = max(7, theme.row // 2), int(random.integers(3)), chance(random, 0.5)
    middle = (left + side // 2, top + side // 2)
    if kind == 0:
        rounded_box(pixels, left, top, side, side, theme.accent if on else theme.paper, radius=theme.radius // 4)
        rounded_box(pixels, left, top, side, side, theme.border, radius=theme.radius // 4, outline=True)
        if on:
            tick = np.array([[0.2, 0.5], [0.45, 0.75], [0.85, 0.2]]) * side + (left, top)
            cv2.polylines(pixels, [fixed(tick)], False, WHITE, 1, cv2.LINE_AA, SHIFT)
    elif kind == 1:
        cv2.circle(pixels, middle, side // 2, theme.border, 1, cv2.LINE_AA)
        if on:
            cv2.circle(pixels, middle, max(1, side // 4), theme.accent, cv2.FILLED, cv2.LINE_AA)
    else:
        rounded_box(pixels, left, top, 2 * side, side, theme.accent if on else theme.border, radius=side)
        knob = (left + (2 * side - side // 2 if on else side // 2), middle[1])
        cv2.circle(pixels, knob, max(1, side // 2 - 1), WHITE, cv2.FILLED, cv2.LINE_AA)
    _write(pixels, theme, word(random), left + (2 if kind == 2 else 1) * side + 5, top)
    return theme.row


def _field(pixels: Pixels, theme: Theme, random: Random, left: int, top: int, width: int) -> int:
    rounded_box(pixels, left, top, width, theme.row, WHITE if luma(theme.paper) > 127 else BLACK, radius=theme.radius)
    rounded_box(pixels, left, top, width, theme.row, theme.border, radius=theme.radius, outline=True)
    words = word(random)
    _write(pixels, theme, words, left + 4, top + theme.row // 4, shade(theme.ink, theme.paper, 0.3))
    if chance(random, 0.4):
        x = left + 6 + round(theme.font.getlength(words))
        cv2.line(pixels, (x, top + 3), (x, top + theme.row - 4), theme.ink, 1)
    return theme.row + between(random, 3, 8)


def _menu(pixels: Pixels, theme: Theme, random: Random, left: int, top: int, width: int) -> int:
    """Rows of words with an icon or a mark, one of them chosen, separators between some."""
    rows = between(random, 2, 6)
    chosen, icons = between(random, 0, rows), chance(random, 0.5)
    rounded_box(pixels, left, top, width, rows * theme.row + 4, theme.panel, radius=theme.radius)
    for row in range(rows):
        y = top + 2 + row * theme.row
        ink = theme.ink
        if row == chosen:
            cv2.rectangle(pixels, (left + 1, y), (left + width - 2, y + theme.row - 1), theme.accent, cv2.FILLED)
            ink = BLACK if luma(theme.accent) > 140 else WHITE
        if icons:
            _icon(pixels, random, left + 5, y + 3, theme.row - 6, ink if chance(random, 0.6) else any_colour(random))
        words = " ".join(word(random) for _ in range(between(random, 1, 2)))
        _write(pixels, theme, words, left + (theme.row + 4 if icons else 6), y + theme.row // 4, ink)
        if chance(random, 0.2):
            cv2.line(pixels, (left + 3, y + theme.row - 1), (left + width - 4, y + theme.row - 1), theme.border, 1)
    if chance(random, 0.6):
        rounded_box(pixels, left, top, width, rows * theme.row + 4, theme.border, radius=theme.radius, outline=True)
    return rows * theme.row + between(random, 6, 12)


def _icon(pixels: Pixels, random: Random, left: int, top: int, size: int, colour: Colour) -> None:
    """A simple sign in a square of this size."""
    size = max(size, 4)
    kind, middle, half = int(random.integers(7)), (left + size // 2, top + size // 2), size // 2
    if kind == 0:
        cv2.circle(pixels, middle, half, colour, pick(random, (1, 2, cv2.FILLED)), cv2.LINE_AA)
    elif kind == 1:
        corners = np.array([[left, top], [left + size, top + half], [left, top + size]], np.float64)
        cv2.fillPoly(pixels, [fixed(corners)], colour, cv2.LINE_AA, SHIFT)
    elif kind in (2, 3):
        marker = cv2.MARKER_CROSS if kind == 2 else cv2.MARKER_TILTED_CROSS
        cv2.drawMarker(pixels, middle, colour, marker, size, between(random, 1, 2), cv2.LINE_AA)
    elif kind == 4:
        for y in range(top + 1, top + size, max(3, size // 3)):
            cv2.line(pixels, (left, y), (left + size, y), colour, 1)
    elif kind == 5:  # a lens
        cv2.circle(pixels, (middle[0] - 1, middle[1] - 1), max(2, size // 3), colour, 1, cv2.LINE_AA)
        cv2.line(pixels, (middle[0] + size // 6, middle[1] + size // 6), (left + size, top + size), colour, 2)
    else:  # a star
        turns = np.arange(10) * math.pi / 5 - math.pi / 2
        reach = np.where(np.arange(10) % 2, 0.4, 1.0) * half
        points = np.stack([middle[0] + reach * np.cos(turns), middle[1] + reach * np.sin(turns)], axis=1)
        cv2.fillPoly(pixels, [fixed(points)], colour, cv2.LINE_AA, SHIFT)


def _tools(pixels: Pixels, theme: Theme, random: Random, left: int, top: int, width: int) -> int:
    """A row of icons, some on a plate, one of them chosen."""
    size = between(random, 8, 22)
    plates, chosen = chance(random, 0.4), between(random, 0, 6)
    for number, x in enumerate(range(left, left + width, size + 6)):
        if plates or number == chosen:
            colour = theme.accent if number == chosen else theme.panel
            rounded_box(pixels, x - 2, top - 2, size + 5, size + 5, colour, radius=theme.radius)
        _icon(pixels, random, x, top, size, theme.ink if chance(random, 0.6) else any_colour(random))
    return size + 8


def _table(pixels: Pixels, theme: Theme, random: Random, left: int, top: int, width: int) -> int:
    """Rows in alternating shades or between lines, with a head."""
    rows, columns = between(random, 2, 6), between(random, 2, 4)
    striped, ruled = chance(random, 0.5), chance(random, 0.5)
    for row in range(rows):
        y = top + row * theme.row
        ground = theme.accent if row == 0 else theme.panel if striped and row % 2 else theme.paper
        cv2.rectangle(pixels, (left, y), (left + width, y + theme.row - 1), ground, cv2.FILLED)
        ink = BLACK if luma(ground) > 127 else WHITE
        for column in range(columns):
            x = left + column * width // columns
            _write(pixels, theme, word(random)[: max(2, width // columns // 7)], x + 3, y + theme.row // 4, ink)
            if ruled:
                cv2.rectangle(pixels, (x, y), (left + (column + 1) * width // columns, y + theme.row), theme.border, 1)
    return rows * theme.row + between(random, 4, 10)


def _slider(pixels: Pixels, theme: Theme, random: Random, left: int, top: int, width: int) -> int:
    """A slider, or a bar of progress."""
    full, thick = round(width * random.random()), between(random, 2, 9)
    rounded_box(pixels, left, top + 3, width, thick, theme.border, radius=thick // 2)
    rounded_box(pixels, left, top + 3, max(full, 1), thick, theme.accent, radius=thick // 2)
    if chance(random, 0.6):
        centre = (left + full, top + 3 + thick // 2)
        cv2.circle(pixels, centre, thick // 2 + 3, WHITE, cv2.FILLED, cv2.LINE_AA)
        cv2.circle(pixels, centre, thick // 2 + 3, theme.border, 1, cv2.LINE_AA)
    return thick + between(random, 8, 14)


def _separator(pixels: Pixels, theme: Theme, random: Random, left: int, top: int, width: int) -> int:
    cv2.line(pixels, (left, top), (left + width, top), theme.border, 1)
    return between(random, 3, 8)


def _words(pixels: Pixels, theme: Theme, random: Random, left: int, top: int, width: int) -> int:
    _write(pixels, theme, " ".join(word(random) for _ in range(between(random, 1, 5))), left, top)
    return theme.row


def _picture(pixels: Pixels, theme: Theme, random: Random, left: int, top: int, width: int) -> int:
    """A thumbnail: an area left as a gradient, framed."""
    tall = between(random, 12, 40)
    rows, columns = slice(max(top, 0), max(top + tall, 0)), slice(max(left, 0), max(left + width, 0))
    height, across = pixels[rows, columns].shape[:2]
    if height > 1 and across > 1:
        pixels[rows, columns] = to_bytes(gradient(height, across, random))
    rounded_box(pixels, left, top, width, tall, theme.border, radius=0, outline=True)
    return tall + between(random, 4, 10)


PARTS: tuple[Callable[[Pixels, Theme, Random, int, int, int], int], ...] = (
    _button, _button, _switches, _switches, _field, _menu, _tools, _table, _slider, _separator, _words, _words,
    _picture,
)  # fmt: skip
"""Each draws itself at (left, top) in a width, and returns the rows it takes."""


def _column(pixels: Pixels, theme: Theme, random: Random, left: int, top: int, width: int, bottom: int) -> None:
    while top < bottom:
        top += pick(random, PARTS)(pixels, theme, random, left, top, width)


def _window(pixels: Pixels, theme: Theme, random: Random, box: tuple[int, int, int, int]) -> None:
    """A shadow, a frame, a bar with a title and buttons, and a column of parts."""
    left, top, width, height = box
    if chance(random, 0.5):
        dark = pick(random, (BLACK, shade(theme.paper, BLACK, 0.5)))
        rounded_box(pixels, left + 3, top + 4, width, height, dark, radius=theme.radius)
    rounded_box(pixels, left, top, width, height, theme.paper, radius=theme.radius)
    bar = theme.accent if chance(random, 0.5) else theme.panel
    rounded_box(pixels, left, top, width, theme.row + 4, bar, radius=theme.radius)
    rounded_box(pixels, left, top, width, height, theme.border, radius=theme.radius, outline=True)
    if chance(random, 0.5):
        for number, colour in enumerate(((255, 95, 86), (255, 189, 46), (39, 201, 63))):
            centre = (left + 9 + 11 * number, top + theme.row // 2 + 2)
            cv2.circle(pixels, centre, 4, colour, cv2.FILLED, cv2.LINE_AA)
        start = left + 44
    else:
        ink = BLACK if luma(bar) > 140 else WHITE
        cross = (left + width - 9, top + theme.row // 2 + 2)
        cv2.drawMarker(pixels, cross, ink, cv2.MARKER_TILTED_CROSS, 8, 1, cv2.LINE_AA)
        start = left + 8
    _write(pixels, theme, word(random), start, top + theme.row // 4, BLACK if luma(bar) > 140 else WHITE)
    _column(pixels, theme, random, left + 7, top + theme.row + 10, max(20, width - 14), min(top + height, len(pixels)))


def draw_interface(pixels: Pixels, random: Random) -> None:
    """A piece of a screen: columns of parts, a window, or a panel along one side, over a desktop or the picture."""
    height, width = pixels.shape[:2]
    theme, kind = any_theme(random), random.random()
    if kind < 0.5:  # columns of parts, cut by the crop's border
        pixels[...] = theme.paper
        split = between(random, 0.3 * width, 1.5 * width)
        start = between(random, -0.3 * width, 0.1 * width)
        _column(pixels, theme, random, start, between(random, -20, 8), max(24, split - start - 8), height)
        if split < width - 12:
            cv2.line(pixels, (split, 0), (split, height), theme.border, 1)
            _column(pixels, theme, random, split + 6, between(random, -20, 8), width, height)
    elif kind < 0.85:
        if chance(random, 0.7):
            desk = any_colour(random)
            pixels[...] = desk if chance(random, 0.5) else to_bytes(gradient(height, width, random))
        for _ in range(pick(random, (1, 1, 2))):
            left, top = between(random, -0.5 * width, 0.5 * width), between(random, -0.4 * height, 0.5 * height)
            size = between(random, 0.6 * width, 1.3 * width), between(random, 0.6 * height, 1.3 * height)
            _window(pixels, theme, random, (left, top, *size))
    else:  # a panel along one side of the picture
        deep = between(random, height / 4, height / 1.5)
        top = 0 if chance(random, 0.5) else height - deep
        pixels[top : top + deep] = theme.paper
        piece = pixels[top : top + deep]  # contiguous, so it is drawn into
        _column(piece, theme, random, between(random, -20, 8), between(random, 0, 6), width, deep)
