"""What the boundary-aware mask (BAM) is made of: the constants, the options, the levels.

Everything is exact integer arithmetic, so that NumPy, OpenCV and CUDA agree on every bit.

Source: paper, section 3.2; the choices it leaves open (blur, sectors, ties, levels) follow OpenCV's Canny.
"""

from __future__ import annotations

import functools
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from bdflow_rt.errors import check_whole

LUMA_WEIGHTS = (9798, 19235, 3735)
"""Red, green and blue of OpenCV's RGB2GRAY, in units of 2^-15."""
LUMA_SHIFT = 15
BLUR_WEIGHTS = (1, 4, 6, 4, 1)
"""Binomial kernel per axis (sigma = 1); the two axes together sum to 2^BLUR_SHIFT."""
BLUR_SHIFT = 8
TAN_22_5 = 13573
"""tan(22.5 deg) in units of 2^-SECTOR_SHIFT, as OpenCV rounds it; tan(67.5 deg) is this plus 2."""
SECTOR_SHIFT = 15
GRADIENT_BOUND = 2048
"""Above every magnitude: |gx| and |gy| are at most 4 * 255. A threshold beyond it leaves no edge, as the bound does."""
_MEASURE_MAX = np.iinfo(np.int32).max
_OPTION_MAX = np.iinfo(np.int64).max


Norm = Literal[1, 2]


@functools.lru_cache(maxsize=64)
def level_table(*, threshold: int, bits: int, norm: Norm, saturation: int) -> NDArray[np.int32]:
    """Smallest measure (|gx|+|gy|, or gx^2+gy^2 for norm 2) of the levels 2, 3, ..., 2^bits - 1, ascending.

    Level of an edge = 1 + number of entries that its measure reaches. Both sides of
    (2^k - 1)*magnitude >= (2^k - 1)*threshold + j*(saturation - threshold) are whole numbers, so nothing is rounded.
    """
    steps = (1 << bits) - 1
    bounds = [steps * threshold + j * (saturation - threshold) for j in range(1, steps)]
    smallest = [-(-(bound**norm) // steps**norm) for bound in bounds]
    table = np.array([min(value, _MEASURE_MAX) for value in smallest], np.int32)
    table.flags.writeable = False
    return table


def check_options(*, threshold: int, bits: int = 1, norm: int = 2, saturation: int | None = None) -> None:
    """Raise ArgumentError unless the options of `boundary_mask` are allowed."""
    check_whole("threshold", threshold, 0, _OPTION_MAX)
    check_whole("bits", bits, 1, 8)
    check_whole("norm", norm, 1, 2)
    if saturation is not None:
        check_whole("saturation", saturation, threshold + 1, _OPTION_MAX)
