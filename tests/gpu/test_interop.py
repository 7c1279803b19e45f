"""Arrays of other libraries in and out, streams, outputs of the caller, CUDA graphs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bdflow_rt.interop import as_cupy_stream
from tests.gpu.support import (
    FUNCTIONS,
    KERNEL_NODE,
    LIBRARIES,
    Capture,
    OnlyInterface,
    assert_results,
    empty_like_expected,
    frames,
    on_gpu,
    one_each,
    stall,
)

every_function = pytest.mark.parametrize("name", FUNCTIONS)


@every_function
@pytest.mark.parametrize("library", LIBRARIES)
def test_arrays_of_every_library_go_in_and_its_own_come_out(name: str, library: str) -> None:
    case = one_each()[name]
    if library == "torch":
        pytest.importorskip("torch")
    found = case(*(on_gpu(array, library) for array in case.inputs))
    module = "torch" if library == "torch" else "cupy"
    assert {type(one).__module__.partition(".")[0] for one in found} == {module}
    assert_results(case, found)


@every_function
@pytest.mark.parametrize("library", ["cupy", "torch"])
def test_the_callers_output_is_written_and_returned(name: str, library: str) -> None:
    case = one_each()[name]
    if library == "torch":
        pytest.importorskip("torch")
    outputs = empty_like_expected(case, library)
    found = case(*(on_gpu(array, library) for array in case.inputs), out=case.into(outputs))
    assert all(one is other for one, other in zip(found, outputs, strict=True))
    assert_results(case, found)


@every_function
def test_the_callers_output_may_be_of_another_library(name: str) -> None:
    case = one_each()[name]
    outputs = empty_like_expected(case)
    case(*(on_gpu(array) for array in case.inputs), out=case.into([OnlyInterface(one) for one in outputs]))
    assert_results(case, outputs)


@every_function
def test_with_an_output_nothing_is_allocated_by_cupy(name: str) -> None:
    import cupy

    class Count(cupy.cuda.MemoryHook):  # type: ignore[misc]
        name = "Count"
        allocations = 0

        def malloc_preprocess(self, **_: Any) -> None:
            self.allocations += 1

    case = one_each()[name]
    inputs, outputs = [on_gpu(array) for array in case.inputs], empty_like_expected(case)
    case(*inputs, out=case.into(outputs))
    with Count() as count:
        case(*inputs, out=case.into(outputs))
        assert count.allocations == 0
        cupy.empty(16)
        assert count.allocations == 1, "the hook sees allocations"


@every_function
def test_with_an_output_nothing_is_allocated_by_torch(name: str) -> None:
    torch = pytest.importorskip("torch")
    case = one_each()[name]
    inputs, outputs = [on_gpu(array, "torch") for array in case.inputs], empty_like_expected(case, "torch")
    case(*inputs, out=case.into(outputs))
    before = torch.cuda.memory_stats()["allocation.all.allocated"]
    case(*inputs, out=case.into(outputs))
    assert torch.cuda.memory_stats()["allocation.all.allocated"] == before


@every_function
def test_torchs_current_stream_orders_the_work(name: str) -> None:
    torch = pytest.importorskip("torch")
    case = one_each()[name]
    good = [on_gpu(array, "torch") for array in case.inputs]
    inputs = [torch.zeros_like(one) for one in good]
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):  # allocations and loading of modules wait for the GPU, so they come first
        warm = [one.clone() for one in case(*inputs)]
    torch.cuda.synchronize()
    del warm
    with torch.cuda.stream(side):
        stall(side.cuda_stream)
        for source, values in zip(inputs, good, strict=True):
            source.copy_(values)
        found = [one.clone() for one in case(*inputs)]
    assert not side.query(), "the host did not wait"
    side.synchronize()
    assert_results(case, found)


@every_function
def test_cupys_current_stream_orders_the_work(name: str) -> None:
    import cupy

    case = one_each()[name]
    good = [on_gpu(array) for array in case.inputs]
    inputs = [cupy.zeros_like(one) for one in good]
    side = cupy.cuda.Stream(non_blocking=True)
    with side:  # allocations and loading of modules wait for the GPU, so they come first
        warm = [one.copy() for one in case(*inputs)]
    cupy.cuda.runtime.deviceSynchronize()
    del warm
    with side:
        stall(side.ptr)
        for source, values in zip(inputs, good, strict=True):
            source.data.copy_from_device_async(values.data, values.nbytes, side)
        found = [one.copy() for one in case(*inputs)]
        assert not side.done, "the host did not wait"
    side.synchronize()
    assert_results(case, found)


@pytest.mark.parametrize("kind", ["cupy", "torch", "address"])
def test_an_explicit_stream_is_used(kind: str) -> None:
    import cupy

    torch = pytest.importorskip("torch")
    case = one_each()["haar_forward"]
    stream: Any = torch.cuda.Stream() if kind == "torch" else cupy.cuda.Stream(non_blocking=True)
    address = stream.cuda_stream if kind == "torch" else stream.ptr
    good = on_gpu(case.inputs[0])
    x, outputs = cupy.zeros_like(good), empty_like_expected(case)
    case(x, out=case.into(outputs))
    cupy.cuda.runtime.deviceSynchronize()
    stall(address)
    x.data.copy_from_device_async(good.data, good.nbytes, as_cupy_stream(address))
    case(x, out=case.into(outputs), stream=address if kind == "address" else stream)
    cupy.cuda.runtime.streamSynchronize(address)
    assert_results(case, outputs)


def test_an_explicit_stream_waits_for_what_torch_has_queued() -> None:
    torch = pytest.importorskip("torch")
    case = one_each()["haar_forward"]
    good = on_gpu(case.inputs[0], "torch")
    x = torch.zeros_like(good)
    producer, consumer = torch.cuda.Stream(), torch.cuda.Stream()
    case(x, stream=consumer)
    torch.cuda.synchronize()
    with torch.cuda.stream(producer):
        stall(producer.cuda_stream)
        x.copy_(good)
        found = case(x, stream=consumer)
        assert not producer.query(), "the host did not wait"
    consumer.synchronize()
    assert_results(case, found)


def test_an_explicit_stream_waits_for_what_cupy_has_queued() -> None:
    import cupy

    case = one_each()["haar_forward"]
    good = on_gpu(case.inputs[0])
    x = cupy.zeros_like(good)
    producer, consumer = cupy.cuda.Stream(non_blocking=True), cupy.cuda.Stream(non_blocking=True)
    case(x, stream=consumer)
    cupy.cuda.runtime.deviceSynchronize()
    with producer:
        stall(producer.ptr)
        x[...] = good
        found = case(x, stream=consumer)
        assert not producer.done, "the host did not wait"
    consumer.synchronize()
    assert_results(case, found)


def test_outputs_on_torchs_default_stream_use_the_memory_again() -> None:
    """`torch.cuda.ExternalStream(0)` is another stream each time, and each stream has memory of its own."""
    torch = pytest.importorskip("torch")
    case = one_each()["haar_forward"]
    x = on_gpu(case.inputs[0], "torch")
    case(x)
    reserved = torch.cuda.memory_reserved()
    for _ in range(64):
        case(x)
    assert torch.cuda.memory_reserved() == reserved


def test_the_stream_of_an_interface_is_waited_for() -> None:
    import cupy

    case = one_each()["boundary_mask"]
    good = on_gpu(case.inputs[0])
    x = cupy.zeros_like(good)
    producer, consumer = cupy.cuda.Stream(non_blocking=True), cupy.cuda.Stream(non_blocking=True)
    case(x, stream=consumer)
    cupy.cuda.runtime.deviceSynchronize()
    stall(producer.ptr)
    x.data.copy_from_device_async(good.data, good.nbytes, producer)
    found = case(OnlyInterface(x, stream=producer.ptr), stream=consumer)
    assert not producer.done, "the host did not wait"
    consumer.synchronize()
    assert_results(case, found)


@every_function
def test_one_launch_and_nothing_else_is_captured_in_a_graph_that_can_be_replayed(name: str) -> None:
    import cupy

    case = one_each()[name]
    inputs, outputs = [on_gpu(array) for array in case.inputs], empty_like_expected(case)
    case(*inputs, out=case.into(outputs))
    stream = cupy.cuda.Stream(non_blocking=True)
    cupy.cuda.runtime.deviceSynchronize()
    with stream:
        graph = Capture(stream.ptr, lambda: case(*inputs, out=case.into(outputs)))
    assert graph.node_types() == [KERNEL_NODE]
    changed = tuple(np.ascontiguousarray(array[::-1]) for array in case.inputs)
    for source, values in zip(inputs, changed, strict=True):
        source[...] = cupy.asarray(values)
    cupy.cuda.runtime.deviceSynchronize()
    graph.replay()
    assert_results(case, outputs, wanted=case(*changed))


@every_function
def test_torch_captures_the_launch_in_its_graphs(name: str) -> None:
    torch = pytest.importorskip("torch")
    case = one_each()[name]
    inputs = [on_gpu(array, "torch") for array in case.inputs]
    case(*inputs)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = case(*inputs)
    changed = tuple(np.ascontiguousarray(array[::-1]) for array in case.inputs)
    for source, values in zip(inputs, changed, strict=True):
        source.copy_(torch.from_numpy(values))
    graph.replay()
    assert_results(case, found, wanted=case(*changed))


def test_gradients_are_not_followed_but_not_refused_either() -> None:
    pytest.importorskip("torch")
    case = one_each()["haar_forward"]
    found = case(on_gpu(case.inputs[0], "torch").requires_grad_())
    assert not found[0].requires_grad
    assert_results(case, found)


def test_training_masks_on_the_gpu_equal_those_on_the_cpu() -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("bdflow_rt.training.boundary")
    from bdflow_rt.training.boundary import boundary_mask, sparse_boundary
    from bdflow_rt.zoo.boundary import BoundaryConfig

    x = torch.from_numpy(frames(3, 61, 47).transpose(0, 3, 1, 2).copy())
    for norm in (1, 2):
        config = BoundaryConfig(norm=norm)
        for bits in (1, 3):
            assert torch.equal(boundary_mask(x.cuda(), config, bits).cpu(), boundary_mask(x, config, bits))
        assert torch.equal(sparse_boundary(x.cuda(), config).cpu(), sparse_boundary(x, config))


PYCUDA = """
import numpy as np
import {context}
import pycuda.gpuarray
from bdflow_rt import kernels
from bdflow_rt.errors import DeviceMismatchError
x = np.random.default_rng(0).normal(size=(1, 3, 34, 46)).astype(np.float32)
source, target = pycuda.gpuarray.to_gpu(x), pycuda.gpuarray.zeros((1, 12, 17, 23), np.float32)
try:
    kernels.haar_forward(source, out=target)
    print(np.array_equal(target.get(), kernels.haar_forward(x)))
except DeviceMismatchError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("context", "said"), [("pycuda.autoprimaryctx", "True"), ("pycuda.autoinit", "not the GPU's primary one")]
)
def test_pycuda_works_in_the_primary_context_and_is_refused_in_its_own(context: str, said: str, tmp_path: Path) -> None:
    pytest.importorskip("pycuda", reason="PyCUDA is not installed")
    code = PYCUDA.format(context=context)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=True
    )
    assert said in done.stdout
