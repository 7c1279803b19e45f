"""Photographs with coloured lines drawn over, as in charts and screenshots, which the models were not trained on.

    python -m bdflow_rt.bench.graphics --folder Set14 --model bdflow-x4 --output bench/results/graphics.json

Per model and drawing, over a folder: the largest difference of an LR pixel to MATLAB's bicubic, the share of LR pixels
that lie further than `FAR` levels from it in any channel, the share that is held back, `LR_BOUND` levels from the mean
of their HR pixels, and the PSNR-Y of what comes back beside bicubic's.
"""

from __future__ import annotations

import argparse
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
from bdflow_rt.rescaler import Rescaler
from bdflow_rt.zoo.interface import LR_BOUND

FAR = 60
"""Levels of 255: a difference that shows at a glance."""
COLOURS = ((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (0, 255, 255), (255, 0, 255))
"""Of the lines, one per picture in turn."""
SPACING = 16
"""Pixels between the lines of the grid."""

Pixels = NDArray[np.uint8]


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


def measure(rescaler: Rescaler, folder: pathlib.Path) -> list[dict[str, Any]]:
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
            draw(pixels, COLOURS[index % len(COLOURS)])
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
                "model": rescaler.card.id,
                "weights_sha256": rescaler.card.weights_sha256,
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
    """Measure and write one JSON file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", action="append", required=True, help="name or folder; repeat")
    parser.add_argument("--folder", type=pathlib.Path, required=True, help="of pictures")
    parser.add_argument("--output", type=pathlib.Path, required=True)
    args = parser.parse_args()
    rows = []
    for model in args.model:
        with Rescaler.from_pretrained(model) as rescaler:
            rows += measure(rescaler, args.folder)
    write_result(args.output, {**environment(), "far": FAR, "rows": rows})


if __name__ == "__main__":
    sys.exit(run_command("graphics", main))
