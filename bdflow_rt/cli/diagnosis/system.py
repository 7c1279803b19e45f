"""The machine: Python, operating system, processor, memory, environment."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path
from typing import Any

ISA_FLAGS = ("f16c", "fma", "avx2", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_bf16", "amx_int8")
"""Instruction sets that decide how fast, and in which precision, the CPU engine computes."""

_VARIABLES = ("CUDA_VISIBLE_DEVICES", "CUDA_HOME", "LD_LIBRARY_PATH", "OMP_NUM_THREADS", "PYTHONPATH")


def python() -> dict[str, Any]:
    """The interpreter this runs in."""
    return {
        "version": platform.python_version(),
        "implementation": platform.python_implementation(),
        "executable": sys.executable,
        "prefix": sys.prefix,
    }


def system() -> dict[str, Any]:
    """The operating system and its C library, on which binary wheels depend."""
    return {
        "platform": sys.platform,
        "machine": platform.machine(),
        "kernel": platform.release(),
        "distribution": _distribution(),
        "libc": " ".join(platform.libc_ver()),
    }


def _distribution() -> str | None:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME")
    except OSError:
        return None


def cpu() -> dict[str, Any]:
    """Model, cores (of the machine, and usable by this process) and instruction sets."""
    fields: dict[str, str] = {}
    for line in Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
        key, _, value = line.partition(":")
        fields.setdefault(key.strip(), value.strip())
    flags = set(fields.get("flags", "").split())
    return {
        "model": fields.get("model name"),
        "cores": os.cpu_count(),
        "usable_cores": len(os.sched_getaffinity(0)),
        "cgroup_cpu_max": _cgroup("cpu.max"),
        "isa": {name: name in flags for name in ISA_FLAGS},
    }


def memory() -> dict[str, Any]:
    """Bytes of memory in the machine, and free for new work; the container's limit where there is one."""
    sizes = {}
    for line in Path("/proc/meminfo").read_text().splitlines():
        key, _, value = line.partition(":")
        sizes[key] = int(value.split()[0]) * 1024
    return {
        "total_bytes": sizes.get("MemTotal"),
        "available_bytes": sizes.get("MemAvailable"),
        "cgroup_memory_max": _cgroup("memory.max"),
    }


def _cgroup(name: str) -> str | None:
    try:
        return Path("/sys/fs/cgroup", name).read_text().strip()
    except OSError:
        return None


def environment() -> dict[str, str]:
    """The variables that change what bdflow does, those that are set."""
    names = [name for name in os.environ if name.startswith("BDFLOW_") or name in _VARIABLES]
    return {name: os.environ[name] for name in sorted(names)}
