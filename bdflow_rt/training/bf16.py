"""Whether bfloat16 pays on this processor: some take longer for it than for float32."""

from __future__ import annotations

import math
import time

import torch
from torch.nn.functional import conv2d

SLOWER = 1.15
"""Times float32's time from which it is worth a word; a step is not convolutions alone."""
_SHAPE = (4, 48, 48)
"""Pictures, rows and columns: about half of what a step has, some milliseconds."""
_REPEATS = 15


@torch.no_grad()
def bf16_time(width: int) -> float:
    """How long a 3x3 convolution between `width` channels takes on the CPU in bfloat16, as a multiple of float32."""
    count, rows, columns = _SHAPE
    shapes = (count, width, rows, columns), (width, width, 3, 3)
    pairs = [
        [torch.ones(shape, dtype=dtype).contiguous(memory_format=torch.channels_last) for shape in shapes]
        for dtype in (torch.bfloat16, torch.float32)
    ]
    least = [math.inf, math.inf]
    for _ in range(_REPEATS):  # in turns, and the least: what other processes take comes on top
        for index, (x, weight) in enumerate(pairs):
            start = time.perf_counter()
            conv2d(x, weight, padding=1)
            least[index] = min(least[index], time.perf_counter() - start)
    return least[0] / least[1]
