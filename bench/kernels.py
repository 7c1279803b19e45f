"""Speed of every CUDA kernel against the copy bandwidth, and against what a user would run instead, in one run.

python -m bdflow_rt.bench.kernels --output bench/results/GPU/kernels.json

Bytes of a kernel are those that have to move: every input once, every output once. Per pixel of an RGB picture:

    haar_forward, haar_inverse   12 (float16) or 24 (float32)
    boundary_mask                4 (3 read, 1 written); with 4 x 4 cells 3 + 1/16
    sparse_magnitude             7 (3 read, 4 written)
    ingest, egress               9 (3 of uint8, 6 of float16 planes)
    ingest_nv12, egress_nv12     7.5 (1.5 of uint8, 6 of float16 planes)
    pack_bits, unpack_bits       1 + k/8 of a map of k bits

Times are the GPU's alone, by CUDA events, with a cold L2 cache. The fraction is the kernel's bytes per second over
those of a copy that reads and writes as many bytes, timed in the same way.
"""

from __future__ import annotations

import argparse
import functools
import pathlib
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from bdflow_rt import kernels
from bdflow_rt.bench import gpu_rivals
from bdflow_rt.bench.command import run_command, write_result
from bdflow_rt.bench.gpu_timer import GpuTimer, gpu_environment
from bdflow_rt.evaluate.environment import environment

REPEATS = 40
SIZES = {"32 x 1080p": (32, 1080, 1920), "1080p": (1, 1080, 1920), "4K": (1, 2160, 3840)}
QUICK_REPEATS = 3
QUICK_SIZES = {"2 x 62 x 94": (2, 62, 94)}
THRESHOLD = 50
_RIVALS_AT = ("32 x 1080p", "1080p")
"""Elsewhere they would only cost time; compiling torch takes most of the run."""
Rivals = Callable[..., dict[str, gpu_rivals.Rival]]


@dataclass(frozen=True)
class Case:
    """A kernel function with its inputs.

    Attributes:
        name: of the function, with the options that matter.
        function: called with the inputs and `out`.
        inputs: NumPy arrays, pictures along the first axis.
        rivals: called with the inputs as CuPy arrays.
        opencv: whether OpenCV does the same on the CPU.
    """

    name: str
    function: Callable[..., Any]
    inputs: tuple[NDArray[Any], ...]
    rivals: Rivals | None = None
    opencv: bool = False

    def run(self, inputs: tuple[Any, ...], out: tuple[Any, ...] | None = None) -> tuple[Any, ...]:
        """The outputs as a tuple, also where there is one."""
        given = out[0] if out is not None and len(out) == 1 else out
        result = self.function(*inputs, out=given)
        return result if isinstance(result, tuple) else (result,)


def pictures(n: int, height: int, width: int) -> NDArray[np.uint8]:
    """(N, H, W, 3) uint8: smooth shapes with grain, each picture the one before moved down."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (-(-height // 16), -(-width // 16), 3), np.uint8)
    smooth = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC).astype(np.float32)
    first = np.clip(smooth + rng.normal(0, 2, smooth.shape), 0, 255).astype(np.uint8)
    return np.stack([np.roll(first, 61 * index, axis=0) for index in range(n)])


def cases(n: int, height: int, width: int) -> Iterator[Case]:
    """Every kernel on n pictures; height and width are even."""
    crop = {"height": height, "width": width}
    rgb = pictures(n, height, width)
    planar = np.ascontiguousarray(rgb.transpose(0, 3, 1, 2)).astype(np.float16) / np.float16(255)
    yield Case("haar_forward float16", kernels.haar_forward, (planar,), gpu_rivals.haar_forward_rivals)
    yield Case("haar_forward float32", kernels.haar_forward, (planar.astype(np.float32),))
    bands = kernels.haar_forward(planar)
    yield Case("haar_inverse float16", kernels.haar_inverse, (bands,), gpu_rivals.haar_inverse_rivals)
    yield Case("haar_inverse float32", kernels.haar_inverse, (bands.astype(np.float32),))
    yield Case("ingest", kernels.ingest, (rgb,))
    yield Case("egress", functools.partial(kernels.egress, **crop), (bands,))
    nv12 = rgb[..., 0].copy(), np.ascontiguousarray(rgb[:, ::2, ::2, 1:])
    yield Case("ingest_nv12", kernels.ingest_nv12, nv12)
    yield Case("egress_nv12", functools.partial(kernels.egress_nv12, **crop), (bands,))
    mask = functools.partial(kernels.boundary_mask, threshold=THRESHOLD)
    rivals = functools.partial(gpu_rivals.mask_rivals, threshold=THRESHOLD)
    yield Case("boundary_mask 1 bit", mask, (rgb,), rivals, opencv=True)
    yield Case("boundary_mask 3 bits", functools.partial(mask, bits=3), (rgb,))
    yield Case("boundary_mask 1 bit, 4 x 4 cells", functools.partial(mask, cell=4), (rgb,))
    yield Case("boundary_mask 1 bit, planar float16", mask, (planar,))
    yield Case("sparse_magnitude", functools.partial(kernels.sparse_magnitude, threshold=THRESHOLD), (rgb,))
    levels = rgb[..., 0] >> 5
    yield Case("pack_bits 3 bits", functools.partial(kernels.pack_bits, bits=3), (levels,))
    packed = kernels.pack_bits(levels, bits=3)
    yield Case("unpack_bits 3 bits", functools.partial(kernels.unpack_bits, bits=3, **crop), (packed,))


def measure(case: Case, timer: GpuTimer, *, with_rivals: bool) -> dict[str, Any]:
    """Time, bytes, bandwidth and difference to the twin of one case; plain JSON types."""
    import cupy

    inputs = tuple(cupy.asarray(array, order="C") for array in case.inputs)
    outputs = case.run(inputs)
    wrong = wrong_values(case, outputs)
    size_bytes = sum(array.nbytes for array in (*inputs, *outputs))
    timed, copied = timer.time(lambda: case.run(inputs, outputs)), timer.copy(size_bytes)
    result = {
        "kernel": case.name,
        "bytes": size_bytes,
        "wrong_values": wrong,
        **timed,
        "gb_per_s": size_bytes / timed["median_us"] / 1e3,
        "copy_gb_per_s": size_bytes / copied["median_us"] / 1e3,
        "fraction_of_copy": copied["median_us"] / timed["median_us"],
    }
    if with_rivals and case.rivals is not None:
        result["rivals"] = _rivals(timer, functools.partial(case.rivals, *inputs))
    if with_rivals and case.opencv and len(case.inputs[0]) == 1:
        result["opencv_cpu_us"] = _opencv_us(case.inputs[0][0])
    return result


def wrong_values(case: Case, outputs: tuple[Any, ...]) -> int:
    """How many values of the first and last picture differ from the NumPy twin's."""
    count = len(case.inputs[0])
    wrong = 0
    for index in {0, count - 1}:
        one = slice(index, index + 1)
        wanted = case.run(tuple(array[one] for array in case.inputs))
        wrong += sum(
            int(np.count_nonzero(found[one].get() != values)) for found, values in zip(outputs, wanted, strict=True)
        )
    return wrong


def _rivals(timer: GpuTimer, make: Callable[[], dict[str, gpu_rivals.Rival]]) -> dict[str, Any]:
    try:
        return {name: _rival(timer, call) for name, call in make().items()}
    except Exception as error:  # a rival's library is missing, or it ran out of memory
        return {"all": {"failed": f"{type(error).__name__}: {str(error)[:200]}"}}


def _rival(timer: GpuTimer, call: gpu_rivals.Rival) -> dict[str, Any]:
    try:
        return timer.time(call)
    except Exception as error:  # another library's failure is a result, and must not cost ours
        return {"failed": f"{type(error).__name__}: {str(error)[:200]}"}


def _opencv_us(frame: NDArray[np.uint8]) -> float:
    times = []
    for _ in range(10):
        started = time.perf_counter()
        gpu_rivals.opencv_mask(frame, threshold=THRESHOLD)
        times.append(1e6 * (time.perf_counter() - started))
    return float(np.median(times[2:]))


def line(size: str, result: dict[str, Any]) -> str:
    """One line of the console's table."""
    error = "exact" if result["wrong_values"] == 0 else f"{result['wrong_values']} wrong"
    return (
        f"{size:12} {result['kernel']:36} {error:>12} {result['median_us']:10.1f} us "
        f"{result['gb_per_s']:8.0f} GB/s {100 * result['fraction_of_copy']:6.1f} % of copy"
    )


def measure_all(*, quick: bool) -> dict[str, Any]:
    """Everything that the JSON file holds; prints a line per kernel and size."""
    timer = GpuTimer(repeats=QUICK_REPEATS if quick else REPEATS)
    result = {**environment(), "gpu": gpu_environment(), "event_overhead": timer.nothing(), "sizes": {}}
    for size, shape in (QUICK_SIZES if quick else SIZES).items():
        rows = []
        for case in cases(*shape):
            rows.append(measure(case, timer, with_rivals=size in _RIVALS_AT))
            sys.stdout.write(line(size, rows[-1]) + "\n")
            for name, timed in rows[-1].get("rivals", {}).items():
                said = timed.get("failed") or f"{timed['median_us']:10.1f} us"
                sys.stdout.write(f"{'':12}   {name}: {said}\n")
            sys.stdout.flush()
        result["sizes"][size] = {"shape": list(shape), "kernels": rows}
    result["gpu_after"] = gpu_environment()["nvidia_smi"]
    return result


def main() -> None:
    """Measure and write one JSON file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=pathlib.Path, help="JSON file to write")
    parser.add_argument("--quick", action="store_true", help="one small batch, 3 repeats: does everything run")
    args = parser.parse_args()
    result = measure_all(quick=args.quick)
    if args.output:
        write_result(args.output, result)


if __name__ == "__main__":
    sys.exit(run_command("kernels", main))
