"""What several tests share: where the data is, and a picture made from a seed."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest

ROOT = Path(__file__).resolve().parent.parent


def data_dir() -> Path | None:
    """The folder of shared data: `BDFLOW_DATA`, or ../shared/data beside the checkout; None where it is absent."""
    folder = Path(os.environ.get("BDFLOW_DATA") or ROOT.parent / "shared" / "data")
    return folder if folder.is_dir() else None


needs_data = pytest.mark.skipif(
    data_dir() is None, reason="the shared data is absent; set BDFLOW_DATA to the folder that holds it"
)


def photo(height: int, width: int, seed: int) -> npt.NDArray[np.uint8]:
    """A deterministic picture with the statistics of a photograph: (H, W, 3) uint8.

    Noise with a 1/f-like spectrum over a slanted gradient, overlapping flat and textured shapes with sharp edges,
    and a little sensor grain. Works from 1x1 upwards; the same arguments always give the same pixels.
    """
    rng = np.random.default_rng((seed, height, width))
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    slope = rng.uniform(-50, 50, (2, 3)).astype(np.float32)
    picture = rng.uniform(90, 160, 3).astype(np.float32) + (y / height)[..., None] * slope[0]
    picture += (x / width)[..., None] * slope[1]
    picture += _cloud(rng, height, width) + 0.3 * np.dstack([_cloud(rng, height, width) for _ in range(3)])
    side = max(height, width)
    for _ in range(14):
        centre = (float(rng.uniform(0, width)), float(rng.uniform(0, height)))
        axes = tuple(float(v) for v in rng.uniform(0.02, 0.3, 2) * side)
        box = (centre, axes, float(rng.uniform(0, 180)))
        mask = np.zeros((height, width), np.uint8)
        if rng.random() < 0.5:
            cv2.ellipse(mask, box, 255, -1, cv2.LINE_AA)
        else:
            cv2.fillPoly(mask, [cv2.boxPoints(box).astype(np.int32)], 255, cv2.LINE_AA)
        period, angle = rng.uniform(3, 24), rng.uniform(0, np.pi)
        stripes = rng.uniform(0, 45) * np.sin(2 * np.pi / period * (x * np.cos(angle) + y * np.sin(angle)))
        colour = np.float32(rng.uniform(20, 235)) + rng.normal(0, 25, 3).astype(np.float32)
        alpha = mask[..., None].astype(np.float32) / 255
        picture += alpha * (colour + stripes[..., None].astype(np.float32) - picture)
    picture += rng.normal(0, 1.5, picture.shape).astype(np.float32)
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8)


def _cloud(rng: np.random.Generator, height: int, width: int) -> npt.NDArray[np.float32]:
    """Multi-scale noise, (H, W, 1) float32: coarser octaves are stronger, as in photographs."""
    total = np.zeros((height, width), np.float32)
    amplitude, cell = 2.0, 1
    while cell <= max(height, width):
        coarse = rng.normal(0, amplitude, (-(-height // cell) + 1, -(-width // cell) + 1)).astype(np.float32)
        total += cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
        amplitude, cell = min(amplitude * 1.5, 16.0), cell * 2
    return total[..., None]
