"""The little that an engine needs of a GPU, by CuPy: memory, copies, streams, graphs, the kernels in and out."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bdflow_rt.engines.front import NV12
from bdflow_rt.errors import BackendUnavailableError, DeviceMismatchError
from bdflow_rt.interop import (
    as_cupy_stream,
    borrow,
    device_of,
    empty_like_library,
    is_on_gpu,
    require_cuda,
    stream_address,
)
from bdflow_rt.kernels import egress, egress_nv12, ingest, ingest_nv12
from bdflow_rt.kernels.device import share_memory

DEFAULT_STREAMS = (0, 1, 2)
"""cudaStreamDefault, Legacy and PerThread: no graph can be captured on the first two, and TensorRT waits on them."""
_TO_DEVICE, _TO_HOST = 1, 2
"""cudaMemcpyKind."""


class Stamp:
    """A point in a stream's work, as a CUDA event."""

    def __init__(self, stream: int) -> None:
        import cupy

        self._event = cupy.cuda.Event(disable_timing=True)
        self._event.record(as_cupy_stream(stream))

    def is_reached(self) -> bool:
        """Whether everything before it is done."""
        return bool(self._event.done)

    def wait(self) -> None:
        """Make the host wait for it."""
        self._event.synchronize()

    def hold(self, stream: int) -> None:
        """Make a stream's further work wait for it."""
        as_cupy_stream(stream).wait_event(self._event)


class Graph:
    """Captured work: CuPy's graph."""

    def __init__(self, graph: Any) -> None:
        self._graph = graph

    def launch(self, stream: int) -> None:
        """Start it on a stream, given by its address."""
        self._graph.launch(stream=as_cupy_stream(stream))


class CudaDevice:
    """One GPU. Arrays are CuPy's; streams are addresses; nothing makes the host wait but `Stamp.wait`.

    Args:
        index: of the GPU.

    Raises:
        CudaUnavailableError: no GPU, no driver, or no CuPy.
        BackendUnavailableError: there is no GPU of that index.
    """

    def __init__(self, index: int = 0) -> None:
        require_cuda()
        from cupy.cuda import runtime

        if not 0 <= index < (count := runtime.getDeviceCount()):
            raise BackendUnavailableError(f"There is no GPU {index}; CUDA finds {count}, counted from 0.")
        found = runtime.getDeviceProperties(index)
        self.index = index
        self.name = found["name"].decode(errors="replace")
        self.compute_capability = f"{found['major']}.{found['minor']}"
        self._streams: dict[int, Any] = {}

    def active(self) -> AbstractContextManager[Any]:
        """Make it the thread's current device."""
        import cupy

        return cupy.cuda.Device(self.index)

    def on(self, stream: int) -> AbstractContextManager[Any]:
        """Make a stream CuPy's current one, for which its arrays are taken to be ready."""
        return as_cupy_stream(stream)

    def new_stream(self) -> int:
        """A stream that does not wait for the default stream; it lives until `end_stream` or as long as this object."""
        import cupy

        stream = cupy.cuda.Stream(non_blocking=True)
        self._streams[int(stream.ptr)] = stream
        return int(stream.ptr)

    def end_stream(self, stream: int) -> None:
        """Give a stream of `new_stream` back; its work is done."""
        del self._streams[stream]  # CuPy destroys it with its object

    def empty(self, size: int) -> Any:
        """(size,) uint8, its address a multiple of 256: CuPy's pools hand out multiples of 512."""
        import cupy

        return cupy.empty(size, np.uint8)

    def view(self, memory: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
        """The beginning of such memory as an array."""
        import cupy

        return cupy.ndarray(shape, dtype, memory.data)

    def address(self, array: Any) -> int:
        """Of the first element."""
        return int(array.data.ptr)

    def pinned(self, size: int) -> NDArray[np.uint8]:
        """(size,) uint8 in the host's memory, for copies that do not make it wait."""
        import cupy

        return np.frombuffer(cupy.cuda.alloc_pinned_memory(size), np.uint8, size)

    def upload(self, source: NDArray[Any], target: Any, stream: int) -> None:
        """From the host's to the GPU's memory, both contiguous and of one size; from pinned memory, without waiting."""
        from cupy.cuda import runtime

        runtime.memcpyAsync(target.data.ptr, source.ctypes.data, source.nbytes, _TO_DEVICE, stream)

    def download(self, source: Any, target: NDArray[Any], stream: int) -> None:
        """From the GPU's to pinned memory; both contiguous and of one size."""
        from cupy.cuda import runtime

        runtime.memcpyAsync(target.ctypes.data, source.data.ptr, source.nbytes, _TO_HOST, stream)

    def copy(self, source: Any, target: Any, stream: int) -> None:
        """Between arrays of this GPU of one dtype, of any strides; the source is broadcast to the target's shape."""
        import cupy

        with as_cupy_stream(stream):
            cupy.copyto(target, source)

    def invert(self, array: Any, stream: int) -> None:
        """Replace every uint8 x by 255 - x."""
        import cupy

        with as_cupy_stream(stream):
            cupy.invert(array, out=array)

    def to_grey(self, image: Any, stream: int) -> None:
        """Set each channel of (H, W, 3) uint8 to their mean, as `picture.to_grey` rounds it."""
        import cupy

        with as_cupy_stream(stream):
            total = image.sum(axis=2, dtype=np.uint16, keepdims=True)
            cupy.copyto(image, ((total + 1) // 3).astype(np.uint8))

    def contiguous(self, array: Any, stream: int) -> Any:
        """An array with its elements in order: itself, or a copy."""
        import cupy

        with as_cupy_stream(stream):
            return cupy.ascontiguousarray(array)

    def overlap(self, one: Any, other: Any) -> bool:
        """Whether two arrays have a byte in common."""
        return share_memory(
            one, other
        )  # CuPy's own compares arrays of one allocation alone, which borrowed ones are not

    def stamp(self, stream: int) -> Stamp:
        """The point that a stream has come to."""
        return Stamp(stream)

    def capture(self, stream: int, work: Callable[[], None]) -> Graph:
        """What `work` puts on a stream that is not a default one, as a graph; nothing of it runs."""
        chosen = as_cupy_stream(stream)
        with chosen:
            chosen.begin_capture()
            try:
                work()
            except BaseException:
                # A stream left capturing would refuse all further work. That the capture is invalid says less than why.
                with suppress(RuntimeError):
                    chosen.end_capture()
                raise
            captured = chosen.end_capture()
        return Graph(captured)

    def borrow(self, array: Any, stream: int, name: str, *, writable: bool = False) -> Any:
        """Any library's array on this GPU as CuPy's, used on `stream`."""
        if not is_on_gpu(array, name=name):
            raise DeviceMismatchError(f"{name} is a NumPy array; pass GPU arrays here, or call `run`.")
        if (device := device_of(array)) != self.index:
            raise DeviceMismatchError(f"{name} is on GPU {device}, the engine on GPU {self.index}. Move one of them.")
        return borrow(array, stream=stream, name=name, writable=writable)

    def stream_of(self, stream: Any, array: Any) -> int:
        """The address of any library's stream; of None, that of the array's library."""
        return stream_address(stream, array=array, device=self.index)

    def empty_like(self, array: Any, shape: tuple[int, ...], dtype: np.dtype[Any], stream: int) -> Any:
        """New memory, of the library of `array`, for use on a stream."""
        return empty_like_library(array, shape, dtype, stream=stream)

    def ingest(self, frames: Any, planes: Any, *, multiple: int, stream: int) -> None:
        """The kernel `ingest`."""
        ingest(frames, multiple=multiple, out=planes, stream=stream)

    def egress(self, planes: Any, frames: Any, *, stream: int) -> None:
        """The kernel `egress`."""
        egress(planes, out=frames, stream=stream)

    def rgb_of(self, front: NV12, luma: Any, chroma: Any, *, stream: int | None) -> Any:
        """RGB frames (N, H, W, 3) uint8 of NV12, by two kernels; with float32 in between they are those of the host."""
        height, width = luma.shape[1:]
        colour: dict[str, Any] = {"matrix": front.matrix, "levels": front.levels, "dtype": "float32"}
        planes = ingest_nv12(luma, chroma, multiple=2, **colour, stream=stream)
        return egress(planes, height=height, width=width, stream=stream)

    def nv12_of(self, front: NV12, image: Any, luma: Any, chroma: Any, *, stream: int | None) -> None:
        """Write RGB frames (N, H, W, 3) uint8 as NV12, the same way."""
        height, width = luma.shape[1:]
        colour: dict[str, Any] = {"matrix": front.matrix, "levels": front.levels, "out": (luma, chroma)}
        planes = ingest(image, multiple=2, dtype="float32", stream=stream)
        egress_nv12(planes, height=height, width=width, **colour, stream=stream)
