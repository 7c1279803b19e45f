"""Latency of both directions: the default engine against what a user would pick instead, in one run.

python -m bdflow_rt.bench.latency --model bdflow-x4 --size 512x512 --output bench/results/cpu/latency.json
python -m bdflow_rt.bench.latency --model bdflow-x4 --size 1920x1080 --only openvino --repeats 5
"""

from __future__ import annotations

import argparse
import functools
import json
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from bdflow_rt.bench.command import run_command, write_result
from bdflow_rt.containers.image import write_picture
from bdflow_rt.engines.engine import Engine
from bdflow_rt.engines.openvino import OpenVINOEngine
from bdflow_rt.engines.select import NAMED_LOSS_DB, computes_in
from bdflow_rt.evaluate.environment import environment
from bdflow_rt.options import Precision
from bdflow_rt.picture import Picture, sample_picture
from bdflow_rt.quiet import import_quietly
from bdflow_rt.rescaler import Rescaler
from bdflow_rt.zoo import ModelCard, find_model

REPEATS = 15
WARM_UPS = 3


def time_call(function: Callable[[], Any], *, repeats: int = REPEATS, warm_ups: int = WARM_UPS) -> dict[str, float]:
    """Median, fastest and spread (interquartile range) of a call in milliseconds, after warm-up."""
    for _ in range(warm_ups):
        function()
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        function()
        times.append((time.perf_counter() - started) * 1e3)
    quarters = statistics.quantiles(times, n=4)
    return {"median_ms": statistics.median(times), "min_ms": min(times), "spread_ms": quarters[2] - quarters[0]}


def engines(
    card: ModelCard, height: int, width: int, *, only: str | None = None, repeats: int = REPEATS
) -> dict[str, Any]:
    """Down and up of one picture on OpenVINO, ONNX Runtime and eager PyTorch, in float32 on all cores.

    OpenVINO in bfloat16 as well, where the model's card and this processor allow it; or `only` one of them.
    """
    image = np.random.default_rng(0).integers(0, 256, (1, height, width, 3), np.uint8)
    results: dict[str, Any] = {}
    ways = dict(_WAYS)
    if _takes_bf16(card):
        ways["openvino_bf16"] = functools.partial(_openvino, precision="bf16")
    timed_call = functools.partial(time_call, repeats=repeats, warm_ups=min(WARM_UPS, repeats))
    for name, make in ways.items():
        if only not in (None, name):
            continue
        down, up = make(card, "downscale"), make(card, "upscale")
        packet = down({"image": image})
        timed = {
            "downscale": timed_call(functools.partial(down, {"image": image})),
            "upscale": timed_call(functools.partial(up, packet)),
        }
        results[name] = {**timed, "both_median_ms": sum(one["median_ms"] for one in timed.values())}
    return results


def matrix_product(size: int = 3072) -> float:
    """Multiply-accumulates per second of a square float32 matrix product in PyTorch on all cores.

    What convolutions could at best come near to: products of matrices this large keep the processor's units busy.
    """
    import torch

    a, b = torch.rand(2, size, size)
    return size**3 / (time_call(lambda: torch.mm(a, b), repeats=5)["min_ms"] * 1e-3)


def refine_step(card: ModelCard, height: int, width: int) -> dict[str, float]:
    """Milliseconds of one step of refinement by precision: what four steps more take, a quarter of it."""
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    found = {}
    for precision in ("fp32", "bf16") if _takes_bf16(card) else ("fp32",):
        with Rescaler(card, precision=precision) as rescaler:
            few, more = (
                time_call(functools.partial(rescaler.downscale, image, refine=steps), repeats=3, warm_ups=1)
                for steps in (1, 5)
            )
        found[precision] = (more["median_ms"] - few["median_ms"]) / 4
    return found


def cold_start(card: ModelCard, *, height: int, width: int) -> dict[str, float]:
    """Seconds from starting the command to the written file, each way, for a photograph-like picture."""
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        source, small, restored = (str(folder / file) for file in ("hr.png", "lr.png", "restored.png"))
        write_picture(source, Picture(sample_picture(height, width)))
        command = [sys.executable, "-m", "bdflow_rt"]
        started = time.perf_counter()
        subprocess.run([*command, "downscale", source, "-o", small, "-m", card.id, "-q"], check=True)
        middle = time.perf_counter()
        subprocess.run([*command, "upscale", small, "-o", restored, "-q"], check=True)
        return {"downscale_s": middle - started, "upscale_s": time.perf_counter() - middle}


def import_time() -> float:
    """Median seconds of `import bdflow_rt` in a fresh interpreter, the interpreter's own start not counted."""
    code = "import time; t = time.perf_counter(); import bdflow_rt; print(time.perf_counter() - t)"
    runs = [subprocess.run([sys.executable, "-c", code], check=True, capture_output=True).stdout for _ in range(5)]
    return statistics.median(float(run) for run in runs)


def _takes_bf16(card: ModelCard) -> bool:
    return card.precisions.get("bf16", NAMED_LOSS_DB + 1) <= NAMED_LOSS_DB and computes_in("bf16")


def _openvino(card: ModelCard, direction: Any, *, precision: Precision = "fp32") -> Callable[[dict[str, Any]], Any]:
    return OpenVINOEngine(card, direction, precision=precision).run


def _torch(card: ModelCard, direction: Any) -> Callable[[dict[str, Any]], Any]:
    from bdflow_rt.engines.torch.engine import TorchEngine

    engine: Engine = TorchEngine(card, direction)
    return engine.run


def _onnxruntime(card: ModelCard, direction: Any) -> Callable[[dict[str, Any]], Any]:
    onnxruntime = import_quietly("onnxruntime")
    options = onnxruntime.SessionOptions()
    # Else int8 weights are made floating-point in every run; its constant folding leaves them alone otherwise.
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    session = onnxruntime.InferenceSession(str(card.check_graph(direction)), options, ["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs() if output.name != "mean"]
    return lambda inputs: dict(zip(names, session.run(names, inputs), strict=True))


_WAYS = {"openvino": _openvino, "onnxruntime": _onnxruntime, "torch_eager": _torch}
"""Engine -> what makes a direction of it."""


def _size(text: str) -> tuple[int, int]:
    """Width and height from "512x384", for argparse."""
    if not re.fullmatch(r"[1-9]\d{0,4}x[1-9]\d{0,4}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no size such as 512x384")
    width, height = map(int, text.split("x"))
    return width, height


def main() -> None:
    """Measure and write one JSON file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="bdflow-x4")
    parser.add_argument("--size", type=_size, default="512x512", help="HR width x height, multiples of the scale")
    parser.add_argument("--only", choices=_WAYS, help="this engine alone, and nothing of refinement and start-up")
    parser.add_argument("--repeats", type=int, choices=range(2, 101), metavar="N", default=REPEATS, help="timed calls")
    parser.add_argument("--output", type=pathlib.Path)
    args = parser.parse_args()
    width, height = args.size
    card = find_model(args.model)
    measured = engines(card, height, width, only=args.only, repeats=args.repeats)
    result = {
        **environment(card),
        "size": [width, height],
        "macs": card.config.macs(height, width),
        "matrix_product_macs_per_s": matrix_product(),
        "engines": measured,
    }
    if args.only is None:
        both = {name: timed["both_median_ms"] for name, timed in measured.items()}
        result["refine_step_ms"] = refine_step(card, height, width)
        result["openvino_to_torch_eager"] = both["openvino"] / both["torch_eager"]
        result["import_s"] = import_time()
        result["cold_start_1mp"] = cold_start(card, height=1000, width=1000)
    if args.output:
        write_result(args.output, result)
    sys.stdout.write(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(run_command("latency", main))
