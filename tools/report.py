"""Writes the measured tables of the pages from the JSON files in bench/results; nothing there is typed by hand.

python -m tools.report            # rewrite the tables
python -m tools.report --check    # name the pages that are out of date, and exit 1 where there are some
"""

from __future__ import annotations

import argparse
import pathlib
import re
import sys
from collections.abc import Callable
from typing import Any

from tools import report_gpu, report_quality, report_rate, report_training
from tools.measured import ROOT, read, read_all

README = ROOT / "README.md"
KERNELS_PAGE = ROOT / "docs" / "kernels.md"
ENGINES_PAGE = ROOT / "docs" / "engines.md"
QUALITY_PAGE = ROOT / "docs" / "quality.md"
TRAINING_PAGE = ROOT / "docs" / "training.md"


def latency_table() -> list[str]:
    """Down and up of one picture per engine (`latency/*.json`)."""
    lines = [
        "| model | HR size | engine | down | up | frames/s, the slower way | of a matrix product | processor |",
        "|---" * 8 + "|",
    ]
    for result in read_all("latency/*.json"):
        width, height = result["size"]
        for name, timed in result["engines"].items():
            down, up = timed["downscale"]["median_ms"], timed["upscale"]["median_ms"]
            lines.append(
                f"| {result['model']} | {width} x {height} | {name} | {down:.0f} ms | {up:.0f} ms | "
                f"{1000 / max(down, up):.1f} | {_product_share(result, name)} | {_processor(result)} |"
            )
    return lines


def _product_share(result: dict[str, Any], engine: str) -> str:
    """Multiply-accumulates per second, both ways, by those of a float32 matrix product: for float32, where measured."""
    if "matrix_product_macs_per_s" not in result or engine == "openvino_bf16":
        return "-"
    reached = 2 * result["macs"] / (result["engines"][engine]["both_median_ms"] * 1e-3)
    return f"{reached / result['matrix_product_macs_per_s']:.0%}"


def _processor(result: dict[str, Any]) -> str:
    return f"{result['cpu']}, {result['cores']} cores"


def command_table() -> list[str]:
    """What the command takes from its start to the written file (`latency/*.json`), once per model."""
    lines = ["| model | `bdflow downscale` | `bdflow upscale` | processor |", "|---" * 4 + "|"]
    for result in {one["model"]: one for one in read_all("latency/*.json")}.values():
        times = result["cold_start_1mp"]
        lines.append(
            f"| {result['model']} | {times['downscale_s']:.1f} s | {times['upscale_s']:.1f} s | {_processor(result)} |"
        )
    return lines


def refine_speed_table() -> list[str]:
    """What a step of refinement takes on a CPU (`latency/*.json`)."""
    lines = ["| model | HR size | precision | a step | upscale with openvino | processor |", "|---" * 6 + "|"]
    for result in read_all("latency/*.json"):
        width, height = result["size"]
        for precision, step_ms in result.get("refine_step_ms", {}).items():
            engine = "openvino_bf16" if precision == "bf16" else "openvino"
            lines.append(
                f"| {result['model']} | {width} x {height} | {precision} | {step_ms:,.0f} ms | "
                f"{result['engines'][engine]['upscale']['median_ms']:.0f} ms | {_processor(result)} |"
            )
    return lines


def resources_table() -> list[str]:
    """Registers per thread and share of the warps that can be resident, per kernel and architecture."""
    kernels = read("kernel_resources.json")["kernels"]
    architectures = list(next(iter(kernels.values())))
    lines = [
        f"| kernel | shared memory | threads | {' | '.join(f'sm_{one}' for one in architectures)} | instructions |",
        "|---" * (len(architectures) + 4) + "|",
    ]
    for name, per in kernels.items():
        cells = [f"{one['registers']}, {100 * one['occupancy']:.0f} %" for one in per.values()]
        shared = max(one["shared_bytes"] for one in per.values())
        threads, counted = next(iter(per.values()))["threads"], per["90"]["instructions"]
        lines.append(f"| `{name}` | {shared:,} B | {threads} | {' | '.join(cells)} | {counted} |")
    return lines


def spills_table() -> list[str]:
    """One sentence: how many builds there are, and how many of them spill."""
    result = read("kernel_resources.json")
    builds = [one for per in result["kernels"].values() for one in per.values()]
    spilling = sum(1 for one in builds if one["spill_bytes"] or one["stack_bytes"])
    return [f"Of {len(builds)} builds by NVRTC {result['nvrtc']}, {spilling or 'none'} spill registers or use a stack."]


def engines_table() -> list[str]:
    """Build seconds and size of every TensorRT-RTX engine, and what its network is made of (`engines.json`)."""
    result = read("engines.json")
    machine = f"TensorRT-RTX {result['tensorrt_rtx']}, {result['cpu']}, {result['cores']} cores"
    lines = [
        f"Sizes {result['profile']}; {machine}.",
        "",
        "| scale | direction | graph | build | plan | weights, float32 | layers of the network | float16 convolutions "
        "| float32 islands | shape arithmetic |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for one in result["engines"]:
        counts = one["precision"]
        lines.append(
            f"| x{one['scale']} | {one['direction']} | {one['kind']} | {one['median_s']:.2f} s | "
            f"{one['plan_bytes'] / 1e6:.1f} MB | {one['weights_bytes'] / 1e6:.1f} MB | {one['network_layers']} | "
            f"{counts['learned_convolutions']} | {counts['island_layers']} | {counts['shape_layers']} |"
        )
    return lines


Tables = dict[str, Callable[[], list[str]]]
PAGES: dict[pathlib.Path, Tables] = {
    README: {
        "quality": report_quality.quality_table,
        "latency": latency_table,
        "command": command_table,
        "gpu-latency": report_gpu.latency_table,
    },
    KERNELS_PAGE: {
        "kernel-speed": report_gpu.speed_table,
        "kernel-mask": report_gpu.mask_table,
        "kernel-spills": spills_table,
        "kernel-resources": resources_table,
    },
    ENGINES_PAGE: {"engines": engines_table},
    QUALITY_PAGE: {
        "gap": report_quality.gap_table,
        "structure": report_quality.structure_table,
        "smooth": report_quality.smooth_table,
        "graphics": report_quality.graphics_table,
        "refined": report_quality.refined_table,
        "refine-speed": refine_speed_table,
        "perception": report_quality.perception_table,
        "faces": report_quality.faces_table,
        "macs": report_quality.macs_table,
        "rate-settings": report_rate.rate_settings,
        "rate": report_rate.rate_table,
        "rate-verdict": report_rate.rate_verdict,
        "both-pictures": report_rate.both_pictures_table,
        "base": report_training.base_settings,
        "ablation-boundary": report_training.search_table(("boundary",)),
        "ablation-z": report_training.search_table(("z",)),
    },
    TRAINING_PAGE: {
        "base": report_training.base_settings,
        "search-optimiser": report_training.search_table(("optimiser",)),
        "search-structure": report_training.search_table(("structure",)),
        "search-loss": report_training.search_table(("loss",)),
        "robustness-settings": report_training.robustness_settings,
        "robustness": report_training.robustness_table,
        "curves": report_training.curve_table,
    },
}


def render(text: str, tables: Tables) -> str:
    """The text with the `<!-- table: NAME -->` block of every table filled from the results."""
    for name, make in tables.items():
        block = re.compile(rf"(<!-- table: {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        table = "\n".join(make())
        text = block.sub(lambda match, filled=table: f"{match[1]}{filled}\n{match[2]}", text)  # type: ignore[misc]
    return text


def main() -> int:
    """Rewrite the pages, or check them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 where a table is out of date")
    args = parser.parse_args()
    stale = 0
    for page, tables in PAGES.items():
        old = page.read_text(encoding="utf-8")
        new = render(old, tables)
        stale += old != new
        changed = "is out of date" if args.check else "was rewritten"
        sys.stdout.write(f"{page.name} {'is up to date' if old == new else changed}.\n")
        if not args.check:
            page.write_text(new, encoding="utf-8")
    return int(args.check and stale > 0)


if __name__ == "__main__":
    sys.exit(main())
