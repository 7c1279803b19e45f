"""TensorRT and TensorRT-RTX: the kernels `ingest` and `egress` around a core engine, on one stream, in one CUDA graph.

No PyTorch: memory, streams and graphs are CuPy's, behind `gpu.CudaDevice`.
"""

from __future__ import annotations

import dataclasses
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bdflow_rt.engines.cache import EngineCache
from bdflow_rt.engines.engine import (
    batch_of,
    check_finite,
    check_inputs,
    closed,
    host_outputs,
    make_spec,
    run_error,
)
from bdflow_rt.engines.gpu import DEFAULT_STREAMS, CudaDevice, Graph, Stamp
from bdflow_rt.engines.gpu_job import GpuJob, Means, results_on
from bdflow_rt.engines.shaped import (
    WORKSPACE,
    Batch,
    Buffers,
    Shaped,
    check_extents,
    check_tensors,
    size_of,
    size_range,
    tensors_of,
)
from bdflow_rt.engines.tensorrt.library import LoadedEngine, load_library
from bdflow_rt.errors import (
    BackendError,
    BusyError,
    EngineMissingError,
    NonFiniteOutputError,
    shorten,
)
from bdflow_rt.options import Backend, Flavour, Precision
from bdflow_rt.zoo.card import ModelCard
from bdflow_rt.zoo.interface import Direction

MAX_SHAPES = 4
"""Sizes of input that are kept ready, each with a context and a graph; the one used longest ago goes first."""


class TensorRTEngine:
    """One direction of a model on an NVIDIA GPU.

    Not thread-safe: give each worker its own with `clone`, which shares the weights. Several jobs may be awaited.

    Args:
        card: of the model.
        direction: which graph the engine was built from.
        loaded: the engine.

    Attributes:
        graph_reason: why the last new size of input runs without a CUDA graph; None where it runs with one.

    Raises:
        EngineMismatchError: the engine is not of this model and direction.
    """

    def __init__(self, card: ModelCard, direction: Direction, loaded: LoadedEngine) -> None:
        self.backend: Backend = "tensorrt-rtx" if loaded.key.flavour == "tensorrt-rtx" else "tensorrt"
        self.direction = direction
        self.gpu = self._device = loaded.device
        self.graph_reason: str | None = None
        self._card = card
        check_tensors(loaded, card, direction)
        smallest, largest = size_range(loaded, card)
        spec = make_spec(card, direction, backend=self.backend, device=f"cuda:{self._device.index}")
        self.spec = dataclasses.replace(spec, smallest=smallest, largest=largest)
        self._shaped: OrderedDict[Batch, Shaped] = OrderedDict()
        self._loaded: LoadedEngine | None = loaded
        loaded.acquire()
        self._busy = threading.Lock()
        self._buffers = Buffers(self._device)
        with self._device.active():
            self._stream = self._device.new_stream()
        self._last: tuple[int, Stamp] | None = None
        self._means = Means(self._check_finite)

    def run(
        self, inputs: Mapping[str, NDArray[Any]], *, out: Mapping[str, NDArray[Any]] | None = None
    ) -> dict[str, NDArray[Any]]:
        with self._using() as loaded:
            check_inputs(self._card, self.direction, inputs)
            targets = host_outputs(self.spec, inputs, out)
            shaped = self._for(loaded, inputs)
            with self._settled_if_it_fails(self._stream):
                for name in shaped.inputs:
                    pinned = self._buffers.pinned(name, shaped.tensors[name])
                    np.copyto(pinned, inputs[name])
                    self._device.upload(pinned, self._buffers.view(name, shaped.tensors[name]), self._stream)
                self._execute(shaped, self._stream)
                found = self._downloaded(shaped)
            mean = float(found["mean"])
            for name, target in targets.items():
                np.copyto(target, found[name])
        self._check_finite(mean)
        return targets

    def submit(self, inputs: Mapping[str, Any], *, out: Mapping[str, Any] | None = None, stream: Any = None) -> GpuJob:
        """See `Engine.submit`. The first call of a new size does wait, for its CUDA graph to be captured and tried.

        Outputs that `out` does not have are made by the library of the first input. A result that is not finite raises
        NonFiniteOutputError where its job is waited for; of a job that is not, in one of the calls that follow, or in
        `check`.
        """
        with self._using() as loaded:
            self._means.look()
            leader = next(iter(inputs.values()), None)
            asked = self._device.stream_of(stream, leader)
            borrowed = {name: self._device.borrow(array, asked, name) for name, array in inputs.items()}
            check_inputs(self._card, self.direction, borrowed)
            shaped = self._for(loaded, borrowed)
            tensors = {name: shaped.tensors[name] for name in shaped.outputs}
            results, targets = results_on(self._device, tensors, out, leader=leader, stream=asked)
            # A graph cannot be captured on a default stream, and TensorRT would make the host wait there.
            working = self._stream if asked in DEFAULT_STREAMS else asked
            with self._settled_if_it_fails(working):
                self._follow(asked, working)
                for name in shaped.inputs:
                    self._device.copy(borrowed[name], self._buffers.view(name, shaped.tensors[name]), working)
                self._execute(shaped, working)
                for name, target in targets.items():
                    self._device.copy(self._buffers.view(name, shaped.tensors[name]), target, working)
                mean = self._device.pinned(4).view(np.float32)
                self._device.download(self._buffers.view("mean", shaped.tensors["mean"]), mean, working)
                job = GpuJob(results, self._device.stamp(working), self._finish)
                self._last = working, job.stamp
                self._follow(working, asked)
        return self._means.note(job, lambda: float(mean[0]), arrays=(inputs, results))

    def check(self) -> None:
        """Wait for all jobs, and raise if a result was not finite.

        Raises:
            NonFiniteOutputError, ClosedError, BusyError: as `run`.
        """
        with self._using():
            self._means.look(wait=True)

    def clone(self) -> TensorRTEngine:
        """Another engine for another worker, with contexts and buffers of its own and the same weights.

        Raises:
            ClosedError: this one was closed.
        """
        if self._loaded is None:
            raise closed(self._card, self.direction)
        return TensorRTEngine(self._card, self.direction, self._loaded)

    def release(self) -> None:
        if self._loaded is not None:
            with self._using():
                try:
                    self._means.look(wait=True)
                finally:
                    self._forget()

    def close(self) -> None:
        if self._loaded is None:
            return
        with self._using(wait=True) as loaded:
            with suppress(NonFiniteOutputError):  # of a job that nobody has kept
                self._means.look(wait=True)
            self._forget()
            self._device.stamp(self._stream).wait()
            self._device.end_stream(self._stream)
            self._loaded = None
            loaded.let_go()

    @contextmanager
    def _using(self, *, wait: bool = False) -> Iterator[LoadedEngine]:
        if not self._busy.acquire(blocking=wait):
            raise BusyError(
                f"The {self.direction} engine of {self._card.id} is running in another thread; give each its own with "
                "clone()."
            )
        try:
            if self._loaded is None:
                raise closed(self._card, self.direction)
            with self._device.active():
                yield self._loaded
        except (RuntimeError, MemoryError) as error:
            raise run_error(error, backend=self.backend, what=f"{self.direction} of {self._card.id}") from error
        finally:
            self._busy.release()

    @contextmanager
    def _settled_if_it_fails(self, stream: int) -> Iterator[None]:
        """Where work fails half-way, wait for what was begun: the next call takes the same buffers on any stream."""
        try:
            yield
        except BaseException:
            with suppress(RuntimeError):  # of a GPU that does nothing any more: the first error says why
                for begun in dict.fromkeys((stream, self._stream)):
                    self._device.stamp(begun).wait()
            raise

    def _for(self, loaded: LoadedEngine, inputs: Mapping[str, Any]) -> Shaped:
        """What is ready for these inputs, or made ready now; what still runs on another stream comes first."""
        batch = batch_of(self.spec, inputs)
        if batch in self._shaped:
            self._shaped.move_to_end(batch)
        else:
            tensors = tensors_of(self._card, self.direction, batch)
            check_extents(loaded, tensors, self._card)
            self._settle()
            while len(self._shaped) >= MAX_SHAPES:
                self._shaped.popitem(last=False)
            shaped = Shaped.make(loaded, tensors)
            sizes = {name: size_of(tensor) for name, tensor in tensors.items()} | {WORKSPACE: shaped.workspace_bytes}
            if not self._buffers.has_room(sizes):
                self._shaped.clear()  # their graphs hold the addresses of now
            self._buffers.fit(sizes)
            shaped.bind(self._buffers)
            self._shaped[batch] = shaped
        if self._last is not None:
            self._last[1].hold(self._stream)
        return self._shaped[batch]

    def _execute(self, shaped: Shaped, stream: int) -> None:
        """From the input buffers to the output buffers; the first time for a size, with a graph made for the next."""
        if shaped.graph is not None:
            shaped.graph.launch(stream)
            return
        self._enqueue(shaped, stream)
        if shaped.is_new:
            shaped.is_new = False
            if stream != self._stream:
                self._follow(stream, self._stream)
            shaped.graph, self.graph_reason = self._capture(shaped)
            shaped.loaded.save_compiled()
            if shaped.graph is None:  # the attempt has used the buffers
                self._enqueue(shaped, self._stream)
            self._device.stamp(self._stream).wait()

    def _enqueue(self, shaped: Shaped, stream: int) -> None:
        frames, planes = (self._buffers.view(name, shaped.tensors[name]) for name in ("image", "planes"))
        if self.direction == "downscale":
            self._device.ingest(frames, planes, multiple=self._card.interface.scale, stream=stream)
        if not shaped.context.execute_async_v3(stream):
            raise shaped.loaded.failure(f"failed in {self.direction} of {self._card.id}", BackendError)
        if self.direction != "downscale":
            self._device.egress(planes, frames, stream=stream)

    def _capture(self, shaped: Shaped) -> tuple[Graph | None, str | None]:
        """A graph that was seen to follow its input, or why there is none; the inputs stay as they are."""
        expected = _copies(self._downloaded(shaped))
        try:
            graph = self._device.capture(self._stream, lambda: self._enqueue(shaped, self._stream))
        except (RuntimeError, BackendError) as error:
            return None, f"the work cannot be captured as a CUDA graph: {shorten(error)}"
        main = shaped.inputs[0]
        content = self._buffers.view(main, shaped.tensors[main])
        self._device.invert(content, self._stream)
        graph.launch(self._stream)
        changed = _copies(self._downloaded(shaped))
        self._device.invert(content, self._stream)
        graph.launch(self._stream)
        if not any(np.any(changed[name] != expected[name]) for name in changed):
            return None, "the CUDA graph gave the same result for another picture"
        again = self._downloaded(shaped)
        if any(np.abs(again[name].astype(np.int16) - expected[name]).max() > 1 for name in shaped.outputs):
            return None, "the CUDA graph gave another result than the same work without it"
        return graph, None

    def _downloaded(self, shaped: Shaped) -> dict[str, NDArray[Any]]:
        """The outputs in pinned memory, when they are there."""
        tensors = {name: shaped.tensors[name] for name in (*shaped.outputs, "mean")}
        found = {name: self._buffers.pinned(name, tensor) for name, tensor in tensors.items()}
        for name, target in found.items():
            self._device.download(self._buffers.view(name, tensors[name]), target, self._stream)
        self._device.stamp(self._stream).wait()
        return found

    def _finish(self, job: GpuJob) -> None:
        """Wait for a job, and look at its mean; once the engine is closed, both have been."""
        try:
            self._means.finish(job)
        except RuntimeError as error:
            raise run_error(error, backend=self.backend, what=f"{self.direction} of {self._card.id}") from error

    def _check_finite(self, mean: float) -> None:
        check_finite(mean, backend=self.backend, model=self._card.id)

    def _follow(self, before: int, after: int) -> None:
        """Let a stream wait for what another has been given so far, and for this engine's last work."""
        if before != after:
            self._device.stamp(before).hold(after)
        if self._last is not None and self._last[0] != after:
            self._last[1].hold(after)

    def _settle(self) -> None:
        """Wait for the last work: what it uses is about to change."""
        if self._last is not None:
            self._last[1].wait()

    def _forget(self) -> None:
        self._settle()
        self._shaped.clear()
        self._last = None
        self._buffers.clear()


def open_tensorrt(
    card: ModelCard,
    direction: Direction,
    *,
    flavour: Flavour,
    index: int = 0,
    cache: EngineCache | None = None,
    device: CudaDevice | None = None,
) -> TensorRTEngine:
    """The engine for a model on this machine, from the cache.

    Args:
        card: of the model.
        direction: which one.
        flavour: which library.
        index: of the GPU.
        cache: None is this user's.
        device: None is the GPU of that index.

    Raises:
        BackendUnavailableError: no CUDA, driver, CuPy or library, or too old a library.
        EngineMissingError: the cache has no engine for this; says what it has instead, and how to build one.
        CacheTrustError, EngineMismatchError, EngineLoadError, OutOfMemoryError: it cannot be loaded.
        CorruptModelError, WeightsHashError: it was built without its weights, and they are missing or damaged.
    """
    library = load_library(flavour)
    device = CudaDevice(index) if device is None else device
    cache = EngineCache() if cache is None else cache
    expected = {
        "model": card.id,
        "identity": card.identity,
        "direction": direction,
        "kind": "core",
        "precision": "fp16",
        "flavour": flavour,
        "flavour_version": library.__version__,
        "gpu": device.name,
        "compute_capability": device.compute_capability,
    }
    cached = cache.find(expected)
    if cached is None:
        raise EngineMissingError(
            f"There is no {flavour} engine for {direction} of {card.id} on {device.name}: {cache.nearest(expected)}. "
            f"Build it: bdflow build {card.id} --flavour {flavour} --profile 1080p"
        )
    with device.active():
        loaded = LoadedEngine(cached, device=device, library=library, card=card, cache=cache)
    return TensorRTEngine(card, direction, loaded)


def open_engine(
    card: ModelCard, direction: Direction, *, backend: Flavour, device: str, precision: Precision, threads: int | None
) -> TensorRTEngine:
    """See `BackendInfo.open`; the engine was built in its precision, and uses no CPU threads."""
    return open_tensorrt(card, direction, flavour=backend, index=int(device.partition(":")[2] or 0))


def _copies(arrays: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    return {name: array.copy() for name, array in arrays.items()}
