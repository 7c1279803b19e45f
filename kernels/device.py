"""The way of a public kernel function on the GPU: arrays in, one launch, arrays out."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bdflow_rt.errors import ArgumentError, DeviceMismatchError, DTypeError, OverlapError
from bdflow_rt.interop import (
    borrow,
    check_context,
    device_of,
    empty_like_library,
    is_on_gpu,
    stream_address,
)
from bdflow_rt.kernels.arrays import check_alignment, check_contiguous, check_rows, check_shape, check_writable
from bdflow_rt.kernels.launch import Launch, address, launch

_OVERLAP_WORK = 100_000
"""Steps of the exact search for a common byte, well below a millisecond; beyond it, arrays count as sharing."""


@dataclass(frozen=True)
class Output:
    """What an output has to be.

    Attributes:
        shape, dtype: of the array.
        pitched: rows, axis 2 and what follows, may lie apart; else the whole array is contiguous.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    pitched: bool = False


def run(
    inputs: dict[str, Any],
    outputs: dict[str, Any],
    stream: Any,
    *,
    check: Callable[..., Sequence[Output]],
    plan: Callable[..., Launch],
    twin: Callable[..., Any],
) -> tuple[Any, ...]:
    """Compute by a kernel where the inputs are on a GPU, and by its twin where they are NumPy's.

    Args:
        inputs: arrays by the argument's name.
        outputs: the caller's, by the argument's name; None where the caller gave none.
        stream: the caller's, or None; there must be none with NumPy arrays.
        check: takes the inputs as arrays of CuPy or NumPy, raises what is wrong with them, and says what every output
            has to be.
        plan: takes the inputs and the outputs as CuPy arrays.
        twin: takes the inputs as NumPy arrays, and returns the output or a tuple of them.

    Returns:
        The outputs: the caller's own, or new ones of the library that the first input comes from.

    Raises:
        ArgumentError: not an array, or NumPy arrays with a stream.
        CudaUnavailableError: no GPU.
        DeviceMismatchError: arrays or stream of different GPUs, or some arrays on the GPU and some not.
        ShapeError, DTypeError, LayoutError, OverlapError: an output does not suit.
    """
    if _use_gpu(inputs, outputs, stream):
        return _run_on_gpu(inputs, outputs, stream, check=check, plan=plan)
    expected = dict(zip(outputs, check(*inputs.values()), strict=True))
    check_outputs({name: out for name, out in outputs.items() if out is not None}, expected, inputs)
    computed = twin(*inputs.values())
    results = list(computed if isinstance(computed, tuple) else (computed,))
    for index, out in enumerate(outputs.values()):
        if out is not None:
            out[...] = results[index]
            results[index] = out
    return tuple(results)


def _use_gpu(inputs: dict[str, Any], outputs: dict[str, Any], stream: Any) -> bool:
    """Whether the inputs are GPU arrays; raises what `run` says of arrays on different sides."""
    given = inputs | {name: array for name, array in outputs.items() if array is not None}
    where = {name: is_on_gpu(array, name=name) for name, array in given.items()}
    first, on_gpu = next(iter(where.items()))
    for name, other in where.items():
        if other is not on_gpu:
            places = {True: "on the GPU", False: "in the host's memory"}
            raise DeviceMismatchError(
                f"{first} is {places[on_gpu]} and {name} {places[other]}. Pass all on one side; kernels copy nothing."
            )
    if not on_gpu and stream is not None:
        raise ArgumentError(f"stream is {stream!r}, but {first} is a NumPy array, for which there is none.")
    return on_gpu


def _run_on_gpu(
    inputs: dict[str, Any],
    outputs: dict[str, Any],
    stream: Any,
    *,
    check: Callable[..., Sequence[Output]],
    plan: Callable[..., Launch],
) -> tuple[Any, ...]:
    """Check, allocate what the caller did not give, and launch on the device of the inputs."""
    first, leader = next(iter(inputs.items()))
    device = device_of(leader)
    for name, array in (inputs | outputs).items():
        if array is not None and (other := device_of(array)) != device:
            raise DeviceMismatchError(f"{first} is on GPU {device} and {name} on GPU {other}. Move one of them.")
    import cupy

    with cupy.cuda.Device(device):
        check_context()
        chosen = stream_address(stream, array=leader, device=device)
        sources = {name: borrow(array, stream=chosen, name=name) for name, array in inputs.items()}
        expected = dict(zip(outputs, check(*sources.values()), strict=True))
        given = {
            name: borrow(out, stream=chosen, name=name, writable=True)
            for name, out in outputs.items()
            if out is not None
        }
        check_outputs(given, expected, sources)
        results = {
            name: empty_like_library(leader, expected[name].shape, expected[name].dtype, stream=chosen)
            if out is None
            else out
            for name, out in outputs.items()
        }
        targets = [given[name] if name in given else borrow(made, stream=chosen) for name, made in results.items()]
        launch(plan(*sources.values(), *targets), stream=chosen)
    return tuple(results.values())


def check_outputs(given: dict[str, Any], expected: dict[str, Output], inputs: dict[str, Any]) -> None:
    """Check the caller's output arrays, of NumPy or CuPy, by the argument's name.

    Raises:
        ShapeError, DTypeError: one has another shape or dtype.
        LayoutError: one is not contiguous.
        OverlapError: one shares memory with an input or with another output.
    """
    seen = dict(inputs)
    for name, out in given.items():
        check_shape(name, out, expected[name].shape)
        if out.dtype != expected[name].dtype:
            raise DTypeError(f"{name} is {out.dtype}; for these inputs it must be {expected[name].dtype}.")
        check_alignment(name, out)
        (check_rows if expected[name].pitched else check_contiguous)(name, out)
        check_writable(name, out)
        for other, array in seen.items():
            if share_memory(out, array):
                raise OverlapError(
                    f"{name} and {other} share memory; a kernel reads and writes at once. Pass another output."
                )
        seen[name] = out


def share_memory(one: Any, other: Any) -> bool:
    """Whether two arrays have a byte in common: luma and chroma of one surface have none, though they interleave."""
    (start, end), (low, high) = _extent(one), _extent(other)
    if low >= end or start >= high:
        return False
    try:
        return np.shares_memory(_outline(one), _outline(other), max_work=_OVERLAP_WORK)  # type: ignore[arg-type]
    except np.exceptions.TooHardError:
        return True


def _outline(array: Any) -> np.ndarray[Any, Any]:
    """A NumPy array of the same addresses, never to be read: they may be a GPU's."""
    start, end = _extent(array)
    memory = (ctypes.c_ubyte * (end - start)).from_address(start)
    return np.ndarray(array.shape, array.dtype, memory, address(array) - start, array.strides)  # type: ignore[arg-type]


def _extent(array: Any) -> tuple[int, int]:
    """First address and the one after the last, of any strides."""
    spans = [(length - 1) * step for length, step in zip(array.shape, array.strides, strict=True)]
    base = address(array)
    return base + sum(min(span, 0) for span in spans), base + sum(max(span, 0) for span in spans) + array.dtype.itemsize
