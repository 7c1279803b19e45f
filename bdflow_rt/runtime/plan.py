"""Exact tiling: a picture cut into windows whose halo is at least the network's receptive field.

All sizes here are in LR pixels. Windows lie inside the picture, so the network sees the picture's true border where
there is one; on the other sides the halo is computed and thrown away. The result is the whole picture's, with no seam.
All windows of a picture have one size, so an engine plans its memory once.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from bdflow_rt.engines.backends import BACKENDS
from bdflow_rt.errors import OutOfMemoryError, OutsideProfileError
from bdflow_rt.options import Backend
from bdflow_rt.zoo.interface import ModelInterface

Worker = Backend | Literal["gradient"]
"""What works on a tile."""
MIB = 1 << 20
COSTLY = 4
"""Times the work of a whole picture, beyond which a warning says what its windows take."""
GRADIENT_FACTOR = 9
GRADIENT_HALO = 12
"""LR pixels. Of a gradient what lies further away is left out: of trained x2 to x16 that is less than 0.04 % of it."""


@dataclass(frozen=True)
class Span:
    """One axis of a window: what the engine reads, and the part of it that is kept."""

    start: int
    stop: int
    keep_start: int
    keep_stop: int


Window = tuple[Span, Span]
"""Rows and columns."""


def spans(length: int, tile: int, halo: int) -> list[Span]:
    """Cover 0..length with windows of `tile` > 2*halo pixels that overlap by twice the halo; one where it all fits."""
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


def windows(height: int, width: int, tile: tuple[int, int], halo: int) -> Iterator[Window]:
    """Rows and columns of every window, row by row."""
    for rows in spans(height, tile[0], halo):
        for columns in spans(width, tile[1], halo):
            yield rows, columns


def scaled(span: Span, scale: int) -> Span:
    """A span of LR pixels in HR pixels."""
    return Span(span.start * scale, span.stop * scale, span.keep_start * scale, span.keep_stop * scale)


def halo_of(interface: ModelInterface, backend: Worker) -> int:
    """LR pixels that a window needs on each side: the network's halo, or what counts of it; 0 where none is cut."""
    halo = interface.halo or 0
    return min(halo, GRADIENT_HALO) if backend == "gradient" else halo


def bytes_per_lr_pixel(interface: ModelInterface, backend: Worker) -> int:
    """Upper estimate of an engine's working memory per LR pixel, in float32.

    "gradient" is PyTorch's memory for the gradient of the inverse, whose blocks are computed anew in the backward pass:
    1.0 to 1.3 times the peak.
    """
    factor = GRADIENT_FACTOR if backend == "gradient" else BACKENDS[backend].memory_factor
    return factor * interface.activation_bytes


def tile_size(
    height: int,
    width: int,
    interface: ModelInterface,
    *,
    memory_limit_mib: float,
    backend: Worker,
    smallest: tuple[int, int] = (1, 1),
    largest: tuple[int, int] | None = None,
    share: int = 1,
) -> tuple[int, int]:
    """Height and width of the windows: as few as the limits allow, and then as small as their number allows.

    Args:
        height, width: of the LR picture.
        interface: of the network.
        memory_limit_mib: working memory of one window.
        backend: what works on it.
        smallest, largest: windows that the engine takes; a picture that is smaller is not enlarged.
        share: how many times as much was allowed for all workers together, for messages.

    Raises:
        OutOfMemoryError: not even a window with one useful pixel fits, or the picture cannot be cut and does not fit.
        OutsideProfileError: the engine takes no window that is large enough for that.
    """
    halo, pixel_bytes = halo_of(interface, backend), bytes_per_lr_pixel(interface, backend)
    if interface.halo is None:
        if (least := math.ceil(height * width * pixel_bytes / MIB)) > memory_limit_mib:
            raise OutOfMemoryError(
                f"memory_limit_mib is {share * memory_limit_mib:g}, but this x{interface.scale} model cannot cut "
                f"pictures into tiles and takes about {share * least} MiB for this one{_all(share)}; raise the limit "
                "to at least that."
            )
        return height, width
    most_rows, most_columns = min(height, (largest or (height,))[0]), min(width, (largest or (0, width))[1])
    needed_rows, needed_columns = min(height, 2 * halo + 1), min(width, 2 * halo + 1)
    if most_rows < needed_rows or most_columns < needed_columns:
        scale = interface.scale
        raise OutsideProfileError(
            f"The smallest exact tile of this x{scale} model has {needed_columns * scale} x {needed_rows * scale} HR "
            f"pixels, and the engine takes at most {most_columns * scale} x {most_rows * scale}. Build one for a "
            "larger profile with `bdflow build`."
        )
    pixels = int(min(memory_limit_mib * MIB / pixel_bytes, most_rows * most_columns))
    rows = min(most_rows, math.isqrt(pixels))
    columns = min(most_columns, pixels // max(rows, 1))
    rows = min(most_rows, pixels // max(columns, 1))
    if rows < needed_rows or columns < needed_columns:
        least = math.ceil(needed_rows * needed_columns * pixel_bytes / MIB)
        raise OutOfMemoryError(
            f"memory_limit_mib is {share * memory_limit_mib:g}, but the smallest exact tile of this "
            f"x{interface.scale} model takes about {share * least} MiB{_all(share)}; raise the limit to at least that."
        )
    return (
        max(_evened(height, rows, halo), min(smallest[0], rows)),
        max(_evened(width, columns, halo), min(smallest[1], columns)),
    )


def describe_cost(
    size: tuple[int, int],
    tile: tuple[int, int],
    count: int,
    interface: ModelInterface,
    *,
    backend: Worker,
    limit_mib: float,
    share: int,
) -> str | None:
    """What a memory limit costs in work, where it is much: of a tile just larger than its halo little is kept.

    Args:
        size, tile: (h, w) of the LR picture and of its windows.
        count: of the windows.
        interface: of the network.
        backend: what works on them.
        limit_mib, share: working memory of one window, and how many times as much was allowed in all.
    """
    times = count * tile[0] * tile[1] / (size[0] * size[1])
    if times <= COSTLY:
        return None
    # A window of 8 halos keeps three quarters of each side: 1.8 times the work.
    side = 8 * halo_of(interface, backend)
    enough = min(side, size[0]) * min(side, size[1]) * bytes_per_lr_pixel(interface, backend) / MIB
    return (
        f"memory_limit_mib is {share * limit_mib:g}, so the picture is cut into {count} tiles that take {times:.0f} "
        f"times the work of the whole. Set memory_limit_mib to {math.ceil(share * enough)} for less than twice."
    )


def _all(share: int) -> str:
    return "" if share == 1 else f" with {share} workers"


def _evened(length: int, tile: int, halo: int) -> int:
    """The smallest window that covers a side in no more windows than `tile` does."""
    if tile >= length:
        return length
    count = math.ceil((length - 2 * halo) / (tile - 2 * halo))
    return 2 * halo + math.ceil((length - 2 * halo) / count)
