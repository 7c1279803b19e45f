"""Figures per model that ships: the table that helps to pick one, and the page of each on the site."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from bdflow_rt.cli.output import markdown
from bdflow_rt.zoo.card import ModelCard
from tools.measured import read_all, shipped_cards, shipped_quality
from tools.report_quality import STRUCTURE_FOLDER
from tools.report_speed import gpu_latency_rows, latency_rows

FULL_HD = [1920, 1080]
"""Width and height that the table of all models gives milliseconds for."""
SETS = ("Set14", "BSD100", STRUCTURE_FOLDER)
"""Sets of the table of all models."""
PURPOSES = {
    "fast": "speed",
    "hq": "best quality",
    "": "structure of the paper",
}
"""End of a model's name -> what it is for."""
STRUCTURE = {"blocks": "invertible blocks per level", "hidden": "hidden width per level", "coupling": "coupling"}
"""Field of a configuration that pages show -> its title."""
COMMERCIAL = {"yes": "allowed", "no": "not allowed", "unstated": "not stated for all of it"}
"""Value in a card -> whether the training data allows commercial use."""


def which_table() -> list[str]:
    """One row for each model that ships: what it is for, quality, work, time and size."""
    heads = [
        "model", "for", *(f"PSNR-Y, {_title(name)}" for name in SETS), "MACs per HR pixel",
        "1080p on a CPU, down / up", "1080p on a GPU, down / up", "weights",
    ]  # fmt: skip
    quality = {(one["weights_sha256"], one["folder"]): one["means"] for one in shipped_quality()}
    rows = (
        [
            f"`{card.name}`", purpose(card),
            *(_decibels(quality.get((card.weights_sha256, name), {}).get("psnr_y")) for name in SETS),
            _thousands(macs_per_pixel(card)), _cpu_ms(card), _gpu_ms(card),
            _megabytes(card),
        ]
        for card in shipped_cards()
    )  # fmt: skip
    return markdown(heads, rows)


def terms() -> list[str]:
    """A line for each status and licence that models of this version have: which ones, and for what use."""
    groups: dict[tuple[str, str, str], list[str]] = {}
    for card in shipped_cards():
        groups.setdefault((card.status, card.licence, COMMERCIAL[card.commercial]), []).append(f"`{card.name}`")
    return [
        f"- {status}, {licence}; commercial use by the training data: {use}. {', '.join(names)}."
        for (status, licence, use), names in groups.items()
    ]


def model_page(card: ModelCard) -> str:
    """The Markdown page of a model: card, quality, speed, precision and training data."""
    sections = [
        f"# {card.name}",
        f"Scale x{card.interface.scale}: {purpose(card)}.",
        *_lines(_facts(card)),
        "## Quality",
        "Means over each set, through files on disk. [Quality](../results/quality.md) says how it is measured.",
        *_lines(_quality(card)),
        "## Speed on a CPU",
        *(_lines(_cpu(card)) or ["Not measured yet."]),
        "## Speed on a GPU",
        *(_folded("Every size, batch and direction", _gpu(card)) or ["Not measured yet."]),
        "## Precision",
        *_precision(card),
        "## Training",
        str(card.details.get("note", "")),
        _seen(card),
        *_lines(_data(card)),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def purpose(card: ModelCard) -> str:
    """What a model is for, by the end of its name."""
    last = card.name.rpartition("-")[2]
    return PURPOSES[last if last in PURPOSES else ""]


def macs_per_pixel(card: ModelCard) -> float:
    """Multiply-accumulates of one direction per HR pixel."""
    width, height = FULL_HD
    return card.config.macs(height, width) / (height * width)


def _title(folder: str) -> str:
    return "fine structure" if folder == STRUCTURE_FOLDER else folder


def _lines(table: list[str]) -> list[str]:
    """A table as one section; nothing where it has no rows."""
    return ["\n".join(table)] if len(table) > 2 else []


def _folded(summary: str, table: list[str]) -> list[str]:
    """As `_lines`, shown when the reader asks for it."""
    return [f'<details markdown="1"><summary>{summary}</summary>\n\n{one}\n\n</details>' for one in _lines(table)]


def _facts(card: ModelCard) -> list[str]:
    interface = card.interface
    width, height = FULL_HD
    rows = [
        ["id in packets", f"`{card.id}`"],
        ["first digits of the identity", f"`{card.packet_identity.hex()}`"],
        ["status", card.status],
        ["licence of the weights", card.licence],
        ["commercial use by the training data", COMMERCIAL[card.commercial]],
        ["boundary map", f"{interface.bits} bit{'s' * (interface.bits != 1)} per LR pixel"],
        ["parameters", f"{card.config.parameters():,}"],
        ["MACs per HR pixel, one direction", _thousands(macs_per_pixel(card))],
        ["MACs per 1080p picture, one direction", f"{card.config.macs(height, width) / 1e9:.1f} G"],
        ["weights", _megabytes(card)],
    ]
    structure = card.config.to_dict()
    rows += [[title, _value(structure[key])] for key, title in STRUCTURE.items() if key in structure]
    return markdown(["property", "value"], rows)


def _value(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _quality(card: ModelCard) -> list[str]:
    heads = ["set", "PSNR-Y", "bicubic", "SSIM", "PSNR RGB", "LPIPS", "LR to bicubic", "LR file", "of which boundary"]
    rows = (
        [
            _title(one["folder"]), f"**{m['psnr_y']:.2f}** dB", _decibels(m.get("bicubic_psnr_y")),
            f"{m['ssim_y']:.4f}", _decibels(m.get("psnr_rgb")),
            "-" if m.get("lpips") is None else f"{m['lpips']:.4f}", _decibels(m.get("lr_psnr")),
            f"{m['file_bytes']:,.0f} B", f"{m['chunk_bytes']:,.0f} B",
        ]
        for one in shipped_quality()
        for m in [one["means"]]
        if one["weights_sha256"] == card.weights_sha256
    )  # fmt: skip
    return markdown(heads, rows)


def _cpu(card: ModelCard) -> list[str]:
    heads = ["HR size", "engine", "down", "up", "frames/s, slower direction", "processor"]
    rows = (
        [size, engine, down, up, frames, processor]
        for result in _latency(card)
        for _, size, engine, down, up, frames, _, processor in latency_rows(result)
    )
    return markdown(heads, rows)


def _gpu(card: ModelCard) -> list[str]:
    heads = ["GPU", "HR size", "batch", "direction", "through PyTorch", "on the GPU", "call to result", "frames/s"]
    rows = ([gpu, *rest] for result in _gpu_latency(card) for gpu, _, *rest, _ in gpu_latency_rows(result))
    return markdown(heads, rows)


def _precision(card: ModelCard) -> list[str]:
    told = [
        f"`{name}` was measured to cost {loss_db:.3f} dB of PSNR against float32."
        for name, loss_db in card.precisions.items()
    ]
    return told or ["What other precisions cost has not been measured."]


def _seen(card: ModelCard) -> str:
    seen = "" if card.pixels_seen is None else f"{card.pixels_seen / 1e9:,.1f} G HR pixels of crops were seen. "
    return (
        f"{seen}`model.json` in the model's folder has every setting. The pictures, with those of the weights that the "
        "training started from:"
    )


def _data(card: ModelCard) -> list[str]:
    rows = ([data.name, data.licence, COMMERCIAL[data.commercial]] for data in card.training_data)
    return markdown(["pictures", "terms", "commercial use"], rows)


def _latency(card: ModelCard) -> list[dict[str, Any]]:
    return [one for one in read_all("latency/*.json") if one["weights_sha256"] == card.weights_sha256]


def _gpu_latency(card: ModelCard) -> list[dict[str, Any]]:
    """What was measured on GPUs: of the very weights where the result names them, else of the id."""
    return [
        one
        for one in read_all("*/latency.json")
        if one.get("weights_sha256", card.weights_sha256) == card.weights_sha256 and one["model"] == card.id
    ]


def _cpu_ms(card: ModelCard) -> str:
    """Milliseconds of a 1080p picture, padded to the scale, with OpenVINO in float32; a dash where not measured."""
    padded = [-(-side // card.interface.scale) * card.interface.scale for side in FULL_HD]
    for result in _latency(card):
        if result["size"] == padded:
            return _both(result["engines"]["openvino"][way]["median_ms"] for way in ("downscale", "upscale"))
    return "-"


def _gpu_ms(card: ModelCard) -> str:
    """Milliseconds of one 1080p picture through a CUDA graph in float16; a dash where that was not measured."""
    for result in _gpu_latency(card):
        found = {
            row["direction"]: row["median_us"] / 1000
            for row in result["rows"]
            if (row["size"], row["batch"], row["way"]) == ("1080p", 1, "cuda_graph") and "median_us" in row
        }
        if {"downscale", "upscale"} <= found.keys():
            return _both(found[way] for way in ("downscale", "upscale"))
    return "-"


def _both(milliseconds: Iterable[float]) -> str:
    return " / ".join(f"{ms:,.0f}" if ms >= 10 else f"{ms:.1f}" for ms in milliseconds) + " ms"


def _megabytes(card: ModelCard) -> str:
    return f"{card.weights_path.stat().st_size / 1e6:.2f} MB"


def _decibels(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f} dB"


def _thousands(value: float) -> str:
    return f"{value / 1000:.1f} k"
