"""What all kinds of drawings share: colours, coordinates, masks, and pasting a drawing into a crop.

Crops are cut in processes forked from one in which OpenCV may have started its threads, which a fork loses: whatever
OpenCV spreads over threads (filters, warps, resizing) may hang there. Only its drawing functions are used; filters
are NumPy's, and glyphs Pillow's.
"""

from __future__ import annotations

import colorsys
import math
import statistics
from collections.abc import Sequence
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from bdflow_rt.metrics.psnr import LUMA

Pixels = NDArray[np.uint8]
"""(H, W, 3) or a mask of (H, W)."""
Plane = NDArray[np.float32]
"""(H, W), or (3, H, W) of levels from 0 to 255: whole planes, because NumPy is slow along an axis of three."""
Colour = tuple[int, int, int]
Random = np.random.Generator
Item = TypeVar("Item")

BLACK: Colour = (0, 0, 0)
WHITE: Colour = (255, 255, 255)


def chance(random: Random, share: float) -> bool:
    """True in this share of the draws."""
    return bool(random.random() < share)


def between(random: Random, low: float, high: float) -> int:
    """An integer from low up to high, both possible; low where high is below it."""
    first = math.floor(low)
    return int(random.integers(first, max(first, math.floor(high)) + 1))


def pick(random: Random, items: Sequence[Item]) -> Item:
    """Any of the items, each as often."""
    return items[int(random.integers(len(items)))]


def any_colour(random: Random) -> Colour:
    """A corner of the RGB cube, any colour, a vivid one, a grey, or a muted one as of paint and stone."""
    kind = random.random()
    if kind < 0.3:
        red, green, blue = (255 * random.integers(2, size=3)).tolist()
    elif kind < 0.55:
        red, green, blue = random.integers(256, size=3).tolist()
    elif kind < 0.75:
        return hsv(random.random(), random.uniform(0.7, 1), random.uniform(0.6, 1))
    elif kind < 0.85:
        red = green = blue = int(random.integers(256))
    else:
        return hsv(random.random(), random.uniform(0.05, 0.5), random.uniform(0.3, 1))
    return red, green, blue


def saturated_colour(random: Random) -> Colour:
    """One of the six corners of the RGB cube that have a hue."""
    number = int(random.integers(1, 7))
    return 255 * (number & 1), 255 * (number >> 1 & 1), 255 * (number >> 2)


def hsv(hue: float, saturation: float, value: float) -> Colour:
    """The RGB of a hue, a saturation and a value, each from 0 to 1."""
    red, green, blue = colorsys.hsv_to_rgb(hue, saturation, value)
    return round(255 * red), round(255 * green), round(255 * blue)


def luma(colour: Colour) -> float:
    """The brightness of a colour, 0 to 255."""
    return sum(weight * level for weight, level in zip(LUMA, colour, strict=True))


def ink_and_paper(random: Random) -> tuple[Colour, Colour]:
    """Two colours that read on each other: mostly dark on light or light on dark, the rest any that differ enough."""
    kind = random.random()
    if kind < 0.3:
        ink, paper = BLACK, WHITE
    elif kind < 0.6:
        level = between(random, 0, 70)
        ink = (level, level, level) if chance(random, 0.6) else hsv(random.random(), 0.9, 0.45)
        paper = hsv(random.random(), random.uniform(0, 0.12), random.uniform(0.88, 1))
    else:
        ink = paper = any_colour(random)
        for _ in range(8):
            paper = any_colour(random)
            if abs(luma(ink) - luma(paper)) > 70:
                break
    return (paper, ink) if chance(random, 0.4) else (ink, paper)


def shade(colour: Colour, towards: Colour, share: float) -> Colour:
    """A colour, this share of the way to another."""
    red, green, blue = (round(a + share * (b - a)) for a, b in zip(colour, towards, strict=True))
    return red, green, blue


def coordinates(height: int, width: int) -> tuple[Plane, Plane]:
    """(H, 1) rows and (1, W) columns, in pixels from the centre."""
    rows = np.arange(height, dtype=np.float32) - np.float32((height - 1) / 2)
    columns = np.arange(width, dtype=np.float32) - np.float32((width - 1) / 2)
    return rows[:, None], columns[None, :]


def along(height: int, width: int, angle: float) -> Plane:
    """(H, W) pixels from the centre, counted in the direction of an angle in radians."""
    rows, columns = coordinates(height, width)
    return np.float32(math.sin(angle)) * rows + np.float32(math.cos(angle)) * columns


def mix(first: Plane | Colour, second: Plane | Colour, weight: Plane) -> Plane:
    """(3, H, W) levels: the first where a weight of (H, W) or (3, H, W) is 0, the second where it is 1."""
    start, end = as_levels(first), as_levels(second)
    mixed = (end - start) * weight
    mixed += start
    return mixed


def as_levels(colour: Plane | Colour) -> Plane:
    """A colour as (3, 1, 1) levels; levels as they are."""
    return np.array(colour, np.float32)[:, None, None] if isinstance(colour, tuple) else colour


def to_bytes(levels: Plane) -> Pixels:
    """Levels rounded to 0..255: (H, W) of (H, W), and pixels of (H, W, 3) of (3, H, W)."""
    whole = np.clip(levels + np.float32(0.5), 0, 255).astype(np.uint8)
    return np.ascontiguousarray(whole.transpose(1, 2, 0)) if whole.ndim == 3 else whole


def stamp(pixels: Pixels, mask: Pixels, left: int, top: int, colour: Colour) -> None:
    """Lay a colour over pixels, as much of it as a mask of (h, w) or (h, w, 3) bytes says; what lies outside is cut."""
    rows = slice(max(top, 0), min(top + mask.shape[0], pixels.shape[0]))
    columns = slice(max(left, 0), min(left + mask.shape[1], pixels.shape[1]))
    if rows.start < rows.stop and columns.start < columns.stop:
        weight = mask[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
        pixels[rows, columns] = blend(pixels[rows, columns], np.asarray(colour, np.uint8), weight)


def blend(under: Pixels, over: Pixels, weight: Pixels) -> Pixels:
    """Pixels of (h, w, 3): `under` where a weight of (h, w) or (h, w, 3) bytes is 0, `over` where it is 255."""
    height, width = weight.shape[:2]
    flat = (np.repeat(weight, 3, axis=1) if weight.ndim == 2 else weight.reshape(height, 3 * width)).astype(np.int32)
    below = under.reshape(height, 3 * width).astype(np.int32)
    above = np.tile(over, width) if over.ndim == 1 else over.reshape(height, 3 * width)
    mixed = (below * (255 - flat) + above * flat + 127) // 255
    return mixed.astype(np.uint8).reshape(height, width, 3)


def area_mask(height: int, width: int, random: Random) -> Pixels:
    """A mask of (H, W) bytes of one large area: a side of a slanted line, a strip, a box, a polygon or an ellipse.

    All but the last two reach the border. Edges are hard or smoothed.
    """
    kind = int(random.integers(5))
    if kind <= 1:
        slant = random.uniform(0, 2 * math.pi) if chance(random, 0.7) else math.pi / 2 * int(random.integers(4))
        distance = along(height, width, slant) - np.float32(random.uniform(-0.3, 0.3) * min(height, width))
        if kind == 1:
            distance = np.float32(random.uniform(0.1, 0.4) * min(height, width)) - np.abs(distance)
        sharpness = np.float32(1 if chance(random, 0.7) else 100)
        return to_bytes(255 * np.clip(distance * sharpness + np.float32(0.5), 0, 1))
    mask = np.zeros((height, width), np.uint8)
    if kind == 2:
        left, top = between(random, -width / 4, width / 2), between(random, -height / 4, height / 2)
        right, bottom = left + between(random, width / 3, width), top + between(random, height / 3, height)
        mask[max(top, 0) : max(bottom, 2), max(left, 0) : max(right, 2)] = 255
    elif kind == 3:
        turns = np.sort(random.uniform(0, 2 * math.pi, between(random, 3, 7)))
        reach = random.uniform(0.35, 0.9, turns.size) * min(height, width)
        centre = np.array([random.uniform(0.25, 0.75) * width, random.uniform(0.25, 0.75) * height])
        corners = centre + reach[:, None] * np.stack([np.cos(turns), np.sin(turns)], axis=1)
        cv2.fillPoly(mask, [fixed(corners)], 255, edge(random), SHIFT)
    else:
        middle = (between(random, 0, width - 1), between(random, 0, height - 1))
        radii = (between(random, width / 5, width), between(random, height / 5, height))
        cv2.ellipse(mask, middle, radii, between(random, 0, 179), 0, 360, 255, cv2.FILLED, edge(random))
    return mask


SHIFT = 4
"""Fractional bits of the coordinates that OpenCV is given."""


def fixed(points: NDArray[np.floating]) -> NDArray[np.int32]:
    """(N, 2) points as OpenCV takes them with SHIFT."""
    return np.rint(points * (1 << SHIFT)).astype(np.int32)


def edge(random: Random, *, smooth: float = 0.7) -> int:
    """OpenCV's smoothed lines in this share of the draws, its plain ones in the rest."""
    return cv2.LINE_AA if chance(random, smooth) else cv2.LINE_8


def paste(pixels: Pixels, drawing: Pixels, random: Random, *, whole: float) -> None:
    """Replace the pixels by a drawing of the same size: all of them in a share of the draws, an area in the rest."""
    if chance(random, whole):
        pixels[...] = drawing
        return
    pixels[...] = blend(pixels, drawing, area_mask(pixels.shape[0], pixels.shape[1], random))


def blur(levels: Plane, sigma: float) -> Plane:
    """(3, H, W) levels under a Gaussian; the border is continued by its own pixels."""
    radius = math.ceil(2.5 * sigma)
    taps = np.exp(-0.5 * (np.arange(radius + 1) / sigma) ** 2)
    weights = (taps / (taps[0] + 2 * taps[1:].sum())).astype(np.float32)
    height, width = levels.shape[1:]
    wide = np.pad(levels, ((0, 0), (radius, radius), (0, 0)), mode="edge")
    levels = weights[0] * wide[:, radius : radius + height]
    for by in range(1, radius + 1):
        pair = wide[:, radius - by : radius - by + height] + wide[:, radius + by : radius + by + height]
        levels += weights[by] * pair
    wide = np.pad(levels, ((0, 0), (0, 0), (radius, radius)), mode="edge")
    levels = weights[0] * wide[..., radius : radius + width]
    for by in range(1, radius + 1):
        levels += weights[by] * (wide[..., radius - by : radius - by + width] + wide[..., radius + by :][..., :width])
    return levels


_NORMAL = np.array([statistics.NormalDist().inv_cdf((step + 0.5) / 256) for step in range(256)], np.float32)


def normals(random: Random, *shape: int) -> Plane:
    """Numbers of a standard normal distribution in 256 steps, several times as fast as the generator's own."""
    return _NORMAL[np.frombuffer(random.bytes(math.prod(shape)), np.uint8)].reshape(shape)


def grain(levels: Plane, random: Random, sigma: float) -> Plane:
    """(3, H, W) levels with a sensor's noise: a common part of this deviation and a smaller one of each channel."""
    noise = normals(random, 4, *levels.shape[1:])
    return levels + np.float32(sigma) * noise[0] + np.float32(0.35 * sigma) * noise[1:]
