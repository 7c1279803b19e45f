"""What `backend="auto"` means, and why."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

from bdflow_rt.engines.backends import BACKENDS, BackendInfo
from bdflow_rt.engines.engine import Engine
from bdflow_rt.errors import ArgumentError, BackendUnavailableError
from bdflow_rt.options import Backend, Precision, PrecisionChoice
from bdflow_rt.zoo.card import ModelCard
from bdflow_rt.zoo.interface import Direction

BackendChoice = Literal["auto", Backend]
AUTO_LOSS_DB, NAMED_LOSS_DB = 0.05, 0.3
"""PSNR that a precision may have been measured to cost: where "auto" takes it, and where it is asked for by name."""


@dataclass(frozen=True)
class Selection:
    """A backend, the device it runs on, and the sentence that says why."""

    backend: Backend
    device: str
    reason: str


def select(backend: str = "auto", device: str | None = None) -> Selection:
    """Decide what runs. Nothing is imported or started yet.

    Args:
        backend: "auto", "openvino", "torch", "tensorrt" or "tensorrt-rtx".
        device: "cpu", "cuda" or "cuda:N"; None is the CPU, or the first GPU for a backend that has nothing else.

    Raises:
        ArgumentError: an unknown backend or device, or a backend that has no such device.
        BackendUnavailableError: the backend asked for, or every one, is not installed.
    """
    if backend not in get_args(BackendChoice):
        raise ArgumentError(f"backend is {backend!r}; it must be one of {', '.join(get_args(BackendChoice))}.")
    on_gpu = device is not None and re.fullmatch(r"cuda(:\d{1,3})?", device) is not None
    if device not in (None, "cpu") and not on_gpu:
        raise ArgumentError(f"device is {device!r}; it must be 'cpu', 'cuda' or 'cuda:N'.")
    if backend == "auto":
        return _auto(device if on_gpu else None)
    info = BACKENDS[cast(Backend, backend)]
    if device is not None and device.partition(":")[0] not in info.precisions:
        other = next(one for one in BACKENDS.values() if device.partition(":")[0] in one.precisions)
        raise ArgumentError(
            f"The {backend} backend runs on {'the CPU' if on_gpu else 'a GPU'}; use backend={other.name!r} for "
            f"device={device!r}."
        )
    return _checked(info, device or info.default_device, "asked for")


def _auto(gpu: str | None) -> Selection:
    ready = [info for info in BACKENDS.values() if not info.builds_first]
    if gpu is not None:
        info = next(info for info in ready if "cuda" in info.precisions)
        return _checked(info, gpu, "the one backend here that runs on a CUDA device")
    first, *others = (info for info in ready if "cpu" in info.precisions)
    if first.is_installed:
        return Selection(first.name, "cpu", "the fastest backend on a CPU")
    for info in others:
        if info.is_installed:
            reason = f"{first.name}, which is faster, is not installed ({first.install})"
            return Selection(info.name, "cpu", reason)
    raise BackendUnavailableError(f"No backend is installed. Install one: {first.install}")


def alternatives(selection: Selection, *, on_host: bool) -> Iterator[Selection]:
    """What could run instead where an engine takes no tile of a picture: backends whose engines take any size.

    Args:
        selection: what runs else.
        on_host: the arrays are in the host's memory; those of a GPU stay on theirs.
    """
    if not BACKENDS[selection.backend].builds_first:
        return
    for device in (selection.device, *(("cpu",) if on_host else ())):
        for info in BACKENDS.values():
            if not info.builds_first and device.partition(":")[0] in info.precisions and info.is_installed:
                yield Selection(info.name, device, f"the engines of {selection.backend} do not take such a size")


def open_engine(
    selection: Selection, card: ModelCard, direction: Direction, *, precision: Precision, threads: int | None
) -> Engine:
    """Load one direction of a model.

    Args:
        selection: from `select`.
        card: of the model.
        direction: which one.
        precision: from `choose_precision`.
        threads: CPU threads; None leaves it to the backend.

    Raises:
        BackendUnavailableError: the device is not there, the backend's installation is broken, or the cache has no
            TensorRT engine for this model and machine.
        ForkedProcessError: this process was forked from one that had used the backend.
        CorruptModelError, WeightsHashError: the model's files are missing or altered.
    """
    return BACKENDS[selection.backend].open(
        card, direction, device=selection.device, precision=precision, threads=threads
    )


def explain() -> dict[str, Any]:
    """What "auto" chooses here and what else there is, for `bdflow doctor`."""
    backends = {name: {"available": info.is_installed, "install": info.install} for name, info in BACKENDS.items()}
    try:
        chosen = select()
    except BackendUnavailableError as error:
        return {"backend": None, "reason": str(error), "backends": backends}
    return {"backend": chosen.backend, "device": chosen.device, "reason": chosen.reason, "backends": backends}


def _checked(info: BackendInfo, device: str, reason: str) -> Selection:
    if not info.is_installed:
        raise BackendUnavailableError(f"The {info.name} backend is not installed: {info.install}")
    return Selection(info.name, device, reason)


def choose_precision(selection: Selection, card: ModelCard, precision: PrecisionChoice | None) -> tuple[Precision, str]:
    """The precision to compute in, and the sentence that says why and what it costs.

    Args:
        selection: from `select`.
        card: of the model, which says what a precision was measured to cost.
        precision: None is float32 where the backend computes in it, and the float16 of TensorRT's engines. "auto" is
            the fastest one that this machine has, the backend computes in, and that costs at most `AUTO_LOSS_DB`; as
            None where there is none. Only one that costs at most `NAMED_LOSS_DB` is taken, named or not.

    Raises:
        ArgumentError: it is unknown, the backend does not compute in it, or it costs more than is allowed.
        BackendError: "auto" on a CPU, and OpenVINO does not load.
    """
    if precision is not None and precision not in get_args(PrecisionChoice):
        raise ArgumentError(f"precision is {precision!r}; it must be one of {', '.join(get_args(PrecisionChoice))}.")
    available = BACKENDS[selection.backend].precisions["cpu" if selection.device == "cpu" else "cuda"]
    *faster, chosen = available
    why = f"the only one of {selection.backend}" if not faster else "the default"
    if precision == "auto":
        for candidate in faster:
            if card.precisions.get(candidate, math.inf) <= AUTO_LOSS_DB and computes_in(candidate):
                return candidate, f"the fastest here that costs at most {AUTO_LOSS_DB} dB; {_cost(card, candidate)}"
        if faster:
            why = f"no faster one here costs at most {AUTO_LOSS_DB} dB"
    elif precision is not None:
        if precision not in available:
            raise ArgumentError(
                f"precision={precision!r} does not go with backend={selection.backend!r} on {selection.device}, which "
                f"computes in {' or '.join(available)}. {_precisions()}"
            )
        chosen, why = precision, "asked for"
    # What engines lose is proven when they are built; a CPU's bfloat16 is vouched for by the card alone.
    loss_db = 0.0 if chosen == "fp32" else card.precisions.get(chosen, math.inf if chosen == "bf16" else 0.0)
    if loss_db > NAMED_LOSS_DB:
        exact = "precision='fp32'" if "fp32" in available else "backend='openvino' or backend='torch', in float32"
        raise ArgumentError(
            f"precision={chosen!r} is allowed for models that lose at most {NAMED_LOSS_DB} dB by it; {card.id}: "
            f"{_cost(card, chosen)}. Use {exact}."
        )
    return chosen, f"{why}; {_cost(card, chosen)}"


def _precisions() -> str:
    """What every backend computes in, as a sentence."""
    told = [
        f"{info.title} on {'the CPU' if kind == 'cpu' else 'a GPU'} in {' or '.join(precisions)}"
        for info in BACKENDS.values()
        for kind, precisions in info.precisions.items()
    ]
    return f"There are {', '.join(told)}."


def computes_in(precision: Precision) -> bool:
    """Whether this machine computes in a precision; what has it is a GPU for float16, and some CPUs for bfloat16."""
    if precision == "bf16":
        BACKENDS["openvino"].load()
        from bdflow_rt.engines.openvino import process_core

        return "BF16" in process_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return True


def _cost(card: ModelCard, precision: Precision) -> str:
    if precision == "fp32":
        return "float32 is exact"
    loss_db = card.precisions.get(precision)
    return f"what {precision} costs was not measured" if loss_db is None else f"{precision} costs {loss_db:.3f} dB"
