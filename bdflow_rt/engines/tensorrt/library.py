"""TensorRT and TensorRT-RTX as they are installed, and an engine of theirs in the GPU's memory.

One Python API serves both, and TensorRT 10 and 11: what is used here is in the 10.13 stubs and in the 11.4 and RTX 1.7
bindings. TensorRT-RTX alone compiles when an engine runs, and lets that be kept.
"""

from __future__ import annotations

import re
import threading
from typing import TYPE_CHECKING, Any

import numpy as np

from bdflow_rt.engines.backends import BACKENDS
from bdflow_rt.engines.cache import CachedEngine, EngineCache
from bdflow_rt.engines.cache_entry import EngineKey
from bdflow_rt.engines.gpu import CudaDevice
from bdflow_rt.engines.tensorrt.refit import put_weights
from bdflow_rt.errors import (
    BackendVersionError,
    EngineLoadError,
    EngineMismatchError,
    OutOfMemoryError,
    shorten,
)
from bdflow_rt.options import Flavour
from bdflow_rt.zoo.card import ModelCard

if TYPE_CHECKING:
    import tensorrt
    import tensorrt_rtx

OLDEST: dict[Flavour, tuple[int, int]] = {"tensorrt": (10, 13), "tensorrt-rtx": (1, 2)}
"""Execution contexts with memory of the caller's, sized for the shape at hand, and runtime configurations."""
_DTYPES = {"HALF": np.float16, "FLOAT": np.float32, "UINT8": np.uint8}
_MESSAGES_KEPT = 5
STRIPPED, VERSION_COMPATIBLE = "strip=True", "version-compatible=True"
"""Builder flags of a key that the runtime has to know."""

Extents = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]
"""Smallest, best and largest shape."""


def load_library(flavour: Flavour) -> Any:
    """Import TensorRT or TensorRT-RTX.

    Raises:
        BackendUnavailableError: it is not installed or does not load.
        BackendVersionError: it is too old.
    """
    library = BACKENDS[flavour].load()
    check_version(flavour, library.__version__)
    return library


def check_version(flavour: Flavour, version: str) -> None:
    """Raise BackendVersionError if the library is older than `OLDEST`."""
    numbers = re.match(r"(\d+)\.(\d+)", version)
    if numbers is None or (int(numbers[1]), int(numbers[2])) < OLDEST[flavour]:
        needed = ".".join(map(str, OLDEST[flavour]))
        raise BackendVersionError(
            f"{flavour} {version} is installed, and {needed} or newer is needed: {BACKENDS[flavour].install} --upgrade"
        )


class LoadedEngine:
    """An engine in the GPU's memory, shared by the contexts that run it.

    Args:
        cached: from the cache, which has checked its SHA-256.
        device: current one; the engine goes there.
        library: from `load_library`.
        card: of the model whose weights a stripped engine is given; without it, such an engine is refused.
        cache: where TensorRT-RTX's compiled kernels are kept; None keeps none.

    Raises:
        EngineMismatchError: it was built for another GPU, version or flavour, or stripped of its weights, and `card` is
            missing or of another identity.
        CorruptModelError, WeightsHashError: it was stripped, and the model's weights are missing or damaged.
        EngineLoadError: the library refuses it or its weights.
        OutOfMemoryError: the GPU has no room for its weights.
    """

    def __init__(
        self,
        cached: CachedEngine,
        *,
        device: CudaDevice,
        library: Any,
        card: ModelCard | None = None,
        cache: EngineCache | None = None,
    ) -> None:
        self.key = cached.sidecar.key
        self.device = device
        self._users = 0
        self._counting = threading.Lock()
        self._cache = cache
        _check_origin(self.key, device, library)
        is_stripped = STRIPPED in self.key.builder_flags
        if is_stripped and (card is None or card.identity != self.key.identity):
            raise EngineMismatchError(
                f"The {self.key} was stripped of its weights, which are not here: "
                f"{'no model was given to take them from' if card is None else f'this {card.id} is another model'}. "
                f"{_rebuild(self.key)}"
            )
        # In the order in which they must go where nobody calls `let_go`: Python drops attributes as they were made.
        self._compiled: Any = None
        self._config: Any = None
        self._engine: Any = None
        self._runtime: Any = None
        self._logger: Any = None
        self._logger = make_logger(library)
        runtime: tensorrt.Runtime = library.Runtime(self._logger)
        self._runtime = runtime
        if VERSION_COMPATIBLE in self.key.builder_flags:
            runtime.engine_host_code_allowed = True  # it was built here, and nobody has changed it since
        if self.key.flavour == "tensorrt-rtx":
            self._check_validity(library, cached.plan)
        self._engine = runtime.deserialize_cuda_engine(cached.plan)
        if self._engine is None:
            raise self.failure(f"refuses the {self.key}", EngineLoadError)
        if is_stripped and card is not None:
            put_weights(self._engine, card, library=library, logger=self._logger, failure=self.failure)
        self._read_tensors(library)
        self._strategy = library.ExecutionContextAllocationStrategy.USER_MANAGED
        self._saved = b""
        if self.key.flavour == "tensorrt-rtx":
            self._configure(library)

    def acquire(self) -> None:
        """Count one more user."""
        with self._counting:
            self._users += 1

    def let_go(self) -> None:
        """Count one user less, whose contexts are gone; the last one frees the engine, in the order of its parts."""
        with self._counting:
            self._users -= 1
            is_last = not self._users
        if is_last:
            try:
                self.save_compiled()
            finally:
                self._compiled = self._config = None
                self._engine = None
                self._runtime = None

    def new_context(self) -> tensorrt.IExecutionContext:
        """An execution context whose working memory the caller provides.

        Raises:
            EngineLoadError, OutOfMemoryError: the library makes none.
        """
        context: tensorrt.IExecutionContext | None
        if self._config is None:
            engine: tensorrt.ICudaEngine = self._engine
            context = engine.create_execution_context(self._strategy)
        else:
            engine_rtx: tensorrt_rtx.ICudaEngine = self._engine
            context = engine_rtx.create_execution_context(self._config)
        if context is None:
            raise self.failure(f"makes no execution context for the {self.key}", EngineLoadError)
        return context

    def save_compiled(self) -> None:
        """Keep what TensorRT-RTX has compiled since the last time beside the engine."""
        if self._compiled is None or self._cache is None:
            return
        compiled: tensorrt_rtx.IRuntimeCache = self._compiled
        data = bytes(compiled.serialize())
        if data != self._saved:
            self._cache.write_runtime_data(self.key.digest, data)
            self._saved = data

    def failure(self, what: str, kind: type[Exception], why: str = "") -> Exception:
        """The error for something the library did not do, with its own words for it where `why` has none."""
        text = why or "; ".join(self._logger.errors) or "it gave no reason"
        said = shorten(text)
        self._logger.errors.clear()
        if "out of memory" in text.lower():
            return OutOfMemoryError(
                f"Memory ran out on GPU {self.device.index} ({self.device.name}): {self.key.flavour} {what}: {said}. "
                "Close other programs on it, or lower memory_limit_mib."
            )
        return kind(f"{self.key.flavour} {self.key.flavour_version} {what}: {said}. {_rebuild(self.key)}")

    def _read_tensors(self, library: Any) -> None:
        self.inputs: dict[str, np.dtype[Any]] = {}
        self.outputs: dict[str, np.dtype[Any]] = {}
        self.extents: dict[str, Extents] = {}
        engine: tensorrt.ICudaEngine = self._engine
        for name in (engine.get_tensor_name(index) for index in range(engine.num_io_tensors)):
            dtype = _DTYPES.get(engine.get_tensor_dtype(name).name)
            if dtype is None or engine.get_tensor_location(name) != library.TensorLocation.DEVICE:
                raise EngineMismatchError(
                    f"The {self.key} has a tensor {name} that this release does not know. {_rebuild(self.key)}"
                )
            if engine.get_tensor_mode(name) == library.TensorIOMode.INPUT:
                self.inputs[name] = np.dtype(dtype)
                low, best, high = (tuple(shape) for shape in engine.get_tensor_profile_shape(name, 0))
                self.extents[name] = low, best, high
            else:
                self.outputs[name] = np.dtype(dtype)

    def _check_validity(self, library: Any, plan: bytes) -> None:
        runtime: tensorrt_rtx.Runtime = self._runtime
        validity, bits = runtime.get_engine_validity(plan)
        if validity == library.EngineValidity.INVALID:
            known = library.EngineInvalidityDiagnostics.__members__
            reasons = [name for name, member in known.items() if int(member) & bits]
            raise EngineMismatchError(
                f"TensorRT-RTX {library.__version__} cannot run the {self.key} on GPU {self.device.index} "
                f"({self.device.name}, compute capability {self.device.compute_capability}): "
                f"{', '.join(reasons) or 'no reason given'}. TensorRT-RTX runs on RTX GPUs (7.5, 8.x, 12.x) and not on "
                f"data-centre ones such as Hopper, which take --flavour tensorrt. {_rebuild(self.key)}"
            )

    def _configure(self, library: Any) -> None:
        engine: tensorrt_rtx.ICudaEngine = self._engine
        config = engine.create_runtime_config()
        config.set_execution_context_allocation_strategy(self._strategy)
        # Lazily compiled kernels would come after a graph has been captured, and never run in it.
        config.dynamic_shapes_kernel_specialization_strategy = library.DynamicShapesKernelSpecializationStrategy.EAGER
        config.cuda_graph_strategy = library.CudaGraphStrategy.DISABLED  # the graphs here hold the kernels around, too
        compiled = config.create_runtime_cache()
        self._config, self._compiled = config, compiled
        kept = self._cache.read_runtime_data(self.key.digest) if self._cache is not None else None
        # What another driver or GPU compiled is refused, and compiled anew.
        if kept is not None and compiled.deserialize(kept):
            self._saved = kept
        if not config.set_runtime_cache(compiled):
            raise self.failure("takes no runtime cache", EngineLoadError)


def _check_origin(key: EngineKey, device: CudaDevice, library: Any) -> None:
    if key.flavour_version != library.__version__:
        raise EngineMismatchError(
            f"The {key} was built by version {key.flavour_version}; {library.__version__} is installed. {_rebuild(key)}"
        )
    if not key.runs_on(device.name, device.compute_capability):
        raise EngineMismatchError(
            f"The {key} was built for GPU {key.gpu!r} and compute capability {key.compute_capability}; GPU "
            f"{device.index} is {device.name!r} with {device.compute_capability}. {_rebuild(key)}"
        )


def _rebuild(key: EngineKey) -> str:
    profile = key.profile.partition(": ")[0]
    return f"Build it anew: bdflow build {key.model} --flavour {key.flavour} --profile {profile}"


def make_logger(library: Any) -> Any:
    """An ILogger whose `errors` are what the library last said of that kind, for the message of what follows."""

    class Collector(library.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            library.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: Any, msg: str) -> None:
            if severity in (library.ILogger.ERROR, library.ILogger.INTERNAL_ERROR):
                # A new list: another thread may be reading this one.
                self.errors = [*self.errors, " ".join(str(msg).split())][-_MESSAGES_KEPT:]

    return Collector()
