"""What `CudaDevice` does around CuPy's calls, with stand-ins for CuPy's streams: no GPU runs in these tests."""

from __future__ import annotations

import weakref
from typing import Any

import pytest

from bdflow_rt.engines import gpu
from bdflow_rt.engines.gpu import CudaDevice

cupy = pytest.importorskip("cupy")


class Stream:
    """A stream as CuPy has it: a capture in which something has failed cannot be ended either, but is over then."""

    def __init__(self, *, non_blocking: bool = True) -> None:
        self.ptr = id(self)
        self.is_capturing = False
        self.is_broken = False

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def begin_capture(self) -> None:
        self.is_capturing = True

    def end_capture(self) -> str:
        self.is_capturing = False
        if self.is_broken:
            raise RuntimeError("cudaErrorStreamCaptureInvalidated")
        return "graph"


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> CudaDevice:
    monkeypatch.setattr(gpu, "require_cuda", lambda: None)
    monkeypatch.setattr(cupy.cuda, "Stream", Stream)
    properties = {"name": b"GPU", "major": 8, "minor": 9}
    monkeypatch.setattr(cupy.cuda.runtime, "getDeviceCount", lambda: 1)
    monkeypatch.setattr(cupy.cuda.runtime, "getDeviceProperties", lambda index: properties)
    return CudaDevice()


@pytest.mark.parametrize("cause", [RuntimeError("cudaErrorStreamCaptureUnsupported"), KeyboardInterrupt()])
@pytest.mark.parametrize("is_broken", [True, False])
def test_a_capture_that_fails_says_why_and_is_over(
    device: CudaDevice, monkeypatch: pytest.MonkeyPatch, cause: BaseException, is_broken: bool
) -> None:
    stream = Stream()
    monkeypatch.setattr(gpu, "as_cupy_stream", lambda address: stream)

    def work() -> None:
        stream.is_broken = is_broken
        raise cause

    with pytest.raises(type(cause)) as caught:
        device.capture(1, work)
    assert caught.value is cause
    assert not stream.is_capturing


def test_a_capture_that_cannot_be_ended_says_so(device: CudaDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Stream()
    stream.is_broken = True
    monkeypatch.setattr(gpu, "as_cupy_stream", lambda address: stream)
    with pytest.raises(RuntimeError, match="Invalidated"):
        device.capture(1, lambda: None)


def test_a_stream_lives_until_it_is_given_back(device: CudaDevice) -> None:
    one, other = device.new_stream(), device.new_stream()
    held: Any = {address: weakref.ref(stream) for address, stream in device._streams.items()}
    device.end_stream(one)
    assert (held[one]() is None, held[other]() is None) == (True, False)
