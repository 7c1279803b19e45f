"""A stand-in for a GPU and for TensorRT's runtime, to check how they are called. Neither is here: nothing that passes
with these says that TensorRT has run.

`StandInDevice` is a GPU made of host memory whose streams do nothing until somebody waits for them, so that a copy
that is not waited for, or too early, gives wrong pixels. `StandInLibrary` has the part of TensorRT's API that
the engine uses, with its names and parameters; it computes with OpenVINO, and raises `ContractError` where the real one
would corrupt memory, crash, or be undefined. Its engines are descriptions of ONNX files (`standin_plan`).
"""

from __future__ import annotations

import ctypes
import enum
import json
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bdflow_rt.engines.openvino import process_core
from bdflow_rt.kernels import egress, ingest

_GARBAGE = 0xA5


class ContractError(AssertionError):
    """A call that the real API forbids."""


class StandInDevice:
    """A GPU of host memory; NumPy arrays stand for GPU arrays."""

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

    def new_stream(self) -> int:
        stream = 16 * (1 + len(self._queues))
        self._queues[stream], self._done[stream] = deque(), 0
        return stream

    def empty(self, size: int) -> NDArray[np.uint8]:
        whole = np.full(size + 256, _GARBAGE, np.uint8)
        start = -whole.ctypes.data % 256
        self._memory.append((whole.ctypes.data + start, size, weakref.ref(whole)))
        return whole[start : start + size]

    def view(self, memory: NDArray[np.uint8], shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        return memory[: int(np.prod(shape)) * dtype.itemsize].view(dtype).reshape(shape)

    def address(self, array: NDArray[Any]) -> int:
        return array.ctypes.data

    def pinned(self, size: int) -> NDArray[np.uint8]:
        return np.full(size, _GARBAGE, np.uint8)

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

    def borrow(self, array: Any, stream: int, name: str) -> Any:
        return array

    def stream_of(self, stream: Any, array: Any) -> int:
        return 0 if stream is None else int(stream)

    def empty_like(self, array: Any, shape: tuple[int, ...], dtype: np.dtype[Any], stream: int) -> NDArray[Any]:
        return np.full(shape, _GARBAGE, dtype)

    def ingest(self, frames: Any, planes: Any, *, multiple: int, stream: int) -> None:
        self.enqueue(stream, lambda: ingest(frames, multiple=multiple, out=planes))

    def egress(self, planes: Any, frames: Any, *, stream: int) -> None:
        self.enqueue(stream, lambda: egress(planes, out=frames))

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


class StandInStamp:
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


class StandInGraph:
    """Captured work; one with no steps gives what the last launch left, as a graph with stale addresses does."""

    def __init__(self, device: StandInDevice, steps: list[Callable[[], Any]]) -> None:
        self._device, self._steps = device, steps

    def launch(self, stream: int) -> None:
        self._device.launches += 1
        for step in self._steps:
            self._device.enqueue(stream, step)


def standin_plan(onnx: Path, profile: dict[str, tuple[tuple[int, ...], ...]]) -> bytes:
    """What the stand-in takes for an engine: a core graph and the smallest, best and largest shape of each input."""
    return json.dumps({"onnx": str(onnx), "profile": profile}).encode()


class TensorIOMode(enum.Enum):
    INPUT, OUTPUT = 1, 2


class TensorLocation(enum.Enum):
    DEVICE, HOST = 0, 1


class ExecutionContextAllocationStrategy(enum.Enum):
    STATIC, ON_PROFILE_CHANGE, USER_MANAGED = 0, 1, 2


class DynamicShapesKernelSpecializationStrategy(enum.Enum):
    LAZY, EAGER, NONE = 0, 1, 2


class CudaGraphStrategy(enum.Enum):
    DISABLED, WHOLE_GRAPH_CAPTURE = 0, 1


class EngineValidity(enum.Enum):
    VALID, SUBOPTIMAL, INVALID = 0, 1, 2


class EngineInvalidityDiagnostics(enum.IntFlag):
    VERSION_MISMATCH, UNSUPPORTED_CC = 1, 2


class ILogger:
    class Severity(enum.Enum):
        INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)

    def log(self, severity: Any, msg: str) -> None:
        raise NotImplementedError


class StandInLibrary:
    """What `import tensorrt` or `import tensorrt_rtx` gives, on a stand-in device."""

    TensorIOMode, TensorLocation = TensorIOMode, TensorLocation
    ExecutionContextAllocationStrategy = ExecutionContextAllocationStrategy
    DynamicShapesKernelSpecializationStrategy = DynamicShapesKernelSpecializationStrategy
    CudaGraphStrategy = CudaGraphStrategy
    EngineValidity, EngineInvalidityDiagnostics = EngineValidity, EngineInvalidityDiagnostics
    ILogger = ILogger

    def __init__(self, device: StandInDevice, version: str = "1.7.1.116") -> None:
        self.__version__ = version
        self.device = device
        self.violations: list[str] = []
        self.refuse_execution = ""
        self.runtime_blobs: list[bytes] = []
        self.validity: tuple[EngineValidity, int] = (EngineValidity.VALID, 0)
        self.contexts: weakref.WeakSet[IExecutionContext] = weakref.WeakSet()

    def Runtime(self, logger: Any) -> Runtime:
        return Runtime(self, logger)


class Runtime:
    def __init__(self, library: StandInLibrary, logger: ILogger) -> None:
        self._library, self._logger = library, weakref.ref(logger)
        self._engines: weakref.WeakSet[ICudaEngine] = weakref.WeakSet()
        self.engine_host_code_allowed = False

    def __del__(self) -> None:
        if len(self._engines):
            self._library.violations.append("a runtime was freed before its engine")

    def error(self, text: str) -> None:
        logger = self._logger()
        if logger is None:
            raise ContractError("the logger was freed before the runtime")
        logger.log(ILogger.Severity.ERROR, text)

    def get_engine_validity(self, buffer: bytes) -> tuple[EngineValidity, int]:
        return self._library.validity

    def deserialize_cuda_engine(self, serialized_engine: bytes) -> ICudaEngine | None:
        try:
            plan = json.loads(serialized_engine)
        except ValueError:
            self.error("Serialization assertion header.magicTag == kEXPECTED_MAGIC_TAG failed.")
            return None
        engine = ICudaEngine(self._library, self, plan)
        self._engines.add(engine)
        return engine


class ICudaEngine:
    def __init__(self, library: StandInLibrary, runtime: Runtime, plan: dict[str, Any]) -> None:
        self.library, self._runtime = library, weakref.ref(runtime)
        self.compiled = process_core().compile_model(plan["onnx"], "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        self.profile = {name: [tuple(shape) for shape in shapes] for name, shapes in plan["profile"].items()}
        self.ports = {port.get_any_name(): port for port in (*self.compiled.inputs, *self.compiled.outputs)}
        self.inputs = [port.get_any_name() for port in self.compiled.inputs]
        self._contexts: weakref.WeakSet[IExecutionContext] = weakref.WeakSet()
        self.num_io_tensors = len(self.ports)

    def __del__(self) -> None:
        if len(self._contexts):
            self.library.violations.append("an engine was freed before its contexts")

    @property
    def runtime(self) -> Runtime:
        runtime = self._runtime()
        if runtime is None:
            raise ContractError("the runtime was freed before the engine")
        return runtime

    def get_tensor_name(self, index: int) -> str:
        return list(self.ports)[index]

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return TensorIOMode.INPUT if name in self.inputs else TensorIOMode.OUTPUT

    def get_tensor_dtype(self, name: str) -> Any:
        names = {"u8": "UINT8", "f16": "HALF", "f32": "FLOAT", "i32": "INT32"}
        return SimpleNamespace(name=names[self.ports[name].get_element_type().get_type_name()])

    def get_tensor_location(self, name: str) -> TensorLocation:
        return TensorLocation.DEVICE

    def get_tensor_profile_shape(self, name: str, profile_index: int) -> list[tuple[int, ...]]:
        return self.profile[name]

    def create_runtime_config(self) -> IRuntimeConfig:
        return IRuntimeConfig(self.library)

    def create_execution_context(self, strategy: Any) -> IExecutionContext:
        config = strategy if isinstance(strategy, IRuntimeConfig) else None
        chosen = config.strategy if config else strategy
        if chosen is not ExecutionContextAllocationStrategy.USER_MANAGED:
            raise ContractError("set_device_memory is for contexts whose memory the caller manages")
        if config and config.dynamic_shapes_kernel_specialization_strategy.name == "LAZY":
            raise ContractError("a graph would keep the fall-back kernels for good")
        context = IExecutionContext(self, config)
        self._contexts.add(context)
        self.library.contexts.add(context)
        return context


class IRuntimeConfig:
    __slots__ = (
        "_cache",
        "_library",
        "cuda_graph_strategy",
        "dynamic_shapes_kernel_specialization_strategy",
        "strategy",
    )

    def __init__(self, library: StandInLibrary) -> None:
        self._library = library
        self._cache: IRuntimeCache | None = None
        self.strategy = ExecutionContextAllocationStrategy.STATIC
        self.cuda_graph_strategy = CudaGraphStrategy.DISABLED
        self.dynamic_shapes_kernel_specialization_strategy = DynamicShapesKernelSpecializationStrategy.LAZY

    def set_execution_context_allocation_strategy(self, strategy: ExecutionContextAllocationStrategy) -> None:
        self.strategy = strategy

    def create_runtime_cache(self) -> IRuntimeCache:
        return IRuntimeCache(self._library)

    def set_runtime_cache(self, cache: IRuntimeCache) -> bool:
        self._cache = cache
        return True

    def note(self, shape: str) -> None:
        """A kernel was compiled for a shape."""
        if self._cache is not None:
            self._cache.shapes.add(shape)


class IRuntimeCache:
    def __init__(self, library: StandInLibrary) -> None:
        self._library = library
        self.shapes: set[str] = set()

    def serialize(self) -> bytes:
        return json.dumps(sorted(self.shapes)).encode()

    def deserialize(self, blob: bytes) -> bool:
        self._library.runtime_blobs.append(bytes(blob))
        self.shapes |= set(json.loads(blob))
        return True


class IExecutionContext:
    def __init__(self, engine: ICudaEngine, config: IRuntimeConfig | None) -> None:
        self._engine = weakref.ref(engine)
        self._config = config
        self._library = engine.library
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._inferred: dict[str, tuple[int, ...]] = {}
        self._addresses: dict[str, int] = {}
        self._needed = 0
        self._workspace: tuple[int, int] | None = None
        self._captured = False
        self._using = threading.Lock()

    @property
    def engine(self) -> ICudaEngine:
        engine = self._engine()
        if engine is None:
            raise ContractError("the engine was freed before its context")
        engine.runtime.get_engine_validity(b"")
        return engine

    def _change(self) -> ICudaEngine:
        if self._captured:
            raise ContractError("a context from which a graph was captured was changed")
        return self.engine

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        engine = self._change()
        if self._addresses:
            raise ContractError("an input shape was set after an address")
        low, _, high = engine.profile[name]
        if not all(a <= b <= c for a, b, c in zip(low, shape, high, strict=True)):
            engine.runtime.error(f"{name} of shape {shape} is outside the optimization profile")
            return False
        self._shapes[name] = tuple(shape)
        return True

    def infer_shapes(self) -> list[str]:
        return [name for name in self.engine.inputs if name not in self._shapes]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        if self.infer_shapes():
            raise ContractError("a shape was asked for before those of the inputs were set")
        if not self._inferred:
            engine = self.engine
            zeros = {port.get_any_name(): _zeros(port, self._shapes) for port in engine.compiled.inputs}
            found = engine.compiled(zeros)
            outputs = {port.get_any_name(): tuple(found[port].shape) for port in engine.compiled.outputs}
            self._inferred = self._shapes | outputs
        return self._inferred[name]

    def update_device_memory_size_for_shapes(self) -> int:
        self._change()
        if self.infer_shapes():
            raise ContractError("memory was asked for before the input shapes were set")
        self._needed = 64 * int(np.prod(next(iter(self._shapes.values()))))
        return self._needed

    def set_device_memory(self, memory: int, size: int) -> None:
        self._change()
        if memory % 256 or size < self._needed:
            raise ContractError(
                f"working memory of {size} bytes at {memory:#x}; {self._needed} aligned ones are needed"
            )
        self._library.device.memory_at(memory, size)
        self._workspace = memory, size

    def set_tensor_address(self, name: str, memory: int) -> bool:
        engine = self._change()
        if self.infer_shapes():
            raise ContractError("an address was set before the input shapes")
        if type(memory) is not int or memory % 256:
            raise ContractError(f"the address of {name} is {memory!r}")
        if name not in engine.ports:
            return False
        self._addresses[name] = memory
        return True

    def execute_async_v3(self, stream_handle: int) -> bool:
        if not self._using.acquire(blocking=False):
            raise ContractError("two threads use one context")
        try:
            engine = self.engine
            if stream_handle in (0, 1, 2):
                raise ContractError("execution on a default stream makes the host wait")
            if missing := engine.ports.keys() - self._addresses.keys():
                raise ContractError(f"no address was set for {', '.join(sorted(missing))}")
            if self._workspace is None:
                raise ContractError("no working memory was set")
            if self._library.refuse_execution:
                engine.runtime.error(self._library.refuse_execution)
                return False
            if self._config is not None:
                self._config.note(repr(sorted(self._shapes.items())))
            self._captured |= self._library.device.capturing is not None
            tensors = {name: self._tensor(engine, name) for name in engine.ports}
            for address, shape, dtype in tensors.values():
                self._library.device.memory_at(address, int(np.prod(shape)) * dtype.itemsize)
            reference = weakref.ref(self)
            self._library.device.enqueue(stream_handle, lambda: _compute(reference, tensors))
            return True
        finally:
            self._using.release()

    def _tensor(self, engine: ICudaEngine, name: str) -> tuple[int, tuple[int, ...], np.dtype[Any]]:
        dtype = np.dtype(engine.ports[name].get_element_type().to_dtype())
        return self._addresses[name], self.get_tensor_shape(name), dtype

    def compute(self, tensors: dict[str, tuple[int, tuple[int, ...], np.dtype[Any]]]) -> None:
        """What the GPU does when the stream comes to it; all memory must still be there."""
        engine, device = self.engine, self._library.device
        arrays = {
            name: device.memory_at(address, int(np.prod(shape)) * dtype.itemsize).view(dtype).reshape(shape)
            for name, (address, shape, dtype) in tensors.items()
        }
        if self._workspace is not None:
            device.memory_at(*self._workspace)[:] = _GARBAGE
        found = engine.compiled({name: arrays[name].copy() for name in engine.inputs})
        for port in engine.compiled.outputs:
            arrays[port.get_any_name()][...] = found[port]


def _compute(reference: weakref.ref[IExecutionContext], tensors: Any) -> None:
    context = reference()
    if context is None:
        raise ContractError("a context was freed while its work was waiting on a stream")
    context.compute(tensors)


def _zeros(port: Any, shapes: dict[str, tuple[int, ...]]) -> NDArray[Any]:
    return np.zeros(shapes[port.get_any_name()], port.get_element_type().to_dtype())
