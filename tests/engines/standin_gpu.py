"""A stand-in for a GPU: host memory, and streams that do nothing until somebody waits for them, so that a copy that is
not waited for, or too early, gives wrong pixels. Nothing that passes with it says that a GPU has run.
"""

from __future__ import annotations

import ctypes
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bdflow_rt.engines.front import NV12
from bdflow_rt.engines.gpu import CudaDevice, Graph, Stamp
from bdflow_rt.kernels import egress, ingest
from bdflow_rt.picture import to_grey

GARBAGE = 0xA5


class ContractError(AssertionError):
    """A call that the real API forbids."""


class StandInDevice(CudaDevice):
    """A GPU of host memory; NumPy arrays stand for GPU arrays. It overrides every method: no GPU is asked for."""

    def __init__(self, *, graphs: str = "live") -> None:
        self.index, self.name, self.compute_capability = 0, "Stand-in GPU", "8.9"
        self.graphs = graphs
        self.launches = 0
        self._queues: dict[int, deque[Callable[[], Any]]] = {0: deque()}
        self._done: dict[int, int] = {0: 0}
        self._active = 0
        self._memory: list[tuple[int, int, weakref.ref[NDArray[Any]]]] = []
        self.capturing: tuple[int, list[Callable[[], Any]]] | None = None

    @contextmanager
    def active(self) -> Iterator[None]:
        self._active += 1
        try:
            yield
        finally:
            self._active -= 1

    def on(self, stream: int) -> AbstractContextManager[Any]:
        return nullcontext()

    def new_stream(self) -> int:
        stream = 16 * (1 + len(self._done))
        self._queues[stream], self._done[stream] = deque(), 0
        return stream

    def end_stream(self, stream: int) -> None:
        if self._queues.pop(stream):
            raise ContractError("a stream was given back before its work was done")

    @property
    def streams(self) -> int:
        """Streams that were made and not given back."""
        return len(self._queues) - 1

    def empty(self, size: int) -> NDArray[np.uint8]:
        whole = np.full(size + 256, GARBAGE, np.uint8)
        start = -whole.ctypes.data % 256
        self._memory.append((whole.ctypes.data + start, size, weakref.ref(whole)))
        return whole[start : start + size]

    def view(self, memory: NDArray[np.uint8], shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        return memory[: int(np.prod(shape)) * dtype.itemsize].view(dtype).reshape(shape)

    def address(self, array: NDArray[Any]) -> int:
        return array.ctypes.data

    def pinned(self, size: int) -> NDArray[np.uint8]:
        return np.full(size, GARBAGE, np.uint8)

    def upload(self, source: NDArray[Any], target: NDArray[Any], stream: int) -> None:
        if source.shape != target.shape or not (source.flags.c_contiguous and target.flags.c_contiguous):
            raise ContractError("a copy between host and GPU is one run of bytes")
        self.enqueue(stream, lambda: np.copyto(target, source))

    def download(self, source: NDArray[Any], target: NDArray[Any], stream: int) -> None:
        if source.nbytes != target.nbytes or not target.flags.c_contiguous:
            raise ContractError("a copy between host and GPU is one run of bytes")
        self.enqueue(stream, lambda: np.copyto(target.reshape(source.shape), source))

    def copy(self, source: NDArray[Any], target: NDArray[Any], stream: int) -> None:
        self.enqueue(stream, lambda: np.copyto(target, source, casting="no"))

    def invert(self, array: NDArray[Any], stream: int) -> None:
        self.enqueue(stream, lambda: np.invert(array, out=array))

    def stamp(self, stream: int) -> StandInStamp:
        if not self._active:
            raise ContractError("an event is made on another GPU than its stream's")
        return StandInStamp(self, stream, self._done[stream] + len(self._queues[stream]))

    def capture(self, stream: int, work: Callable[[], Any]) -> StandInGraph:
        if stream in (0, 1, 2):
            raise ContractError("a default stream cannot be captured")
        if self.graphs == "refused":
            raise RuntimeError("cudaErrorStreamCaptureUnsupported: operation not permitted when stream is capturing")
        steps: list[Callable[[], Any]] = []
        self.capturing = stream, steps
        try:
            work()
        finally:
            self.capturing = None
        return StandInGraph(self, [] if self.graphs == "dead" else steps)

    def borrow(self, array: Any, stream: int, name: str, *, writable: bool = False) -> Any:
        return array.memory if isinstance(array, StandInArray) else array

    def stream_of(self, stream: Any, array: Any) -> int:
        return 0 if stream is None else int(stream)

    def empty_like(self, array: Any, shape: tuple[int, ...], dtype: np.dtype[Any], stream: int) -> Any:
        memory = np.full(shape, GARBAGE, dtype)
        return StandInArray(memory) if isinstance(array, StandInArray) else memory

    def to_grey(self, image: Any, stream: int) -> None:
        self.enqueue(stream, lambda: np.copyto(image, to_grey(image)))

    def contiguous(self, array: Any, stream: int) -> Any:
        raise NotImplementedError

    def overlap(self, one: Any, other: Any) -> bool:
        return bool(np.may_share_memory(one, other))

    def ingest(self, frames: Any, planes: Any, *, multiple: int, stream: int) -> None:
        self.enqueue(stream, lambda: ingest(frames, multiple=multiple, out=planes))

    def egress(self, planes: Any, frames: Any, *, stream: int) -> None:
        self.enqueue(stream, lambda: egress(planes, out=frames))

    def rgb_of(self, front: NV12, luma: Any, chroma: Any, *, stream: int | None) -> Any:
        assert stream is not None
        image = np.full((*luma.shape, 3), GARBAGE, np.uint8)
        convert = super().rgb_of
        self.enqueue(stream, lambda: np.copyto(image, convert(front, luma, chroma, stream=None)))
        return image

    def nv12_of(self, front: NV12, image: Any, luma: Any, chroma: Any, *, stream: int | None) -> None:
        assert stream is not None
        convert = super().nv12_of
        self.enqueue(stream, lambda: convert(front, image, luma, chroma, stream=None))

    def enqueue(self, stream: int, work: Callable[[], Any]) -> None:
        """Put work on a stream, or into the graph that is being captured on it."""
        if not self._active:
            raise ContractError("the engine's GPU is not the thread's current one")
        if self.capturing is not None:
            if stream != self.capturing[0]:
                raise ContractError("work on another stream while one is captured")
            self.capturing[1].append(work)
        else:
            self._queues[stream].append(work)

    def run_until(self, stream: int, position: int) -> None:
        """Do a stream's work up to a position."""
        while self._done[stream] < position:
            work = self._queues[stream].popleft()
            self._done[stream] += 1
            work()

    def reached(self, stream: int) -> int:
        """The position a stream has come to."""
        return self._done[stream]

    def synchronize(self, stream: int) -> None:
        """Do all of a stream's work."""
        self.run_until(stream, self._done[stream] + len(self._queues[stream]))

    def interleave(self, *streams: int, seed: int) -> None:
        """Do all work of some streams, a piece of one or the other at a time, in an order made from a seed."""
        rng = np.random.default_rng(seed)
        while waiting := [stream for stream in streams if self._queues[stream]]:
            stream = waiting[rng.integers(len(waiting))]
            self.run_until(stream, self._done[stream] + 1)

    def memory_at(self, address: int, size: int) -> NDArray[np.uint8]:
        """Bytes that were allocated and not given back since."""
        for start, length, owner in self._memory:
            if start <= address and address + size <= start + length and owner() is not None:
                return np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(address))
        raise ContractError(f"{size} bytes at {address:#x} are not allocated")


class StandInArray:
    """An array of the stand-in GPU, which the host cannot read by accident.

    Args:
        memory: what it holds; the device's streams work on it.
    """

    def __init__(self, memory: NDArray[Any]) -> None:
        self.memory = memory
        self.shape, self.dtype = memory.shape, memory.dtype

    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, 0  # kDLCUDA

    def __getitem__(self, index: Any) -> StandInArray:
        return StandInArray(self.memory[index])

    def __array__(self, *args: Any, **options: Any) -> NDArray[Any]:
        raise ContractError("the host reads an array of the GPU")

    def get(self) -> NDArray[Any]:
        """The content, on purpose."""
        return self.memory.copy()


class StandInStamp(Stamp):
    """A point in a stream's work."""

    def __init__(self, device: StandInDevice, stream: int, position: int) -> None:
        self._device, self._stream, self._position = device, stream, position

    def is_reached(self) -> bool:
        return self._device.reached(self._stream) >= self._position

    def wait(self) -> None:
        if self._device.capturing is not None:
            raise ContractError("the host waits while a stream is captured")
        self._device.run_until(self._stream, self._position)

    def hold(self, stream: int) -> None:
        self._device.enqueue(stream, lambda: self._device.run_until(self._stream, self._position))


class StandInGraph(Graph):
    """Captured work; one with no steps gives what the last launch left, as a graph with stale addresses does."""

    def __init__(self, device: StandInDevice, steps: list[Callable[[], Any]]) -> None:
        self._device, self._steps = device, steps

    def launch(self, stream: int) -> None:
        self._device.launches += 1
        for step in self._steps:
            self._device.enqueue(stream, step)
