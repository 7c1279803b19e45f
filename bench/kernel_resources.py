"""Registers, shared memory, spills, occupancy and instructions of every kernel on every architecture; needs no GPU.

python -m bdflow_rt.bench.kernel_resources --output bench/results/kernel_resources.json
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import pathlib
import pkgutil
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from typing import Any

import bdflow_rt.kernels
from bdflow_rt.bench.command import run_command, write_result
from bdflow_rt.evaluate.environment import environment
from bdflow_rt.kernels.compile import ARCHITECTURES, Compiled, Kernel, Resources, compile_kernel, resources

WARP = 32
_REGISTER_UNIT, _REGISTERS, _PARTITIONS = 256, 65536, 4
"""Registers are given to a warp in such units, out of so many per multiprocessor, in so many equal parts."""


@dataclass(frozen=True)
class Limits:
    """Of one multiprocessor.

    Attributes:
        warps, blocks: resident at once.
        shared_bytes: of shared memory.
        shared_unit: in which it is given to a block.
        shared_reserved: bytes per block that CUDA takes for itself.

    Source: CUDA C++ Programming Guide, technical specifications per compute capability; units: cuda_occupancy.h.
    """

    warps: int
    blocks: int
    shared_bytes: int
    shared_unit: int = 128
    shared_reserved: int = 1024


LIMITS = {
    75: Limits(32, 16, 64 << 10, shared_unit=256, shared_reserved=0),
    80: Limits(64, 32, 164 << 10),
    86: Limits(48, 16, 100 << 10),
    89: Limits(48, 24, 100 << 10),
    90: Limits(64, 32, 228 << 10),
    100: Limits(64, 32, 228 << 10),
    120: Limits(48, 24, 100 << 10),
}


def all_kernels() -> tuple[Kernel, ...]:
    """Every instantiation that any module of `bdflow_rt.kernels` launches."""
    modules = (
        importlib.import_module(f"bdflow_rt.kernels.{info.name}")
        for info in pkgutil.iter_modules(bdflow_rt.kernels.__path__)
    )
    return tuple(dict.fromkeys(kernel for module in modules for kernel in getattr(module, "KERNELS", ())))


def occupancy(used: Resources, *, threads: int, architecture: int) -> float:
    """Share of a multiprocessor's warps that can be resident at once, 0 to 1.

    Args:
        used: by one thread or block.
        threads: per block.
        architecture: compute capability times ten, one of LIMITS.
    """
    limits = LIMITS[architecture]
    warps = -(-threads // WARP)
    per_warp = -(-used.registers * WARP // _REGISTER_UNIT) * _REGISTER_UNIT
    by_registers = _PARTITIONS * (_REGISTERS // _PARTITIONS // per_warp) // warps
    shared = -(-(used.shared_bytes + limits.shared_reserved) // limits.shared_unit) * limits.shared_unit
    by_shared = limits.shared_bytes // shared if shared else limits.blocks
    return min(limits.blocks, by_registers, by_shared, limits.warps // warps) * warps / limits.warps


def instructions(compiled: Compiled) -> int | None:
    """Machine instructions of the kernel without padding, loops counted once; None where nvdisasm is not installed."""
    nvdisasm = _nvdisasm()
    if nvdisasm is None:
        return None
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(compiled.cubin)
        file.flush()
        done = subprocess.run([nvdisasm, "-c", file.name], capture_output=True, text=True, check=True)
    count, inside = 0, False
    for text in done.stdout.splitlines():
        if ".section\t" in text:
            inside = f".text.{compiled.name}," in text
        elif inside and re.match(r"\s+/\*[0-9a-f]{4,}\*/\s+(?!NOP)\S", text):
            count += 1
    # The last instruction is a branch to itself, which no thread reaches.
    return count - 1


def measure(kernel: Kernel, architecture: int) -> dict[str, Any]:
    """What a kernel takes on an architecture; plain JSON types.

    Raises:
        CompilerMissingError, UnsupportedArchitectureError, KernelCompileError: as `compile_kernel`.
    """
    compiled = compile_kernel(kernel, architecture)
    used = resources(compiled)
    return {
        **asdict(used),
        "threads": kernel.threads,
        "occupancy": round(occupancy(used, threads=kernel.threads, architecture=architecture), 4),
        "instructions": instructions(compiled),
    }


def _nvdisasm() -> str | None:
    """From the wheel nvidia-cuda-nvdisasm, or the one in PATH."""
    found = importlib.util.find_spec("nvidia")
    for root in found.submodule_search_locations or [] if found else []:
        if (path := pathlib.Path(root) / "cu13" / "bin" / "nvdisasm").is_file():
            return str(path)
    return shutil.which("nvdisasm")


def main() -> None:
    """Compile everything and write one JSON file."""
    from cupy.cuda import nvrtc

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=pathlib.Path)
    args = parser.parse_args()
    table = {
        kernel.expression.removeprefix("bdflow::"): {
            str(architecture): measure(kernel, architecture) for architecture in ARCHITECTURES
        }
        for kernel in all_kernels()
    }
    version = ".".join(map(str, nvrtc.getVersion()))
    result = {**environment(), "nvrtc": version, "kernels": table}
    if args.output:
        write_result(args.output, result)
    sys.stdout.write(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(run_command("kernel_resources", main))
