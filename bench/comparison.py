"""The comparison picture: one detail of HR, LR, bicubic and restored side by side, with captions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL import Image

GAP = 8
CAPTION_HEIGHT = 30


def busiest_window(image: NDArray[np.uint8], side: int) -> tuple[int, int]:
    """Top and left of the side x side window with the most detail (largest mean Laplacian), in steps of side/4."""
    import cv2

    detail = np.abs(cv2.Laplacian(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.CV_32F))
    total = cv2.integral(detail)
    step = max(side // 4, 1)
    height, width = image.shape[:2]
    corners = [(y, x) for y in range(0, height - side + 1, step) for x in range(0, width - side + 1, step)]

    def amount(corner: tuple[int, int]) -> float:
        y, x = corner
        return float(total[y + side, x + side] - total[y, x + side] - total[y + side, x] + total[y, x])

    return max(corners, key=amount)


def comparison(
    panels: list[tuple[str, NDArray[np.uint8]]], *, window: tuple[int, int, int], zoom: int = 2
) -> Image.Image:
    """Draw the panels next to each other.

    Args:
        panels: captions and (H, W, 3) uint8 pictures, all of one size.
        window: top, left and side of the detail shown.
        zoom: whole factor each pixel is enlarged by.
    """
    from PIL import Image, ImageDraw, ImageFont

    top, left, side = window
    shown = side * zoom
    canvas = Image.new("RGB", (len(panels) * (shown + GAP) - GAP, shown + CAPTION_HEIGHT), "white")
    draw = ImageDraw.Draw(canvas)
    font = ImageFont.load_default(size=15)
    for index, (caption, pixels) in enumerate(panels):
        detail = Image.fromarray(np.ascontiguousarray(pixels[top : top + side, left : left + side]))
        x = index * (shown + GAP)
        canvas.paste(detail.resize((shown, shown), Image.Resampling.NEAREST), (x, 0))
        draw.text((x + 2, shown + 6), caption, fill="black", font=font)
    return canvas
