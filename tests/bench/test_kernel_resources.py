"""Occupancy is what CUDA's own header computes, and the rest is read from real machine code."""

from __future__ import annotations

import ctypes
import shutil
import struct
import subprocess
from collections.abc import Callable

import pytest

from bdflow_rt.bench.kernel_resources import LIMITS, all_kernels, instructions, measure, occupancy
from bdflow_rt.kernels.compile import ARCHITECTURES, Kernel, Resources, compile_kernel
from tests.support import slow_but
from tests.support_shim import _cuda_headers

SMALL = Kernel("haar.cuh", "bdflow::haar_forward<float, 1>")
SOURCE = """
#include <climits>
#include <cstddef>
#include <cstring>
#include <algorithm>
#include <cuda_occupancy.h>
extern "C" int blocks(int major, int minor, int warps, int limit, int shared, int reserved, int registers,
                      int used_shared, int threads) {
    cudaOccDeviceProp device;
    std::memset(static_cast<void*>(&device), 0, sizeof device);
    device.computeMajor = major; device.computeMinor = minor;
    device.maxThreadsPerBlock = 1024; device.maxThreadsPerMultiprocessor = 32 * warps;
    device.regsPerBlock = device.regsPerMultiprocessor = 65536; device.warpSize = 32;
    device.sharedMemPerBlock = 49152; device.sharedMemPerMultiprocessor = shared;
    device.sharedMemPerBlockOptin = shared - reserved; device.reservedSharedMemPerBlock = reserved;
    device.numSms = 1;
    cudaOccFuncAttributes kernel;
    kernel.maxThreadsPerBlock = 1024; kernel.numRegs = registers; kernel.sharedSizeBytes = used_shared;
    kernel.partitionedGCConfig = PARTITIONED_GC_OFF;
    cudaOccDeviceState state;
    state.carveoutConfig = 100;  // the most shared memory that the cache gives up
    cudaOccResult result;
    if (cudaOccMaxActiveBlocksPerMultiprocessor(&result, &device, &kernel, &state, threads, 0)) return -1;
    return std::min(result.activeBlocksPerMultiprocessor, limit);
}
"""


@pytest.fixture(scope="module")
def cuda_blocks(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., int]:
    """Resident blocks by cuda_occupancy.h."""
    headers = _cuda_headers()
    if shutil.which("g++") is None or headers is None:
        pytest.skip("needs g++ and CUDA's headers")
    folder = tmp_path_factory.mktemp("occupancy")
    (folder / "a.cc").write_text(SOURCE)
    command = ["g++", "-w", "-shared", "-fPIC", f"-I{headers}", str(folder / "a.cc"), "-o", str(folder / "a.so")]
    subprocess.run(command, check=True)
    return ctypes.CDLL(str(folder / "a.so")).blocks


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_occupancy_is_that_of_cudas_own_header(architecture: int, cuda_blocks: Callable[..., int]) -> None:
    limits = LIMITS[architecture]
    major, minor = divmod(architecture, 10)
    for threads in (32, 96, 128, 160, 256, 512, 1024):
        for registers in (8, 30, 32, 33, 40, 63, 64, 65, 80, 128):
            if registers * threads > 65536 or (threads == 1024 and registers > 64):
                continue
            for shared in (0, 1, 1000, 9216, 20_000, 48 << 10):
                used = Resources(registers=registers, shared_bytes=shared, stack_bytes=0, spill_bytes=0)
                wanted = cuda_blocks(
                    major, minor, limits.warps, limits.blocks, limits.shared_bytes, limits.shared_reserved,
                    registers, shared, threads,
                )  # fmt: skip
                found = occupancy(used, threads=threads, architecture=architecture)
                assert wanted > 0
                assert found == wanted * -(-threads // 32) / limits.warps, (threads, registers, shared)


def test_every_architecture_has_its_limits() -> None:
    assert tuple(LIMITS) == ARCHITECTURES


def test_kernels_of_all_modules_are_listed_once() -> None:
    kernels = all_kernels()
    assert len(set(kernels)) == len(kernels)
    assert {"haar.cuh", "boundary_mask.cuh", "ingest.cuh", "egress.cuh", "pack_bits.cuh"} <= {
        kernel.source for kernel in kernels
    }


@pytest.mark.parametrize("architecture", slow_but([120], [75, 90, 120]))
def test_machine_code_says_threads_and_instructions(architecture: int) -> None:
    pytest.importorskip("cupy")
    compiled = compile_kernel(SMALL, architecture)
    if instructions(compiled) is None:
        pytest.skip("nvdisasm is not installed")
    row = measure(SMALL, architecture)
    assert row["threads"] == 256
    # Eight instructions at the very least: 4 loads, 4 stores; a line of the listing has 16 bytes of code.
    assert 8 < row["instructions"] <= len(compiled.cubin) // 16


@pytest.mark.parametrize("kernel", {kernel.expression.partition("<")[0]: kernel for kernel in all_kernels()}.values())
def test_threads_are_those_of_the_launch_bounds(kernel: Kernel) -> None:
    """In the kernel's section of the machine code, attribute 5 (EIATTR_MAX_THREADS) has a size of 12 bytes: x, y, z."""
    pytest.importorskip("cupy")
    attribute = struct.pack("<BBH3I", 0x04, 0x05, 12, kernel.threads, 1, 1)
    assert attribute in compile_kernel(kernel, 90).cubin
