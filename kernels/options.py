"""Options of the public kernel functions: whole numbers stay whole, whatever wraps them."""

from __future__ import annotations

import operator
from typing import Any

from bdflow_rt.errors import ArgumentError


def whole_number(name: str, value: Any) -> int:
    """A Python integer from any integer, NumPy's too.

    Raises:
        ArgumentError: it is none; a bool and 2.0 are none either.
    """
    try:
        if isinstance(value, bool):
            raise TypeError
        return operator.index(value)
    except TypeError:
        raise ArgumentError(f"{name} is {value!r}; it must be a whole number.") from None


def is_whole(value: Any) -> bool:
    """Whether it is a Python integer and no bool."""
    return isinstance(value, int) and not isinstance(value, bool)
