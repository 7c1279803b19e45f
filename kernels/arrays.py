"""What kernels ask of their arguments: whole numbers; of arrays shape, dtype, and how the elements lie in memory."""

from __future__ import annotations

import math
import operator
from typing import Any

import numpy as np

from bdflow_rt.errors import ArgumentError, ArrayTooLargeError, DTypeError, EmptyImageError, LayoutError, ShapeError
from bdflow_rt.kernels.launch import MAX_ELEMENTS, address

FLOATS = ("float16", "float32")
BYTES = ("uint8",)


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


def check_array(name: str, array: Any, *, axes: str, dtypes: tuple[str, ...]) -> None:
    """Refuse an array that no kernel could read.

    Args:
        name: of the argument, for the message.
        array: NumPy's or CuPy's.
        axes: such as "(N, H, W, 3)"; an axis that is a number must have this length.
        dtypes: allowed ones, native byte order.

    Raises:
        ShapeError, EmptyImageError, DTypeError: rank or length of an axis, no elements, dtype.
        ArrayTooLargeError: more than 2^31 - 1 elements.
        LayoutError: elements do not lie at multiples of their size.
    """
    lengths = axes.strip("()").split(", ")
    fits = array.ndim == len(lengths) and all(
        not letter.isdigit() or int(letter) == length for letter, length in zip(lengths, array.shape, strict=True)
    )
    if not fits:
        raise ShapeError(f"{name} has shape {tuple(array.shape)}; it must be {axes}.")
    if 0 in array.shape:
        raise EmptyImageError(f"{name} has shape {tuple(array.shape)} and so no elements.")
    if not any(array.dtype == np.dtype(dtype) for dtype in dtypes):
        raise DTypeError(f"{name} is {array.dtype}; it must be {' or '.join(dtypes)}. Convert it first.")
    if (count := math.prod(array.shape)) > MAX_ELEMENTS:
        raise ArrayTooLargeError(
            f"{name} has shape {tuple(array.shape)}, {count} elements; a kernel takes at most {MAX_ELEMENTS}. "
            "Split the batch."
        )
    check_alignment(name, array)


def check_alignment(name: str, array: Any) -> None:
    """Raise LayoutError unless all elements lie at multiples of their size."""
    size = array.dtype.itemsize
    if address(array) % size or any(
        step % size and length > 1 for step, length in zip(array.strides, array.shape, strict=True)
    ):
        raise LayoutError(
            f"{name} has strides {array.strides} and starts at an address that ends in "
            f"{address(array) % 16:#x}; both must be multiples of its {size} bytes per element. Copy it first."
        )


def check_shape(name: str, array: Any, shape: tuple[int, ...]) -> None:
    """Raise ShapeError unless the array, an output or a second input, has this very shape."""
    if tuple(array.shape) != shape:
        raise ShapeError(f"{name} has shape {tuple(array.shape)}; here it must be {shape}.")


def check_result(name: str, shape: tuple[int, ...]) -> None:
    """Raise ArrayTooLargeError if an array yet to be made would have more elements than kernels can count."""
    if (count := math.prod(shape)) > MAX_ELEMENTS:
        raise ArrayTooLargeError(
            f"{name} would have shape {shape}, {count} elements; a kernel writes at most {MAX_ELEMENTS}. Split the "
            "batch, or cut the pictures into tiles."
        )


def check_contiguous(name: str, array: Any) -> None:
    """Raise LayoutError unless the elements follow one another in memory."""
    if not array.flags.c_contiguous:
        raise LayoutError(
            f"{name} of shape {tuple(array.shape)} has strides {array.strides}; it must be contiguous. Copy it first."
        )


def check_writable(name: str, array: Any) -> None:
    """Refuse an output that a kernel cannot write, each element once.

    Raises:
        LayoutError: a read-only NumPy array, or one whose elements share memory with one another.
    """
    if isinstance(array, np.ndarray) and not array.flags.writeable:
        raise LayoutError(f"{name} is read-only. Pass an array that can be written.")
    span = array.dtype.itemsize
    for step, length in sorted((abs(step), length) for step, length in zip(array.strides, array.shape, strict=True)):
        if length > 1:
            if step < span:
                raise LayoutError(
                    f"{name} of shape {tuple(array.shape)} has strides {array.strides}: elements share memory. "
                    "Allocate it with empty(shape)."
                )
            span += (length - 1) * step


def check_rows(name: str, array: Any) -> None:
    """Raise LayoutError unless every row, axis 2 and what follows, is contiguous; rows may lie anywhere."""
    step = array.dtype.itemsize
    for axis in range(array.ndim - 1, 1, -1):
        if array.shape[axis] > 1 and array.strides[axis] != step:
            raise LayoutError(
                f"{name} of shape {tuple(array.shape)} has strides {array.strides}; the pixels of a row must follow "
                "one another. Copy it first."
            )
        step *= array.shape[axis]
