"""Which kinds of drawings there are, how often each is drawn, and what lies over what."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from bdflow_rt.training.graphics.areas import draw_flat, draw_gradient
from bdflow_rt.training.graphics.canvas import Pixels, Random, chance
from bdflow_rt.training.graphics.charts import draw_chart
from bdflow_rt.training.graphics.facades import draw_facade
from bdflow_rt.training.graphics.gratings import draw_grating
from bdflow_rt.training.graphics.interface import draw_interface
from bdflow_rt.training.graphics.lines import draw_lines
from bdflow_rt.training.graphics.text import draw_text

Draw = Callable[[Pixels, Random], None]

KINDS: dict[str, tuple[Draw, float]] = {
    "lines": (draw_lines, 0.2),
    "text": (draw_text, 0.16),
    "chart": (draw_chart, 0.1),
    "interface": (draw_interface, 0.1),
    "grating": (draw_grating, 0.12),
    "facade": (draw_facade, 0.18),
    "flat": (draw_flat, 0.07),
    "gradient": (draw_gradient, 0.07),
}
"""Each draws over (H, W, 3) pixels in place; its share of the drawings is beside it."""
GROUNDS = ("flat", "gradient", "grating", "facade")
"""Kinds on which lines or text are drawn at times."""
OVER = 0.25
"""The share of the grounds that get something drawn on them."""

_NAMES = tuple(KINDS)
_BOUNDS = np.cumsum([share for _, share in KINDS.values()])


def draw_graphics(pixels: Pixels, random: Random) -> None:
    """Draw what photographs lack: lines, text, charts, interfaces, gratings, facades, flat colours or gradients.

    At least one pixel changes.

    Args:
        pixels: (H, W, 3) uint8, contiguous, at least 16 x 16; drawn over in place.
        random: where places and colours come from; the same state gives the same pixels.
    """
    before = pixels.copy()
    while np.array_equal(pixels, before):  # text may miss a small crop, and a line may have the ground's own colour
        name = _NAMES[int(np.searchsorted(_BOUNDS, random.random() * _BOUNDS[-1], side="right"))]
        KINDS[name][0](pixels, random)
        if name in GROUNDS and chance(random, OVER):
            KINDS["lines" if chance(random, 0.5) else "text"][0](pixels, random)
