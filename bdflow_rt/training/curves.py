"""The curves of a run as a picture."""

from __future__ import annotations

import io
import pathlib
from typing import Any

from bdflow_rt.files import write_atomically
from bdflow_rt.training.runlog import read_history


def draw_curves(log: pathlib.Path, picture: pathlib.Path) -> None:
    """Draw loss, PSNR of the validations and learning rate over the steps.

    Args:
        log: log.jsonl of the run.
        picture: PNG to write; an older one is replaced.

    Raises:
        OutputError: the picture cannot be written.
    """
    from matplotlib.figure import Figure

    history = read_history(log)
    steps = [entry for entry in history if entry["event"] == "step"]
    validations = [entry for entry in history if entry["event"] == "validation"]
    figure = Figure(figsize=(8, 9), layout="tight")
    loss, quality, rate = figure.subplots(3, 1, sharex=True)
    loss.plot(*_series(steps, "loss"), ".-", label="total")
    for name in sorted({name for entry in steps for name in entry["parts"]}):
        parts = [{"step": entry["step"], **entry["parts"]} for entry in steps]
        loss.plot(*_series(parts, name), linewidth=0.8, label=name)
    quality.plot(*_series(validations, "psnr_y"), ".-", label="restored, luma")
    quality.plot(*_series(validations, "lr_psnr"), ".-", label="LR against bicubic")
    rate.plot(*_series(steps, "learning_rate"))
    for axes, title in ((loss, "loss"), (quality, "PSNR, dB"), (rate, "learning rate")):
        axes.set_ylabel(title)
        axes.grid(alpha=0.3)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(loc="best", fontsize="small")
    loss.set_yscale("log")
    rate.set_xlabel("step")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    write_atomically(picture, buffer.getvalue())


def _series(entries: list[dict[str, Any]], name: str) -> tuple[list[int], list[float]]:
    """Steps and values of one curve; entries without the value, or with null for it, are passed over."""
    found = [(entry["step"], entry[name]) for entry in entries if entry.get(name) is not None]
    return [step for step, _ in found], [value for _, value in found]
