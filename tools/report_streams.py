"""The tables about streams of frames: frames per second, and the share of what the cores can give (`video/NAME.json`)."""

from __future__ import annotations

from typing import Any

from bdflow_rt.cli.output import markdown
from tools.measured import read_all, shipped_ids

STAGES = ("read", "convert", "network", "write")


def speed_table() -> list[str]:
    """Every model, size, direction and way of the models that ship."""
    heads = [
        "model", "size", "direction", "through", "frames/s", "bound", "share", "latency p50, p99",
        *(f"CPU ms: {stage}" for stage in STAGES),
    ]  # fmt: skip
    rows = (
        [
            name, f"{row['width']} x {row['height']}", row["direction"], row["way"], f"{row['fps']:.2f}",
            f"{row['bound_fps']:.2f}", f"{100 * row['share_of_bound']:.0f} %",
            f"{row['latency_ms']['p50']:.0f} ms, {row['latency_ms']['p99']:.0f} ms",
            *(f"{row['stage_cpu_ms'][stage]:.1f}" for stage in STAGES),
        ]
        for name, row in _rows()
    )  # fmt: skip
    return markdown(heads, rows)


def _rows() -> list[tuple[str, dict[str, Any]]]:
    ids = shipped_ids()
    return [
        (ids[result["weights_sha256"]], row)
        for result in read_all("video/*.json")
        if result["weights_sha256"] in ids
        for row in result["rows"]
    ]
