"""The way of a public kernel function on the GPU: arrays in, one launch, arrays out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from bdflow_rt.errors import ArgumentError, DeviceMismatchError, DTypeError, LayoutError, OverlapError, ShapeError
from bdflow_rt.interop import borrow, device_of, empty_like_library, is_on_gpu, stream_address
from bdflow_rt.kernels.launch import Launch, address, launch

Layout = tuple[tuple[int, ...], np.dtype[Any]]
"""Shape and dtype of an output."""


def use_gpu(inputs: dict[str, Any], outputs: dict[str, Any], stream: Any) -> bool:
    """Whether the inputs are GPU arrays.

    Args:
        inputs: by the argument's name.
        outputs: by the argument's name; None where the caller gave none.
        stream: the caller's; there must be none with NumPy arrays.

    Raises:
        DeviceMismatchError: some arrays are on the GPU and some are not.
        ArgumentError: not an array, or NumPy arrays with a stream.
    """
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


def run_on_gpu(
    inputs: dict[str, Any],
    outputs: dict[str, Any],
    stream: Any,
    *,
    check: Callable[..., Sequence[Layout]],
    plan: Callable[..., Launch],
) -> tuple[Any, ...]:
    """Check, allocate what the caller did not give, and launch on the device of the inputs.

    Args:
        inputs: GPU arrays by the argument's name.
        outputs: the caller's, by the argument's name, or None.
        stream: the caller's, or None.
        check: takes the inputs as CuPy arrays, raises what is wrong with them, and returns the layout of every output.
        plan: takes the inputs and the outputs as CuPy arrays.

    Returns:
        The outputs: the caller's own, or new ones of the library that the first input comes from.

    Raises:
        CudaUnavailableError: no GPU.
        DeviceMismatchError: arrays or stream of different GPUs.
        ShapeError, DTypeError, LayoutError, OverlapError: an output does not suit.
    """
    first, leader = next(iter(inputs.items()))
    device = device_of(leader)
    for name, array in (inputs | outputs).items():
        if array is not None and (other := device_of(array)) != device:
            raise DeviceMismatchError(f"{first} is on GPU {device} and {name} on GPU {other}. Move one of them.")
    import cupy

    with cupy.cuda.Device(device):
        chosen = stream_address(stream, array=leader, device=device)
        sources = {name: borrow(array, stream=chosen, name=name) for name, array in inputs.items()}
        layouts = check(*sources.values())
        results, targets = [], []
        for (name, given), (shape, dtype) in zip(outputs.items(), layouts, strict=True):
            result = empty_like_library(leader, shape, dtype, stream=chosen) if given is None else given
            target = borrow(result, stream=chosen, name=name)
            if given is not None:
                check_output(name, target, shape, dtype, sources)
            results.append(result)
            targets.append(target)
        launch(plan(*sources.values(), *targets), stream=chosen)
    return tuple(results)


def into(name: str, out: Any, result: np.ndarray[Any, Any], inputs: dict[str, Any]) -> Any:
    """A twin's result, in the caller's NumPy array if there is one.

    Raises:
        ShapeError, DTypeError, LayoutError, OverlapError: as `check_output`.
    """
    if out is None:
        return result
    check_output(name, out, result.shape, result.dtype, inputs)
    out[...] = result
    return out


def check_output(name: str, out: Any, shape: tuple[int, ...], dtype: np.dtype[Any], inputs: dict[str, Any]) -> None:
    """Check an output array of NumPy or CuPy.

    Raises:
        ShapeError, DTypeError: it has another shape or dtype.
        LayoutError: it is not contiguous.
        OverlapError: it shares memory with an input.
    """
    if tuple(out.shape) != shape:
        raise ShapeError(f"{name} has shape {tuple(out.shape)}; for these inputs it must be {shape}.")
    if out.dtype != dtype:
        raise DTypeError(f"{name} is {out.dtype}; for these inputs it must be {dtype}.")
    if not out.flags.c_contiguous:
        raise LayoutError(f"{name} has strides {out.strides}; it must be contiguous. Allocate it with empty(shape).")
    start, end = _extent(out)
    for other, array in inputs.items():
        low, high = _extent(array)
        if low < end and start < high:
            raise OverlapError(
                f"{name} and {other} share memory; a kernel reads and writes at once. Pass another output."
            )


def _extent(array: Any) -> tuple[int, int]:
    """First address and the one after the last, of any strides."""
    spans = [(length - 1) * step for length, step in zip(array.shape, array.strides, strict=True)]
    base = address(array)
    return base + sum(min(span, 0) for span in spans), base + sum(max(span, 0) for span in spans) + array.dtype.itemsize
