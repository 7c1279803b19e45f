"""Charts: axes, grids, series of every common kind, legends and labels."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

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
    edge,
    fixed,
    hsv,
    ink_and_paper,
    pick,
    saturated_colour,
    shade,
)
from bdflow_rt.training.graphics.text import Font, font_names, label, load_font, word


class Frame(NamedTuple):
    """Where a chart is drawn: the pixels, the plot's rectangle in them, its colours, font and kind of lines."""

    pixels: Pixels
    left: int
    top: int
    right: int
    bottom: int
    ink: Colour
    paper: Colour
    series: tuple[Colour, ...]
    font: Font
    line: int

    def points(self, x: NDArray[np.floating], y: NDArray[np.floating]) -> NDArray[np.floating]:
        """(N, 2) pixels of coordinates from 0 to 1, upwards."""
        return np.stack([self.left + x * (self.right - self.left), self.bottom - y * (self.bottom - self.top)], axis=1)


def _palette(random: Random) -> tuple[Colour, ...]:
    """Six colours: pure, evenly spaced in hue, or shades of one hue."""
    kind = random.random()
    if kind < 0.3:
        return tuple(saturated_colour(random) if chance(random, 0.7) else any_colour(random) for _ in range(6))
    hue, saturation, value = random.random(), random.uniform(0.5, 1), random.uniform(0.5, 1)
    if kind < 0.8:
        return tuple(hsv((hue + number / 6) % 1, saturation, value) for number in range(6))
    return tuple(hsv(hue, saturation, 0.25 + number / 8) for number in range(6))


def _walk(random: Random, count: int) -> NDArray[np.floating]:
    """Ordinates from about 0 to 1: a random walk, a smooth curve, or plain noise."""
    kind = random.random()
    if kind < 0.4:
        values = np.cumsum(random.normal(0, 1, count))
    elif kind < 0.75:
        values = np.sin(np.linspace(0, random.uniform(2, 14), count) + random.uniform(0, 6))
        values = values * np.linspace(1, random.uniform(0, 2), count)
    else:
        values = random.random(count)
    low, high = float(values.min()), float(values.max())
    return (values - low) / max(high - low, 1e-6) * random.uniform(0.4, 0.9) + random.uniform(0.02, 0.15)


def _bars(frame: Frame, random: Random) -> None:
    groups, per_group = between(random, 2, 14), pick(random, (1, 1, 1, 2, 3))
    stacked, sideways, outlined = chance(random, 0.3), chance(random, 0.25), chance(random, 0.3)
    gap = random.uniform(0.05, 0.5)
    for group in range(groups):
        base = 0.0
        for number in range(per_group):
            tall = random.uniform(0.05, 0.95) / (per_group if stacked else 1)
            part = 1.0 if stacked else 1 / per_group
            start = (group + gap / 2 + (0 if stacked else number * part) * (1 - gap)) / groups
            sides = np.array([start, start + part * (1 - gap) / groups])
            ends = np.array([base, base + tall])
            (x0, y0), (x1, y1) = np.rint(
                frame.points(ends, sides) if sideways else frame.points(sides, ends)
            ).astype(int).tolist()  # fmt: skip
            cv2.rectangle(frame.pixels, (x0, y0), (x1, y1), frame.series[number], cv2.FILLED)
            if outlined:
                cv2.rectangle(frame.pixels, (x0, y0), (x1, y1), frame.ink, 1)
            base += tall if stacked else 0


def _curves(frame: Frame, random: Random) -> None:
    for number in range(between(random, 1, 4)):
        y = _walk(random, between(random, 3, 60))
        x = np.linspace(0, 1, y.size)
        colour, thickness = frame.series[number], between(random, 1, 2)
        if chance(random, 0.2):  # steps
            x, y = np.repeat(x, 2)[1:], np.repeat(y, 2)[:-1]
        points = fixed(frame.points(x, y))
        if chance(random, 0.2):  # dashes
            for at in range(0, len(points) - 1, 2):
                cv2.polylines(frame.pixels, [points[at : at + 2]], False, colour, thickness, frame.line, SHIFT)
        else:
            cv2.polylines(frame.pixels, [points], False, colour, thickness, frame.line, SHIFT)
        if y.size < 20 and chance(random, 0.5):
            _markers(frame, points, colour, between(random, 2, 4), int(random.integers(4)))


def _markers(frame: Frame, points: NDArray[np.int32], colour: Colour, radius: int, shape: int) -> None:
    for x, y in points.tolist():
        if shape == 0:
            cv2.circle(frame.pixels, (x, y), radius << SHIFT, colour, cv2.FILLED, frame.line, SHIFT)
        elif shape == 1:
            cv2.circle(frame.pixels, (x, y), radius << SHIFT, colour, 1, frame.line, SHIFT)
        else:
            middle = (x >> SHIFT, y >> SHIFT)
            kind = cv2.MARKER_TILTED_CROSS if shape == 2 else cv2.MARKER_SQUARE
            cv2.drawMarker(frame.pixels, middle, colour, kind, 2 * radius, 1, frame.line)


def _scatter(frame: Frame, random: Random) -> None:
    for number in range(between(random, 1, 3)):
        count = between(random, 5, 60)
        x = np.clip(random.normal(random.uniform(0.2, 0.8), random.uniform(0.05, 0.3), count), -0.2, 1.2)
        y = np.clip(
            random.uniform(-1, 1) * (x - 0.5) + random.normal(0.5, random.uniform(0.02, 0.25), count), -0.2, 1.2
        )
        points = fixed(frame.points(x, y))
        _markers(frame, points, frame.series[number], between(random, 1, 4), int(random.integers(4)))


def _filled(frame: Frame, random: Random) -> None:
    count = between(random, 4, 50)
    x, top = np.linspace(0, 1, count), np.ones(count)
    for number in range(between(random, 1, 3)):
        top = top * _walk(random, count)
        outline = np.concatenate([frame.points(x, top), frame.points(np.array([1.0, 0.0]), np.zeros(2))])
        cv2.fillPoly(frame.pixels, [fixed(outline)], frame.series[number], frame.line, SHIFT)
        if chance(random, 0.5):
            line = fixed(frame.points(x, top))
            cv2.polylines(frame.pixels, [line], False, frame.ink, 1, frame.line, SHIFT)


def _pie(frame: Frame, random: Random) -> None:
    middle = ((frame.left + frame.right) // 2, (frame.top + frame.bottom) // 2)
    radius = max(4, int(random.uniform(0.35, 0.6) * min(frame.right - frame.left, frame.bottom - frame.top)))
    turns = np.sort(random.uniform(0, 360, between(random, 2, 6)))
    for number, (start, stop) in enumerate(zip(turns, [*turns[1:], turns[0] + 360], strict=True)):
        colour = frame.series[number]
        cv2.ellipse(frame.pixels, middle, (radius, radius), 0, float(start), float(stop), colour, -1, frame.line)
    if chance(random, 0.4):
        hole = int(radius * random.uniform(0.3, 0.7))
        cv2.circle(frame.pixels, middle, hole, frame.paper, cv2.FILLED, frame.line)


def _heat_map(frame: Frame, random: Random) -> None:
    columns, rows = between(random, 2, 16), between(random, 2, 16)
    low, high = np.array(any_colour(random)), np.array(any_colour(random))
    cells = (low + random.random((rows, columns, 1)) * (high - low)).astype(np.uint8)
    height, width = frame.pixels.shape[:2]
    y = (np.arange(height) - frame.top) * rows // max(frame.bottom - frame.top, 1)
    x = (np.arange(width) - frame.left) * columns // max(frame.right - frame.left, 1)
    inside_y, inside_x = np.flatnonzero((y >= 0) & (y < rows)), np.flatnonzero((x >= 0) & (x < columns))
    frame.pixels[np.ix_(inside_y, inside_x)] = cells[np.ix_(y[inside_y], x[inside_x])]


SERIES: tuple[Callable[[Frame, Random], None], ...] = (
    _bars, _bars, _curves, _curves, _curves, _scatter, _filled, _pie, _heat_map,
)  # fmt: skip


def _axes(frame: Frame, random: Random) -> None:
    """The frame or two of its sides, ticks, and numbers beside them."""
    pixels, left, top, right, bottom = frame[:5]
    if chance(random, 0.5):
        cv2.rectangle(pixels, (left, top), (right, bottom), frame.ink, between(random, 1, 2))
    else:
        cv2.line(pixels, (left, top), (left, bottom), frame.ink, 1)
        cv2.line(pixels, (left, bottom), (right, bottom), frame.ink, 1)
    if chance(random, 0.2):
        return
    size, smooth, step = between(random, 2, 5), frame.line == cv2.LINE_AA, 10 ** between(random, 0, 3) / 100
    room = round(frame.font.getlength(f"{10 * step:g}")) + 4
    for number, x in enumerate(_ticks(left, right, random, apart=room)):
        cv2.line(pixels, (x, bottom), (x, bottom + size), frame.ink, 1)
        label(pixels, f"{number * step:g}", x - 3, bottom + size + 2, frame.ink, font=frame.font, smooth=smooth)
    for number, y in enumerate(reversed(_ticks(top, bottom, random, apart=round(frame.font.size)))):
        cv2.line(pixels, (left - size, y), (left, y), frame.ink, 1)
        words = f"{number * step:g}"
        wide = round(frame.font.getlength(words))
        label(pixels, words, left - size - 2 - wide, y - 4, frame.ink, font=frame.font, smooth=smooth)


def _ticks(start: int, stop: int, random: Random, *, apart: int = 4) -> list[int]:
    count = between(random, 2, min(8, 1 + (stop - start) / apart))
    return np.linspace(start, stop, count).round().astype(int).tolist()


def _legend(frame: Frame, random: Random) -> None:
    height, width = frame.pixels.shape[:2]
    rows, pitch = between(random, 1, 4), between(random, 9, 16)
    left, top = between(random, -4, max(0, 0.7 * width)), between(random, -4, max(0, 0.7 * height))
    right, bottom = left + between(random, 35, 70), top + rows * pitch + 5
    cv2.rectangle(frame.pixels, (left, top), (right, bottom), frame.paper, cv2.FILLED)
    if chance(random, 0.7):
        cv2.rectangle(frame.pixels, (left, top), (right, bottom), shade(frame.ink, frame.paper, 0.5), 1)
    square = chance(random, 0.5)
    for row in range(rows):
        y = top + 3 + row * pitch
        middle = y + pitch // 2 - 1
        corner = (left + 12, middle + 3) if square else (left + 14, middle)
        start = (left + 4, middle - 3 if square else middle)
        cv2.rectangle(frame.pixels, start, corner, frame.series[row], cv2.FILLED)
        smooth = frame.line == cv2.LINE_AA
        label(frame.pixels, word(random)[:9], left + 18, middle - 4, frame.ink, font=frame.font, smooth=smooth)


def draw_chart(pixels: Pixels, random: Random) -> None:
    """A piece of a chart, larger than the crop or not: over a page of one colour, or over the picture as an inset."""
    height, width = pixels.shape[:2]
    ink, paper = pick(random, ((BLACK, WHITE), (WHITE, BLACK))) if chance(random, 0.4) else ink_and_paper(random)
    left, top = between(random, -0.2 * width, 0.35 * width), between(random, -0.3 * height, 0.25 * height)
    right, bottom = left + between(random, 0.6 * width, 1.2 * width), top + between(random, 0.6 * height, 1.2 * height)
    font = load_font(pick(random, font_names()), between(random, 6, 13))
    frame = Frame(pixels, left, top, right, bottom, ink, paper, _palette(random), font, edge(random, smooth=0.75))
    if chance(random, 0.75):
        pixels[...] = paper
    else:
        margin = between(random, 10, 30)
        corner = (right + between(random, 2, 12), bottom + margin)
        cv2.rectangle(pixels, (left - margin, top - between(random, 2, 20)), corner, paper, cv2.FILLED)
    if chance(random, 0.2):
        cv2.rectangle(pixels, (left, top), (right, bottom), shade(paper, ink, 0.08), cv2.FILLED)
    if chance(random, 0.5):
        faint = shade(ink, paper, random.uniform(0.5, 0.9))
        for x in _ticks(left, right, random):
            cv2.line(pixels, (x, top), (x, bottom), faint, 1)
        for y in _ticks(top, bottom, random):
            cv2.line(pixels, (left, y), (right, y), faint, 1)
    series = pick(random, SERIES)
    series(frame, random)
    if series is not _pie:
        _axes(frame, random)
    if chance(random, 0.35):
        _legend(frame, random)
    if chance(random, 0.35):
        words = f"{word(random)} {word(random)}"
        x, y = left + between(random, 0, width / 3), max(top - 14, between(random, 0, 6))
        label(pixels, words, x, y, ink, font=load_font(pick(random, font_names()), between(random, 9, 16)))
