"""What is taken as a GPU array and as a stream; everything that needs no GPU. The rest is in tests/gpu."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch

from bdflow_rt.errors import ArgumentError, CudaUnavailableError, DeviceMismatchError
from bdflow_rt.interop import device_of, has_cuda, is_on_gpu, stream_address
from bdflow_rt.kernels import haar_forward
from tests.support import ROOT

needs_no_gpu = pytest.mark.skipif(has_cuda(), reason="shows what happens without a GPU, and one is here")


class Interface:
    """Speaks the CUDA array interface, as PyCUDA's arrays do."""

    def __init__(self, shape=(1, 3, 4, 4), address=0x7F0000000000):
        self.__cuda_array_interface__ = {
            "shape": shape, "typestr": "<f4", "data": (address, False), "version": 3, "strides": None,
        }  # fmt: skip


class OnDevice:
    """Speaks DLPack and says where it is."""

    def __init__(self, kind, index=0):
        self._device = kind, index

    def __dlpack_device__(self):
        return self._device


class Stream:
    def __init__(self, **attributes):
        self.__dict__.update(attributes)


class ProtocolStream:
    def __cuda_stream__(self):
        return 0, 77


def test_numpy_arrays_are_the_hosts_and_gpu_arrays_are_recognised_by_their_protocols():
    assert not is_on_gpu(np.zeros(3))
    assert is_on_gpu(Interface())
    assert is_on_gpu(OnDevice(2))
    assert is_on_gpu(OnDevice(13))


@pytest.mark.parametrize("array", [torch.zeros(3), OnDevice(1), OnDevice(10)])
def test_arrays_elsewhere_are_refused_with_the_way_out(array):
    with pytest.raises(DeviceMismatchError, match="Pass a NumPy array, or move it to the GPU"):
        is_on_gpu(array)


@pytest.mark.parametrize("value", [[1, 2], 3.0, None, "x", b"x"])
def test_what_is_no_array_is_refused(value):
    with pytest.raises(ArgumentError, match=r"frames is a .*; it must be a NumPy array"):
        is_on_gpu(value, name="frames")


@needs_no_gpu
@pytest.mark.parametrize("array", [Interface(), OnDevice(2)])
def test_a_gpu_array_without_a_driver_is_a_typed_error(array):
    with pytest.raises(CudaUnavailableError, match=r"driver|GPU"):
        device_of(array)
    with pytest.raises(CudaUnavailableError):
        haar_forward(array)


def test_a_gpu_array_without_cupy_is_a_typed_error_that_says_what_to_install():
    code = (
        "import sys; sys.modules['cupy'] = None\n"
        "from bdflow_rt.interop import require_cuda\n"
        "try: require_cuda()\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("CudaUnavailableError GPU arrays need CuPy")
    assert "pip install -e '.[cuda]'" in done.stdout


def test_host_and_gpu_arrays_do_not_mix():
    x = np.zeros((1, 3, 4, 4), np.float32)
    with pytest.raises(DeviceMismatchError, match="x is in the host's memory and out on the GPU"):
        haar_forward(x, out=Interface())
    with pytest.raises(DeviceMismatchError, match="x is on the GPU and out in the host's memory"):
        haar_forward(Interface(), out=x)


@pytest.mark.parametrize(
    ("stream", "address"),
    [
        (0, 0),
        (2, 2),
        (123456, 123456),
        (ProtocolStream(), 77),
        (Stream(ptr=5, device_id=1), 5),
        (Stream(ptr=0, device_id=-1), 0),
        (Stream(cuda_stream=6, device=torch.device("cuda", 1)), 6),
        (Stream(handle=7), 7),
    ],
)
def test_streams_of_every_library_become_addresses(stream, address):
    assert stream_address(stream, array=Interface(), device=1) == address


@pytest.mark.parametrize("stream", [Stream(ptr=5, device_id=1), Stream(cuda_stream=6, device=torch.device("cuda", 1))])
def test_a_stream_of_another_gpu_is_refused(stream):
    with pytest.raises(DeviceMismatchError, match="GPU 1, the arrays to GPU 0"):
        stream_address(stream, array=Interface(), device=0)


@pytest.mark.parametrize("stream", [-1, True, "0", 1.5, Stream(), object()])
def test_what_is_no_stream_is_refused(stream):
    with pytest.raises(ArgumentError, match="stream is"):
        stream_address(stream, array=Interface(), device=0)
