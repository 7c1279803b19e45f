"""What photographs have little of: flat colours, smooth gradients, and coloured lines as in charts and screenshots.

    python -m bdflow_rt.bench.drawn --model bdflow-x2 --model bdflow-x4 --folder Set14 --output bench/results

writes smooth.json and graphics.json.

Smooth: per model and kind, over pictures of `SIDE` x `SIDE` pixels that are drawn here, where a network's border and
ripples show and bicubic interpolation does well: PSNR of the pooled squared error, of luma and of RGB, beside that of
bicubic; the largest difference in any channel; and how far from the picture's edge differences of more than `VISIBLE`
levels reach.

Graphics: per model and drawing, over a folder of photographs with lines drawn over: the largest difference of an LR
pixel to MATLAB's bicubic, the share of LR pixels that lie further than `FAR` levels from it in any channel, the share
that is held back, `LR_BOUND` levels from the mean of their HR pixels, and the PSNR-Y of the restored picture beside
that of bicubic.
"""

from __future__ import annotations

import argparse
import math
import pathlib
import statistics
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bdflow_rt.bench.command import run_command, write_result
from bdflow_rt.containers.image import read_picture
from bdflow_rt.evaluate.environment import environment
from bdflow_rt.evaluate.pictures import list_pictures
from bdflow_rt.metrics import bicubic_downscale, bicubic_resize, psnr_y
from bdflow_rt.metrics.bicubic import cell_means
from bdflow_rt.metrics.psnr import decibels, rgb_to_y
from bdflow_rt.rescaler import Rescaler
from bdflow_rt.zoo import ModelCard
from bdflow_rt.zoo.interface import LR_BOUND

SIDE = 256
"""Pixels; 16 at the LR of x16."""
VISIBLE = 4
"""Levels of 255: a difference that shows in a flat area."""
FAR = 60
"""Levels of 255: a difference that shows at a glance."""
SATURATED = ((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (0, 255, 255), (255, 0, 255))
"""Of flat pictures, and of the lines, one per picture in turn."""
MUTED = ((0, 0, 0), (255, 255, 255), (128, 128, 128), (200, 60, 40), (40, 90, 160), (230, 210, 180))
SPACING = 16
"""Pixels between the lines of the grid."""

Pixels = NDArray[np.uint8]


def _of(card: ModelCard) -> dict[str, str]:
    return {"model": card.id, "weights_sha256": card.weights_sha256}


def smooth_pictures() -> dict[str, list[Pixels]]:
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


def measure_smooth(rescaler: Rescaler) -> list[dict[str, Any]]:
    """One entry per kind of picture."""
    scale = rescaler.card.interface.scale
    rows = []
    for kind, pictures in smooth_pictures().items():
        restored = [rescaler.upscale(rescaler.downscale(picture)) for picture in pictures]
        enlarged = [bicubic_resize(bicubic_downscale(picture, scale=scale), scale=scale) for picture in pictures]
        rows.append(
            {
                **_of(rescaler.card),
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
        "psnr_y": decibels(luma),
        "psnr_rgb": decibels(rgb),
        "max_difference": int(max(np.abs(difference).max() for difference in differences)),
    }


def border_width(restored: Pixels, picture: Pixels) -> int:
    """Pixels from the nearest edge to the innermost difference of more than `VISIBLE` levels; 0 where there is none."""
    rows, columns = np.nonzero(np.abs(restored.astype(np.int16) - picture).max(axis=2) > VISIBLE)
    if not rows.size:
        return 0
    height, width = picture.shape[:2]
    return 1 + int(np.minimum.reduce([rows, columns, height - 1 - rows, width - 1 - columns]).max())


def _line(pixels: Pixels, colour: tuple[int, int, int]) -> None:
    pixels[pixels.shape[0] // 2 + 1] = colour


def _grid(pixels: Pixels, colour: tuple[int, int, int]) -> None:
    pixels[::SPACING] = pixels[:, ::SPACING] = colour


DRAWINGS: dict[str, Callable[[Pixels, tuple[int, int, int]], None]] = {
    "nothing": lambda pixels, colour: None,
    "one line": _line,
    "a grid": _grid,
}
"""What is drawn in place over (H, W, 3) uint8, one pixel wide."""


def measure_lines(rescaler: Rescaler, folder: pathlib.Path) -> list[dict[str, Any]]:
    """One entry per drawing.

    Raises:
        MissingFileError: there is no picture in the folder.
    """
    scale = rescaler.card.interface.scale
    pictures = [read_picture(path).pixels for path in list_pictures(folder)]
    rows = []
    for name, draw in DRAWINGS.items():
        largest, far, held, restored, bicubic = [], [], [], [], []
        for index, picture in enumerate(pictures):
            pixels = picture.copy()
            draw(pixels, SATURATED[index % len(SATURATED)])
            packet = rescaler.downscale(pixels)
            reference = bicubic_downscale(pixels, scale=scale)
            difference = np.abs(packet.lr.astype(np.int16) - reference).max(axis=2)
            largest.append(int(difference.max()))
            far.append(float((difference > FAR).mean()))
            # Rounding may take a held value half a level towards the mean.
            held.append(
                float((np.abs(packet.lr - cell_means(pixels, scale=scale)).max(axis=2) > LR_BOUND - 0.51).mean())
            )
            enlarged = bicubic_resize(reference, scale=scale)[: pixels.shape[0], : pixels.shape[1]]
            restored.append(psnr_y(pixels, rescaler.upscale(packet), border=scale))
            bicubic.append(psnr_y(pixels, enlarged, border=scale))
        rows.append(
            {
                **_of(rescaler.card),
                "folder": folder.name,
                "drawing": name,
                "lr_max_difference": max(largest),
                "far_share": statistics.fmean(far),
                "held_share": statistics.fmean(held),
                "psnr_y": statistics.fmean(restored),
                "bicubic_psnr_y": statistics.fmean(bicubic),
            }
        )
    return rows


def main() -> None:
    """Measure and write two JSON files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", action="append", required=True, help="name or folder; repeat")
    parser.add_argument("--folder", type=pathlib.Path, required=True, help="of photographs")
    parser.add_argument("--output", type=pathlib.Path, required=True, help="folder of the results")
    args = parser.parse_args()
    list_pictures(args.folder)  # what is wrong with it is better said at once
    smooth, lines = [], []
    for model in args.model:
        with Rescaler.from_pretrained(model) as rescaler:
            smooth += measure_smooth(rescaler)
            lines += measure_lines(rescaler, args.folder)
    write_result(args.output / "smooth.json", {**environment(), "side": SIDE, "visible": VISIBLE, "rows": smooth})
    write_result(args.output / "graphics.json", {**environment(), "far": FAR, "rows": lines})


if __name__ == "__main__":
    sys.exit(run_command("drawn", main))
