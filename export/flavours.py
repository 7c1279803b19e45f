"""TensorRT 10, TensorRT 11 and TensorRT-RTX: one API, and what differs."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bdflow_rt.engines.cache_entry import ANY_GPU
from bdflow_rt.engines.gpu import CudaDevice
from bdflow_rt.engines.tensorrt.library import make_logger
from bdflow_rt.errors import ArgumentError, CudaUnavailableError, UnsupportedArchitectureError
from bdflow_rt.options import Flavour

AMPERE_PLUS = "8.0+"
"""Compute capability of a plan for Ampere and later."""
_TURING = "7.5"


# In TensorRT-RTX 1.7 the timing cache does nothing (its bytes cannot be read), levels of hardware compatibility are
# ignored, and version-compatible plans need a lean runtime that its wheel lacks.
RTX_LACKS = {
    "version_compatible": "Build again after an update, which takes seconds",
    "hardware_compatible": "Its engines run on every GPU it supports; compute_capabilities narrows that down",
    "timing_cache": "It measures nothing when it builds",
}
"""Options that TensorRT-RTX would ignore, and what to do instead."""


@dataclass(frozen=True)
class Target:
    """Where a plan is to run.

    Attributes:
        gpu: its name, or ANY_GPU where a plan runs on every one of the compute capability.
        compute_capability: one, a list "8.6,8.9", AMPERE_PLUS, or ANY_GPU for what the flavour takes by itself.
        capabilities: to be asked for one by one; empty where the flavour's default is meant.
        device: index of the CUDA device that builds; None without one.
    """

    gpu: str
    compute_capability: str
    capabilities: tuple[str, ...] = ()
    device: int | None = None


def current_gpu() -> CudaDevice:
    """The GPU that is current in this thread.

    Raises:
        CudaUnavailableError: there is none, no driver, or no CuPy to ask.
    """
    first = CudaDevice()  # whether there is any
    from cupy.cuda import runtime

    index = int(runtime.getDevice())
    return first if index == first.index else CudaDevice(index)


def choose_target(
    flavour: Flavour, api: Any, *, capabilities: Sequence[str] = (), hardware_compatible: str | None = None
) -> Target:
    """Where a plan is to run.

    Args:
        flavour: "tensorrt-rtx" builds ahead of time, for a list of capabilities and without a GPU.
        api: its package.
        capabilities: compute capabilities as "8.9"; none is this machine's GPU, or, without one, what the flavour
            takes by itself. Only where the flavour builds ahead of time.
        hardware_compatible: None, "ampere-plus" or "same-capability".

    Raises:
        ArgumentError: the flavour builds for this machine's GPU only.
        UnsupportedArchitectureError: the flavour does not know a capability.
        CudaUnavailableError: the flavour needs a GPU and there is none.
    """
    if flavour == "tensorrt-rtx":
        return _ahead_of_time(api, capabilities)
    if capabilities:
        raise ArgumentError(
            f"Flavour {flavour} builds for the GPU of this machine only, not for compute capabilities "
            f"{', '.join(capabilities)}. Build on such a GPU, or take flavour tensorrt-rtx."
        )
    try:
        gpu = current_gpu()
    except CudaUnavailableError as error:
        raise CudaUnavailableError(
            f"Flavour {flavour} builds on the GPU that is to run the engine, and tensorrt-rtx without one. {error}"
        ) from error
    if hardware_compatible == "ampere-plus":
        if float(gpu.compute_capability) < 8:
            raise UnsupportedArchitectureError(
                f"{gpu.name} has compute capability {gpu.compute_capability}; engines for Ampere and later are built "
                "on 8.0 or later. Leave hardware compatibility out, or take 'same-capability'."
            )
        return Target(ANY_GPU, AMPERE_PLUS, device=gpu.index)
    name = ANY_GPU if hardware_compatible else gpu.name
    return Target(name, gpu.compute_capability, device=gpu.index)


def _ahead_of_time(api: Any, capabilities: Sequence[str]) -> Target:
    known = {f"{name[2:-1]}.{name[-1]}": name for name in api.ComputeCapability.__members__ if name.startswith("SM")}
    try:
        gpu: CudaDevice | None = current_gpu()
    except CudaUnavailableError:
        gpu = None
    device = gpu.index if gpu else None
    wanted = tuple(dict.fromkeys(capabilities))
    if not wanted and gpu and gpu.compute_capability not in known:
        raise UnsupportedArchitectureError(
            f"TensorRT-RTX {api.__version__} does not support {gpu.name} (compute capability "
            f"{gpu.compute_capability}), only {', '.join(known)}. Take flavour tensorrt; or, to build for another "
            "machine, say for which compute capabilities."
        )
    if not wanted and gpu and gpu.compute_capability == _TURING:
        wanted = (_TURING,)  # the default leaves Turing out
    if unknown := [one for one in wanted if one not in known]:
        raise UnsupportedArchitectureError(
            f"TensorRT-RTX {api.__version__} cannot build for compute capability {unknown[0]!r:.100}; it knows "
            f"{', '.join(known)}."
        )
    return Target(ANY_GPU, ",".join(wanted) or ANY_GPU, wanted, device)


@functools.cache
def flavour_logger(api: Any) -> Any:
    """The builder's logger of a flavour.

    One for the whole process: TensorRT warns of every other, and keeps the first for what has none.
    """
    return make_logger(api)
