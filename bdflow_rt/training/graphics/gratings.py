"""Regular patterns of all periods, down to what a smaller picture cannot hold."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from bdflow_rt.training.graphics.canvas import (
    Pixels,
    Plane,
    Random,
    along,
    any_colour,
    blur,
    chance,
    coordinates,
    grain,
    ink_and_paper,
    mix,
    paste,
    pick,
    to_bytes,
)

PERIODS = (2.0, 24.0)
"""Pixels; below two per LR pixel the LR picture cannot hold them."""


def wave(phase: Plane) -> Plane:
    """The sine of a phase in turns, from 0 to 1."""
    return np.float32(0.5) + np.float32(0.5) * np.sin(np.float32(2 * math.pi) * phase)


def pulses(phase: Plane, *, start: float = 0.0, stop: float, footprint: Plane | float) -> Plane:
    """How much of each pixel lies in the pulses of a train, 0 to 1: the exact average, so nothing aliases by itself.

    Args:
        phase: (H, W), in periods.
        start, stop: where in a period from 0 to 1 the pulse lies.
        footprint: of a pixel, in periods.
    """
    half, length = np.float32(0.5) * np.asarray(footprint, np.float32), np.float32(stop - start)

    def integral(at: Plane) -> Plane:
        turns = np.floor(at)
        return turns * length + np.clip(at - turns - np.float32(start), 0, length)

    return (integral(phase + half) - integral(phase - half)) / (2 * half)


def sine_grating(height: int, width: int, *, period: float, angle: float, phase: float = 0.0) -> Plane:
    """(H, W) from 0 to 1: a sine of a period in pixels, running in the direction of an angle in radians."""
    return wave(along(height, width, angle) / np.float32(period) + np.float32(phase))


def square_grating(
    height: int, width: int, *, period: float, angle: float, phase: float = 0.0, duty: float = 0.5, smooth: bool = True
) -> Plane:
    """(H, W) from 0 to 1: bars that fill the share `duty` of a period; without `smooth` every pixel is 0 or 1."""
    turns = along(height, width, angle) / np.float32(period) + np.float32(phase)
    if not smooth:
        return (turns - np.floor(turns) < duty).astype(np.float32)
    footprint = (abs(math.sin(angle)) + abs(math.cos(angle))) / period
    return pulses(turns, stop=duty, footprint=footprint)


def _period(random: Random) -> float:
    """Short ones as often as long ones; half of them whole or half pixels, as of drawn patterns."""
    period = float(np.exp(random.uniform(*np.log(PERIODS))))
    return round(2 * period) / 2 if chance(random, 0.5) else period


def _angle(random: Random) -> float:
    return random.uniform(0, math.pi) if chance(random, 0.65) else math.pi / 4 * int(random.integers(4))


def _sine(height: int, width: int, random: Random) -> Plane:
    return sine_grating(height, width, period=_period(random), angle=_angle(random), phase=random.random())


def _square(height: int, width: int, random: Random) -> Plane:
    return square_grating(
        height, width, period=_period(random), angle=_angle(random), phase=random.random(),
        duty=random.uniform(0.2, 0.8) if chance(random, 0.5) else 0.5, smooth=chance(random, 0.6),
    )  # fmt: skip


def _chirp(height: int, width: int, random: Random) -> Plane:
    """The frequency grows from one side to the other."""
    distance = along(height, width, _angle(random))
    distance = distance - distance.min()
    first, last = 1 / 24, 1 / random.uniform(2, 5)
    turns = distance * np.float32(first) + distance**2 * np.float32((last - first) / (2 * max(distance.max(), 1)))
    return wave(turns) if chance(random, 0.6) else (wave(turns) > 0.5).astype(np.float32)


def _zone_plate(height: int, width: int, random: Random) -> Plane:
    """Rings that narrow outwards: every direction and frequency at once."""
    rows, columns = coordinates(height, width)
    centre = random.uniform(-0.5, 0.5, 2) * (height, width) * (1 if chance(random, 0.6) else 0)
    squared = (rows - np.float32(centre[0])) ** 2 + (columns - np.float32(centre[1])) ** 2
    furthest = math.sqrt(float(squared.max()))
    turns = squared * np.float32(random.uniform(0.12, 0.5) / (2 * furthest)) + np.float32(random.random())
    return wave(turns) if chance(random, 0.7) else (wave(turns) > 0.5).astype(np.float32)


def _checkerboard(height: int, width: int, random: Random) -> Plane:
    period, angle, smooth = _period(random), _angle(random), chance(random, 0.6)
    first, second = (
        square_grating(height, width, period=period, angle=turned, phase=random.random(), smooth=smooth)
        for turned in (angle, angle + math.pi / 2)
    )
    return first + second - 2 * first * second


def _dots(height: int, width: int, random: Random) -> Plane:
    """A halftone: dots that grow with the tone of a slope."""
    period, angle = max(_period(random), 3.0), _angle(random)
    screen = sum(
        sine_grating(height, width, period=period, angle=turned, phase=random.random())
        for turned in (angle, angle + math.pi / 2)
    )
    tone = np.float32(random.uniform(0.6, 1.4)) + along(height, width, random.uniform(0, 2 * math.pi)) * np.float32(
        random.uniform(0, 1.2) / max(height, width)
    )
    sharpness = np.float32(random.uniform(0.3, 1.2) * period if chance(random, 0.7) else 1000)
    return np.clip((screen - tone) * sharpness + np.float32(0.5), 0, 1)


def _weave(height: int, width: int, random: Random) -> Plane:
    """Two gratings across each other, as of cloth and nets."""
    angle = _angle(random)
    first = _period(random)
    second = first if chance(random, 0.5) else _period(random)
    if chance(random, 0.5):
        across = angle + random.uniform(0.3, 1.6)
        return 0.5 * sine_grating(height, width, period=first, angle=angle) + 0.5 * sine_grating(
            height, width, period=second, angle=across, phase=random.random()
        )
    duty = random.uniform(0.1, 0.4)
    bars = (
        square_grating(height, width, period=max(period, 3.0), angle=turned, phase=random.random(), duty=duty)
        for period, turned in ((first, angle), (second, angle + math.pi / 2))
    )
    return np.maximum(*bars)


PATTERNS: tuple[Callable[[int, int, Random], Plane], ...] = (
    _sine, _sine, _square, _square, _square, _chirp, _zone_plate, _checkerboard, _dots, _weave,
)  # fmt: skip


def draw_grating(pixels: Pixels, random: Random) -> None:
    """A pattern in two colours of any contrast, at times another in each channel, or with a photograph's noise."""
    height, width = pixels.shape[:2]
    pattern = pick(random, PATTERNS)
    weight = pattern(height, width, random)
    contrast = random.random()
    if contrast < 0.5:
        first, second = ink_and_paper(random)
    elif contrast < 0.8:
        first, second = any_colour(random), any_colour(random)
    else:
        middle, half = random.uniform(40, 215, 3), random.uniform(4, 50) * random.uniform(-1, 1, 3)
        first, second = (tuple(np.clip(middle + side * half, 0, 255).astype(int).tolist()) for side in (-1, 1))
    if chance(random, 0.1):
        weight = np.stack([weight, pattern(height, width, random), pattern(height, width, random)])
    levels = mix(first, second, weight)
    if chance(random, 0.25):
        levels = grain(blur(levels, random.uniform(0.3, 0.8)), random, random.uniform(0, 4))
    paste(pixels, to_bytes(levels), random, whole=0.6)
