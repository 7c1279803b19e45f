"""Flat colours and smooth gradients, where a network's border and ripples show, and bicubic interpolation does well.

    python -m bdflow_rt.bench.smooth --model bdflow-x2 --model bdflow-x4 --output bench/results/smooth.json

Per model and kind, over pictures of `SIDE` x `SIDE` pixels that are drawn here: PSNR of the pooled squared error, of
luma and of RGB, beside bicubic's; the largest difference in any channel; and how far from the picture's edge
differences of more than `VISIBLE` levels reach.
"""

from __future__ import annotations

import argparse
import math
import pathlib
import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bdflow_rt.bench.command import run_command, write_result
from bdflow_rt.evaluate.environment import environment
from bdflow_rt.metrics import bicubic_downscale, bicubic_resize
from bdflow_rt.metrics.psnr import rgb_to_y
from bdflow_rt.rescaler import Rescaler

SIDE = 256
"""Pixels; 16 at the LR of x16."""
VISIBLE = 4
"""Levels of 255: a difference that shows in a flat area."""
SATURATED = ((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (0, 255, 255), (255, 0, 255))
MUTED = ((0, 0, 0), (255, 255, 255), (128, 128, 128), (200, 60, 40), (40, 90, 160), (230, 210, 180))

Pixels = NDArray[np.uint8]


def draw() -> dict[str, list[Pixels]]:
    """The pictures by kind, (SIDE, SIDE, 3) uint8 each."""
    return {
        "flat, saturated": [np.full((SIDE, SIDE, 3), colour, np.uint8) for colour in SATURATED],
        "flat, muted": [np.full((SIDE, SIDE, 3), colour, np.uint8) for colour in MUTED],
        "gradient": _gradients(),
    }


def _gradients() -> list[Pixels]:
    """Along a row, a column and a diagonal, from a centre, and between four corners."""
    y, x = np.mgrid[0:SIDE, 0:SIDE] / (SIDE - 1)
    radius = np.hypot(x - 0.5, y - 0.5) / math.hypot(0.5, 0.5)
    ends = ((0, 0, 0), (255, 255, 255)), ((255, 0, 0), (0, 0, 255)), ((250, 230, 190), (40, 60, 130))
    pictures = [
        (1 - share[..., None]) * np.array(first) + share[..., None] * np.array(last)
        for share in (x, y, (x + y) / 2, radius)
        for first, last in ends
    ]
    corners = [np.array(colour) for colour in ((255, 0, 0), (0, 160, 60), (20, 60, 255), (250, 240, 60))]
    weights = ((1 - y) * (1 - x), (1 - y) * x, y * (1 - x), y * x)
    pictures.append(sum(weight[..., None] * corner for weight, corner in zip(weights, corners, strict=True)))
    return [np.rint(picture).astype(np.uint8) for picture in pictures]


def measure(rescaler: Rescaler) -> list[dict[str, Any]]:
    """One entry per kind of picture."""
    scale = rescaler.card.interface.scale
    rows = []
    for kind, pictures in draw().items():
        restored = [rescaler.upscale(rescaler.downscale(picture)) for picture in pictures]
        enlarged = [bicubic_resize(bicubic_downscale(picture, scale=scale), scale=scale) for picture in pictures]
        rows.append(
            {
                "model": rescaler.card.id,
                "weights_sha256": rescaler.card.weights_sha256,
                "kind": kind,
                "pictures": len(pictures),
                **pooled(restored, pictures),
                **{f"bicubic_{name}": value for name, value in pooled(enlarged, pictures).items()},
                "border_pixels": max(map(border_width, restored, pictures)),
            }
        )
    return rows


def pooled(restored: list[Pixels], pictures: list[Pixels]) -> dict[str, Any]:
    """PSNR of the mean squared error of all pictures, of luma and RGB, and the largest difference.

    PSNR is infinite where every pixel is exact.
    """
    pairs = list(zip(restored, pictures, strict=True))
    luma = float(np.mean([np.square(rgb_to_y(one) - rgb_to_y(other)).mean() for one, other in pairs]))
    differences = [one.astype(np.int16) - other for one, other in pairs]
    rgb = float(np.mean([np.square(difference, dtype=np.float64).mean() for difference in differences]))
    return {
        "psnr_y": _decibels(luma),
        "psnr_rgb": _decibels(rgb),
        "max_difference": int(max(np.abs(difference).max() for difference in differences)),
    }


def border_width(restored: Pixels, picture: Pixels) -> int:
    """Pixels from the nearest edge to the innermost difference of more than `VISIBLE` levels; 0 where there is none."""
    rows, columns = np.nonzero(np.abs(restored.astype(np.int16) - picture).max(axis=2) > VISIBLE)
    if not rows.size:
        return 0
    height, width = picture.shape[:2]
    return 1 + int(np.minimum.reduce([rows, columns, height - 1 - rows, width - 1 - columns]).max())


def _decibels(mean_square: float) -> float:
    return 10 * math.log10(255**2 / mean_square) if mean_square else math.inf


def main() -> None:
    """Measure and write one JSON file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", action="append", required=True, help="name or folder; repeat")
    parser.add_argument("--output", type=pathlib.Path, required=True)
    args = parser.parse_args()
    rows = []
    for model in args.model:
        with Rescaler.from_pretrained(model) as rescaler:
            rows += measure(rescaler)
    write_result(args.output, {**environment(), "side": SIDE, "visible": VISIBLE, "rows": rows})


if __name__ == "__main__":
    sys.exit(run_command("smooth", main))
