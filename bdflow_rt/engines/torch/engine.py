"""The training-time modules as an engine: the reference the other backends are compared with, and in half precision the
way on a GPU where TensorRT is absent."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bdflow_rt.engines.engine import (
    FinishedJob,
    Job,
    batch_of,
    check_finite,
    check_inputs,
    closed,
    host_outputs,
    make_spec,
    run_error,
)
from bdflow_rt.engines.gpu import CudaDevice, Stamp
from bdflow_rt.engines.gpu_job import GpuJob, Means, results_on
from bdflow_rt.engines.torch.graph import GraphedWire
from bdflow_rt.engines.torch.settings import own_settings, torch_device
from bdflow_rt.errors import ArgumentError, NonFiniteOutputError
from bdflow_rt.fork import torch_threads
from bdflow_rt.interop import PER_THREAD_STREAM, as_cupy_stream, has_cuda, torch_stream
from bdflow_rt.models.io import load_model
from bdflow_rt.models.wire import Wire
from bdflow_rt.options import Backend, Precision
from bdflow_rt.zoo.card import ModelCard
from bdflow_rt.zoo.interface import Direction


class TorchEngine:
    """One direction of a model in PyTorch: eager float32, or on a GPU float16 in CUDA graphs.

    Args:
        card: of the model.
        direction: which of its public graphs to stand for.
        device: "cpu", "cuda" or "cuda:N".
        precision: "fp32", or on a GPU "fp16".
        threads: CPU threads while it runs; None leaves PyTorch's setting.

    Raises:
        BackendUnavailableError: there is no such device.
        CorruptModelError, WeightsHashError: the weights are missing, altered, or do not fit the card.
        OutOfMemoryError, BackendError: the device has no room for the weights, or fails.
    """

    backend: Backend = "torch"

    def __init__(
        self,
        card: ModelCard,
        direction: Direction,
        *,
        device: str = "cpu",
        precision: Precision = "fp32",
        threads: int | None = None,
    ) -> None:
        self.direction = direction
        self._card = card
        self._device, self._threads = torch_device(device), torch_threads(threads)
        on_gpu = self._device.type == "cuda" and has_cuda()  # without CuPy, it takes and gives host arrays there too
        self.gpu = CudaDevice(self._device.index or 0) if on_gpu else None
        self.spec = make_spec(card, direction, backend=self.backend, device=str(self._device) if on_gpu else "cpu")
        self._check = functools.partial(check_finite, backend=self.backend, model=card.id)
        self._means = Means(self._check)
        self._last: Stamp | None = None
        network = load_model(card)
        try:
            self._wire: Wire | None = Wire(network.to(self._device), direction)
            self._graphs = GraphedWire(network, direction) if precision == "fp16" else None
            if on_gpu:
                torch.cuda.synchronize(self._device)  # jobs come on streams that do not wait for this one
        except RuntimeError as error:
            raise run_error(error, backend=self.backend, what=f"loading {card.id}") from None

    def run(
        self, inputs: Mapping[str, NDArray[Any]], *, out: Mapping[str, NDArray[Any]] | None = None
    ) -> dict[str, NDArray[Any]]:
        wire, graphs = self._wire, self._graphs
        if wire is None:
            raise closed(self._card, self.direction)
        check_inputs(self._card, self.direction, inputs)
        targets = host_outputs(self.spec, inputs, out)
        self._settle()
        try:
            with own_settings(self._device, threads=self._threads):
                # Torch takes no negative strides, such as those of a flipped view.
                host = {name: torch.from_numpy(np.array(value, order="C")) for name, value in inputs.items()}
                if graphs is not None:
                    outputs = graphs.run(host)
                else:
                    outputs = wire({name: value.to(self._device) for name, value in host.items()})
                mean = float(outputs["mean"])
                for name, target in targets.items():
                    torch.from_numpy(target).copy_(outputs[name])
        except (RuntimeError, MemoryError) as error:
            raise run_error(error, backend=self.backend, what=f"{self.direction} of {self._card.id}") from None
        self._check(mean)
        return targets

    def submit(
        self, inputs: Mapping[str, Any], *, out: Mapping[str, Any] | None = None, stream: Any = None
    ) -> Job[dict[str, Any]]:
        """See `Engine.submit`; on a CPU it has ended when this returns."""
        wire, graphs, gpu = self._wire, self._graphs, self.gpu
        if wire is None:
            raise closed(self._card, self.direction)
        if gpu is None:
            return FinishedJob(self.run(inputs, out=out))
        self._means.look()
        leader = next(iter(inputs.values()), None)
        with gpu.active():
            address = gpu.stream_of(stream, leader)
            if address == PER_THREAD_STREAM:
                raise ArgumentError("PyTorch cannot work on CUDA's per-thread default stream (2). Pass another one.")
            borrowed = {name: gpu.borrow(array, address, name) for name, array in inputs.items()}
            check_inputs(self._card, self.direction, borrowed)
            tensors, batch = self._card.interface.tensors, batch_of(self.spec, borrowed)
            shapes = {
                name: (tensors[name].shape(batch, self.spec.scale), np.dtype(tensors[name].dtype))
                for name in self.spec.outputs
            }
            results, targets = results_on(gpu, shapes, out, leader=leader, stream=address)
            try:
                mean = self._enqueue(gpu, wire if graphs is None else graphs.run, borrowed, targets, address)
            except (RuntimeError, MemoryError) as error:
                raise run_error(error, backend=self.backend, what=f"{self.direction} of {self._card.id}") from None
            self._last = gpu.stamp(address)
        job = GpuJob(results, self._last, self._finish)
        return self._means.note(job, lambda: float(mean), arrays=(inputs, results))

    def _enqueue(
        self,
        gpu: CudaDevice,
        run: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]],
        inputs: dict[str, Any],
        targets: dict[str, Any],
        address: int,
    ) -> torch.Tensor:
        """Put a run on a stream, between arrays of CuPy; returns its mean, which will be in the host's memory."""
        if self._last is not None:  # graphs have inputs and outputs of their own
            self._last.hold(address)
        with (
            as_cupy_stream(address),
            own_settings(self._device, threads=self._threads),
            torch.cuda.stream(torch_stream(address, self._device)),
        ):
            found = {
                name: torch.utils.dlpack.from_dlpack(gpu.contiguous(array, address)) for name, array in inputs.items()
            }
            outputs = run(found)
            mean = torch.empty((), dtype=torch.float32, pin_memory=True)
            mean.copy_(outputs["mean"], non_blocking=True)
            for name, target in targets.items():
                gpu.copy(gpu.borrow(outputs[name], address, name), target, address)
        return mean

    def _settle(self) -> None:
        """Wait for the jobs of before: graphs have inputs, outputs and memory of their own."""
        if self._last is not None:
            self._last.wait()

    def _finish(self, job: GpuJob) -> None:
        try:
            self._means.finish(job)
        except RuntimeError as error:
            raise run_error(error, backend=self.backend, what=f"{self.direction} of {self._card.id}") from None

    def clone(self) -> TorchEngine:
        """See `Engine.clone`; graphs of CUDA are captured anew."""
        if self._wire is None:
            raise closed(self._card, self.direction)
        twin = copy.copy(self)
        twin._means, twin._last = Means(self._check), None
        if self._graphs is not None:
            twin._graphs = GraphedWire(self._wire.network, self.direction)
        return twin

    def release(self) -> None:
        """See `Engine.release`; of PyTorch's memory, what the graphs hold."""
        self._settle()
        if self._graphs is not None:
            self._graphs.release()

    def close(self) -> None:
        with suppress(NonFiniteOutputError):  # of a job that nobody has kept
            self._means.look(wait=True)
        self._wire = self._graphs = None


def open_engine(
    card: ModelCard, direction: Direction, *, backend: Backend, device: str, precision: Precision, threads: int | None
) -> TorchEngine:
    """See `BackendInfo.open`."""
    return TorchEngine(card, direction, device=device, precision=precision, threads=threads)
