"""The tables about videos over time: frame differences and flicker, beside bicubic (`temporal/VIDEO.json`)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from bdflow_rt.cli.output import markdown
from tools.measured import read_all, shipped_ids

FLICKER = {"source": "source", "restored": "restored", "bicubic": "bicubic", "lr": "LR", "bicubic_lr": "bicubic LR"}
"""Columns of the table of flicker, and what they are called."""


def differences_table() -> list[str]:
    """PSNR of frames and of frame differences of every model, beside bicubic."""
    heads = [
        "video", "model", "frames", "PSNR-Y, lowest", "bicubic", "PSNR-Y of differences", "bicubic",
        "PSNR RGB of differences", "bicubic", "LR differences to bicubic's",
    ]  # fmt: skip
    rows = (
        [
            _title(result), name, str(result["frames"]),
            f"{_decibels(one['restored']['psnr_y']['mean'])}, {_decibels(one['restored']['psnr_y']['min'])}",
            _decibels(one["bicubic"]["psnr_y"]["mean"]),
            _decibels(one["restored"]["difference_psnr_y"]), _decibels(one["bicubic"]["difference_psnr_y"]),
            _decibels(one["restored"]["difference_psnr_rgb"]), _decibels(one["bicubic"]["difference_psnr_rgb"]),
            _decibels(one["lr"]["difference_psnr_rgb"]),
        ]
        for result, name, one in _measured()
    )  # fmt: skip
    return markdown(heads, rows)


def flicker_table() -> list[str]:
    """Mean change and 99th percentile on static cells, of every model and of bicubic."""
    heads = ["video", "model", "static cells", *(f"{title}: mean, 99 %" for title in FLICKER.values())]
    rows = (
        [
            _title(result), name, f"{100 * one['flicker']['static_share']:.1f} %",
            *(_change(one["flicker"][key]) for key in FLICKER),
        ]
        for result, name, one in _measured()
    )  # fmt: skip
    return markdown(heads, rows)


def verdict() -> list[str]:
    """How frame differences and flicker compare with bicubic's, over all models and the videos from cameras."""
    rows = [one for result, _, one in _measured() if result["sigma"] is None]
    pairs = [(one["restored"]["difference_psnr_y"], one["bicubic"]["difference_psnr_y"]) for one in rows]
    gains = [ours - theirs for ours, theirs in pairs if ours is not None and theirs is not None]
    if not gains:
        return ["Not measured yet."]
    higher = sum(gain > 0 for gain in gains)
    lines = [
        f"- The differences of restored frames have a higher PSNR-Y than bicubic's in {higher} of {len(gains)} rows "
        f"({min(gains):+.2f} to {max(gains):+.2f} dB)."
    ]
    for ours, what, theirs, other in (
        ("lr", "LR pictures", "bicubic_lr", "bicubic LR pictures"),
        ("restored", "restored frames", "bicubic", "frames of bicubic down and up"),
    ):
        changes = [
            (mean, one["flicker"][theirs]["mean"]) for one in rows if (mean := one["flicker"][ours]["mean"]) is not None
        ]
        if changes:
            spans = [f"{min(values):.2f} to {max(values):.2f}" for values in zip(*changes, strict=True)]
            lines.append(
                f"- On static cells of videos from cameras {what} change by {spans[0]} levels on average, {other} by "
                f"{spans[1]}."
            )
    return lines


def _measured() -> Iterator[tuple[dict[str, Any], str, dict[str, Any]]]:
    """Every result of weights that ship, with the model's id: videos from cameras first, then those that are drawn."""
    ids = shipped_ids()
    for result in sorted(read_all("temporal/*.json"), key=lambda one: one["sigma"] is not None):
        for one in result["models"]:
            if one["weights_sha256"] in ids:
                yield result, ids[one["weights_sha256"]], one


def _title(result: dict[str, Any]) -> str:
    width, height = result["hr_size"]
    return f"{result['video']}, {width} x {height}"


def _decibels(value: float | None) -> str:
    return "exact" if value is None else f"{value:.2f} dB"


def _change(change: dict[str, Any]) -> str:
    return "-" if change["mean"] is None else f"{change['mean']:.3f}, {change['p99']}"
