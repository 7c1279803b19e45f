"""Exact tiling: a picture cut into windows whose halo is at least the network's receptive field.

All sizes here are in LR pixels. Windows lie inside the picture, so the network sees the picture's true border where
there is one; on the other sides the halo is computed and thrown away. The result is the whole picture's, with no seam.
All windows of a picture have one size, so an engine plans its memory once.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from bdflow_rt.errors import OutOfMemoryError
from bdflow_rt.zoo.config import ModelConfig

MIB = 1 << 20


@dataclass(frozen=True)
class Span:
    """One axis of a window: what the engine reads, and the part of it that is kept."""

    start: int
    stop: int
    keep_start: int
    keep_stop: int


def spans(length: int, tile: int, halo: int) -> list[Span]:
    """Cover 0..length with windows of `tile` pixels that overlap by twice the halo; one window where it all fits."""
    if tile >= length:
        return [Span(0, length, 0, length)]
    found = []
    kept = 0
    while kept < length:
        start = min(max(kept - halo, 0), length - tile)
        stop = start + tile
        keep_stop = length if stop == length else stop - halo
        found.append(Span(start, stop, kept, keep_stop))
        kept = keep_stop
    return found


def windows(height: int, width: int, tile: tuple[int, int], halo: int) -> Iterator[tuple[Span, Span]]:
    """Rows and columns of every window, row by row."""
    for rows in spans(height, tile[0], halo):
        for columns in spans(width, tile[1], halo):
            yield rows, columns


def bytes_per_lr_pixel(config: ModelConfig) -> int:
    """Upper estimate of an engine's working memory per LR pixel, in float32.

    Measured, not derived: at its peak OpenVINO holds about three hidden maps and three maps of all channels of the
    largest level.
    """
    largest = max(
        (3 * hidden + 3 * config.channels(level)) * 4 ** (config.levels - level)
        for level, hidden in enumerate(config.hidden, 1)
    )
    return 4 * largest


def tile_size(height: int, width: int, config: ModelConfig, *, memory_limit_mib: float) -> tuple[int, int]:
    """Height and width of the largest window within the memory limit, the whole picture where it fits.

    Raises:
        OutOfMemoryError: not even a window with one useful pixel fits.
    """
    pixels = int(memory_limit_mib * MIB) // bytes_per_lr_pixel(config)
    side = math.isqrt(pixels)
    rows = min(height, side)
    columns = min(width, pixels // max(rows, 1))
    rows = min(height, pixels // max(columns, 1))
    needed_rows, needed_columns = min(height, 2 * config.halo + 1), min(width, 2 * config.halo + 1)
    if rows < needed_rows or columns < needed_columns:
        least = math.ceil(needed_rows * needed_columns * bytes_per_lr_pixel(config) / MIB)
        raise OutOfMemoryError(
            f"memory_limit_mib is {memory_limit_mib:g}, but the smallest exact tile of this x{config.scale} model "
            f"takes about {least} MiB; raise the limit to at least that."
        )
    return rows, columns
