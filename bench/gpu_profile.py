"""What the GPU spends its time on in both directions through PyTorch: kernels by time, from torch's profiler.

    python -m bdflow_rt.bench.gpu_profile --output bench/results/GPU/profile.json [--model bdflow-x4]

One frame of 1080p as a CUDA graph (`engines.torch_graph`), in the GPU's memory before and after.
"""

from __future__ import annotations

import argparse
import pathlib
import sys
from typing import Any

import torch
from torch.autograd import DeviceType  # type: ignore[attr-defined]
from torch.profiler import ProfilerActivity, profile

from bdflow_rt.bench.command import run_command, write_result
from bdflow_rt.bench.gpu_latency import DIRECTIONS, SIZES, frames
from bdflow_rt.bench.gpu_timer import gpu_environment
from bdflow_rt.engines.torch.graph import GraphedWire
from bdflow_rt.evaluate.environment import environment
from bdflow_rt.models.io import load_model
from bdflow_rt.zoo import find_model
from bdflow_rt.zoo.card import ModelCard
from bdflow_rt.zoo.interface import Direction

RUNS = 5
NAMED = 22
"""Kernels that are listed by name, those with the most time."""


def main(arguments: list[str] | None = None) -> int:
    """Profile, print one line per kernel, write the JSON, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bdflow_rt.bench.gpu_profile", description="kernels by time")
    parser.add_argument("--model", default="bdflow-x4", help="name or folder of a model")
    parser.add_argument("--output", type=pathlib.Path, required=True, metavar="FILE", help="the JSON file")
    parser.add_argument("--quick", action="store_true", help="512 x 512")
    args = parser.parse_args(arguments)
    return run_command("gpu_profile", lambda: _profile_all(args.model, "512" if args.quick else "1080p", args.output))


def _profile_all(model: str, size: str, output: pathlib.Path) -> None:
    card = find_model(model)
    result: dict[str, Any] = {
        **environment(card),
        "gpu": gpu_environment(),
        "size": size,
    }
    result["directions"] = {direction: kernels_of(card, direction, size=size) for direction in DIRECTIONS}
    write_result(output, result)
    for direction, one in result["directions"].items():
        sys.stdout.write(f"{direction}: {one['total_us']:.0f} us\n")
        for kernel in one["kernels"]:
            sys.stdout.write(f"{kernel['us']:9.1f} us {kernel['launches']:5.0f} x  {kernel['name']}\n")


def kernels_of(card: ModelCard, direction: Direction, *, size: str) -> dict[str, Any]:
    """Time of all kernels of a run in microseconds, and of those with the most by name; plain JSON types."""
    height, width = SIZES[size]
    inputs = frames(card, direction, batch=1, height=height, width=width)
    flow = GraphedWire(load_model(card).cuda(), direction)
    for _ in range(2):
        flow.run(inputs)
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiler:
        for _ in range(RUNS):
            flow.run(inputs)
        torch.cuda.synchronize()
    found = [event for event in profiler.key_averages() if event.device_type == DeviceType.CUDA]
    found.sort(key=lambda event: -event.device_time_total)
    return {
        "total_us": sum(event.device_time_total for event in found) / RUNS,
        "kernels": [
            {"name": event.key[:150], "us": event.device_time_total / RUNS, "launches": event.count / RUNS}
            for event in found[:NAMED]
        ],
    }


if __name__ == "__main__":
    sys.exit(main())
