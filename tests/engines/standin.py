"""A stand-in for TensorRT's runtime, to check how it is called. It is not here: nothing that passes with this says that
TensorRT has run.

`StandInLibrary` has the part of TensorRT's API that the engine uses, with its names and parameters; it computes with
OpenVINO on a `StandInDevice`, and raises `ContractError` where the real one would corrupt memory, crash, or be
undefined. Its engines are descriptions of ONNX files (`standin_plan`).
"""

from __future__ import annotations

import json
import threading
import weakref
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from bdflow_rt.engines.openvino import process_core
from tests.engines.standin_gpu import GARBAGE, ContractError, StandInDevice
from tests.engines.standin_refit import Refitter, Weights
from tests.engines.standin_types import (
    CudaGraphStrategy,
    DataType,
    DynamicShapesKernelSpecializationStrategy,
    EngineInvalidityDiagnostics,
    EngineValidity,
    ExecutionContextAllocationStrategy,
    ILogger,
    TensorIOMode,
    TensorLocation,
)

_TYPES = {"u8": DataType.UINT8, "f16": DataType.HALF, "f32": DataType.FLOAT, "i32": DataType.INT32}


def standin_plan(
    graph: Path, profile: dict[str, tuple[tuple[int, ...], ...]], *, stripped: Iterable[str] = ()
) -> bytes:
    """What the stand-in takes for an engine: a core graph, the smallest, best and largest shape of each input, and the
    initialisers whose values in the graph do not count: they have to be put in."""
    return json.dumps({"onnx": str(graph), "profile": profile, "stripped": list(stripped)}).encode()


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
        self.refuse: dict[str, str] = {}
        """Names of calls that do not work, and what is said then."""
        self.has_unnamed_weights = False
        self.runtime_blobs: list[bytes] = []
        self.validity: tuple[EngineValidity, int] = (EngineValidity.VALID, 0)
        self.contexts: weakref.WeakSet[IExecutionContext] = weakref.WeakSet()

    def Runtime(self, logger: Any) -> Runtime:
        return Runtime(self, logger)

    def Refitter(self, engine: Any, logger: Any) -> Refitter:
        return Refitter(self, engine, logger)

    def Weights(self, a: Any) -> Weights:
        return Weights(a)


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
        self._path, self.stripped = plan["onnx"], plan["stripped"]
        self.has_weights = not self.stripped
        self.compiled = _compiled(self._path)
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
        return _TYPES[self.ports[name].get_element_type().get_type_name()]

    def get_tensor_location(self, name: str) -> TensorLocation:
        return TensorLocation.DEVICE

    def get_tensor_profile_shape(self, name: str, profile_index: int) -> list[tuple[int, ...]]:
        return self.profile[name]

    def create_runtime_config(self) -> IRuntimeConfig:
        return IRuntimeConfig(self.library)

    def stored(self) -> dict[str, onnx.TensorProto]:
        """The initialisers that can be put in."""
        graph = onnx.load(self._path).graph
        return {tensor.name: tensor for tensor in graph.initializer if tensor.name in self.stripped}

    def refit(self, values: dict[str, NDArray[Any]]) -> None:
        """Compute with these from now on."""
        model = onnx.load(self._path)
        for tensor in model.graph.initializer:
            if tensor.name in values:
                tensor.CopyFrom(numpy_helper.from_array(values[tensor.name].reshape(tensor.dims), tensor.name))
        self.compiled = _compiled(model.SerializeToString())
        self.ports = {port.get_any_name(): port for port in (*self.compiled.inputs, *self.compiled.outputs)}
        self.has_weights = True

    def create_execution_context(self, strategy: Any) -> IExecutionContext:
        if not self.has_weights:
            raise ContractError("a context was made of an engine whose weights were not put in")
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
            if "execute_async_v3" in self._library.refuse:
                engine.runtime.error(self._library.refuse["execute_async_v3"])
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
            device.memory_at(*self._workspace)[:] = GARBAGE
        found = engine.compiled({name: arrays[name].copy() for name in engine.inputs})
        for port in engine.compiled.outputs:
            arrays[port.get_any_name()][...] = found[port]


def _compute(reference: weakref.ref[IExecutionContext], tensors: Any) -> None:
    context = reference()
    if context is None:
        raise ContractError("a context was freed while its work was waiting on a stream")
    context.compute(tensors)


def _compiled(graph: str | bytes) -> Any:
    core = process_core()
    return core.compile_model(core.read_model(graph), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})


def _zeros(port: Any, shapes: dict[str, tuple[int, ...]]) -> NDArray[Any]:
    return np.zeros(shapes[port.get_any_name()], port.get_element_type().to_dtype())
