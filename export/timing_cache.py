"""How fast kernels were found to be, kept from build to build: TensorRT measures each only once per GPU and version."""

from __future__ import annotations

import hashlib
import pathlib
import re
import warnings
from typing import TYPE_CHECKING

from bdflow_rt.errors import OutputError
from bdflow_rt.export.flavours import FlavourInfo, current_gpu
from bdflow_rt.files import write_atomically

if TYPE_CHECKING:
    import tensorrt

_DIGEST_BYTES = 32
_LIMIT = 1 << 28


def timing_cache_file(folder: pathlib.Path, info: FlavourInfo, version: str) -> pathlib.Path | None:
    """The file for this flavour, version and GPU in a folder; None where the flavour has no timing cache.

    Raises:
        CudaUnavailableError: the flavour has one, and there is no GPU.
    """
    if not info.timing_cache:
        return None
    gpu = current_gpu()
    name = re.sub(r"[^A-Za-z0-9.]+", "-", f"{info.name} {version} {gpu.name} {gpu.compute_capability}").lower()
    return folder / f"{name}.timing"


def read_timings(path: pathlib.Path) -> bytes:
    """What `write_timings` wrote; nothing where the file is missing or damaged."""
    try:
        if path.is_symlink() or path.stat().st_size > _LIMIT:
            return b""
        content = path.read_bytes()
    except OSError:
        return b""
    digest, timings = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
    return timings if hashlib.sha256(timings).digest() == digest else b""


def write_timings(path: pathlib.Path, timings: bytes) -> None:
    """Keep timings behind their SHA-256; what cannot be kept costs time in the next build, and is warned of."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_atomically(path, hashlib.sha256(timings).digest() + timings)
    except (OSError, OutputError) as error:
        warnings.warn(f"The timing cache '{path}' cannot be kept ({error}).", RuntimeWarning, stacklevel=2)


def attach_timings(config: tensorrt.IBuilderConfig, path: pathlib.Path) -> tensorrt.ITimingCache | None:
    """Give a builder the timings of a file, or none to begin with; returns the cache to write when it has built."""
    # The second try is without: TensorRT refuses timings of another driver or device, which its own header names.
    for timings in (read_timings(path), b""):
        cache = config.create_timing_cache(timings)
        if cache is not None and config.set_timing_cache(cache, False):
            return cache
    return None
