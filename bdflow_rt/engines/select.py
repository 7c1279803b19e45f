"""What `backend="auto"` means, and why."""

from __future__ import annotations

import importlib.util
import math
import re
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

from bdflow_rt.engines.engine import Engine
from bdflow_rt.errors import ArgumentError, BackendUnavailableError, shorten
from bdflow_rt.fork import enter_library, torch_threads
from bdflow_rt.options import Backend, Flavour, Precision, PrecisionChoice
from bdflow_rt.quiet import import_quietly
from bdflow_rt.zoo.card import ModelCard
from bdflow_rt.zoo.interface import Direction

BackendChoice = Literal["auto", "openvino", "torch", "tensorrt", "tensorrt-rtx"]
AUTO_LOSS_DB, NAMED_LOSS_DB = 0.05, 0.3
"""PSNR that a precision may have been measured to cost: where "auto" takes it, and where it is asked for by name."""

INSTALL: dict[Backend, str] = {
    "openvino": "pip install openvino",
    "torch": "pip install 'bdflow-rt[train]'",
    "tensorrt": "pip install 'bdflow-rt[tensorrt]'",
    "tensorrt-rtx": "pip install 'bdflow-rt[tensorrt-rtx]'",
}
"""The command that installs each backend."""


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
    if backend == "openvino" and on_gpu:
        raise ArgumentError("The openvino backend runs on the CPU; use backend='torch' for device='cuda'.")
    needs_gpu = backend in get_args(Flavour)
    if needs_gpu and device == "cpu":
        raise ArgumentError(f"The {backend} backend runs on a GPU; use backend='openvino' for device='cpu'.")
    if backend != "auto":
        return _checked(cast(Backend, backend), device or ("cuda" if needs_gpu else "cpu"), "asked for")
    if on_gpu:
        return _checked("torch", device or "cuda", "the one backend here that runs on a CUDA device")
    if is_installed("openvino"):
        return Selection("openvino", "cpu", "the fastest backend on a CPU")
    if is_installed("torch"):
        return Selection("torch", "cpu", f"openvino, which is faster, is not installed ({INSTALL['openvino']})")
    raise BackendUnavailableError(f"No backend is installed. Install one: {INSTALL['openvino']}")


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
    if selection.backend != "torch":
        enter_library(selection.backend)
    if selection.backend == "openvino":
        import_backend("openvino")
        from bdflow_rt.engines.openvino import OpenVINOEngine

        return OpenVINOEngine(card, direction, precision=precision, threads=threads)
    if selection.backend != "torch":
        from bdflow_rt.engines.tensorrt.engine import open_tensorrt

        index = int(selection.device.partition(":")[2] or 0)
        return open_tensorrt(card, direction, flavour=selection.backend, index=index)
    prepare_torch(selection.device, threads=threads)
    from bdflow_rt.engines.torch.engine import TorchEngine

    return TorchEngine(card, direction, device=selection.device, precision=precision)


def prepare_torch(device: str, *, threads: int | None) -> None:
    """Load PyTorch, see that it has a device, and set its number of CPU threads where one is given.

    Raises:
        BackendUnavailableError: it is not installed or does not load, or there is no such device.
        ForkedProcessError: this process was forked from one that had used it here, or asks for threads that it lacks.
    """
    if not is_installed("torch"):
        raise BackendUnavailableError(f"This runs in PyTorch, which is not installed: {INSTALL['torch']}")
    enter_library("torch")
    threads = torch_threads(threads)
    torch = import_backend("torch")
    devices = torch.cuda.device_count()
    if device != "cpu" and int(device.partition(":")[2] or 0) >= devices:
        raise BackendUnavailableError(
            f"device is {device!r}, but this PyTorch ({torch.__version__}) finds {devices or 'no'} CUDA "
            f"device{'s' * (devices > 1)}; `bdflow doctor` says what is missing."
        )
    if threads is not None:
        torch.set_num_threads(threads)


def explain() -> dict[str, Any]:
    """What "auto" chooses here and what else there is, for `bdflow doctor`."""
    backends = {name: {"available": is_installed(name), "install": INSTALL[name]} for name in get_args(Backend)}
    try:
        chosen = select()
    except BackendUnavailableError as error:
        return {"backend": None, "reason": str(error), "backends": backends}
    return {"backend": chosen.backend, "device": chosen.device, "reason": chosen.reason, "backends": backends}


def _checked(backend: Backend, device: str, reason: str) -> Selection:
    if not is_installed(backend):
        raise BackendUnavailableError(f"The {backend} backend is not installed: {INSTALL[backend]}")
    return Selection(backend, device, reason)


def is_installed(backend: Backend) -> bool:
    """Whether a backend's package is there; nothing is imported."""
    found = importlib.util.find_spec(backend.replace("-", "_"))
    return found is not None and found.origin is not None  # type stubs make a folder of TensorRT's name, without code


def import_backend(backend: Backend) -> Any:
    """Import the package of a backend that is installed.

    Raises:
        BackendUnavailableError: it does not load.
    """
    try:
        return import_quietly(backend.replace("-", "_"))
    except (ImportError, OSError, RuntimeError) as error:
        raise BackendUnavailableError(
            f"The {backend} backend is installed, but does not load ({shorten(error)}). Install it again: "
            f"{INSTALL[backend]}"
        ) from error


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
    on_gpu = selection.device != "cpu"
    available: tuple[Precision, ...] = ("fp16", "fp32") if on_gpu else ("bf16", "fp32")
    if selection.backend in get_args(Flavour):
        available = ("fp16",)
    elif selection.backend == "torch" and not on_gpu:
        available = ("fp32",)
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
                f"precision={precision!r} does not go with backend={selection.backend!r} on {selection.device}: "
                "TensorRT's engines run in 'fp16', PyTorch on a GPU in 'fp16' or 'fp32', OpenVINO in 'fp32' or 'bf16', "
                "PyTorch on a CPU in 'fp32'."
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


def computes_in(precision: Precision) -> bool:
    """Whether this machine computes in a precision; what has it is a GPU for float16, and some CPUs for bfloat16."""
    if precision == "bf16":
        enter_library("openvino")
        import_backend("openvino")
        from bdflow_rt.engines.openvino import process_core

        return "BF16" in process_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return True


def _cost(card: ModelCard, precision: Precision) -> str:
    if precision == "fp32":
        return "float32 is exact"
    loss_db = card.precisions.get(precision)
    return f"what {precision} costs was not measured" if loss_db is None else f"{precision} costs {loss_db:.3f} dB"
