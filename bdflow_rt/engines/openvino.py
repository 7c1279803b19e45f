"""OpenVINO on the CPU: the public graphs as they are, in float32 unless the card allows bfloat16."""

from __future__ import annotations

import copy
import ctypes
import functools
import os
import threading
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bdflow_rt.engines.backends import BACKENDS
from bdflow_rt.engines.engine import (
    busy,
    check_finite,
    check_inputs,
    closed,
    host_outputs,
    make_spec,
    run_error,
)
from bdflow_rt.errors import (
    BackendError,
    BackendUnavailableError,
    CorruptModelError,
    NonFiniteOutputError,
    shorten,
)
from bdflow_rt.options import Backend, Precision
from bdflow_rt.quiet import import_quietly
from bdflow_rt.zoo.card import ModelCard
from bdflow_rt.zoo.interface import Direction

if TYPE_CHECKING:
    import openvino

FLEXIBLE_PIXELS = 1 << 18
"""Inputs of fewer HR pixels share one graph compiled for all shapes; it takes at most 128 MiB (paper's networks).

For larger ones the graph is compiled for their very shape. That takes 0.1 to 0.4 s and pays: OpenVINO then plans its
buffers and fuses element-wise chains, and needs 40 % of the memory and 90 % of the time. The choice hangs on the shape
alone, so that a picture gives the same pixels every time.
"""
_CACHED_PRIMITIVES = "64"
"""Compiled primitives that the graph for all shapes keeps, those of the last few shapes: about 10 MiB.

OpenVINO's default of 5,000 takes 2 to 4 MiB more for every new shape, past a GiB. With none kept, two sizes in turn
take 20 to 30 % longer. No list of OpenVINO's has this property; a release that drops it refuses to compile the graph.
"""
_POLL_MS = 100
_first = threading.Lock()
_HINT = "INFERENCE_PRECISION_HINT"
_HINTS: dict[Precision, str] = {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}


def process_core() -> openvino.Core:
    """The process's one OpenVINO, never let go: when the last goes, its CPU plugin frees the thread's signal stack, and
    the next signal with a Python handler crashes the process (seen with 2026.4).

    Raises:
        ForkedProcessError: this process was forked from one that had used OpenVINO.
    """
    BACKENDS["openvino"].enter()
    with _first:
        return _core()


@functools.cache
def _core() -> openvino.Core:
    module = import_quietly("openvino")
    # Two threads that are the first to ask for a type wait for each other for ever: one has C++'s lock for the table of
    # types and waits for Python's, the other the reverse (seen with 2026.4). So the tables are made here.
    module.Type.f32.to_dtype()
    module.Tensor(np.zeros(1, np.uint8))
    return module.Core()


def _after_fork() -> None:
    """Keep the parent's OpenVINO beyond the child's end: its destructor waits for the parent's threads."""
    if _core.cache_info().currsize:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(_core()))


if hasattr(os, "register_at_fork"):  # absent where there is no fork
    os.register_at_fork(after_in_child=_after_fork)


class OpenVINOEngine:
    """One direction of a model on the CPU.

    Args:
        card: of the model; its graph and weights are checked against their hashes before they are read.
        direction: which graph.
        precision: of the convolutions.
        threads: CPU threads; None leaves it to OpenVINO (all cores).

    Raises:
        CorruptModelError, WeightsHashError: the model's files are missing, altered, or not of one another.
        BackendError: OpenVINO cannot read the graph.
    """

    backend: Backend = "openvino"
    gpu = None

    def __init__(
        self, card: ModelCard, direction: Direction, *, precision: Precision = "fp32", threads: int | None = None
    ) -> None:
        self.direction = direction
        self.spec = make_spec(card, direction, backend=self.backend, device="cpu")
        self._card = card
        self._precision = precision
        # OpenVINO follows no link out of the graph's folder, and some installers make site-packages of links.
        path = card.check_graph(direction).resolve()
        card.check_weights()
        # OpenVINO computes in bfloat16 of its own accord where the CPU can; the pixels promised are float32's.
        self._options: dict[str, Any] = {
            _HINT: _HINTS[precision],
            "PERFORMANCE_HINT": "LATENCY",
            # Pinned, the threads of every engine and process begin at the same core: two of one thread took turns.
            "ENABLE_CPU_PINNING": False,
        }
        if threads is not None:
            self._options["INFERENCE_NUM_THREADS"] = threads
        self._core = process_core()
        try:
            model = self._core.read_model(str(path))
        except RuntimeError as error:
            raise BackendError(f"OpenVINO cannot read {path}: {shorten(error)}") from None
        _check_origin(model, card, direction)
        self._model: openvino.Model | None = model
        self._flexible: openvino.InferRequest | None = None
        self._fixed: openvino.InferRequest | None = None
        self._fixed_shapes: dict[str, tuple[int, ...]] = {}
        self._job: _Job | None = None

    def run(
        self, inputs: Mapping[str, NDArray[Any]], *, out: Mapping[str, NDArray[Any]] | None = None
    ) -> dict[str, NDArray[Any]]:
        job = self.submit(inputs, out=out)
        try:
            return job.wait()
        finally:
            self.end_job()

    def submit(self, inputs: Mapping[str, Any], *, out: Mapping[str, Any] | None = None, stream: Any = None) -> _Job:
        model = self._model
        if model is None:
            raise closed(self._card, self.direction)
        if self._job is not None and not self._job.is_over:
            raise busy(self._card, self.direction)
        check_inputs(self._card, self.direction, inputs)
        outputs = host_outputs(self.spec, inputs, out)
        arrays = {name: np.ascontiguousarray(value) for name, value in inputs.items()}
        try:
            request = self._request_for(model, {name: value.shape for name, value in arrays.items()})
            job = _Job(request, dict(arrays), outputs, what=f"{self.direction} of {self._card.id}", model=self._card.id)
            self._job = job  # before it starts: an interrupt must not free the inputs that it reads
            request.start_async(arrays, share_inputs=True)
        except (RuntimeError, MemoryError) as error:
            self._job = None
            raise run_error(error, backend=self.backend, what=f"{self.direction} of {self._card.id}") from None
        if self._model is None:  # closed in another thread, whose cancel may have come before the start
            request.cancel()
            with suppress(RuntimeError):
                request.wait()
            job.cancel(closed(self._card, self.direction))
        return job

    def end_job(self) -> None:
        """Let the last job and its arrays go; one that is still running ends."""
        job, self._job = self._job, None
        if job is not None:
            job.cancel(closed(self._card, self.direction))

    def clone(self) -> OpenVINOEngine:
        """See `Engine.clone`; with the CPU threads of this one, so that both take twice as many."""
        if self._model is None:
            raise closed(self._card, self.direction)
        twin = copy.copy(self)
        twin._flexible, twin._fixed, twin._fixed_shapes, twin._job = None, None, {}, None
        return twin

    def release(self) -> None:
        for request in (self._flexible, self._fixed):
            if request is not None:
                request.get_compiled_model().release_memory()

    def close(self) -> None:
        self._model = None
        self.end_job()
        self._flexible = self._fixed = None

    def _request_for(self, model: openvino.Model, shapes: dict[str, tuple[int, ...]]) -> openvino.InferRequest:
        is_down = self.direction == "downscale"
        n, h, w = shapes["image" if is_down else "lr"][:3]
        pixels = n * h * w * (1 if is_down else self._card.interface.scale**2)
        # Another thread may close the engine meanwhile, so that what was just made is not there any more.
        if pixels < FLEXIBLE_PIXELS:
            request = self._flexible
            if request is None:
                request = self._flexible = self._compile(model, CPU_RUNTIME_CACHE_CAPACITY=_CACHED_PRIMITIVES)
            return request
        request = self._fixed if self._fixed_shapes == shapes else None
        if request is None:
            self._fixed = None  # gives its memory back before the next one takes its own
            model = model.clone()
            model.reshape(shapes)
            request = self._fixed = self._compile(model)
            self._fixed_shapes = shapes
        return request

    def _compile(self, model: openvino.Model, **options: str) -> openvino.InferRequest:
        compiled = self._core.compile_model(model, "CPU", {**self._options, **options})
        found = compiled.get_property(_HINT).to_string()
        if found != _HINTS[self._precision]:  # where the processor lacks bfloat16, OpenVINO says nothing
            raise BackendUnavailableError(
                f"precision={self._precision!r} was asked for, but OpenVINO computes in {found} on this processor. Use "
                "precision='fp32', which gives the pixels that were promised."
            )
        return compiled.create_infer_request()


class _Job:
    """A request that has been started; its inputs stay alive with it."""

    def __init__(
        self,
        request: openvino.InferRequest,
        inputs: dict[str, NDArray[Any]],
        outputs: dict[str, NDArray[Any]],
        *,
        what: str,
        model: str,
    ) -> None:
        self.outputs = outputs
        self.is_over = False
        self._request: openvino.InferRequest | None = request
        self._inputs = inputs
        self._what, self._model = what, model
        self._error: Exception | None = None

    def done(self) -> bool:
        request = self._request
        return request is None or request.wait_for(0)

    def wait(self) -> dict[str, NDArray[Any]]:
        request = self._request
        if request is not None:
            try:
                # Python's handlers of signals run between the polls.
                while not request.wait_for(_POLL_MS):
                    pass
                request.wait()  # raises what went wrong
                self._take(request)
            except (RuntimeError, MemoryError) as error:
                self._end(self._error or run_error(error, backend="openvino", what=self._what))
            except NonFiniteOutputError as error:
                self._end(error)
            except BaseException:  # Ctrl-C and SIGTERM
                self.cancel(BackendError(f"The {self._what} was interrupted."))
                raise
            else:
                self._end(self._error)
        if self._error is not None:
            raise self._error
        return self.outputs

    def cancel(self, error: Exception) -> None:
        """End the work where it is; waiting for it, in another thread as well, raises the error."""
        request = self._request
        if request is not None:
            self._error = error
            request.cancel()
            with suppress(RuntimeError):  # says that it was cancelled
                request.wait()
            self._end(error)

    def _take(self, request: openvino.InferRequest) -> None:
        check_finite(float(request.get_tensor("mean").data), backend="openvino", model=self._model)
        for name, target in self.outputs.items():
            np.copyto(target, request.get_tensor(name).data)

    def _end(self, error: Exception | None) -> None:
        self._error, self.is_over, self._request = error, True, None
        self._inputs.clear()


def open_engine(
    card: ModelCard, direction: Direction, *, backend: Backend, device: str, precision: Precision, threads: int | None
) -> OpenVINOEngine:
    """See `BackendInfo.open`."""
    return OpenVINOEngine(card, direction, precision=precision, threads=threads)


def _check_origin(model: openvino.Model, card: ModelCard, direction: Direction) -> None:
    """Refuse a graph that was exported for other weights: its references would read numbers of the wrong places.

    This is about files that were mixed up. A card made to do harm can name any graph with its true hash, and that
    graph any weights: model folders are to be trusted as a whole.
    """
    key = ["framework", "weights_sha256"]  # where OpenVINO keeps the metadata of an ONNX file
    found = model.get_rt_info(key).astype(str) if model.has_rt_info(key) else "unknown"
    if found != card.weights_sha256:
        raise CorruptModelError(
            f"{card.graph_path(direction)} was exported for weights {found[:16]}, but those of {card.id} are "
            f"{card.weights_sha256[:16]}. `bdflow export {card.folder}` makes the graph anew."
        )
