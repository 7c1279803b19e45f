"""Z ~ N(0, temperature^2) as a pure function of seed and place, so that a stored seed means the same Z for ever.

Row y, column x, channel c of an LR picture with C channels of Z takes output number x*C + c of Philox 4x64-10 with key
(seed, 0) and counter (0, 0, 0, y), counted up before the first block, as `numpy.random.Philox` does: its raw output is
stable between versions, its normal deviates are not. The upper and lower 32 bits a and b give, by Box-Muller in
float64, temperature * sqrt(-2 ln((a + 1)/2^32)) * cos(2 pi b/2^32), rounded to float32.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_TWO_32 = 2.0**32


def latent_rows(
    rows: range, *, columns: range, width: int, channels: int, temperature: float, seed: int
) -> NDArray[np.float32]:
    """Z of a window, (channels, rows, columns) float32; windows of one picture fit together.

    Args:
        rows, columns: of the window in LR pixels.
        width: of the whole LR picture.
        channels: of Z.
        temperature: standard deviation; the paper's prior N(0, 0.2) has sqrt(0.2).
        seed: 0..2^64 - 1.
    """
    latent = np.empty((channels, len(rows), len(columns)), np.float32)
    key = np.array([seed, 0], np.uint64)
    for index, row in enumerate(rows):
        stream = np.random.Philox(key=key, counter=np.array([0, 0, 0, row], np.uint64))
        raw = stream.random_raw(width * channels).reshape(width, channels)[columns.start : columns.stop]
        radius = np.sqrt(-2 * np.log(((raw >> np.uint64(32)) + 1.0) / _TWO_32))
        angle = 2 * np.pi * ((raw & np.uint64(0xFFFFFFFF)) / _TWO_32)
        latent[:, index] = (temperature * radius * np.cos(angle)).T
    return latent
