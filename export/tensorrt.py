"""One builder of engines for TensorRT 10, TensorRT 11 and TensorRT-RTX.

The graph goes in with its types: networks are strongly typed, so float16 is where the graph says, and nowhere else.
That is proven on the parsed network before anything is built.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

import onnx

from bdflow_rt.cache import Blob
from bdflow_rt.engines.cache_entry import EngineKey
from bdflow_rt.engines.tensorrt.library import load_library
from bdflow_rt.errors import ArgumentError, CudaUnavailableError, EngineBuildError, EngineParseError, shorten
from bdflow_rt.export.dequantize import dequantize, learned_weights
from bdflow_rt.export.flavours import RTX_LACKS, Target, choose_target, flavour_logger
from bdflow_rt.export.onnx import read_graph
from bdflow_rt.export.precision import build_half_graph, check_precision
from bdflow_rt.export.profiles import Profile
from bdflow_rt.export.progress import BuildState, make_monitor, run_cancellable
from bdflow_rt.export.staging import staged_graph
from bdflow_rt.export.timing_cache import attach_timings
from bdflow_rt.options import Flavour, Progress
from bdflow_rt.zoo.card import ModelCard
from bdflow_rt.zoo.interface import Direction, GraphKind

if TYPE_CHECKING:
    import tensorrt
    import tensorrt_rtx

EnginePrecision = Literal["fp16", "fp32"]
HardwareCompatibility = Literal["ampere-plus", "same-capability"]
_LEVELS: dict[str, str] = {"ampere-plus": "AMPERE_PLUS", "same-capability": "SAME_COMPUTE_CAPABILITY"}
_MAX_LEVEL = 5
_MAX_WORKSPACE_MIB = 1 << 20


@dataclass(frozen=True)
class BuildOptions:
    """What is asked of the builder; None is TensorRT's own default.

    Attributes:
        precision: of the graph. "fp32" is for comparison.
        workspace_mib: limit of the memory that one layer may work in.
        optimization_level: 0 builds fastest, 5 looks longest for the fastest engine.
        version_compatible: runs in later versions too, and may be slower. It carries native code of its own, which the
            runtime has to be allowed to run.
        hardware_compatible: runs on other GPUs too, and may be slower.
        strip: leave the model's weights out of the plan; whoever loads it puts them in from the model. Haar transforms
            and other constants of the graph stay.
        compute_capabilities: to build for, as "8.9", where the flavour builds ahead of time.
        timing_cache: that of `timing_cache.timing_cache`.
    """

    precision: EnginePrecision = "fp16"
    workspace_mib: int | None = None
    optimization_level: int | None = None
    version_compatible: bool = False
    hardware_compatible: HardwareCompatibility | None = None
    strip: bool = False
    compute_capabilities: tuple[str, ...] = ()
    timing_cache: Blob | None = None

    def __post_init__(self) -> None:
        if self.precision not in get_args(EnginePrecision):
            raise ArgumentError(f"precision is {self.precision!r}; it must be fp16 or fp32.")
        if self.workspace_mib is not None and not 1 <= self.workspace_mib <= _MAX_WORKSPACE_MIB:
            raise ArgumentError(f"workspace_mib is {self.workspace_mib}; it must be from 1 to {_MAX_WORKSPACE_MIB}.")
        if self.optimization_level is not None and not 0 <= self.optimization_level <= _MAX_LEVEL:
            raise ArgumentError(f"optimization_level is {self.optimization_level}; it must be from 0 to {_MAX_LEVEL}.")
        if self.hardware_compatible is not None and self.hardware_compatible not in _LEVELS:
            raise ArgumentError(
                f"hardware_compatible is {self.hardware_compatible!r}; it must be one of {', '.join(_LEVELS)}, or None."
            )

    @property
    def flags(self) -> tuple[str, ...]:
        """All that changes the engine beyond what `EngineKey` has fields for."""
        flags = {
            "workspace-mib": self.workspace_mib,
            "optimization-level": self.optimization_level,
            "version-compatible": self.version_compatible or None,
            "hardware-compatible": self.hardware_compatible,
            "strip": self.strip or None,
        }
        return tuple(f"{name}={value}" for name, value in flags.items() if value is not None)


@dataclass(frozen=True)
class BuiltEngine:
    """A serialised engine.

    Attributes:
        plan: TensorRT's bytes.
        info: what it is and how it was made; plain JSON types.
    """

    plan: bytes
    info: dict[str, Any]


@dataclass(frozen=True)
class EngineBuild:
    """Everything decided, nothing built: `key` says where the engine belongs, `run` makes it.

    Attributes:
        card, direction, kind: of the model and its graph.
        flavour: what builds.
        version: of that.
        target: where the engine is to run.
        profile, options: as given.
        graph: what is parsed.
    """

    card: ModelCard
    direction: Direction
    kind: GraphKind
    flavour: Flavour
    version: str
    target: Target
    profile: Profile
    options: BuildOptions
    graph: onnx.ModelProto

    @classmethod
    def prepare(
        cls,
        card: ModelCard,
        direction: Direction,
        *,
        kind: GraphKind = "core",
        flavour: Flavour,
        profile: Profile,
        options: BuildOptions | None = None,
        say: Callable[[str], None] | None = None,
    ) -> EngineBuild:
        """Check what was asked for and make the graph of one engine; `run` builds it.

        Args:
            card: of the model.
            direction: of the graph.
            kind: core for the GPU engines, public for other programs.
            flavour: "tensorrt" builds on and for a GPU of this machine, "tensorrt-rtx" ahead of time and without one.
            profile: sizes that it is to take.
            options: None asks for float16 and nothing else.
            say: takes a sentence about calibration, as `calibrate` does.

        Raises:
            ArgumentError: unknown flavour, or an option that it does not have.
            BackendUnavailableError: the flavour is not installed, or too old (`BackendVersionError`).
            CudaUnavailableError: the flavour or an option needs a GPU.
            UnsupportedArchitectureError: it does not know the GPU.
            CorruptModelError, WeightsHashError: the model is damaged.
        """
        options = options or BuildOptions()
        if flavour not in get_args(Flavour):
            raise ArgumentError(f"flavour is {flavour!r:.100}; it must be one of {', '.join(get_args(Flavour))}.")
        for name, instead in RTX_LACKS.items() if flavour == "tensorrt-rtx" else ():
            if getattr(options, name):
                raise ArgumentError(f"Flavour {flavour} has no {name}. {instead}: leave the option out.")
        api = load_library(flavour)
        target = choose_target(
            flavour, api, capabilities=options.compute_capabilities, hardware_compatible=options.hardware_compatible
        )
        if options.strip and target.device is None:
            raise CudaUnavailableError(
                f"Flavour {flavour} {api.__version__} builds engines that take their weights later only where there "
                "is a GPU, for which it compiles what lays them out. Build there, or keep the weights in the engine."
            )
        card.check_weights()
        if options.precision == "fp16":
            graph = build_half_graph(card, direction, kind=kind, say=say)
        else:
            graph = dequantize(read_graph(card, direction, kind=kind), card)
        return cls(card, direction, kind, flavour, api.__version__, target, profile, options, graph)

    @property
    def key(self) -> EngineKey:
        """All that decides the engine."""
        return EngineKey(
            model=self.card.id,
            graph_sha256=hashlib.sha256(self.graph.SerializeToString(deterministic=True)).hexdigest(),
            identity=self.card.identity,
            direction=self.direction,
            kind=self.kind,
            flavour=self.flavour,
            flavour_version=self.version,
            gpu=self.target.gpu,
            compute_capability=self.target.compute_capability,
            profile=str(self.profile),
            precision=self.options.precision,
            builder_flags=self.options.flags,
        )

    def run(self, progress: Progress | None = None) -> BuiltEngine:
        """Build. Ctrl-C stops TensorRT at its next step; nothing is written here, so nothing is left behind.

        Args:
            progress: takes (done, total), from another thread.

        Raises:
            EngineParseError: TensorRT does not take a node; it is named.
            PrecisionError: the parsed network is not in the precision asked for.
            EngineBuildError: TensorRT cannot build, in its own words.
            CorruptModelError, WeightsHashError, DiskFullError: as `staged_graph`.
        """
        state = BuildState(progress)
        return run_cancellable(lambda: self._build(state), state)

    def _build(self, state: BuildState) -> BuiltEngine:
        api, options = load_library(self.flavour), self.options
        if self.target.device is not None:  # threads begin on device 0
            from cupy.cuda import runtime

            runtime.setDevice(self.target.device)
        started = time.perf_counter()
        with parsed_network(self.graph, self.card, api) as network:
            precision = (
                check_precision(network, self.card, self.graph).to_dict() if options.precision == "fp16" else None
            )
            builder: tensorrt.Builder = network.builder
            config = self._configure(api, builder, network)
            monitor = make_monitor(api, state)
            config.progress_monitor = monitor
            timings = attach_timings(config, options.timing_cache) if options.timing_cache else None
            logger = flavour_logger(api)
            logger.errors.clear()
            plan = builder.build_serialized_network(network, config)
            if plan is None:
                raise EngineBuildError(
                    f"{self.flavour} {self.version} cannot build the {self.direction} engine of {self.card.id} "
                    f"for {self.profile}: {_last_words(logger)}"
                )
            inputs = _describe(network, "input")
            outputs = _describe(network, "output")
            layers = network.num_layers
        if timings is not None and options.timing_cache:
            options.timing_cache.write(bytes(timings.serialize()))
        data = bytes(plan)
        return BuiltEngine(
            data,
            {
                "seconds": round(time.perf_counter() - started, 3),
                "plan_bytes": len(data),
                "layers": layers,
                "inputs": inputs,
                "outputs": outputs,
                "precision": precision,
            },
        )

    def _configure(
        self, api: Any, builder: tensorrt.Builder, network: tensorrt.INetworkDefinition
    ) -> tensorrt.IBuilderConfig:
        options, config = self.options, builder.create_builder_config()
        # TF32 keeps 10 bits of what a float32 convolution reads, and is on by default.
        config.clear_flag(api.BuilderFlag.TF32)
        # `bdflow inspect` shows the layers of an engine with their types and tactics.
        config.profiling_verbosity = api.ProfilingVerbosity.DETAILED
        if options.workspace_mib is not None:
            config.set_memory_pool_limit(api.MemoryPoolType.WORKSPACE, options.workspace_mib << 20)
        if options.optimization_level is not None:
            config.builder_optimization_level = options.optimization_level
        if options.version_compatible:
            config.set_flag(api.BuilderFlag.VERSION_COMPATIBLE)
        if options.hardware_compatible is not None:
            level = api.HardwareCompatibilityLevel.__members__[_LEVELS[options.hardware_compatible]]
            config.hardware_compatibility_level = level
        if options.strip:
            for name in learned_weights(self.graph, self.card):
                if not network.mark_weights_refittable(name):
                    raise EngineBuildError(
                        f"TensorRT does not know the weights {name!r} of the graph, so they cannot be left out. Build "
                        "without `strip`."
                    )
            config.set_flag(api.BuilderFlag.REFIT_INDIVIDUAL)
            config.set_flag(api.BuilderFlag.STRIP_PLAN)
        if self.target.capabilities:
            config_rtx = cast("tensorrt_rtx.IBuilderConfig", config)
            config_rtx.num_compute_capabilities = len(self.target.capabilities)
            for index, capability in enumerate(self.target.capabilities):
                member = api.ComputeCapability.__members__[f"SM{capability.replace('.', '')}"]
                config_rtx.set_compute_capability(member, index)
        names = [network.get_input(index).name for index in range(network.num_inputs)]
        sizes = builder.create_optimization_profile()
        for name, (low, best, high) in self.profile.shapes(self.card, names).items():
            sizes.set_shape(name, api.Dims(low), api.Dims(best), api.Dims(high))
        if config.add_optimization_profile(sizes) < 0:
            raise EngineBuildError(f"{self.flavour} {self.version} does not accept the sizes {self.profile}.")
        return config


@contextmanager
def parsed_network(graph: onnx.ModelProto, card: ModelCard, api: Any) -> Iterator[tensorrt.INetworkDefinition]:
    """Parse a graph into a strongly typed network.

    Args:
        graph: of `EngineBuild`: `build_half_graph`'s, or `read_graph`'s without int8.
        card: of the model.
        api: package of `load_library`.

    Raises:
        EngineParseError: TensorRT does not take a node.
        EngineBuildError: TensorRT's builder does not start.
        CorruptModelError, WeightsHashError, DiskFullError: as `staged_graph`.
    """
    logger = flavour_logger(api)
    logger.errors.clear()
    try:
        builder: tensorrt.Builder = api.Builder(logger)
    except (TypeError, RuntimeError) as error:  # what pybind11 makes of a null pointer
        raise EngineBuildError(
            f"The builder of {api.__name__} {api.__version__} does not start: {_last_words(logger)} `bdflow doctor` "
            "says what is missing."
        ) from error
    # Version 11 knows nothing else and ignores the flag.
    typed = 1 << int(api.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    network = builder.create_network(typed)
    parser: tensorrt.OnnxParser = api.OnnxParser(network, logger)
    with staged_graph(graph, card) as path:
        if not parser.parse_from_file(str(path)):
            raise EngineParseError(_parser_errors(parser, api, card))
    # The folder is gone, so that a build that is killed leaves none. The network's weights point into the parser's copy
    # or mapping of its files, which last without their names: the parser, this local, has to outlive the build.
    yield network


def _describe(network: Any, side: Literal["input", "output"]) -> dict[str, dict[str, Any]]:
    count, get = getattr(network, f"num_{side}s"), getattr(network, f"get_{side}")
    tensors = [get(index) for index in range(count)]
    return {one.name: {"dtype": one.dtype.name.lower(), "shape": list(one.shape)} for one in tensors}


def _parser_errors(parser: tensorrt.OnnxParser, api: Any, card: ModelCard) -> str:
    errors = [parser.get_error(index) for index in range(parser.num_errors)]
    found = [f"node {error.node_name()!r} ({error.node_operator()}): {shorten(error.desc())}" for error in errors]
    reasons = "; ".join(found[:3]) or "it does not say why"
    return (
        f"{api.__name__} {api.__version__} does not take the graph of {card.id}: {reasons}. "
        "If the model was made by this release of bdflow-rt, please report it."
    )


def _last_words(logger: Any) -> str:
    return f"{shorten((list(logger.errors) or ['it does not say why'])[-1])}."
