"""How fast kernels were found to be, kept from build to build: TensorRT measures each only once per GPU and version."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from bdflow_rt.cache import Blob
from bdflow_rt.export.flavours import current_gpu
from bdflow_rt.options import Flavour

if TYPE_CHECKING:
    import tensorrt


def timing_cache(flavour: Flavour, version: str) -> Blob | None:
    """The blob for this flavour, version and GPU; None where the flavour has no timing cache.

    Raises:
        CudaUnavailableError: the flavour has one, and there is no GPU.
    """
    if flavour == "tensorrt-rtx":
        return None
    gpu = current_gpu()
    name = re.sub(r"[^A-Za-z0-9.]+", "-", f"{flavour} {version} {gpu.name} {gpu.compute_capability}").lower()
    return Blob("timing", f"{name}.timing")


def attach_timings(config: tensorrt.IBuilderConfig, blob: Blob) -> tensorrt.ITimingCache | None:
    """Give a builder the timings that are kept, or none to begin with; returns what to write when it has built.

    Raises:
        CacheTrustError: others could have written what is in the cache.
    """
    # The second try is without: TensorRT refuses timings of another driver or device, which its own header names.
    for timings in (blob.read() or b"", b""):
        cache = config.create_timing_cache(timings)
        if cache is not None and config.set_timing_cache(cache, False):
            return cache
    return None
