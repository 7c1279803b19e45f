"""Drawn pictures for training: what charts, screenshots, facades and flat colours are made of.

One file per kind of drawing and one table, in `scene`, of how often each is drawn.
"""

from bdflow_rt.training.graphics.scene import draw_graphics

__all__ = ["draw_graphics"]
