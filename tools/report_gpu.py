"""The tables of what was measured on GPUs, from the folders of bench/results that are named after them."""

from __future__ import annotations

from tools.measured import read_all

WAYS = {
    "cuda_graph": "float16, CUDA graph",
    "eager_without_kernels": "float16, eager, PyTorch alone",
    "torch_compile": "float16, torch.compile",
    "compiled_cuda_graph": "float16, torch.compile in a CUDA graph",
}
"""Ways of `bench.gpu_latency` that are shown, by their names in the table."""


def speed_table() -> list[str]:
    """Every kernel on every GPU that was measured (`GPU/kernels.json`)."""
    measured = read_all("*/kernels.json")
    if not measured:
        return ["**Not yet measured** on a GPU: `make gpu` does it."]
    lines = ["| GPU | pictures | kernel | time | bandwidth | of a copy's | against |", "|---|---|---|---|---|---|---|"]
    for result in measured:
        for size, group in result["sizes"].items():
            for one in group["kernels"]:
                rivals = {name: timed for name, timed in one.get("rivals", {}).items() if "median_us" in timed}
                against = ", ".join(f"{name}: {timed['median_us']:,.0f} µs" for name, timed in rivals.items())
                lines.append(
                    f"| {result['gpu']['name']} | {size} | {one['kernel']} | {one['median_us']:,.1f} µs | "
                    f"{one['gb_per_s']:,.0f} GB/s | {100 * one['fraction_of_copy']:.0f} % | {against} |"
                )
    return lines


def mask_table() -> list[str]:
    """The mask's kernel before and after it was written anew (`GPU/mask.json`)."""
    lines = ["| GPU | pictures | kernel | before | after | of a copy's, before | after |", "|---" * 7 + "|"]
    for result in read_all("*/mask.json"):
        for row in result["rows"]:
            before, after = row["before"], row["after"]
            lines.append(
                f"| {result['gpu']['name']} | {row['pictures']} | {row['kernel']} | {before['median_us']:.1f} µs | "
                f"{after['median_us']:.1f} µs | {100 * before['fraction_of_copy']:.0f} % | "
                f"{100 * after['fraction_of_copy']:.0f} % |"
            )
    return lines


def latency_table() -> list[str]:
    """Both directions through PyTorch on every GPU that was measured (`GPU/latency.json`)."""
    measured = read_all("*/latency.json")
    if not measured:
        return ["**Not yet measured** on a GPU: `make gpu-latency` does it."]
    lines = [
        "| GPU | model | HR size | batch | direction | through PyTorch | on the GPU | call to result | frames/s | "
        "of a matrix product |",
        "|---" * 10 + "|",
    ]
    for result in measured:
        for row in result["rows"]:
            if row["way"] not in WAYS or "failed" in row:
                continue
            cells = (
                result["gpu"]["name"],
                result["model"],
                row["size"],
                str(row["batch"]),
                row["direction"],
                WAYS[row["way"]],
                f"{row['median_us'] / 1000:.2f} ms",
                f"{row['wall_us'] / 1000:.2f} ms",
                f"{row['frames_per_s']:,.0f}",
                f"{row['fraction_of_arithmetic']:.1%}",
            )
            lines.append(f"| {' | '.join(cells)} |")
    return lines
