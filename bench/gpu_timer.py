"""Time of work on the GPU by CUDA events, with a cold L2 cache and the host far ahead; and what GPU it was.

Importing this needs no GPU.
"""

from __future__ import annotations

import statistics
import subprocess
import time
from collections.abc import Callable
from typing import Any

from bdflow_rt.evaluate.environment import installed_version
from bdflow_rt.interop import require_cuda

WARM_UPS = 3
SPIN = """
extern "C" __global__ void spin(long long cycles) {
    const long long start = clock64();
    while (clock64() - start < cycles) {}
}"""
"""A kernel that keeps the GPU busy for so many cycles."""
_CYCLES_PER_SECOND = 2e9
"""At least the clock of any GPU so far: the wait is never shorter than meant by more than a little."""
_QUERY = ("name", "driver_version", "clocks.sm", "clocks.mem", "clocks.max.sm", "clocks.max.mem", "power.limit")


class GpuTimer:
    """Times functions that queue work on the current stream of CuPy, which is the default stream, as torch's is.

    Before each run the L2 cache is overwritten, and the GPU is kept busy for longer than the host needs to queue the
    run, so that neither cached data nor the host's own speed is measured.

    Args:
        repeats: runs per function.

    Raises:
        CudaUnavailableError: no GPU, or no CuPy.
    """

    def __init__(self, *, repeats: int) -> None:
        require_cuda()
        import cupy

        self._repeats = repeats
        self._cupy = cupy
        self._spin = cupy.RawKernel(SPIN, "spin")
        self._flush = cupy.empty(2 * cupy.cuda.Device().attributes["L2CacheSize"], cupy.uint8)

    def time(self, function: Callable[[], Any]) -> dict[str, float]:
        """Median, fastest and spread (interquartile range) of a function's GPU time in microseconds."""
        cupy = self._cupy
        for _ in range(WARM_UPS):
            started = time.perf_counter()
            function()
            host_s = time.perf_counter() - started
            cupy.cuda.runtime.deviceSynchronize()
        cycles = cupy.int64((2 * host_s + 1e-4) * _CYCLES_PER_SECOND)
        events = [(cupy.cuda.Event(), cupy.cuda.Event()) for _ in range(self._repeats)]
        for index, (start, end) in enumerate(events):
            self._flush.fill(index % 256)
            self._spin((1,), (1,), (cycles,))
            start.record()
            function()
            end.record()
        cupy.cuda.runtime.deviceSynchronize()
        times = [1e3 * cupy.cuda.get_elapsed_time(start, end) for start, end in events]
        quarters = statistics.quantiles(times, n=4)
        return {"median_us": statistics.median(times), "min_us": min(times), "spread_us": quarters[2] - quarters[0]}

    def copy(self, size_bytes: int) -> dict[str, float]:
        """Time of a copy on the GPU that reads and writes `size_bytes` in all."""
        half = max(1, size_bytes // 2)
        source, target = (self._cupy.full(half, value, self._cupy.uint8) for value in (1, 2))
        stream = self._cupy.cuda.get_current_stream()
        return self.time(lambda: target.data.copy_from_device_async(source.data, half, stream))

    def nothing(self) -> dict[str, float]:
        """What the events measure with no work between them."""
        return self.time(lambda: None)


def gpu_environment() -> dict[str, Any]:
    """Name, size and software of the current GPU; plain JSON types.

    Raises:
        CudaUnavailableError: no GPU, or no CuPy.
    """
    require_cuda()
    import cupy

    device = cupy.cuda.Device()
    properties = cupy.cuda.runtime.getDeviceProperties(device.id)
    return {
        "name": properties["name"].decode(),
        "compute_capability": device.compute_capability,
        "multiprocessors": device.attributes["MultiProcessorCount"],
        "l2_bytes": device.attributes["L2CacheSize"],
        "memory_bytes": device.mem_info[1],
        "cuda_driver": cupy.cuda.runtime.driverGetVersion(),
        "nvrtc": ".".join(map(str, cupy.cuda.nvrtc.getVersion())),
        "versions": {
            name: found for name in ("cupy-cuda13x", "cupy-cuda12x", "triton") if (found := installed_version(name))
        },
        "nvidia_smi": _nvidia_smi(device.id),
    }


def _nvidia_smi(device: int) -> dict[str, str] | None:
    """Driver, clocks in MHz and power limit in W as nvidia-smi prints them; None where it is absent or fails."""
    command = ["nvidia-smi", f"--id={device}", f"--query-gpu={','.join(_QUERY)}", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return None
    return dict(zip(_QUERY, (field.strip() for field in done.stdout.split(",")), strict=False))
