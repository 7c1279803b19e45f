"""Weights as the graphs of engines have them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bdflow_rt.zoo.weights import StoredTensor, find_part, scale_name

_DTYPES = {"F32": "<f4", "F16": "<f2", "I8": "i1"}


def part_values(content: bytes, index: Mapping[str, StoredTensor], name: str) -> NDArray[Any] | None:
    """What an engine's graph calls a name: `find_part` as it is stored or, of an int8 tensor, in float16.

    Args:
        content: of the weights file.
        index: of that.
        name: of `part_name`.

    Returns:
        A copy in the machine's alignment; None where there is nothing of that name.
    """
    part = find_part(index, name)
    if part is None:
        return None
    # Copied, since nothing says that a tensor begins at a multiple of its type's size.
    values = np.frombuffer(content, _DTYPES[part.dtype], math.prod(part.shape), part.offset).copy().reshape(part.shape)
    if part.dtype != "I8":
        return values
    scales = part_values(content, index, scale_name(name))
    return None if scales is None else values.astype(np.float16) * scales.reshape(-1, 1, 1, 1)
