"""Bricks, windows, tiles and slats of a plane seen in perspective, as a photograph shows them.

Patterns are computed, not drawn: each pixel is mapped onto the plane, and what covers it there is averaged over the
pixel's own footprint, so that they fade out towards the horizon as they do behind a lens.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bdflow_rt.training.graphics.areas import bilinear
from bdflow_rt.training.graphics.canvas import (
    Colour,
    Pixels,
    Plane,
    Random,
    any_colour,
    between,
    blur,
    chance,
    coordinates,
    grain,
    hsv,
    mix,
    normals,
    paste,
    pick,
    shade,
    to_bytes,
)
from bdflow_rt.training.graphics.gratings import pulses

CELLS = 32
"""Cells along each axis of a table of random values, after which it repeats; a power of two."""
TILT = 0.75
"""The plane's distance changes by at most this share of its distance in the middle, so no horizon is in sight."""


class Wall(NamedTuple):
    """Where the pixels lie on a plane, in cells of a pattern, and how much of it each covers."""

    u: Plane
    v: Plane
    du: Plane
    dv: Plane

    def scaled(self, across: float, down: float) -> Wall:
        """The same plane in cells that are this many times smaller."""
        a, b = np.float32(across), np.float32(down)
        return Wall(self.u * a, self.v * b, self.du * a, self.dv * b)


def see_wall(
    height: int,
    width: int,
    *,
    cell: tuple[float, float],
    roll: float = 0.0,
    tilt: tuple[float, float] = (0.0, 0.0),
    origin: tuple[float, float] = (0.0, 0.0),
    footprint: float = 1.0,
) -> Wall:
    """The homography of a plane.

    Args:
        height, width: of the crop.
        cell: pixels across and down of a cell in the crop's centre.
        roll: of the camera, in radians.
        tilt: how much the distance grows from the centre to the right and to the lower border; below 1 together.
        origin: what the centre shows, in cells.
        footprint: of a pixel, in pixels; less than one leaves aliasing, as a sharp lens does.
    """
    rows, columns = coordinates(height, width)
    half = max(height, width) / 2
    right, lower = np.float32(tilt[0] / half), np.float32(tilt[1] / half)
    cos, sin = math.cos(roll), math.sin(roll)
    depth = np.reciprocal(1 + right * columns + lower * rows)
    seen: list[tuple[Plane, Plane]] = []
    for (x, y), size in (((cos, sin), cell[0]), ((-sin, cos), cell[1])):
        x32, y32 = np.float32(x / size), np.float32(y / size)
        place = (x32 * columns + y32 * rows) * depth
        spread = np.abs((x32 - place * right) * depth) + np.abs((y32 - place * lower) * depth)
        seen.append((place, spread * np.float32(footprint)))
    (u, du), (v, dv) = seen
    u += np.float32(origin[0])
    v += np.float32(origin[1])
    return Wall(u, v, du, dv)


def _table(random: Random, colour: Colour, *, levels: float, tint: float) -> Plane:
    """(3, CELLS * CELLS) shades of a colour: brighter and darker by `levels`, and each channel by `tint`."""
    values = normals(random, 4, CELLS * CELLS)
    return np.array(colour, np.float32)[:, None] + values[0] * np.float32(levels) + values[1:] * np.float32(tint)


def _cells(u: Plane, v: Plane) -> NDArray[np.int32]:
    """(H, W) places in a table."""
    return (np.floor(v).astype(np.int32) & (CELLS - 1)) * CELLS + (np.floor(u).astype(np.int32) & (CELLS - 1))


def _look_up(table: Plane, u: Plane, v: Plane, footprint: Plane) -> Plane:
    """Each cell's own shade; their average where cells are smaller than pixels."""
    mean = table.mean(axis=1)[:, None]
    varied = (table - mean).take(_cells(u, v), axis=1) * np.clip(np.float32(1.6) - footprint, 0, 1)
    return varied + mean[..., None]


def bricks(wall: Wall, random: Random) -> Plane:
    """(3, H, W) levels: a bond of bricks and mortar, each brick of its own shade."""
    clay = hsv(random.uniform(0.0, 0.1), random.uniform(0.15, 0.75), random.uniform(0.35, 0.9))
    clay = clay if chance(random, 0.8) else any_colour(random)
    stone = hsv(random.uniform(0, 0.2), random.uniform(0, 0.2), random.uniform(0.3, 0.95))
    u = np.floor(wall.v) * np.float32(pick(random, (0.5, 0.5, 0.5, 0.33, 0.0)))
    u += wall.u
    gap = random.uniform(0.06, 0.2)
    across = pulses(u, start=gap / 4, stop=1 - gap / 4, footprint=wall.du)
    down = pulses(wall.v, start=gap / 2, stop=1 - gap / 2, footprint=wall.dv)
    table = _table(random, clay, levels=random.uniform(4, 28), tint=random.uniform(1, 9))
    levels = mix(stone, _look_up(table, u, wall.v, np.maximum(wall.du, wall.dv)), across * down)
    if chance(random, 0.6):  # the shadow below each course
        under = pulses(wall.v, start=1 - gap, stop=1 - gap / 3, footprint=wall.dv)
        levels = levels * (1 - np.float32(random.uniform(0.1, 0.5)) * under)
    return levels


def _plaster(wall: Wall, random: Random) -> Plane | Colour:
    paint = hsv(random.random(), random.uniform(0, 0.35), random.uniform(0.35, 0.97))
    kind = random.random()
    if kind < 0.35:
        return bricks(wall.scaled(random.uniform(3, 7), random.uniform(8, 16)), random)
    if kind < 0.7:  # a band below each floor, or courses of stone
        fine = wall.scaled(1, pick(random, (1, 1, 4, 8)))
        band = pulses(fine.v, start=0, stop=random.uniform(0.05, 0.25), footprint=fine.dv)
        return mix(paint, shade(paint, pick(random, ((0, 0, 0), (255, 255, 255))), random.uniform(0.1, 0.5)), band)
    return paint


def windows(wall: Wall, random: Random) -> Plane:
    """(3, H, W) levels: a facade with a window in every cell, its frame, bars, panes, sill and blinds."""
    levels = _plaster(wall, random)
    glazed = chance(random, 0.3)  # little else than glass, as of office towers
    margin_u, margin_v = random.uniform(0.02, 0.08) if glazed else random.uniform(0.12, 0.3), random.uniform(0.04, 0.3)
    frame = random.uniform(0.02, 0.07)
    paint = shade(any_colour(random), pick(random, ((255, 255, 255), (30, 30, 30))), random.uniform(0.6, 1))
    glass = hsv(random.uniform(0.5, 0.68), random.uniform(0.05, 0.5), random.uniform(0.12, 0.6))

    def box(at: float, top: float, *, low: float = 0.0) -> Plane:
        """The rectangle between `at` and 1 - at across, from `top` down to 1 - top + low."""
        across = pulses(wall.u, start=at, stop=1 - at, footprint=wall.du)
        return across * pulses(wall.v, start=top, stop=min(1 - top + low, 1), footprint=wall.dv)

    if chance(random, 0.5):  # the sill
        sill = pulses(wall.v, start=1 - margin_v, stop=min(1, 1 - margin_v + frame * 1.5), footprint=wall.dv)
        sill = sill * pulses(wall.u, start=margin_u * 0.8, stop=1 - margin_u * 0.8, footprint=wall.du)
        levels = mix(levels, shade(paint, (128, 128, 128), 0.3), sill)
    levels = mix(levels, paint, box(margin_u, margin_v))
    pane_u, pane_v = margin_u + frame, margin_v + frame * random.uniform(0.6, 1.4)
    bars = box(pane_u, pane_v)
    count_u, count_v = pick(random, ((1, 1), (2, 1), (2, 2), (2, 3), (3, 2), (1, 2), (4, 4)))
    bar = frame * random.uniform(0.3, 0.8)
    for place, spread, start, count in ((wall.u, wall.du, pane_u, count_u), (wall.v, wall.dv, pane_v, count_v)):
        for number in range(1, count):
            middle = start + (1 - 2 * start) * number / count
            bars = bars * (1 - pulses(place, start=middle - bar / 2, stop=middle + bar / 2, footprint=spread))
    table = _table(random, glass, levels=random.uniform(3, 45), tint=random.uniform(0, 10))
    lit = random.random(CELLS * CELLS) < random.uniform(0, 0.2)
    table[:, lit] = np.array([[235], [215], [150]])
    panes = _look_up(table, wall.u, wall.v, np.maximum(wall.du, wall.dv))
    inside = wall.v - np.floor(wall.v)
    panes = panes * (np.float32(random.uniform(0.6, 1)) + np.float32(random.uniform(0, 0.6)) * inside)
    if chance(random, 0.5):  # blinds, drawn down to another height in each window
        lowered = random.uniform(-0.5, 1, CELLS * CELLS).astype(np.float32)[_cells(wall.u, wall.v)]
        fine = wall.scaled(1, between(random, 8, 24))
        slats = np.float32(0.55) + np.float32(0.45) * pulses(fine.v, stop=0.6, footprint=fine.dv)
        cloth = mix((0, 0, 0), hsv(random.uniform(0, 0.2), 0.15, random.uniform(0.5, 0.95)), slats)
        panes = mix(panes, cloth, np.clip((lowered - inside) / np.maximum(wall.dv, 1e-3) + 0.5, 0, 1))
    if chance(random, 0.6):  # the shadow of the wall on the upper edge of the glass
        shadow = pulses(wall.v, start=pane_v, stop=pane_v + 1.5 * frame, footprint=wall.dv)
        panes = panes * (1 - np.float32(0.5) * shadow)
    return mix(levels, panes, bars)


def _glaze(random: Random) -> Colour:
    if chance(random, 0.15):
        return any_colour(random)
    return hsv(random.random(), random.uniform(0, 0.7), random.uniform(0.2, 0.9))


def tiles(wall: Wall, random: Random) -> Plane:
    """(3, H, W) levels: square tiles and joints, alternately of two colours or all of one."""
    first, second = _glaze(random), _glaze(random)
    second = first if chance(random, 0.5) else second
    gap = random.uniform(0.02, 0.12)
    edges = pulses(wall.u, start=gap, stop=1, footprint=wall.du) * pulses(wall.v, start=gap, stop=1, footprint=wall.dv)
    half_u, half_v = wall.scaled(0.5, 1), wall.scaled(1, 0.5)
    odd_u = pulses(half_u.u, stop=0.5, footprint=half_u.du)
    odd_v = pulses(half_v.v, stop=0.5, footprint=half_v.dv)
    table = _table(random, (0, 0, 0), levels=random.uniform(0, 14), tint=random.uniform(0, 4))
    levels = mix(first, second, odd_u + odd_v - 2 * odd_u * odd_v)
    levels = levels + _look_up(table, wall.u, wall.v, np.maximum(wall.du, wall.dv))
    return mix(shade(first, pick(random, ((20, 20, 20), (235, 235, 235))), random.uniform(0.3, 1)), levels, edges)


def slats(wall: Wall, random: Random) -> Plane:
    """(3, H, W) levels: louvres, boards, stairs or railings: bars in one direction, lit on one side, dark between."""
    place, spread = (wall.v, wall.dv) if chance(random, 0.5) else (wall.u, wall.du)
    paint = hsv(random.random(), random.uniform(0, 0.5), random.uniform(0.3, 1))
    gap = random.uniform(0.1, 0.6)
    dark, light = shade(paint, (0, 0, 0), random.uniform(0.5, 1)), shade(paint, (255, 255, 255), random.uniform(0, 0.6))
    slope = place - np.floor(place)
    body = mix(paint, light, np.clip(slope * np.clip(1.5 - spread, 0, 1), 0, 1))
    return mix(dark, body, pulses(place, start=gap, stop=1, footprint=spread))


PATTERNS: tuple[tuple[Callable[[Wall, Random], Plane], float, float], ...] = (
    (bricks, 5, 26),
    (windows, 8, 60),
    (windows, 8, 60),
    (tiles, 4, 40),
    (slats, 2.5, 18),
)
"""A pattern, and the smallest and largest cell in pixels, down, in the middle of the crop."""


def draw_facade(pixels: Pixels, random: Random) -> None:
    """A pattern in perspective, lit unevenly, with a lens's blur and a sensor's noise."""
    height, width = pixels.shape[:2]
    pattern, smallest, largest = pick(random, PATTERNS)
    size = float(np.exp(random.uniform(math.log(smallest), math.log(largest))))
    aspect = random.uniform(1.8, 3.5) if pattern is bricks else random.uniform(0.6, 1.6)
    strength, share = random.uniform(0, TILT) if chance(random, 0.8) else 0.0, random.uniform(-1, 1)
    wall = see_wall(
        height, width, cell=(size * aspect * random.uniform(0.5, 1), size),
        roll=random.normal(0, 0.12) if chance(random, 0.75) else random.uniform(-math.pi, math.pi),
        tilt=(strength * share, strength * (1 - abs(share)) * pick(random, (-1, 1))),
        origin=(random.uniform(0, CELLS), random.uniform(0, CELLS)), footprint=random.uniform(0.5, 1.1),
    )  # fmt: skip
    levels = pattern(wall, random)
    light = random.uniform(0.55, 1.25, (2, 2)) + random.normal(0, 0.03, (3, 2, 2))
    levels = levels * bilinear(light.astype(np.float32), height, width)
    levels = grain(blur(np.clip(levels, 0, 255), random.uniform(0.3, 1.0)), random, random.uniform(0, 6))
    paste(pixels, to_bytes(levels), random, whole=0.65)
