"""The options that users give, and their limits: what an argument may be, before anything is loaded for it."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypedDict

from bdflow_rt.errors import ArgumentError, ImageTooLargeError, check_type, check_whole, describe

Precision = Literal["fp32", "bf16", "fp16"]
PrecisionChoice = Literal["auto", Precision]
Backend = Literal["openvino", "torch", "tensorrt", "tensorrt-rtx"]
Flavour = Literal["tensorrt", "tensorrt-rtx"]
"""The backends whose engines are built beforehand, and kept in a cache."""
Progress = Callable[[int, int], None]
"""Called with how much is done, and how much there is in all."""

MAX_SIDE = (1 << 31) - 1
"""Largest width or height that a packet can state."""
DEFAULT_MAX_PIXELS = 1 << 28
"""Largest picture accepted unless the caller says otherwise: 16384 x 16384 pixels."""
MEMORY_LIMIT_MIB = 1024.0
"""Working memory of the network by default; larger pictures are cut into exact tiles."""
MAX_STEPS = 1_000_000
"""Of a refinement; thousands take all there is to gain."""
MAX_THREADS = 1024
"""Thread pools crash the process where the system has no more threads to give."""


class Options(TypedDict, total=False):
    """Options of `Rescaler` besides backend and device."""

    precision: PrecisionChoice | None
    threads: int | None
    memory_limit_mib: float
    max_pixels: int


def check_options(
    *, backend: Any, precision: Any, device: Any, threads: Any, memory_limit_mib: Any, max_pixels: Any
) -> None:
    """Check what a `Rescaler` is made with.

    Raises:
        ArgumentError: an option has the wrong type or an impossible value.
    """
    check_type("backend", backend, str, "its name, such as 'auto'")
    check_type("precision", precision, (str, type(None)), "its name, such as 'fp32', or None")
    check_type("device", device, (str, type(None)), "'cpu', 'cuda' or 'cuda:N'")
    if threads is not None:
        check_whole("threads", threads, 1, MAX_THREADS)
    is_number = type(memory_limit_mib) in (int, float)
    if not is_number or not (0 < memory_limit_mib <= sys.float_info.max or memory_limit_mib == math.inf):
        raise ArgumentError(
            f"memory_limit_mib is {describe(memory_limit_mib)}; it must be above 0, or infinite for no limit."
        )
    check_max_pixels(max_pixels)


def check_work(*, refine: Any = 0, force: Any = False, progress: Any = None) -> None:
    """Check what a picture is made with.

    Raises:
        ArgumentError: `refine` is no number of steps, `force` no bool, or `progress` no function.
    """
    check_whole("refine", refine, 0, MAX_STEPS)
    check_type("force", force, bool, "True or False")
    if progress is not None and not callable(progress):
        raise ArgumentError(f"progress is {describe(progress)}; it must be a function of the tiles done and in all.")


def check_max_pixels(max_pixels: int) -> None:
    """Check a limit on pixels.

    Raises:
        ArgumentError: it is no whole number from 1 to the pixels of the largest picture, `MAX_SIDE` to each side.
    """
    check_whole("max_pixels", max_pixels, 1, MAX_SIDE**2)


def check_area(what: str, width: int, height: int, *, max_pixels: int) -> None:
    """Refuse a picture before memory is spent on it; `what` starts the message, such as "'in.png' has".

    Raises:
        ImageTooLargeError: it has more than `max_pixels`.
    """
    if width * height > max_pixels:
        raise ImageTooLargeError(
            f"{what} {width} x {height} = {width * height} pixels; at most {max_pixels} are allowed. Raise max_pixels "
            "to accept it, or cut it into parts."
        )


def as_sequence(function: str, items: Any) -> Sequence[Any]:
    """The items of a batch: those of a list or tuple, or the pictures of an array (N, H, W, 3).

    Raises:
        ArgumentError: it is neither; `function` starts the message.
    """
    import numpy as np  # here, since the doctor of a bare Python reads the options as well

    if isinstance(items, Sequence) and not isinstance(items, (str, bytes)):
        return items
    if isinstance(items, np.ndarray) and items.ndim == 4:
        return list(items)
    kind = f"an array of shape {items.shape}" if isinstance(items, np.ndarray) else f"a {type(items).__name__}"
    raise ArgumentError(f"{function} got {kind}; give a list, or for pictures of one size an array (N, H, W, 3).")
