"""The boundary-aware mask on the CPU against OpenCV's chain of cvtColor, GaussianBlur and Canny, in one run.

python -m bdflow_rt.bench.mask_cpu --output bench/results/mask_cpu.json

Both are called in turn, so that whatever else the machine does meets both alike.
"""

from __future__ import annotations

import argparse
import functools
import json
import pathlib
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import cv2

from bdflow_rt import kernels
from bdflow_rt.bench.command import run_command, write_result
from bdflow_rt.bench.environment import environment
from bdflow_rt.bench.gpu_rivals import opencv_mask
from bdflow_rt.bench.kernels import THRESHOLD, pictures

BITS = (1, 2, 3, 8)
SIZE = (1080, 1920)
ROUNDS = 40
WARM_UPS = 3


def interleaved(functions: dict[str, Callable[[], Any]], *, rounds: int) -> dict[str, dict[str, float]]:
    """Median, fastest and spread (interquartile range) in milliseconds of functions that take turns."""
    times: dict[str, list[float]] = {name: [] for name in functions}
    for index in range(WARM_UPS + rounds):
        for name, function in functions.items():
            started = time.perf_counter()
            function()
            if index >= WARM_UPS:
                times[name].append(1e3 * (time.perf_counter() - started))
    quarters = {name: statistics.quantiles(values, n=4) for name, values in times.items()}
    return {
        name: {
            "median_ms": statistics.median(values),
            "min_ms": min(values),
            "spread_ms": quarters[name][2] - quarters[name][0],
        }
        for name, values in times.items()
    }


def measure(*, height: int, width: int, rounds: int) -> dict[str, Any]:
    """Masks of 1, 2, 3 and 8 bits and OpenCV's chain on one picture, and each one's time over OpenCV's."""
    (image,) = pictures(1, height, width)
    functions: dict[str, Callable[[], Any]] = {"opencv": lambda: opencv_mask(image, threshold=THRESHOLD)}
    for bits in BITS:
        functions[f"{bits}"] = functools.partial(kernels.boundary_mask, image, threshold=THRESHOLD, bits=bits)
    timed = interleaved(functions, rounds=rounds)
    opencv = timed.pop("opencv")
    return {
        "size": [width, height],
        "threads": cv2.getNumThreads(),
        "edge_share": float(kernels.boundary_mask(image, threshold=THRESHOLD).mean()),
        "opencv": opencv,
        "bits": {
            name: {**times, "to_opencv": times["median_ms"] / opencv["median_ms"]} for name, times in timed.items()
        },
    }


def main() -> None:
    """Measure and write one JSON file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=pathlib.Path)
    args = parser.parse_args()
    result = {**environment(), **measure(height=SIZE[0], width=SIZE[1], rounds=ROUNDS)}
    if args.output:
        write_result(args.output, result)
    sys.stdout.write(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(run_command("mask_cpu", main))
