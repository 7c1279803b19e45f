"""Pictures that carry their own number: in big grey blocks that lossy codecs and a change of scale leave readable."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_COLUMNS, _ROWS = 8, 3
_NUMBER_BITS, _CHECK_BITS = 16, 8
_DARK, _BRIGHT = 40, 215


def draw_frame(number: int, width: int, height: int) -> NDArray[np.uint8]:
    """Frame `number` of every clip: a smooth moving pattern above, the number in blocks below.

    Args:
        number: 0 to 65,535.
        width, height: of the picture, upright. From 32x24 pixels its quarter-size version is still readable.

    Returns:
        (height, width, 3) uint8 RGB.
    """
    x = np.arange(width) / width
    y = np.arange(height)[:, None] / height
    picture = np.empty((height, width, 3), np.uint8)
    picture[..., 0] = 30 + 200 * _triangle(x + number / 40)
    picture[..., 1] = 30 + 200 * _triangle(2 * y + number / 60)
    picture[..., 2] = 30 + 200 * _triangle(x + y - number / 50)
    blocks = np.where(_code(number), _BRIGHT, _DARK).astype(np.uint8).reshape(_ROWS, _COLUMNS)
    top = height // 2
    rows = np.arange(height - top) * _ROWS // (height - top)
    picture[top:] = blocks[np.ix_(rows, np.arange(width) * _COLUMNS // width)][..., None]
    return picture


def frame_number(picture: NDArray[Any]) -> int:
    """The number that a picture of `draw_frame` carries, also after lossy coding or at another size.

    Args:
        picture: (H, W, 3) or (H, W), levels 0 to 255, upright.

    Raises:
        ValueError: The check bits do not fit: a damaged picture, a turned one, or none of `draw_frame`.
    """
    grey = picture.mean(axis=2) if picture.ndim == 3 else picture
    height, width = grey.shape
    top = height // 2
    rows = [_middle(row, _ROWS, height - top, top) for row in range(_ROWS)]
    columns = [_middle(column, _COLUMNS, width) for column in range(_COLUMNS)]
    levels = np.array([grey[row, column].mean() for row in rows for column in columns])
    bits = levels > (_DARK + _BRIGHT) / 2
    number = int(bits[:_NUMBER_BITS] @ (1 << np.arange(_NUMBER_BITS)))
    if not np.array_equal(bits, _code(number)):
        raise ValueError(f"the blocks of this picture say no number: levels {levels.round().astype(int).tolist()}")
    return number


def _code(number: int) -> NDArray[np.bool_]:
    # Multiplied by an odd constant so that neighbours differ in many check bits; turned or grey pictures do not pass.
    check = (number * 0x9E37 + 0x5A) >> 3 & 0xFF
    bits = number | check << _NUMBER_BITS
    return bits >> np.arange(_NUMBER_BITS + _CHECK_BITS) & 1 == 1


def _middle(index: int, count: int, length: int, offset: int = 0) -> slice:
    """The inner half of one of `count` blocks along an axis, a pixel at least."""
    start = round((index + 0.25) * length / count)
    return slice(offset + start, offset + max(start + 1, round((index + 0.75) * length / count)))


def _triangle(phase: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.abs(2 * (phase % 1) - 1)
