"""From a kernel's source to a loaded function: NVRTC, the cache of compiled kernels, and what the compiler reports."""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bdflow_rt.cache import Blob
from bdflow_rt.errors import CompilerMissingError, KernelCompileError, UnsupportedArchitectureError, shorten
from bdflow_rt.install import install_extra

SOURCES = Path(__file__).resolve().parent / "cuda"
ARCHITECTURES = (75, 80, 86, 89, 90, 100, 120)
"""Compute capabilities, times ten, that every kernel is compiled and measured for."""
# Without --fmad=false the compiler fuses products into sums, and the twins would differ in the last bit.
OPTIONS = ("--std=c++17", "--fmad=false", "--ptxas-options=-v")


@dataclass(frozen=True)
class Kernel:
    """One instantiation of a kernel template.

    Attributes:
        source: file in kernels/cuda.
        expression: what C++ calls it, such as "bdflow::haar_forward<float, 4>".
        threads: per block at most, as its __launch_bounds__ says.
    """

    source: str
    expression: str
    threads: int = 256


@dataclass(frozen=True)
class Compiled:
    """A kernel as machine code.

    Attributes:
        name: of the function inside the cubin.
        log: what the compiler said.
        cubin: the ELF image for one architecture.
    """

    name: str
    log: str
    cubin: bytes

    def encode(self) -> bytes:
        """A line of JSON with name and log, then the cubin."""
        return json.dumps({"name": self.name, "log": self.log}).encode() + b"\n" + self.cubin

    @classmethod
    def decode(cls, data: bytes) -> Compiled | None:
        """Undo `encode`; None where it was something else that was encoded."""
        header, _, cubin = data.partition(b"\n")
        try:
            return cls(**json.loads(header), cubin=cubin)
        except (ValueError, TypeError):
            return None


@dataclass(frozen=True)
class Resources:
    """What one thread or block of a compiled kernel takes.

    Attributes:
        registers: per thread.
        shared_bytes: static shared memory per block.
        stack_bytes, spill_bytes: of local memory per thread; spills count loads and stores.
    """

    registers: int
    shared_bytes: int
    stack_bytes: int
    spill_bytes: int


def compile_kernel(kernel: Kernel, architecture: int) -> Compiled:
    """Compile for one GPU architecture with NVRTC; needs no GPU and no driver.

    Args:
        kernel: what to compile.
        architecture: compute capability times ten, such as 90.

    Raises:
        CompilerMissingError: CuPy, NVRTC or CUDA's headers are not installed.
        UnsupportedArchitectureError: this NVRTC does not compile for the architecture.
        KernelCompileError: the source does not compile; the message holds the compiler's.
    """
    nvrtc = _nvrtc()
    supported = supported_architectures()
    if architecture not in supported:
        raise UnsupportedArchitectureError(
            f"NVRTC {'.'.join(map(str, nvrtc.getVersion()))} does not compile for compute capability "
            f"{architecture / 10}; it knows {', '.join(str(known / 10) for known in supported)}. Older GPUs are not "
            "supported; for a newer one: pip install --upgrade nvidia-cuda-nvrtc nvidia-cuda-runtime"
        )
    source = f'#include "{kernel.source}"\n'
    program = nvrtc.createProgram(source, f"{kernel.source}.cu", (), ())
    try:
        nvrtc.addNameExpression(program, kernel.expression)
        try:
            nvrtc.compileProgram(program, (*OPTIONS, f"-arch=sm_{architecture}", f"-I{SOURCES}", f"-I{_headers()}"))
        except nvrtc.NVRTCError as error:
            log = nvrtc.getProgramLog(program).strip()
            raise KernelCompileError(f"{kernel.expression} does not compile ({shorten(error)}):\n{log}") from error
        return Compiled(
            name=nvrtc.getLoweredName(program, kernel.expression),
            log=nvrtc.getProgramLog(program),
            # CuPy 14.2 takes the last byte for a terminating zero and cuts it off; one too many does no harm.
            cubin=nvrtc.getCUBIN(program) + b"\0",
        )
    finally:
        nvrtc.destroyProgram(program)


def load(kernel: Kernel, device: int) -> Any:
    """The kernel as a function of the current CUDA context, from the cache or compiled now.

    Args:
        kernel: what to load.
        device: index of the current device.

    Returns:
        cupy.cuda.Function.

    Raises:
        CompilerMissingError, UnsupportedArchitectureError, KernelCompileError: as `compile_kernel`.
        CacheTrustError: others could have written what is in the cache.
    """
    import cupy

    architecture = int(cupy.cuda.Device(device).compute_capability)
    blob = Blob("kernels", f"{cache_key(kernel, architecture)}.cubin")
    compiled = cached(blob, lambda: compile_kernel(kernel, architecture))
    module = cupy.cuda.Module()
    module.load(compiled.cubin)
    return module.get_function(compiled.name)


def cached(blob: Blob, make: Callable[[], Compiled]) -> Compiled:
    """The kernel of a blob; where that is missing or damaged, what `make` returns, kept for the next process.

    Raises:
        CacheTrustError: others could have written what is in the cache.
    """
    if (data := blob.read()) is not None and (compiled := Compiled.decode(data)) is not None:
        return compiled
    compiled = make()
    blob.write(compiled.encode())
    return compiled


def cache_key(kernel: Kernel, architecture: int) -> str:
    """SHA-256 over all that decides the machine code: every source, the expression, options, architecture, NVRTC."""
    digest = hashlib.sha256()
    parts = [kernel.source, kernel.expression, *OPTIONS, str(architecture), str(_nvrtc().getVersion())]
    for part in (*(part.encode() for part in parts), *_source_bytes()):
        digest.update(len(part).to_bytes(8, "little") + part)
    return digest.hexdigest()


def resources(compiled: Compiled) -> Resources:
    """Registers, shared memory and spills, as the assembler reported them.

    Raises:
        KernelCompileError: the log has no such report.
    """
    used = re.search(r"Used (\d+) registers", compiled.log)
    frame = re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", compiled.log)
    if used is None or frame is None:
        raise KernelCompileError(f"NVRTC reported no registers for {compiled.name}: {compiled.log!r}")
    shared = re.search(r"(\d+) bytes smem", compiled.log)
    return Resources(
        registers=int(used.group(1)),
        shared_bytes=int(shared.group(1)) if shared else 0,
        stack_bytes=int(frame.group(1)),
        spill_bytes=int(frame.group(2)) + int(frame.group(3)),
    )


@functools.lru_cache(maxsize=1)
def supported_architectures() -> tuple[int, ...]:
    """Compute capabilities, times ten, that the installed NVRTC compiles for.

    Raises:
        CompilerMissingError: CuPy or NVRTC is not installed.
    """
    return tuple(_nvrtc().getSupportedArchs())


@functools.lru_cache(maxsize=1)
def _source_bytes() -> tuple[bytes, ...]:
    return tuple(path.read_bytes() for path in sorted(SOURCES.glob("*.cuh")))


@functools.lru_cache(maxsize=1)
def _nvrtc() -> Any:
    try:
        from cupy.cuda import nvrtc

        nvrtc.getVersion()
    except (ImportError, OSError, RuntimeError) as error:
        raise CompilerMissingError(
            f"CUDA kernels are compiled by NVRTC through CuPy, and one of them is missing ({shorten(error)}). "
            f"{install_extra('cuda')}"
        ) from error
    return nvrtc


@functools.lru_cache(maxsize=1)
def _headers() -> Path:
    from cuda.pathfinder import find_nvidia_header_directory

    found = find_nvidia_header_directory("cudart")
    if found is None or not (Path(found) / "cuda_fp16.h").is_file():
        raise CompilerMissingError("CUDA's header cuda_fp16.h is missing. pip install nvidia-cuda-runtime")
    return Path(found)
