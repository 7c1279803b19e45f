"""Milliseconds per training step, from the plainest way to the one that is used, in turns within one run.

    python -m bdflow_rt.bench.training_speed psnr-x4 --data photos/ --output bench/results/training_speed.json

Beside it the crops per second that one worker process cuts: as long as these are more than training takes, data costs
nothing.
"""

from __future__ import annotations

import argparse
import dataclasses
import pathlib
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import torch

from bdflow_rt.bench.command import run_command, write_result
from bdflow_rt.bench.environment import environment
from bdflow_rt.models.bdflow import BDFlow
from bdflow_rt.training.config import TrainConfig
from bdflow_rt.training.data import CropBatches, PicturePool
from bdflow_rt.training.graphed import Gradients, GraphedGradients
from bdflow_rt.training.optimizers import Optimizer
from bdflow_rt.training.step import TrainStep

LAYOUT = torch.channels_last
WAYS: dict[str, tuple[torch.memory_format, dict[str, Any]]] = {
    "float32, planes, Adam": (
        torch.contiguous_format,
        {"precision": "fp32", "optimizer": "adam", "execution": "eager"},
    ),
    "float32, channels last, Adam": (LAYOUT, {"precision": "fp32", "optimizer": "adam", "execution": "eager"}),
    "bfloat16, channels last, Adam": (LAYOUT, {"precision": "bf16", "optimizer": "adam", "execution": "eager"}),
    "bfloat16, channels last, Muon": (LAYOUT, {"precision": "bf16", "optimizer": "muon", "execution": "eager"}),
    "the same, compiled": (LAYOUT, {"precision": "bf16", "optimizer": "muon", "execution": "compiled"}),
    "bfloat16, channels last, Muon, CUDA graph": (
        LAYOUT,
        {"precision": "bf16", "optimizer": "muon", "execution": "graphed"},
    ),
    "float32, channels last, Muon, CUDA graph": (
        LAYOUT,
        {"precision": "fp32", "optimizer": "muon", "execution": "graphed"},
    ),
}
"""Memory format of weights and crops, and what replaces the configuration's; CUDA graphs are for a GPU."""


def measure(
    config: TrainConfig, crops: CropBatches, *, device: str, repeats: int, compiled: bool = True
) -> dict[str, dict[str, float]]:
    """Median, least and largest milliseconds per step of every way; the ways take turns, so that all see the same load.

    The first step of each way, which compiles and allocates, is not counted. Without `compiled`, that way is left out.
    """
    # A graph draws no Z.
    left_out = {"graphed"} if device == "cpu" or config.temperature else set()
    left_out |= set() if compiled else {"compiled"}
    # As in a graph, whose convolutions are chosen before the capture.
    torch.backends.cudnn.benchmark = True
    steps = {
        name: _step(dataclasses.replace(config, **change), layout, device=device)
        for name, (layout, change) in WAYS.items()
        if change["execution"] not in left_out
    }
    spent: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(repeats + 1):
        batch = crops[number].to(device)
        for name, step in steps.items():
            _wait(device)
            start = time.perf_counter()
            step(batch, number)
            _wait(device)
            spent[name].append(1000 * (time.perf_counter() - start))
    return {
        name: {"median_ms": statistics.median(times[1:]), "min_ms": min(times[1:]), "max_ms": max(times[1:])}
        for name, times in spent.items()
    }


def crops_per_second(crops: CropBatches, *, batch: int, seconds: float = 2.0) -> float:
    """What one process cuts from the pool, once its pages are in memory."""
    for warm in range(20):
        crops[warm]
    count, start = 0, time.perf_counter()
    while (spent := time.perf_counter() - start) < seconds:
        crops[count % 20]
        count += 1
    return count * batch / spent


def _step(config: TrainConfig, layout: torch.memory_format, *, device: str) -> Callable[[torch.Tensor, int], None]:
    torch.manual_seed(config.seed)
    model = BDFlow(config.model).to(device)
    for parameter in model.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=layout)
    both_ways = TrainStep(model, config)
    kind = GraphedGradients if config.execution == "graphed" else Gradients
    gradients = kind(both_ways, clip=config.clip)
    optimizer = Optimizer(config.optimizer, model, learning_rate=config.learning_rate)

    def step(crops: torch.Tensor, number: int) -> None:
        gradients(crops.contiguous(memory_format=layout), 0.0, number)
        optimizer.step(config.learning_rate)

    return step


def _wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


def main() -> None:
    """Measure and write one JSON file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", help="a TOML file, or the name of a shipped configuration")
    parser.add_argument("--data", type=pathlib.Path, action="append", required=True, help="folder or .tar; repeat")
    parser.add_argument("--cache", type=pathlib.Path, default=pathlib.Path("runs/cache"))
    parser.add_argument("--output", type=pathlib.Path, required=True)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--without-compiled", action="store_true", help="leave out torch.compile, which takes minutes")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    config = TrainConfig.find(args.config)
    pool = PicturePool(args.data, cache=args.cache)
    crops = CropBatches(pool, crop=config.crop, batch=config.batch, seed=config.seed)
    result = {
        **environment(),
        "config": config.to_dict(),
        "device": torch.cuda.get_device_name() if args.device.startswith("cuda") else "cpu",
        "threads": args.threads,
        "ways": measure(config, crops, device=args.device, repeats=args.repeats, compiled=not args.without_compiled),
        "crops_per_second": crops_per_second(crops, batch=config.batch),
    }
    write_result(args.output, result)
    for name, one in result["ways"].items():
        sys.stdout.write(f"{name:<44}{one['median_ms']:8.1f} ms ({one['min_ms']:.1f} to {one['max_ms']:.1f})\n")


if __name__ == "__main__":
    sys.exit(run_command("training_speed", main))
