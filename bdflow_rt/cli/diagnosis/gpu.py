"""The GPU, as the driver's own tool sees it and as a program that loads libcuda sees it: they can differ."""

from __future__ import annotations

import shutil
from typing import Any

from bdflow_rt.cli.diagnosis.probe import ProbeError, ask_python, guarded, run_tool

_FIELDS = ("name", "driver_version", "memory.total", "compute_cap")

_LIBCUDA = """
import ctypes
try:
    cuda = ctypes.CDLL("libcuda.so.1")
except OSError as error:
    answer({"found": False, "reason": str(error)})
    raise SystemExit
version, count = ctypes.c_int(), ctypes.c_int()
cuda.cuDriverGetVersion(ctypes.byref(version))
status = cuda.cuInit(0)
if status == 0:
    status = cuda.cuDeviceGetCount(ctypes.byref(count))
name = ctypes.c_char_p()
if status and cuda.cuGetErrorName(status, ctypes.byref(name)) == 0:
    status = name.value.decode()
answer({
    "found": True,
    "cuda_version": f"{version.value // 1000}.{version.value % 1000 // 10}",
    "status": status or "ok",
    "devices": count.value,
})
"""


def gpu() -> dict[str, Any]:
    """What both see."""
    return {"nvidia_smi": guarded(nvidia_smi), "libcuda": guarded(libcuda)}


def nvidia_smi() -> dict[str, Any]:
    """`nvidia-smi`'s list of GPUs, with the driver's version; `found` is False where the tool is not installed."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return {"found": False, "gpus": []}
    output = run_tool([tool, f"--query-gpu={','.join(_FIELDS)}", "--format=csv,noheader"])
    rows = [[cell.strip() for cell in line.split(",")] for line in output.splitlines() if line.strip()]
    if any(len(row) != len(_FIELDS) for row in rows):
        raise ProbeError(f"nvidia-smi answered {output.strip()!r}")
    return {"found": True, "gpus": [dict(zip(_FIELDS, row, strict=True)) for row in rows]}


def libcuda() -> dict[str, Any]:
    """Whether the driver's library loads and starts, the newest CUDA it supports, and the devices it shows."""
    answer: dict[str, Any] = ask_python(_LIBCUDA)
    return answer


def mend_cuda(environment: dict[str, str]) -> str:
    """The command where a driver shows no GPU: it is hidden, or a module of the kernel is not loaded."""
    if "CUDA_VISIBLE_DEVICES" in environment:
        return "env -u CUDA_VISIBLE_DEVICES bdflow doctor"
    return "sudo nvidia-modprobe -u -c=0  # in a container: start it with --gpus all"
