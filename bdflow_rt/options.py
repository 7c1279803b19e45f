"""The options that users give, and their limits: what an argument may be, before anything is loaded for it."""

from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypedDict

from bdflow_rt.errors import ArgumentError, ImageTooLargeError, check_type, check_whole, describe

Precision = Literal["fp32", "bf16", "fp16"]
PrecisionChoice = Literal["auto", Precision]
Backend = Literal["openvino", "torch", "tensorrt", "tensorrt-rtx"]
Flavour = Literal["tensorrt", "tensorrt-rtx"]
"""The backends whose engines are built beforehand, and kept in a cache."""
Colours = Literal["keep", "assume", "convert"]
"""What becomes of a picture whose colours are not those of sRGB."""
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
MAX_WORKERS = 64


class Options(TypedDict, total=False):
    """The fields of `RescalerOptions`, as keyword arguments."""

    backend: str
    device: str | None
    precision: PrecisionChoice | None
    threads: int | None
    workers: int
    memory_limit_mib: float
    max_pixels: int


@dataclass(frozen=True, kw_only=True)
class RescalerOptions:
    """Backend, device, precision and limits of a `Rescaler`; can be pickled, for the workers of a process pool.

    Attributes:
        backend: "auto", "openvino", "torch", "tensorrt" or "tensorrt-rtx"; "auto" never selects TensorRT,
            whose engines must be built first (`bdflow build`).
        device: "cpu", "cuda" or "cuda:N"; None is the CPU, or the first GPU for TensorRT. OpenVINO runs on the CPU.
        precision: "fp32"; "bf16" on a CPU that has it; "fp16" on a GPU, and the only precision of TensorRT engines.
            The model's card has the loss of each: up to 0.3 dB is allowed. None is float32, with TensorRT float16.
            "auto" selects the fastest that costs at most 0.05 dB, so pixels depend on the machine.
        threads: CPU threads of all workers together, 1 to 1024; None is all cores.
        workers: pictures that are computed at the same time, 1 to 64, each on its own engine with the same weights,
            with its share of the threads and of the memory.
        memory_limit_mib: working memory of the network in MiB, not below 128 in effect; the default is 1024. Larger
            pictures are cut into tiles that give the same pixels (within 1 level of 255).
        max_pixels: HR pictures with more pixels are refused; the default is 2^28, 16384 x 16384.

    Raises:
        ArgumentError: an option has the wrong type or an impossible value.
    """

    backend: str = "auto"
    device: str | None = None
    precision: PrecisionChoice | None = None
    threads: int | None = None
    workers: int = 1
    memory_limit_mib: float = MEMORY_LIMIT_MIB
    max_pixels: int = DEFAULT_MAX_PIXELS

    def __post_init__(self) -> None:
        check_type("backend", self.backend, str, "its name, such as 'auto'")
        check_type("precision", self.precision, (str, type(None)), "its name, such as 'fp32', or None")
        check_type("device", self.device, (str, type(None)), "'cpu', 'cuda' or 'cuda:N'")
        if self.threads is not None:
            check_whole("threads", self.threads, 1, MAX_THREADS)
        check_whole("workers", self.workers, 1, MAX_WORKERS)
        limit = self.memory_limit_mib
        if type(limit) not in (int, float) or not (0 < limit <= sys.float_info.max or limit == math.inf):
            raise ArgumentError(f"memory_limit_mib is {describe(limit)}; it must be above 0, or infinite for no limit.")
        check_max_pixels(self.max_pixels)


def as_options(options: RescalerOptions | None, changes: Options) -> RescalerOptions:
    """Options with some of them replaced; None is all defaults.

    Raises:
        ArgumentError: there is no such option, or its value is impossible.
    """
    check_type("options", options, (RescalerOptions, type(None)), "RescalerOptions; single ones go by name")
    if unknown := changes.keys() - Options.__annotations__.keys():
        raise ArgumentError(
            f"There is no option {', '.join(sorted(unknown))}; the options are {', '.join(Options.__annotations__)}."
        )
    return dataclasses.replace(options or RescalerOptions(), **changes)


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
    """The items of a batch: those of a list or tuple, or the pictures of any library's array (N, H, W, 3).

    Raises:
        ArgumentError: it is neither; `function` starts the message.
    """
    if isinstance(items, Sequence) and not isinstance(items, (str, bytes)):
        return items
    shape = getattr(items, "shape", None)
    if isinstance(shape, tuple) and len(shape) == 4:
        return [items[index] for index in range(shape[0])]
    kind = f"an array of shape {tuple(shape)}" if isinstance(shape, tuple) else f"a {type(items).__name__}"
    raise ArgumentError(f"{function} got {kind}; give a list, or for pictures of one size an array (N, H, W, 3).")
