"""Draws the plots of docs/images from the JSON files in bench/results.

python -m tools.plots
"""

from __future__ import annotations

import argparse
import hashlib
import pathlib
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from matplotlib.figure import Figure

from bdflow_rt.zoo.registry import find_model
from tools.measured import RESULTS, ROOT, read, read_all, shipped_quality
from tools.published import PUBLISHED

if TYPE_CHECKING:
    from matplotlib.axes import Axes

IMAGES = ROOT / "docs" / "images"
COLOURS = {"jpeg": "#7f7f7f", "webp": "#2ca02c", "avif": "#ff7f0e"}
OURS = {"png": ("#1f4e9e", "PNG packet"), "webp_lossless": ("#5b9bff", "lossless WebP + map")}
PIXELS = 128
"""Side of the picture that MACs are counted for."""
AXES = {"psnr_y": "PSNR-Y in dB (higher is better)", "lpips": "LPIPS (lower is better)"}


def rate_distortion(result: dict[str, Any], measure: str) -> Figure:
    """Bits per HR pixel against a measure, one panel per set: the codecs' curves, and the models' files as points.

    Args:
        result: of `bdflow_rt.bench.rate_distortion`.
        measure: "psnr_y" or "lpips".
    """
    figure, panels = _panels(result, AXES[measure])
    for axes, one in zip(panels, result["sets"], strict=True):
        for key, curve in one["curves"].items():
            points = _points(curve.values(), measure)
            axes.plot(*points, color=COLOURS[key], label=result["codecs"][key]["title"])
        for form, (colour, title) in OURS.items():
            stored = [{**model["forms"][form], measure: model[measure]} for model in one["models"].values()]
            axes.plot(*_points(stored, measure), "o:", color=colour, label=f"ours, LR as {title}")
        for name, model in one["models"].items():
            if model[measure] is not None:
                place = (model["forms"]["png"]["bits_per_pixel"], model[measure])
                axes.annotate(name, place, textcoords="offset points", xytext=(4, -11), fontsize=7)
        axes.set_xscale("log")
        axes.set_xlabel("bits per HR pixel, mean over the set")
        axes.set_xticks([0.1, 0.2, 0.5, 1, 2, 4, 8], ["0.1", "0.2", "0.5", "1", "2", "4", "8"])
        axes.minorticks_off()
        axes.set_xlim(right=16)  # room for the names
    panels[0].legend(fontsize=7)
    return figure


def models(scales: tuple[int, ...] = (2, 4), name: str = "Set14") -> Figure:
    """MACs per HR pixel in one direction against PSNR-Y on a set, a panel per scale: our models and published ones."""
    figure = Figure(figsize=(5 * len(scales), 4.2), layout="constrained")
    panels = list(figure.subplots(1, len(scales), squeeze=False)[0])
    ours = [(find_model(one["model"]), one["means"]["psnr_y"]) for one in shipped_quality() if one["folder"] == name]
    for axes, scale in zip(panels, scales, strict=True):
        axes.set_title(f"x{scale}, {name}", fontsize=10)
        axes.grid(alpha=0.25)
        axes.set_xscale("log")
        axes.set_xlabel("MACs per HR pixel, one direction")
        points = [
            (card.name, card.config.macs(PIXELS, PIXELS), quality, "o", "#1f4e9e")
            for card, quality in ours
            if card.interface.scale == scale
        ] + [(one.label, one.macs_128x128, one.psnr_y[name], "s", "#c0392b") for one in PUBLISHED if one.scale == scale]
        for label, macs, quality, marker, colour in points:
            axes.plot([macs / PIXELS**2], [quality], marker, color=colour, label=label)
            axes.annotate(label, (macs / PIXELS**2, quality), textcoords="offset points", xytext=(5, 5), fontsize=9)
        axes.set_xlim(5e3, 1e7)  # room for the names
        axes.margins(y=0.12)
    panels[0].set_ylabel(AXES["psnr_y"])
    return figure


def learning_curves() -> Figure:
    """Set5 PSNR-Y by steps for every released model whose run was kept, a panel per scale; IRN's for the gap."""
    curves: dict[int, list[dict[str, Any]]] = {}
    for one in read_all("training/*.json"):
        curves.setdefault(one["config"]["model"]["scale"], []).append(one)
    figure = Figure(figsize=(10, 7.5), layout="constrained")
    panels = list(figure.subplots(2, -(-len(curves) // 2), squeeze=False).flat)
    for axes, scale in zip(panels, sorted(curves), strict=False):
        axes.set_title(f"x{scale}, Set5", fontsize=10)
        for one in curves[scale]:
            steps = [point["step"] for point in one["validations"]]
            axes.plot(steps, [point["psnr_y"] for point in one["validations"]], label=one["model"])
        for published in PUBLISHED:
            if (published.name, published.scale) == ("IRN", scale):
                axes.axhline(published.psnr_y["Set5"], color="#c0392b", linestyle="--", label="IRN, published")
        axes.set_xlabel("step")
        axes.set_ylabel(AXES["psnr_y"])
        axes.grid(alpha=0.25)
        axes.legend(fontsize=7)
    for unused in panels[len(curves) :]:
        unused.remove()
    return figure


def write_figure(figure: Figure, path: pathlib.Path, *, source: str) -> None:
    """Write an SVG whose bytes depend on the figure alone, and which names the digest of the result it shows."""
    with mpl.rc_context({"svg.hashsalt": "bdflow"}):
        metadata = {"Date": None, "Creator": "tools.plots", "Source": source}
        figure.savefig(path, format="svg", metadata=metadata)


def source_of(pattern: str) -> str:
    """The result files and one digest of them, as their plots carry them."""
    digest = hashlib.sha256()
    for path in sorted(RESULTS.glob(pattern)):
        digest.update(path.read_bytes())
    return f"bench/results/{pattern} sha256:{digest.hexdigest()[:16]}"


def _panels(result: dict[str, Any], label: str) -> tuple[Figure, list[Axes]]:
    count = len(result["sets"])
    figure = Figure(figsize=(5 * count, 4.2), layout="constrained")
    panels = list(figure.subplots(1, count, squeeze=False)[0])
    for axes, one in zip(panels, result["sets"], strict=True):
        axes.set_title(f"{one['folder']}, {one['pictures']} pictures", fontsize=10)
        axes.grid(alpha=0.25)
    panels[0].set_ylabel(label)
    return figure, panels


def _points(entries: Any, measure: str) -> tuple[list[float], list[float]]:
    """Rates and values in order of rate, without what was not measured or is beyond any number."""
    found = sorted((one["bits_per_pixel"], one[measure]) for one in entries if one[measure] is not None)
    return [rate for rate, _ in found], [value for _, value in found]


def _of_rates(draw: Callable[[dict[str, Any]], Figure]) -> tuple[str, Callable[[], Figure]]:
    return "rate_distortion.json", lambda: draw(read("rate_distortion.json"))


PLOTS: dict[str, tuple[str, Callable[[], Figure]]] = {
    "rate-distortion-psnr.svg": _of_rates(lambda result: rate_distortion(result, "psnr_y")),
    "rate-distortion-lpips.svg": _of_rates(lambda result: rate_distortion(result, "lpips")),
    "models.svg": ("quality/*.json", models),
    "learning-curves.svg": ("training/*.json", learning_curves),
}
"""Plot -> pattern of the result files, and what draws it."""


def main() -> None:
    """Draw all plots."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    for name, (result, draw) in PLOTS.items():
        write_figure(draw(), IMAGES / name, source=source_of(result))
        sys.stdout.write(f"{name} was drawn.\n")


if __name__ == "__main__":
    main()
