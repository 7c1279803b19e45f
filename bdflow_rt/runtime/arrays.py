"""Arrays where the engine works: the host's memory, or a GPU's. Only what lies on the same side meets."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

import numpy as np

from bdflow_rt.engines.engine import Engine, FinishedJob, Job, check_like, check_target
from bdflow_rt.engines.front import NV12
from bdflow_rt.engines.gpu import CudaDevice
from bdflow_rt.errors import OverlapError
from bdflow_rt.picture import to_grey
from bdflow_rt.runtime.pool import JointJob

T = TypeVar("T")
Shape = tuple[int, ...]
_UINT8 = np.dtype(np.uint8)


class Arrays(ABC):
    """What a runner does with arrays: NumPy's, or on a GPU CuPy's over the caller's memory, all of uint8."""

    @abstractmethod
    def active(self) -> AbstractContextManager[Any]:
        """Make the GPU the thread's current one, for all that follows."""

    @abstractmethod
    def on_stream(self) -> AbstractContextManager[Any]:
        """Work on the stream alone, once all of the caller's arrays were seen: what they wait for is on it then."""

    @abstractmethod
    def view(self, name: str, array: Any) -> Any:
        """A caller's array, as arrays are here; `name` is for messages."""

    @abstractmethod
    def target(self, name: str, array: Any, shape: Shape, *, beside: list[Any]) -> tuple[Any, Any]:
        """Where an output goes: an array for the caller, and its view.

        Args:
            name: of the output.
            array: the caller's; None makes one, on a GPU of the library of the first input.
            shape: that it has to have.
            beside: views whose memory it must not share.

        Raises:
            DTypeError, ShapeError, LayoutError, OverlapError, DeviceMismatchError: it does not suit.
        """

    @abstractmethod
    def empty(self, shape: Shape) -> Any:
        """A new array."""

    @abstractmethod
    def copy(self, source: Any, target: Any) -> None:
        """Copy, with the broadcasting of NumPy."""

    @abstractmethod
    def upload(self, array: Any) -> Any:
        """An array of the host's of any dtype, here."""

    @abstractmethod
    def to_grey(self, image: Any) -> None:
        """Set each channel of (H, W, 3) to their mean."""

    @abstractmethod
    def rgb_of(self, front: NV12, luma: Any, chroma: Any) -> Any:
        """The RGB picture (H, W, 3) of a frame."""

    @abstractmethod
    def nv12_of(self, front: NV12, image: Any, luma: Any, chroma: Any) -> None:
        """Write an RGB picture (H, W, 3) as luma and chroma."""

    @abstractmethod
    def is_direct(self, region: Any) -> bool:
        """Whether an engine can write to it."""

    @abstractmethod
    def run(self, engine: Engine, inputs: Mapping[str, Any], out: Mapping[str, Any]) -> None:
        """Run an engine; on a GPU, begin to."""

    @abstractmethod
    def job(self, outputs: T) -> Job[T]:
        """What has to end before outputs are there."""


class HostArrays(Arrays):
    """NumPy arrays; every run waits for its result."""

    def active(self) -> AbstractContextManager[Any]:
        return nullcontext()

    def on_stream(self) -> AbstractContextManager[Any]:
        return nullcontext()

    def view(self, name: str, array: Any) -> Any:
        return array

    def target(self, name: str, array: Any, shape: Shape, *, beside: list[Any]) -> tuple[Any, Any]:
        if array is None:
            array = self.empty(shape)
        else:
            check_target(name, array, shape, _UINT8, beside=beside)
        return array, array

    def empty(self, shape: Shape) -> Any:
        return np.empty(shape, _UINT8)

    def copy(self, source: Any, target: Any) -> None:
        np.copyto(target, source)

    def upload(self, array: Any) -> Any:
        return array

    def to_grey(self, image: Any) -> None:
        image[...] = to_grey(image)

    def rgb_of(self, front: NV12, luma: Any, chroma: Any) -> Any:
        return front.to_rgb(luma, chroma)

    def nv12_of(self, front: NV12, image: Any, luma: Any, chroma: Any) -> None:
        for plane, target in zip(front.from_rgb(image), (luma, chroma), strict=True):
            np.copyto(target, plane)

    def is_direct(self, region: Any) -> bool:
        return bool(region.flags.c_contiguous)

    def run(self, engine: Engine, inputs: Mapping[str, Any], out: Mapping[str, Any]) -> None:
        engine.run(inputs, out=out)

    def job(self, outputs: T) -> Job[T]:
        return FinishedJob(outputs)


class DeviceArrays(Arrays):
    """Arrays of one GPU, on one stream; the host waits for none of it.

    Args:
        device: the GPU.
        stream: of any library; None is the current one of the library of `leader`.
        leader: the caller's first array.

    Raises:
        ArgumentError, DeviceMismatchError: `stream` is no stream, or one of another GPU.
    """

    def __init__(self, device: CudaDevice, *, stream: Any, leader: Any) -> None:
        self._device, self._leader = device, leader
        self._stream = device.stream_of(stream, leader)
        self._jobs: list[Job[Any]] = []

    def active(self) -> AbstractContextManager[Any]:
        return self._device.active()

    def on_stream(self) -> AbstractContextManager[Any]:
        return self._device.on(self._stream)

    def view(self, name: str, array: Any) -> Any:
        return self._device.borrow(array, self._stream, name)

    def target(self, name: str, array: Any, shape: Shape, *, beside: list[Any]) -> tuple[Any, Any]:
        if array is None:
            array = self._device.empty_like(self._leader, shape, _UINT8, self._stream)
            return array, self._device.borrow(array, self._stream, name)
        view = self._device.borrow(array, self._stream, name, writable=True)
        check_like(name, view, shape, _UINT8)
        if any(self._device.overlap(view, other) for other in beside):
            raise OverlapError(f"out has {name} in the memory of another array. Give it memory of its own.")
        return array, view

    def empty(self, shape: Shape) -> Any:
        return self._device.empty_like(None, shape, _UINT8, self._stream)

    def copy(self, source: Any, target: Any) -> None:
        self._device.copy(source, target, self._stream)

    def upload(self, array: Any) -> Any:
        target = self._device.empty_like(None, array.shape, array.dtype, self._stream)
        self._device.upload(array, target, self._stream)
        return target

    def to_grey(self, image: Any) -> None:
        self._device.to_grey(image, self._stream)

    def rgb_of(self, front: NV12, luma: Any, chroma: Any) -> Any:
        return self._device.rgb_of(front, luma[None], chroma[None], stream=self._stream)[0]

    def nv12_of(self, front: NV12, image: Any, luma: Any, chroma: Any) -> None:
        self._device.nv12_of(front, image[None], luma[None], chroma[None], stream=self._stream)

    def is_direct(self, region: Any) -> bool:
        return True

    def run(self, engine: Engine, inputs: Mapping[str, Any], out: Mapping[str, Any]) -> None:
        self._jobs.append(engine.submit(inputs, out=out, stream=self._stream))

    def job(self, outputs: T) -> Job[T]:
        return JointJob(outputs, self._jobs, stamp=self._device.stamp(self._stream))
