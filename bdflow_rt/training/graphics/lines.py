"""Thin lines, boxes and grids of plain colours."""

from __future__ import annotations

import cv2

from bdflow_rt.training.graphics.canvas import Pixels, Random, any_colour, chance, saturated_colour


def draw_lines(pixels: Pixels, random: Random) -> None:
    """One to six lines, boxes and grids, one to three pixels wide and half of them in fully saturated colours."""
    height, width = pixels.shape[:2]
    for _ in range(int(random.integers(1, 7))):
        saturated = chance(random, 0.5)
        colour = saturated_colour(random) if saturated else any_colour(random)
        thickness, spacing = int(random.integers(1, 4)), int(random.integers(4, 33))
        (left, right), (top, bottom) = random.integers(width, size=2).tolist(), random.integers(height, size=2).tolist()
        kind = int(random.integers(6))
        if kind == 0:
            pixels[top : top + thickness] = colour
        elif kind == 1:
            pixels[:, left : left + thickness] = colour
        elif kind == 2:
            cv2.line(pixels, (left, top), (right, bottom), colour, thickness)
        elif kind == 3:
            cv2.line(pixels, (left, top), (right, bottom), colour, thickness, cv2.LINE_AA)
        elif kind == 4:
            cv2.rectangle(pixels, (left, top), (right, bottom), colour, thickness if saturated else cv2.FILLED)
        else:
            pixels[top % spacing :: spacing] = pixels[:, left % spacing :: spacing] = colour
