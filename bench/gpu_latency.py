"""Latency of both directions on a GPU through `Rescaler`, and inside: CUDA graphs, eager float16, torch.compile.

    python -m bdflow_rt.bench.gpu_latency --output bench/results/GPU/latency.json [--quick]

Frames are on the GPU before and after. There are two times: that of the GPU by events, with all work queued ahead, and
that of the host from the call to the end of the work, which is what one frame at a time takes. The arithmetic limit is
the convolutions' multiply-accumulates at the rate that a large float16 matrix product reached in the same run.
"""

from __future__ import annotations

import argparse
import pathlib
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from bdflow_rt.bench.command import run_command, write_result
from bdflow_rt.bench.gpu_timer import GpuTimer, gpu_environment
from bdflow_rt.engines.torch.graph import GraphedWire
from bdflow_rt.evaluate.environment import environment
from bdflow_rt.models.io import load_model
from bdflow_rt.rescaler import Rescaler
from bdflow_rt.zoo import find_model
from bdflow_rt.zoo.card import ModelCard
from bdflow_rt.zoo.interface import Direction

SIZES = {"512": (512, 512), "1080p": (1080, 1920), "4K": (2160, 3840)}
BATCHES = {"512": (1, 8), "1080p": (1, 8), "4K": (1,)}
DIRECTIONS: tuple[Direction, ...] = ("downscale", "upscale")
_WALL_REPEATS = 15
_PRODUCT = 8192
"""Side of the matrices whose product is the arithmetic limit."""


def main(arguments: list[str] | None = None) -> int:
    """Measure, print one line each, write the JSON, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bdflow_rt.bench.gpu_latency", description="latency on a GPU")
    parser.add_argument("--model", default="bdflow-x4", help="name or folder of a model")
    parser.add_argument("--output", type=pathlib.Path, required=True, metavar="FILE", help="the JSON file")
    parser.add_argument("--quick", action="store_true", help="512 x 512 alone, few repeats")
    parser.add_argument(
        "--compiled", nargs="*", default=["1080p"], choices=SIZES, metavar="SIZE",
        help=f"of the sizes {', '.join(SIZES)}, those to measure torch.compile at for one frame, which takes minutes",
    )  # fmt: skip
    args = parser.parse_args(arguments)
    return run_command("gpu_latency", lambda: _measure_all(args))


def _measure_all(args: argparse.Namespace) -> None:
    model, output, quick = args.model, args.output, args.quick
    timer = GpuTimer(repeats=10 if quick else 50)
    card = find_model(model)
    limit = _arithmetic_limit(timer)
    result = {
        **environment(card),
        "gpu": gpu_environment(),
        "tflop_per_s": limit,
        "rows": [],
    }
    for name, (height, width) in SIZES.items():
        if quick and name != "512":
            continue
        for batch in BATCHES[name]:
            for direction in DIRECTIONS:
                compiled = batch == 1 and name in args.compiled
                rows = measure(timer, card, direction, batch=batch, height=height, width=width, compiled=compiled)
                macs = batch * card.config.macs(height, width)
                for row in rows:
                    if "median_us" in row:
                        row["frames_per_s"] = 1e6 * batch / row["wall_us"]
                        row["fraction_of_arithmetic"] = 2 * macs / (limit * 1e6 * row["median_us"])
                    result["rows"].append({"size": name, "batch": batch, "direction": direction, **row})
                    sys.stderr.write(f"{result['rows'][-1]}\n")
                write_result(output, result)


def measure(
    timer: GpuTimer,
    card: ModelCard,
    direction: Direction,
    *,
    batch: int,
    height: int,
    width: int,
    compiled: bool = True,
) -> list[dict[str, Any]]:
    """GPU time of one direction at one size by every way; a way that fails says why and costs no other.

    Args:
        timer: on the current GPU.
        card: of the model.
        direction: which one.
        batch, height, width: of the HR frames.
        compiled: whether torch.compile, which takes most of the time, is measured too.
    """
    inputs = frames(card, direction, batch=batch, height=height, width=width)

    def flow(*, kernels: bool, compiled: bool = False) -> GraphedWire:
        return GraphedWire(load_model(card).cuda(), direction, use_kernels=kernels, compiled=compiled)

    ways: dict[str, Callable[[], Callable[[Mapping[str, Tensor]], Any]]] = {
        "rescaler": lambda: _through_rescaler(card, direction, batch=batch, height=height, width=width),
        "cuda_graph": lambda: flow(kernels=True).run,
        "cuda_graph_without_kernels": lambda: flow(kernels=False).run,
        "eager": lambda: flow(kernels=True).compute,
        "eager_without_kernels": lambda: flow(kernels=False).compute,
        "compiled_cuda_graph": lambda: flow(kernels=True, compiled=True).run,
        "torch_compile": lambda: torch.compile(flow(kernels=False).compute, dynamic=False),
    }
    rows = []
    for name, make in ways.items():
        if "compile" in name and not compiled:
            continue
        rows.append({"way": name, **_time(timer, make, inputs)})
        torch.cuda.empty_cache()
    return rows


def _through_rescaler(
    card: ModelCard, direction: Direction, *, batch: int, height: int, width: int
) -> Callable[[Mapping[str, Tensor]], Any]:
    """What users call: a job for a single frame, a batch for several. Packets are those of random frames."""
    rescaler = Rescaler(card, device="cuda", precision="fp16")
    if direction == "downscale" and batch == 1:
        return lambda inputs: rescaler.submit_downscale(inputs["image"][0])
    if direction == "downscale":
        return lambda inputs: rescaler.downscale_batch(inputs["image"])
    packets = rescaler.downscale_batch(frames(card, "downscale", batch=batch, height=height, width=width)["image"])
    if batch == 1:
        return lambda inputs: rescaler.submit_upscale(packets[0])
    return lambda inputs: rescaler.upscale_batch(packets)


def _time(
    timer: GpuTimer, make: Callable[[], Callable[[Mapping[str, Tensor]], Any]], inputs: Mapping[str, Tensor]
) -> dict[str, Any]:
    """A function of its own: what a way has allocated goes when it returns, before the next one allocates."""
    try:
        call = make()
        return {**timer.time(lambda: call(inputs)), "wall_us": _wall_us(lambda: call(inputs))}
    except Exception as error:  # a failure of one way is a result, and must not cost the others
        return {"failed": f"{type(error).__name__}: {str(error)[:300]}"}


def _wall_us(work: Callable[[], Any]) -> float:
    """Median time from the call to the end of the work on the GPU, in microseconds."""
    times = []
    for _ in range(_WALL_REPEATS):
        torch.cuda.synchronize()
        started = time.perf_counter()
        work()
        torch.cuda.synchronize()
        times.append(1e6 * (time.perf_counter() - started))
    return statistics.median(times)


def frames(card: ModelCard, direction: Direction, *, batch: int, height: int, width: int) -> dict[str, Tensor]:
    """Random frames, or packets of them, as the direction takes them, on the GPU."""

    def random(*shape: int, top: int = 256) -> Tensor:
        return torch.randint(0, top, shape, dtype=torch.uint8, device="cuda")

    scale, bits = card.interface.scale, card.interface.bits
    if direction == "downscale":
        return {"image": random(batch, height, width, 3)}
    inputs = {"lr": random(batch, height // scale, width // scale, 3)}
    if bits:
        inputs["boundary"] = random(batch, height // scale, width // scale, top=1 << bits)
    return inputs


def _arithmetic_limit(timer: GpuTimer) -> float:
    """TFLOP/s of a float16 matrix product on random data."""
    a, b = (torch.randn(_PRODUCT, _PRODUCT, dtype=torch.float16, device="cuda") for _ in range(2))
    return 2 * _PRODUCT**3 / timer.time(lambda: a @ b)["median_us"] / 1e6


if __name__ == "__main__":
    sys.exit(main())
