"""Flat colours and smooth gradients, over the whole crop or large areas of it."""

from __future__ import annotations

import math

import numpy as np

from bdflow_rt.training.graphics.canvas import (
    Pixels,
    Plane,
    Random,
    along,
    any_colour,
    area_mask,
    between,
    chance,
    coordinates,
    grain,
    mix,
    paste,
    saturated_colour,
    stamp,
    to_bytes,
)

BAYER: Plane = np.array([[0, 8, 2, 10], [12, 4, 14, 6], [3, 11, 1, 9], [15, 7, 13, 5]], np.float32)
"""The order of an ordered dither's thresholds."""


def draw_flat(pixels: Pixels, random: Random) -> None:
    """One pure colour over everything, or one to three large areas, over the picture or over another colour."""
    everything = chance(random, 0.55)
    if everything:
        pixels[...] = saturated_colour(random) if chance(random, 0.6) else any_colour(random)
    if everything and chance(random, 0.4):
        return
    height, width = pixels.shape[:2]
    for _ in range(between(random, 1, 3)):
        colour = saturated_colour(random) if chance(random, 0.6) else any_colour(random)
        stamp(pixels, area_mask(height, width, random), 0, 0, colour)


def linear_weight(height: int, width: int, *, angle: float) -> Plane:
    """(H, W) from 0 in one corner or side to 1 in the opposite one, in the direction of an angle in radians."""
    distance = along(height, width, angle)
    reach = (abs(math.sin(angle)) * (height - 1) + abs(math.cos(angle)) * (width - 1)) / 2
    return distance / np.float32(2 * reach) + np.float32(0.5)


def radial_weight(height: int, width: int, *, centre: tuple[float, float]) -> Plane:
    """(H, W) from 0 at a centre, in pixels from the crop's, to 1 one diagonal away from it."""
    rows, columns = coordinates(height, width)
    distance = np.sqrt((rows - np.float32(centre[0])) ** 2 + (columns - np.float32(centre[1])) ** 2)
    return np.minimum(distance / np.float32(math.hypot(height, width)), 1)


def bilinear(corners: Plane, height: int, width: int) -> Plane:
    """(3, H, W) levels between the four colours of (3, 2, 2) corners."""
    rows, columns = np.linspace(0, 1, height, dtype=np.float32), np.linspace(0, 1, width, dtype=np.float32)
    left, right = (
        mix(corners[:, :1, :1], corners[:, 1:, :1], rows[:, None]),
        mix(corners[:, :1, 1:], corners[:, 1:, 1:], rows[:, None]),
    )
    return mix(left, right, columns[None, :])


def gradient(height: int, width: int, random: Random) -> Plane:
    """(3, H, W) levels of one smooth gradient of two to four colours, neither dithered nor rounded."""
    kind = int(random.integers(3))
    if kind == 0:
        corners = np.array([any_colour(random) for _ in range(4)], np.float32)
        return bilinear(corners.T.reshape(3, 2, 2), height, width)
    if kind == 1:
        weight = linear_weight(height, width, angle=random.uniform(0, 2 * math.pi))
    else:
        centre = random.uniform(-0.6, 0.6, 2) * (height, width)
        weight = radial_weight(height, width, centre=(float(centre[0]), float(centre[1])))
    if chance(random, 0.3):
        weight = weight * weight * (3 - 2 * weight)
    stops = np.array([any_colour(random) for _ in range(2 if chance(random, 0.7) else between(random, 3, 4))])
    if chance(random, 0.3):  # shades that are near each other, as of skies and walls
        stops = stops[:1] + random.integers(-40, 41, stops.shape)
    places = np.linspace(0, 1, len(stops))
    bands = [np.interp(weight, places, stops[:, channel]) for channel in range(3)]
    return np.clip(np.stack(bands), 0, 255).astype(np.float32)


def draw_gradient(pixels: Pixels, random: Random) -> None:
    """A gradient, as it is rounded, dithered, in steps, or with noise."""
    height, width = pixels.shape[:2]
    levels = gradient(height, width, random)
    finish = random.random()
    if finish < 0.15:
        order = np.tile(BAYER, (-(-height // 4), -(-width // 4)))[:height, :width]
        levels = levels + (order - np.float32(7.5)) / np.float32(16)
    elif finish < 0.3:
        step = np.float32(255 / between(random, 7, 63))
        levels = np.rint(levels / step) * step
    elif finish < 0.45:
        levels = grain(levels, random, random.uniform(0.3, 2.5))
    paste(pixels, to_bytes(levels), random, whole=0.7)
