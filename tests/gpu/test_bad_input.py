"""What cannot work on a GPU is a typed error before any launch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bdflow_rt import kernels
from bdflow_rt.errors import (
    ArgumentError,
    BdflowError,
    DeviceMismatchError,
    DTypeError,
    LayoutError,
    OverlapError,
    ShapeError,
)
from tests.gpu.support import FUNCTIONS, OnlyDLPack, OnlyInterface, empty_like_expected, on_gpu, one_each

every_function = pytest.mark.parametrize("name", FUNCTIONS)


class HostInterface:
    """NumPy's memory that says it is a GPU's."""

    def __init__(self, array: np.ndarray[Any, Any]) -> None:
        self._array = array
        self.__cuda_array_interface__ = {**array.__array_interface__, "version": 3, "strides": None}


@every_function
def test_a_host_pointer_that_says_it_is_the_gpus_is_refused(name: str) -> None:
    case = one_each()[name]
    with pytest.raises(DeviceMismatchError, match="in the host's memory"):
        case(*(HostInterface(array) for array in case.inputs))


@every_function
def test_numpy_and_gpu_arrays_do_not_mix(name: str) -> None:
    case = one_each()[name]
    with pytest.raises(DeviceMismatchError, match="in the host's memory"):
        case(*(on_gpu(array) for array in case.inputs), out=case.into(list(case.expected())))
    with pytest.raises(DeviceMismatchError, match="on the GPU"):
        case(*case.inputs, out=case.into(empty_like_expected(case)))


@every_function
@pytest.mark.parametrize(
    ("spoil", "error"),
    [
        (lambda one: one[..., :-1], ShapeError),
        (lambda one: one.astype("int64"), DTypeError),
        (lambda one: one.repeat(2, axis=-1)[..., ::2], LayoutError),
    ],
    ids=["shape", "dtype", "layout"],
)
def test_outputs_that_do_not_fit_are_refused_and_not_touched(name: str, spoil: Any, error: type[BdflowError]) -> None:
    case = one_each()[name]
    outputs = empty_like_expected(case)
    outputs[-1] = spoil(outputs[-1])
    with pytest.raises(error):
        case(*(on_gpu(array) for array in case.inputs), out=case.into(outputs))
    assert all((one == 77).all() for one in outputs)


@pytest.mark.parametrize("shared", ["whole", "last element"])
def test_overlapping_input_and_output_are_refused(shared: str) -> None:
    import cupy

    x = on_gpu(one_each()["haar_forward"].inputs[0])
    shape = (x.shape[0], 4 * x.shape[1], x.shape[2] // 2, x.shape[3] // 2)
    buffer = cupy.empty(2 * x.size, x.dtype)
    source = buffer[: x.size].reshape(x.shape)
    start = 0 if shared == "whole" else x.size - 1
    with pytest.raises(OverlapError):
        kernels.haar_forward(source, out=buffer[start : start + x.size].reshape(shape))
    kernels.haar_forward(source, out=buffer[x.size :].reshape(shape))


@pytest.mark.parametrize("stream", ["1", 1.5, True, -1, object()])
def test_what_is_no_stream_is_refused(stream: Any) -> None:
    case = one_each()["haar_forward"]
    with pytest.raises(ArgumentError, match="stream"):
        case(*(on_gpu(array) for array in case.inputs), stream=stream)


def test_outputs_that_are_or_may_be_read_only_are_refused() -> None:
    case = one_each()["haar_forward"]
    x, (out,) = on_gpu(case.inputs[0]), empty_like_expected(case)
    address = out.__cuda_array_interface__["data"][0]
    for protected in (OnlyInterface(out, data=(address, True)), OnlyDLPack(out)):
        with pytest.raises(LayoutError, match="read-only"):
            case(x, out=case.into([protected]))
    assert (out == 77).all()


def test_masked_interfaces_and_foreign_byte_order_are_refused() -> None:
    x = on_gpu(one_each()["haar_forward"].inputs[0])
    with pytest.raises(LayoutError, match="masked"):
        kernels.haar_forward(OnlyInterface(x, mask=x))
    with pytest.raises(LayoutError, match="byte order"):
        kernels.haar_forward(OnlyInterface(x, typestr=">f2"))


def test_torch_tensors_on_the_cpu_are_refused() -> None:
    torch = pytest.importorskip("torch")
    with pytest.raises(DeviceMismatchError, match="memory of the CPU"):
        kernels.haar_forward(torch.zeros(1, 3, 4, 4))


def test_arrays_and_streams_of_two_gpus_do_not_mix() -> None:
    import cupy

    if cupy.cuda.runtime.getDeviceCount() < 2:
        pytest.skip("needs two GPUs")
    case = one_each()["haar_forward"]
    inputs = [on_gpu(array) for array in case.inputs]
    with cupy.cuda.Device(1):
        outputs, stream = empty_like_expected(case), cupy.cuda.Stream(non_blocking=True)
    with pytest.raises(DeviceMismatchError, match="GPU 1"):
        case(*inputs, out=case.into(outputs))
    with pytest.raises(DeviceMismatchError, match="GPU 1"):
        case(*inputs, stream=stream)


def test_the_second_gpu_works_while_the_first_is_current() -> None:
    import cupy

    if cupy.cuda.runtime.getDeviceCount() < 2:
        pytest.skip("needs two GPUs")
    case = one_each()["haar_forward"]
    with cupy.cuda.Device(1):
        inputs = [on_gpu(array) for array in case.inputs]
    (found,) = case(*inputs)
    assert (found.device.id, cupy.cuda.runtime.getDevice()) == (1, 0)
    with cupy.cuda.Device(1):
        np.testing.assert_array_equal(found.get(), case.expected()[0])
