"""Quality of a model on a video: of its frames, of their differences, and flicker where the scene does not change."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from bdflow_rt.errors import CorruptVideoError, ShapeError, check_whole
from bdflow_rt.evaluate.environment import environment
from bdflow_rt.files import finite
from bdflow_rt.metrics import FrameDifferences, StaticFlicker, bicubic_downscale, bicubic_resize, psnr, psnr_y
from bdflow_rt.metrics.temporal import TOLERANCE
from bdflow_rt.picture import UInt8Array
from bdflow_rt.rescaler import Rescaler
from bdflow_rt.video.frames import Frame, FrameSource

MAX_FRAMES = 1 << 31
"""Of the option, which no video reaches."""
HR = ("restored", "bicubic")
"""What is compared with the source: the model's frames, and those of bicubic down and up."""
PICTURES = ("source", *HR, "lr", "bicubic_lr")
"""What flicker is measured of."""


class _FrameQuality:
    """PSNR of frames and of their differences, against a reference.

    Args:
        border: pixels left out on every side.
    """

    def __init__(self, *, border: int) -> None:
        self._border = border
        self._rgb, self._y = _Summary(), _Summary()
        self._differences = FrameDifferences(border=border)

    def add(self, frame: UInt8Array, reference: UInt8Array) -> None:
        """Take the next frame, (H, W, 3) uint8 as its reference."""
        self._rgb.add(psnr(frame, reference, border=self._border))
        self._y.add(psnr_y(frame, reference, border=self._border))
        self._differences.add(frame, reference)

    def described(self) -> dict[str, Any]:
        """Mean and minimum over the frames, and the differences, in dB; infinity where all is exact."""
        return {
            "psnr_y": self._y.described(),
            "psnr_rgb": self._rgb.described(),
            "difference_psnr_y": self._differences.psnr_y,
            "difference_psnr_rgb": self._differences.psnr,
        }


class _Summary:
    """Mean and minimum of values that are not kept."""

    def __init__(self) -> None:
        self._count, self._sum, self._min = 0, 0.0, math.inf

    def add(self, value: float) -> None:
        self._count, self._sum, self._min = self._count + 1, self._sum + value, min(self._min, value)

    def described(self) -> dict[str, float]:
        return {"mean": self._sum / self._count, "min": self._min}


def evaluate_video(
    rescaler: Rescaler,
    source: FrameSource,
    *,
    frames: int | None = None,
    refine: int = 0,
    tolerance: int = TOLERANCE,
    progress: Callable[[int, int | None], None] | None = None,
) -> dict[str, Any]:
    """Take every frame down to a packet and up again, and measure what becomes of it.

    One frame after the other is read, and memory does not grow with their number.

    Args:
        rescaler: with the model to measure.
        source: the frames; packets of other tracks are passed over.
        frames: how many; None is all.
        refine: steps of refinement of every LR picture, as for `Rescaler.downscale`.
        tolerance: levels by which pixels of a static cell may change, as for `StaticFlicker`.
        progress: called with the frames that are done, and how many there are where that is known.

    Returns:
        Plain JSON types: the environment, the model, the sizes, `frames`, and

        - `restored` and `bicubic` (down and up) against the source, `lr` against the bicubic LR: `psnr_y` and
          `psnr_rgb`, each with `mean` and `min` over the frames, `difference_psnr_y` and `difference_psnr_rgb`. Of HR
          frames a border of `scale` pixels is left out. A null is exact, a mean also where one frame is; of
          differences it is also that there is one frame only.
        - `flicker`: `tolerance`, `static_share`, and of each of `PICTURES` `mean` and `p99`, null where no cell was
          static.
        - `damaged` and `notices`: what was wrong with the video.

    Raises:
        ArgumentError: `frames` is not a whole number from 1, or another option not allowed.
        ShapeError: the frames are too small for the border.
        CorruptVideoError: there is no frame.
        As the iterator of the source and `Rescaler.downscale`.
    """
    if frames is not None:
        check_whole("frames", frames, 1, MAX_FRAMES)
    scale = rescaler.card.interface.scale
    width, height = source.info.width, source.info.height
    if min(width, height) <= 2 * scale:
        raise ShapeError(
            f"The video has frames of {width} x {height} pixels; at least {2 * scale + 1} x {2 * scale + 1} are needed "
            f"to measure a model for x{scale}."
        )
    meters = _Meters(scale=scale, tolerance=tolerance)
    total = min((known for known in (frames, source.info.frames) if known is not None), default=None)
    for item in source:
        if isinstance(item, Frame):
            packet = rescaler.downscale(item.pixels, refine=refine)
            meters.add(item.pixels, restored=rescaler.upscale(packet), lr=packet.lr)
            if progress is not None:
                progress(meters.frames, total)
            if meters.frames == frames:
                break
    if not meters.frames:
        raise CorruptVideoError("The video has no frame that can be measured. Get it again from where it was made.")
    return {
        **environment(rescaler.card),
        "backend": rescaler.backend,
        "precision": rescaler.precision,
        "refine": refine,
        "hr_size": [width, height],
        "lr_size": [-(-width // scale), -(-height // scale)],
        "frames": meters.frames,
        **finite(meters.described()),
        "damaged": source.problems.damaged,
        "notices": list(source.problems.notices),
    }


class _Meters:
    """All that is measured of a video."""

    def __init__(self, *, scale: int, tolerance: int) -> None:
        self.frames = 0
        self._scale = scale
        self._quality = {name: _FrameQuality(border=scale) for name in HR}
        self._lr_quality = _FrameQuality(border=0)
        self._flicker = StaticFlicker(scale=scale, tolerance=tolerance)

    def add(self, hr: UInt8Array, *, restored: UInt8Array, lr: UInt8Array) -> None:
        height, width = hr.shape[:2]
        bicubic_lr = bicubic_downscale(hr, scale=self._scale)
        made = {
            "restored": restored,
            "bicubic": bicubic_resize(bicubic_lr, scale=self._scale)[:height, :width],
        }
        for name in HR:
            self._quality[name].add(made[name], hr)
        self._lr_quality.add(lr, bicubic_lr)
        self._flicker.add(hr, **made, lr=lr, bicubic_lr=bicubic_lr)
        self.frames += 1

    def described(self) -> dict[str, Any]:
        changes = {name: self._flicker.of(name) for name in PICTURES}
        return {
            **{name: quality.described() for name, quality in self._quality.items()},
            "lr": self._lr_quality.described(),
            "flicker": {
                "tolerance": self._flicker.tolerance,
                "static_share": self._flicker.static_share,
                **{name: {"mean": change.mean, "p99": change.p99} for name, change in changes.items()},
            },
        }
