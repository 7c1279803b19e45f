"""The tables about time and size: of pictures, commands, kernels and engines, on CPUs and GPUs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from bdflow_rt.cli.output import markdown
from tools.measured import read, read_all

WAYS = {
    "cuda_graph": "float16, CUDA graph",
    "eager_without_kernels": "float16, eager, PyTorch alone",
    "torch_compile": "float16, torch.compile",
    "compiled_cuda_graph": "float16, torch.compile in a CUDA graph",
}
"""Ways of `bench.gpu_latency` that are shown, by their names in the table."""


def latency_table() -> list[str]:
    """Down and up of one picture per engine (`latency/*.json`)."""
    heads = [
        "model", "HR size", "engine", "down", "up", "frames/s, slower direction", "of a matrix product", "processor",
    ]  # fmt: skip
    return markdown(heads, (row for result in read_all("latency/*.json") for row in latency_rows(result)))


def latency_rows(result: dict[str, Any]) -> Iterator[list[str]]:
    """The rows of `latency_table` of one result."""
    for name, timed in result["engines"].items():
        down, up = timed["downscale"]["median_ms"], timed["upscale"]["median_ms"]
        share = _product_share(result, name)
        yield [result["model"], _size(result), name, f"{down:.0f} ms", f"{up:.0f} ms", f"{1000 / max(down, up):.1f}",
               share, _processor(result)]  # fmt: skip


def _product_share(result: dict[str, Any], engine: str) -> str:
    """Multiply-accumulates per second, both ways, by those of a float32 matrix product: for float32, where measured."""
    if "matrix_product_macs_per_s" not in result or engine == "openvino_bf16":
        return "-"
    reached = 2 * result["macs"] / (result["engines"][engine]["both_median_ms"] * 1e-3)
    return f"{reached / result['matrix_product_macs_per_s']:.0%}"


def _size(result: dict[str, Any]) -> str:
    return " x ".join(map(str, result["size"]))


def _processor(result: dict[str, Any]) -> str:
    return f"{result['cpu']}, {result['cores']} cores"


def command_table() -> list[str]:
    """What the command takes from its start to the written file (`latency/*.json`), once per model."""
    results = {one["model"]: one for one in read_all("latency/*.json") if "cold_start_1mp" in one}
    rows = (
        [model, *(f"{one['cold_start_1mp'][f'{way}_s']:.1f} s" for way in ("downscale", "upscale")), _processor(one)]
        for model, one in results.items()
    )
    return markdown(["model", "`bdflow downscale`", "`bdflow upscale`", "processor"], rows)


def refine_table() -> list[str]:
    """What a step of refinement takes on a CPU (`latency/*.json`)."""
    rows = (
        [
            one["model"], _size(one), precision, f"{step_ms:,.0f} ms",
            f"{one['engines']['openvino_bf16' if precision == 'bf16' else 'openvino']['upscale']['median_ms']:.0f} ms",
            _processor(one),
        ]
        for one in read_all("latency/*.json")
        for precision, step_ms in one.get("refine_step_ms", {}).items()
    )  # fmt: skip
    return markdown(["model", "HR size", "precision", "a step", "upscale with openvino", "processor"], rows)


def resources_table() -> list[str]:
    """Registers per thread and share of the warps that can be resident, per kernel and architecture."""
    kernels = read("kernel_resources.json")["kernels"]
    architectures = list(next(iter(kernels.values())))
    rows = []
    for name, per in kernels.items():
        cells = [f"{one['registers']}, {100 * one['occupancy']:.0f} %" for one in per.values()]
        shared = max(one["shared_bytes"] for one in per.values())
        threads = next(iter(per.values()))["threads"]
        rows.append([f"`{name}`", f"{shared:,} B", str(threads), *cells, str(per["90"]["instructions"])])
    heads = ["kernel", "shared memory", "threads", *(f"sm_{one}" for one in architectures), "instructions"]
    return markdown(heads, rows)


def spills() -> list[str]:
    """One sentence: how many builds there are, and how many of them spill."""
    result = read("kernel_resources.json")
    builds = [one for per in result["kernels"].values() for one in per.values()]
    spilling = sum(1 for one in builds if one["spill_bytes"] or one["stack_bytes"])
    return [f"Of {len(builds)} builds by NVRTC {result['nvrtc']}, {spilling or 'none'} spill registers or use a stack."]


def engines_table() -> list[str]:
    """Build seconds and size of every TensorRT-RTX engine, and what its network is made of (`engines.json`)."""
    result = read("engines.json")
    heads = [
        "scale", "direction", "graph", "build", "plan", "weights, float32", "layers of the network",
        "float16 convolutions", "float32 islands", "shape arithmetic",
    ]  # fmt: skip
    rows = (
        [
            f"x{one['scale']}", one["direction"], one["kind"], f"{one['median_s']:.2f} s",
            f"{one['plan_bytes'] / 1e6:.1f} MB", f"{one['weights_bytes'] / 1e6:.1f} MB", str(one["network_layers"]),
            *(str(one["precision"][name]) for name in ("learned_convolutions", "island_layers", "shape_layers")),
        ]
        for one in result["engines"]
    )  # fmt: skip
    machine = f"TensorRT-RTX {result['tensorrt_rtx']}, {_processor(result)}"
    return [f"Sizes {result['profile']}; {machine}.", "", *markdown(heads, rows)]


def kernels_table() -> list[str]:
    """Every kernel on every GPU that was measured (`GPU/kernels.json`), but those of `mask_table`, which are newer."""
    if not (measured := read_all("*/kernels.json")):
        return ["**Not yet measured** on a GPU: `make gpu` does it."]
    newer = {(result["gpu"]["name"], row["kernel"]) for result in read_all("*/mask.json") for row in result["rows"]}
    rows = (
        [
            result["gpu"]["name"], size, one["kernel"], f"{one['median_us']:,.1f} µs", f"{one['gb_per_s']:,.0f} GB/s",
            f"{100 * one['fraction_of_copy']:.0f} %", _rivals(one),
        ]
        for result in measured
        for size, group in result["sizes"].items()
        for one in group["kernels"]
        if (result["gpu"]["name"], one["kernel"]) not in newer
    )  # fmt: skip
    return markdown(["GPU", "pictures", "kernel", "time", "bandwidth", "of a copy's", "against"], rows)


def _rivals(one: dict[str, Any]) -> str:
    timed = {name: rival["median_us"] for name, rival in one.get("rivals", {}).items() if "median_us" in rival}
    return ", ".join(f"{name}: {median_us:,.0f} µs" for name, median_us in timed.items())


def mask_table() -> list[str]:
    """The kernel of the mask, which was measured in a run of its own (`GPU/mask.json`)."""
    rows = (
        [
            result["gpu"]["name"], row["pictures"], row["kernel"], f"{row['after']['median_us']:.1f} µs",
            f"{100 * row['after']['fraction_of_copy']:.0f} %",
        ]
        for result in read_all("*/mask.json")
        for row in result["rows"]
    )  # fmt: skip
    return markdown(["GPU", "pictures", "kernel", "time", "of a copy's"], rows)


def gpu_latency_table() -> list[str]:
    """Both directions through PyTorch on every GPU that was measured (`GPU/latency.json`)."""
    if not (measured := read_all("*/latency.json")):
        return ["**Not yet measured** on a GPU: `make gpu-latency` does it."]
    heads = [
        "GPU", "model", "HR size", "batch", "direction", "through PyTorch", "on the GPU", "call to result", "frames/s",
        "of a matrix product",
    ]  # fmt: skip
    return markdown(heads, (row for result in measured for row in gpu_latency_rows(result)))


def gpu_latency_rows(result: dict[str, Any]) -> Iterator[list[str]]:
    """The rows of `gpu_latency_table` of one result."""
    for row in result["rows"]:
        if row["way"] in WAYS and "failed" not in row:
            yield [
                result["gpu"]["name"], result["model"], row["size"], str(row["batch"]), row["direction"],
                WAYS[row["way"]], f"{row['median_us'] / 1000:.2f} ms", f"{row['wall_us'] / 1000:.2f} ms",
                f"{row['frames_per_s']:,.0f}", f"{row['fraction_of_arithmetic']:.1%}",
            ]  # fmt: skip
