"""What a kernel launch is, and how one is carried out on a GPU.

A launcher (`haar.py`, `boundary_mask.py`, ...) checks its arguments and returns a `Launch`: plain values, the same for
arrays of any library. `launch` runs it on the GPU; the tests run the very same value on the CPU.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np

from bdflow_rt.errors import BackendError, shorten
from bdflow_rt.kernels.compile import Kernel, load

MAX_ELEMENTS = 2**31 - 1
"""Of one array: kernels count elements in 32 bits."""
GRID_Y = 65535
"""CUDA's limit of a grid's second and third axis."""
PLANE_TYPES: dict[np.dtype[Any], tuple[str, tuple[int, ...]]] = {
    np.dtype(np.float16): ("__half", (4, 2, 1)),
    np.dtype(np.float32): ("float", (2, 1)),
}
"""Of `ingest` and `egress`: C++ type, and cells per thread: at best 8 bytes at once."""


@dataclass(frozen=True)
class Launch:
    """One launch of one kernel.

    Attributes:
        kernel: source and instantiation.
        grid, block: blocks and threads per block along x, y and z.
        arguments: in the kernel's order; arrays stand for the address of their first element, all else is a NumPy
            scalar of the parameter's very type.
    """

    kernel: Kernel
    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    arguments: tuple[Any, ...]

    @classmethod
    def over(cls, kernel: Kernel, items: int, count: int, arguments: tuple[Any, ...]) -> Launch:
        """A thread per item, for each of `count` pictures or planes; where they are too many, the kernel loops."""
        return cls(kernel, (-(-items // kernel.threads), min(count, GRID_Y), 1), (kernel.threads, 1, 1), arguments)


def launch(plan: Launch, *, stream: int) -> None:
    """Start the kernel on a stream of the current device; returns before it has run.

    Args:
        plan: arrays among its arguments are CuPy's.
        stream: address of the CUDA stream; 0 is the default stream.

    Raises:
        UnsupportedArchitectureError, CompilerMissingError, KernelCompileError: it has to be compiled and cannot.
        BackendError: CUDA refuses to load or start it.
    """
    import cupy

    try:
        function = _function(plan.kernel, cupy.cuda.runtime.getDevice())
        function(plan.grid, plan.block, plan.arguments, stream=_Stream(stream))
    except (cupy.cuda.driver.CUDADriverError, cupy.cuda.runtime.CUDARuntimeError) as error:
        raise BackendError(
            f"CUDA could not start {plan.kernel.expression}: {shorten(error)}. A fault of earlier work shows here too; "
            "CUDA_LAUNCH_BLOCKING=1 finds it."
        ) from error


@dataclass(frozen=True)
class _Stream:
    """What CuPy's `Function` reads of a stream."""

    ptr: int


@functools.cache
def _function(kernel: Kernel, device: int) -> Any:
    return load(kernel, device)


def strides(array: Any) -> tuple[np.int64, ...]:
    """Of an array, in elements, as kernels take them; an axis of length 1 has the stride 0."""
    size = array.dtype.itemsize
    return tuple(
        np.int64(step // size if length > 1 else 0) for step, length in zip(array.strides, array.shape, strict=True)
    )


def rows_aligned(array: Any, size: int) -> bool:
    """Whether axis 1 of every element of axis 0 begins at a multiple of so many bytes; of uint8."""
    return address(array) % size == 0 and not any(step % size for step in strides(array)[:2])


def address(array: Any) -> int:
    """Of the first element, of a NumPy or CuPy array."""
    return array.ctypes.data if isinstance(array, np.ndarray) else array.data.ptr
