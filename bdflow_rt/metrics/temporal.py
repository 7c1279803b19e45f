"""How true a video is over time: PSNR of frame differences, and flicker where nothing changes.

Both take one frame after the other and keep no more than the last one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bdflow_rt.errors import ArgumentError, ShapeError, check_whole
from bdflow_rt.metrics.psnr import RGB_TO_Y, check_pair, crop_border, decibels

TOLERANCE = 1
"""Levels by which a pixel of a static cell may change: what a conversion of colours rounds."""
_LEVELS = 256

Pixels = NDArray[np.uint8]


class FrameDifferences:
    """PSNR of the differences of consecutive frames against those of a reference, pooled over all pairs of frames.

    The error of a pair is (f[t] - f[t-1]) - (r[t] - r[t-1]), in levels; its mean square over all pixels and pairs
    becomes dB with peak 255. An error that stays the same from frame to frame does not count, one that comes and goes
    does. This is dtSSD of video matting as a PSNR.

    Args:
        border: pixels left out on every side.

    Source: Erofeev et al., "Perceptually Motivated Benchmark for Video Matting", BMVC 2015 (dtSSD); differences of
    consecutive frames measure motion in ITU-T P.910 (temporal information).
    """

    def __init__(self, *, border: int = 0) -> None:
        self.pairs = 0
        self._border = border
        self._error: NDArray[np.int16] | None = None
        self._values = 0
        self._squares = 0
        self._squares_y = 0.0

    def add(self, frame: Pixels, reference: Pixels) -> None:
        """Take the next frame.

        Args:
            frame, reference: (H, W, 3) uint8 RGB of one shape, which is that of the frames before.

        Raises:
            ShapeError, DTypeError, ArgumentError: as `psnr`.
        """
        check_pair(frame, reference, border=self._border)
        _check_rgb(frame)
        error = crop_border(frame, self._border).astype(np.int16) - crop_border(reference, self._border)
        if self._error is not None:
            _check_same(error, self._error)
            change = error - self._error  # at most 510, whose square fits 32 bits
            self._squares += int(np.square(change, dtype=np.int32).sum(dtype=np.int64))
            self._squares_y += float(np.square(change @ RGB_TO_Y).sum())
            self._values += change.size
            self.pairs += 1
        self._error = error

    @property
    def psnr(self) -> float | None:
        """In dB over R, G and B; infinity where all differences are equal, None before the second frame."""
        return decibels(self._squares / self._values) if self.pairs else None

    @property
    def psnr_y(self) -> float | None:
        """The same of the luma (`rgb_to_y`)."""
        return decibels(self._squares_y / (self._values / 3)) if self.pairs else None


@dataclass(frozen=True)
class Flicker:
    """Absolute changes from frame to frame, in levels of 255, over all channels; None where no cell was static.

    Attributes:
        mean: of all changes.
        p99: the 99th percentile, the smallest change that 99 of 100 do not exceed.
    """

    mean: float | None
    p99: int | None


class StaticFlicker:
    """Flicker of pictures on the cells of a scene that do not change.

    A cell is the scale x scale HR pixels of an LR pixel. From one frame to the next it is static if no channel of its
    pixels changes by more than the tolerance; cells cut by the right and bottom edge are judged by the pixels they
    have. Networks and bicubic interpolation see pixels around the cell too, so motion nearby shows in both.

    Args:
        scale: HR pixels per LR pixel, each way.
        tolerance: in levels of 255. With noise in a scene known to be static, what the noise does not exceed.

    Raises:
        ArgumentError: `scale` is not a whole number from 1, or `tolerance` not one from 0 to 255.

    Source: mean absolute change on static blocks, as Fan et al., "Flicking Reduction in All Intra Frame Coding",
    JVT-E070, 2002, measure flicker; here per cell, and with its 99th percentile.
    """

    def __init__(self, *, scale: int, tolerance: int = TOLERANCE) -> None:
        check_whole("scale", scale, 1, 1 << 16)
        check_whole("tolerance", tolerance, 0, _LEVELS - 1)
        self.scale, self.tolerance = scale, tolerance
        self._last: dict[str, Pixels] = {}
        self._cells = self._static = 0
        self._counts: dict[str, NDArray[np.int64]] = {}

    def add(self, source: Pixels, **pictures: Pixels) -> None:
        """Take the next frame.

        Args:
            source: (H, W, 3) uint8 RGB, by which cells are static.
            pictures: what is made of it, by name: (H, W, 3), or (ceil(H/scale), ceil(W/scale), 3), uint8. The names
                and shapes are the same for all frames; "source" is taken.

        Raises:
            ShapeError, DTypeError: a picture is of another kind or shape, or has another shape than before.
            ArgumentError: the names are not those of the frame before.
        """
        frame = {"source": source, **pictures}
        self._check(frame)
        if last := self._last:
            static = self._static_cells(source, last["source"])
            self._cells += static.size
            self._static += int(np.count_nonzero(static))
            masks = {static.shape: static, source.shape[:2]: _enlarged(static, self.scale, source)}
            for name, pixels in frame.items():
                changes = _change(pixels, last[name])[masks[pixels.shape[:2]]]
                self._counts[name] = self._counts.get(name, 0) + np.bincount(changes.ravel(), minlength=_LEVELS)
        self._last = {name: pixels.copy() for name, pixels in frame.items()}

    @property
    def static_share(self) -> float | None:
        """Share of the cells of all pairs of frames that are static, 0 to 1; None before the second frame."""
        return self._static / self._cells if self._cells else None

    def of(self, name: str) -> Flicker:
        """The flicker of a picture by its name, or of "source", which is within the tolerance."""
        counts = self._counts.get(name)
        if counts is None or not (total := int(counts.sum())):
            return Flicker(None, None)
        mean = float(counts @ np.arange(_LEVELS)) / total
        return Flicker(mean, int(np.argmax(100 * np.cumsum(counts) >= 99 * total)))

    def _static_cells(self, source: Pixels, last: Pixels) -> NDArray[np.bool_]:
        """(ceil(H/scale), ceil(W/scale)): which cells are static."""
        largest = _change(source, last).max(axis=2)
        bottom, right = (-length % self.scale for length in largest.shape)
        whole = np.pad(largest, ((0, bottom), (0, right)))
        rows, columns = (length // self.scale for length in whole.shape)
        cells = whole.reshape(rows, self.scale, columns, self.scale).max(axis=(1, 3))
        return cells <= self.tolerance

    def _check(self, frame: dict[str, Pixels]) -> None:
        if self._last and frame.keys() != self._last.keys():
            raise ArgumentError(f"The pictures are {', '.join(frame)}; before they were {', '.join(self._last)}.")
        height, width = frame["source"].shape[:2]
        small = (-(-height // self.scale), -(-width // self.scale))
        for name, pixels in frame.items():
            check_pair(pixels, self._last.get(name, pixels), border=0)
            _check_rgb(pixels)
            if pixels.shape[:2] not in ((height, width), small):
                raise ShapeError(
                    f"The picture '{name}' has shape {pixels.shape}; with a source of {height} x {width} it must have "
                    f"{height} x {width} or {small[0]} x {small[1]} pixels."
                )


def _change(a: Pixels, b: Pixels) -> Pixels:
    """Absolute difference, without leaving 8 bits."""
    return np.maximum(a, b) - np.minimum(a, b)


def _enlarged(cells: NDArray[np.bool_], scale: int, source: Pixels) -> NDArray[np.bool_]:
    """A mask of cells as one of HR pixels."""
    height, width = source.shape[:2]
    return cells.repeat(scale, axis=0).repeat(scale, axis=1)[:height, :width]


def _check_rgb(pixels: Pixels) -> None:
    if pixels.ndim != 3 or pixels.shape[2] != 3:
        raise ShapeError(f"The frame has shape {pixels.shape}; it must be (H, W, 3) RGB.")


def _check_same(error: NDArray[np.int16], last: NDArray[np.int16]) -> None:
    if error.shape != last.shape:
        raise ShapeError(f"The frame has shape {error.shape} and the one before {last.shape}; both must be the same.")
