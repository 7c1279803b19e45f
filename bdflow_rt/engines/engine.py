"""The protocol every backend implements."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from bdflow_rt.engines.backends import BACKENDS
from bdflow_rt.errors import (
    ArgumentError,
    BackendError,
    BusyError,
    ClosedError,
    DTypeError,
    LayoutError,
    NonFiniteOutputError,
    OutOfMemoryError,
    OverlapError,
    ShapeError,
    shorten,
)
from bdflow_rt.options import Backend
from bdflow_rt.zoo.card import ModelCard
from bdflow_rt.zoo.interface import Direction, TensorSpec

if TYPE_CHECKING:
    from bdflow_rt.engines.gpu import CudaDevice

T_co = TypeVar("T_co", covariant=True)
_MEMORY_WORDS = (
    "out of memory", "can't allocate memory", "failed to allocate", "bad_alloc", "alloc_failed", "allocation_failed",
)  # fmt: skip
"""In the messages of PyTorch, cuDNN and OpenVINO, which raise no class of its own for it, or not always."""


@dataclass(frozen=True)
class EngineSpec:
    """What an engine takes and gives.

    Attributes:
        inputs, outputs: of the model's public graph, by name, without `mean`; H and W are multiples of the scale.
        scale: HR pixels per LR pixel, to each side.
        device: where it computes, and where the arrays of `submit` are: "cpu" or "cuda:N".
        bytes_per_lr_pixel: upper estimate of the working memory.
        smallest, largest: (N, h, w) that it takes, h and w in LR pixels; None is no limit.
    """

    inputs: dict[str, TensorSpec]
    outputs: dict[str, TensorSpec]
    scale: int
    device: str
    bytes_per_lr_pixel: int
    smallest: tuple[int, int, int] = (1, 1, 1)
    largest: tuple[int, int, int] | None = None


class Job(Protocol[T_co]):
    """A picture in progress, or an engine's run.

    Attributes:
        outputs: the result. Arrays of a GPU may be used at once by later work on the job's stream; results in the
            host's memory are complete after `wait`.
    """

    @property
    def outputs(self) -> T_co: ...

    def done(self) -> bool:
        """Whether the job has ended, with a result or an error; does not wait."""
        ...

    def wait(self) -> T_co:
        """Wait for the end of the job, and return its outputs.

        Ctrl-C and SIGTERM end the wait, and also OpenVINO's work if the job is an engine's run. The workers of a
        `Rescaler` stop when it is closed, as at the end of its `with` block.

        Raises:
            The error of the job, at every call; ClosedError: the job was cancelled, since its engine or `Rescaler` was
            closed.
        """
        ...


class Engine(Protocol):
    """One direction of one model, ready to run on whole arrays.

    Not thread-safe but for `close`, and one job at a time: `clone` gives another worker its own.

    Attributes:
        gpu: on which `submit` takes arrays; None where it takes the host's.
    """

    backend: Backend
    direction: Direction
    spec: EngineSpec
    gpu: CudaDevice | None

    def run(
        self, inputs: Mapping[str, NDArray[Any]], *, out: Mapping[str, NDArray[Any]] | None = None
    ) -> dict[str, NDArray[Any]]:
        """Run once on NumPy arrays, of any strides.

        Args:
            inputs: by name, as `spec` has them.
            out: contiguous arrays to write to, by output; where there is none, a new one is made, the caller's own.

        Returns:
            The outputs by name.

        Raises:
            ArgumentError, DTypeError, ShapeError: the inputs, or those of `out`, are not those of `spec`.
            LayoutError, OverlapError: an array of `out` cannot be written to as it is, or is an input as well.
            BusyError: a job has not been waited for.
            ClosedError: the engine was closed.
            OutOfMemoryError: there was no memory for inputs of this size; smaller ones may run.
            OutsideProfileError: it was not built for inputs of this size.
            BackendUnavailableError: this machine cannot run the precision asked for.
            BackendError: the backend failed in another way.
            NonFiniteOutputError: the network's values were not finite before they were rounded.
        """
        ...

    def submit(
        self, inputs: Mapping[str, Any], *, out: Mapping[str, Any] | None = None, stream: Any = None
    ) -> Job[dict[str, Any]]:
        """Begin to run on arrays of the engine's device; the host does not wait.

        Args:
            inputs, out: as for `run`. On a GPU, arrays of any library, of any strides; on the CPU NumPy's, which must
                not change before the job has ended.
            stream: of CuPy, PyTorch or PyCUDA, or an address; None is the current one of the first input's library.

        Raises:
            As `run`, of what is wrong before the work; DeviceMismatchError: an array or stream of another device.
        """
        ...

    def clone(self) -> Engine:
        """Another engine with the same weights, for another worker.

        Raises:
            ClosedError: this one was closed.
        """
        ...

    def release(self) -> None:
        """Give working memory back until the next run, where the backend keeps it."""
        ...

    def close(self) -> None:
        """Free the engine; it cannot run again, and closing twice does no harm.

        What still runs, in another thread as well, ends at once with ClosedError on OpenVINO, and by itself elsewhere.
        """
        ...


class FinishedJob(Generic[T_co]):
    """A job that ended before it was given out."""

    def __init__(self, outputs: T_co) -> None:
        self.outputs = outputs

    def done(self) -> bool:
        return True

    def wait(self) -> T_co:
        return self.outputs


def make_spec(card: ModelCard, direction: Direction, *, backend: Backend, device: str) -> EngineSpec:
    """The spec of an engine that takes any size."""
    interface = card.interface
    outputs = {name: spec for name, spec in interface.outputs(direction).items() if name != "mean"}
    memory = BACKENDS[backend].memory_factor * interface.activation_bytes
    return EngineSpec(interface.inputs(direction), outputs, interface.scale, device, memory)


def host_outputs(
    spec: EngineSpec, inputs: Mapping[str, NDArray[Any]], out: Mapping[str, NDArray[Any]] | None
) -> dict[str, NDArray[Any]]:
    """The arrays that a run on the host writes to: those of `out`, checked, and new ones.

    Raises:
        ArgumentError, DTypeError, ShapeError, LayoutError, OverlapError: as `Engine.run`.
    """
    given = out or {}
    check_names(given, spec.outputs)
    batch = batch_of(spec, inputs)
    arrays: dict[str, NDArray[Any]] = {}
    for name, tensor in spec.outputs.items():
        shape, array = tensor.shape(batch, spec.scale), given.get(name)
        if array is None:
            arrays[name] = np.empty(shape, tensor.dtype)
            continue
        check_target(name, array, shape, np.dtype(tensor.dtype), beside=[*inputs.values(), *arrays.values()])
        arrays[name] = array
    return arrays


def check_names(out: Mapping[str, Any], names: Collection[str]) -> None:
    """Raise ArgumentError where `out` has what is no output."""
    if unknown := out.keys() - set(names):
        raise ArgumentError(f"out has {', '.join(sorted(map(str, unknown)))}; the outputs are {', '.join(names)}.")


def check_target(name: str, array: Any, shape: tuple[int, ...], dtype: np.dtype[Any], *, beside: Iterable[Any]) -> None:
    """Check an array of the host's that an output is to be written to.

    Raises:
        DTypeError, ShapeError, LayoutError, OverlapError: it does not suit, or shares memory with one of `beside`.
    """
    if not isinstance(array, np.ndarray) or isinstance(array, np.ma.MaskedArray):
        raise DTypeError(f"out has {name} as {type(array).__name__}; it must be a NumPy array of {dtype}.")
    check_like(name, array, shape, dtype)
    if not array.flags.c_contiguous or not array.flags.writeable:
        raise LayoutError(f"out has {name} that is not contiguous, or read-only. Give np.empty({shape}, {dtype}).")
    if any(np.may_share_memory(array, other) for other in beside):
        raise OverlapError(f"out has {name} in the memory of another array. Give it memory of its own.")


def check_like(name: str, array: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """Check shape and dtype of an output's array.

    Raises:
        DTypeError, ShapeError: they are others.
    """
    if array.dtype != dtype:
        raise DTypeError(f"out has {name} as {array.dtype}; it must be {dtype}.")
    if tuple(array.shape) != shape:
        raise ShapeError(f"out has {name} of shape {tuple(array.shape)}; here it must be {shape}.")


def batch_of(spec: EngineSpec, inputs: Mapping[str, Any]) -> tuple[int, int, int]:
    """(N, h, w) of inputs that were checked, h and w in LR pixels."""
    main, value = next((name, value) for name, value in inputs.items() if name in ("image", "lr"))
    side = 1 if main == "lr" else spec.scale
    n, h, w = value.shape[:3]
    return n, h // side, w // side


def check_inputs(card: ModelCard, direction: Direction, inputs: Mapping[str, NDArray[Any]]) -> None:
    """Compare inputs with what `Engine` says of them: a backend may cast them, or run on what the last call left.

    Raises:
        ArgumentError: an input is missing or unknown.
        DTypeError, ShapeError: one has another dtype or shape.
    """
    scale, expected = card.interface.scale, card.interface.inputs(direction)
    if inputs.keys() != expected.keys():
        given = ", ".join(inputs) or "nothing"
        raise ArgumentError(f"{direction} of {card.id} takes {', '.join(expected)}; it got {given}.")
    main = next(iter(expected))
    multiple = 1 if main == "lr" else scale
    n, h, w = inputs[main].shape[:3] if inputs[main].ndim == 4 else (0, 0, 0)
    batch = n, h // multiple, w // multiple
    for name, spec in expected.items():
        value = inputs[name]
        if value.dtype != spec.dtype:
            raise DTypeError(f"Input {name} of {direction} is {value.dtype}; it must be {spec.dtype}.")
        if value.shape != spec.shape(batch, scale) or 0 in value.shape:
            letters = ", ".join(map(str, spec.dims))
            raise ShapeError(
                f"Input {name} of {direction} has shape {value.shape}; ({letters}) is needed, with no side 0, H and W "
                f"multiples of {scale}, h = H/{scale} and w = W/{scale}, and the same N, h and w in all inputs."
            )


def check_finite(mean: float, *, backend: Backend, model: str) -> None:
    """Raise unless the mean of the unrounded output, and with it every value, is finite."""
    if not math.isfinite(mean):
        raise NonFiniteOutputError(
            f"Model {model} gave NaN or infinity on backend {backend!r}; no picture was made. Try precision='fp32', "
            "and please report the picture that does this."
        )


def busy(card: ModelCard, direction: Direction) -> BusyError:
    """What starting a second job raises."""
    return BusyError(
        f"The {direction} engine of {card.id} is running; wait for its job, or give each worker its own with clone()."
    )


def closed(card: ModelCard, direction: Direction) -> ClosedError:
    """What running a closed engine raises."""
    return ClosedError(f"The {direction} engine of {card.id} was closed; open a new one.")


def run_error(error: RuntimeError | MemoryError, *, backend: Backend, what: str) -> BackendError:
    """The error that a backend's own failure stands for; `what` is the direction and model."""
    text = str(error)
    if isinstance(error, MemoryError) or any(words in text.lower() for words in _MEMORY_WORDS):
        return OutOfMemoryError(
            f"Memory ran out in {what} on backend {backend!r}: {shorten(error)}. Lower memory_limit_mib, which "
            "cuts the picture into smaller tiles of the same pixels, or close other programs."
        )
    return BackendError(f"Backend {backend!r} failed in {what}: {shorten(error)}")
