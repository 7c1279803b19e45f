"""What compiles for a GPU and where the results are kept: TensorRT's flavours, NVRTC, the cache folders.

All of it in child interpreters: it loads native libraries, and a broken one may take the process along.
"""

from __future__ import annotations

from typing import Any

from bdflow_rt.cli.diagnosis.probe import ask_python, guarded
from bdflow_rt.engines.backends import BACKENDS

MODULES = {info.name: info.package for info in BACKENDS.values() if info.builds_first}
"""Flavour -> the package to import."""

# "library" is what the shared library itself answers, "version" what the Python package says: they can differ.
_FLAVOUR = """
import ctypes
from bdflow_rt.cli.diagnosis.compiled import mapped_libraries
from bdflow_rt.engines.tensorrt.library import load_library
from bdflow_rt.errors import BdflowError
try:
    package = load_library({flavour!r})
except BdflowError as error:
    answer({{"version": None, "problem": str(error)}})
    raise SystemExit
found = mapped_libraries(open("/proc/self/maps").read())
number = ctypes.CDLL(found[0]).getInferLibVersion() if found else None
known = getattr(package, "ComputeCapability", None)
names = [name[2:] for name in known.__members__ if name.startswith("SM")] if {flavour!r} == "tensorrt-rtx" else []
answer({{
    "version": package.__version__,
    "problem": None,
    "library": number,
    "library_file": found[0] if found else None,
    "compute_capabilities": [f"{{name[:-1]}}.{{name[-1]}}" for name in names],
}})
"""

_KERNELS = """
from bdflow_rt.errors import BdflowError
from bdflow_rt.kernels.compile import compile_kernel, supported_architectures
from bdflow_rt.kernels.haar import KERNELS
try:
    known = supported_architectures()
    compile_kernel(KERNELS[0], known[0])
except BdflowError as error:
    answer({"compiles": False, "problem": str(error), "compute_capabilities": []})
else:
    answer({"compiles": True, "problem": None, "compute_capabilities": [f"{n // 10}.{n % 10}" for n in known]})
"""

_CACHES = """
import os, shutil
from contextlib import suppress
from bdflow_rt.cache import KINDS, cache_folder, check_folder
from bdflow_rt.engines.cache import EngineCache, limit_bytes
from bdflow_rt.errors import BdflowError
def describe(folder):
    existing = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    sizes = [path.stat().st_size for path in folder.glob("*") if path.is_file()] if folder.is_dir() else []
    problem = None
    try:
        with suppress(OSError):
            check_folder(folder)
    except BdflowError as error:
        problem = str(error)
    return {
        "folder": str(folder),
        "exists": folder.is_dir(),
        "writable": existing.is_dir() and os.access(existing, os.W_OK | os.X_OK),
        "free_bytes": shutil.disk_usage(existing).free,
        "files": len(sizes),
        "size_bytes": sum(sizes),
        "problem": problem,
    }
report = {name: describe(cache_folder() / name) for name in KINDS}
entries = []
try:
    report["engines"]["limit_bytes"] = limit_bytes()
    entries = [entry.sidecar.key for entry in EngineCache().list() if entry.sidecar and not entry.problem]
except BdflowError as error:
    report["engines"]["problem"] = str(error)
report["engines"]["built"] = [
    {name: getattr(key, name) for name in ("model", "direction", "flavour", "flavour_version", "gpu",
                                           "compute_capability")} for key in entries
]
answer(report)
"""


def flavours() -> dict[str, Any]:
    """Flavour -> version of the package, what the loaded library says of itself, GPUs it knows, or its `problem`."""
    return {name: guarded(lambda name=name: _flavour(name)) for name in MODULES}  # type: ignore[misc]


def _flavour(name: str) -> dict[str, Any]:
    found: dict[str, Any] = ask_python(_FLAVOUR.format(flavour=name))
    if found["version"] is not None:
        found["library"] = library_version(found["library"])
    return found


def mapped_libraries(maps: str) -> list[str]:
    """Paths of TensorRT's own library in the text of a /proc/PID/maps; there may be spaces in them."""
    paths = {fields[5] for line in maps.splitlines() if len(fields := line.split(maxsplit=5)) > 5}
    return sorted(path for path in paths if path.rpartition("/")[2].startswith(("libnvinfer.so", "libtensorrt_rtx.so")))


def library_version(number: int | None) -> str | None:
    """The three numbers in what `getInferLibVersion` returns: 101304 is 10.13.4, 10701 is 1.7.1 (TensorRT-RTX)."""
    if number is None:
        return None
    major, rest = divmod(number, 10_000)
    return f"{major}.{rest // 100}.{rest % 100}"


def kernels() -> dict[str, Any]:
    """Whether NVRTC, through CuPy and with CUDA's headers, compiles one of bdflow's kernels; no GPU is needed."""
    found: dict[str, Any] = ask_python(_KERNELS)
    return found


def caches() -> dict[str, Any]:
    """The folder of each kind in the cache: whether they can be written, what they hold, free space."""
    found: dict[str, Any] = ask_python(_CACHES)
    return found
