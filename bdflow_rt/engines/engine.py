"""The protocol every backend implements."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Protocol

from numpy.typing import NDArray

from bdflow_rt.errors import (
    ArgumentError,
    BackendError,
    ClosedError,
    DTypeError,
    NonFiniteOutputError,
    OutOfMemoryError,
    ShapeError,
    shorten,
)
from bdflow_rt.options import Backend
from bdflow_rt.zoo.card import ModelCard
from bdflow_rt.zoo.interface import Direction

_MEMORY_WORDS = (
    "out of memory", "can't allocate memory", "failed to allocate", "bad_alloc", "alloc_failed", "allocation_failed",
)  # fmt: skip
"""In the messages of PyTorch, cuDNN and OpenVINO, which raise no class of its own for it, or not always."""


class Engine(Protocol):
    """One direction of one model, ready to run on whole arrays.

    Inputs and outputs are those of the model's public graph, by name, as `ModelInterface.inputs` and `outputs` have
    them, without `mean`; H and W are multiples of the scale.

    Not thread-safe: one call at a time.
    """

    backend: Backend
    direction: Direction

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Run once; the arrays returned are the caller's own.

        Raises:
            ArgumentError, DTypeError, ShapeError: the inputs are not those above.
            ClosedError: the engine was closed.
            OutOfMemoryError: there was no memory for inputs of this size; smaller ones may run.
            BackendUnavailableError: this machine cannot run the precision asked for.
            BackendError: the backend failed in another way.
            NonFiniteOutputError: the network's values were not finite before they were rounded.
        """
        ...

    def release(self) -> None:
        """Give working memory back until the next run, where the backend keeps it."""
        ...

    def close(self) -> None:
        """Free the engine; it cannot run again. Closing twice does no harm."""
        ...


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
    multiple = scale if main == "image" else 1
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
