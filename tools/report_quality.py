"""The tables about quality: the weights that ship on every set, and the published figures beside them."""

from __future__ import annotations

import re
from typing import Any

from bdflow_rt.cli.output import markdown
from bdflow_rt.zoo.arch.bdflow import BDFlowConfig
from bdflow_rt.zoo.registry import find_model
from tools.measured import read, refined, shipped_quality
from tools.published import FACES, PUBLISHED

TARGET = "IRN"
"""Whose published figures the weights are measured against."""
BEST = "FGRN"
"""Whose published figures are the highest."""
STRUCTURE_FOLDER = "structure-split"
"""Name of the list of held-out originals of fine structure."""
FACES_FOLDER = "Faces"
"""Name of the folder of faces that models of a large scale are measured on."""
_FOR_QUALITY = re.compile(r"bdflow-x[24](-hq)?@\d+")
"""Models that `TARGET` is set against; those for real time are meant to be worse."""


def quality_table() -> list[str]:
    """PSNR, SSIM and bytes (`quality/NAME-WEIGHTS-SET.json`)."""
    rows = (
        [
            one["model"], one["folder"], f"**{m['psnr_y']:.2f}** dB", f"{m['bicubic_psnr_y']:.2f} dB",
            f"{m['ssim_y']:.4f}", f"{m['lr_psnr']:.2f} dB", f"{m['file_bytes']:,.0f} B", f"{m['chunk_bytes']:,.0f} B",
        ]
        for one, m in _of_sets()
    )  # fmt: skip
    heads = ["model", "set", "PSNR-Y", "bicubic", "SSIM", "LR to bicubic", "LR file", "of which boundary"]
    return markdown(heads, rows)


def _of_sets(*, structure: bool = False) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Results and their means, on the sets of the literature or on the held-out originals of fine structure."""
    return [(one, one["means"]) for one in shipped_quality() if (one["folder"] == STRUCTURE_FOLDER) == structure]


def gap_table() -> list[str]:
    """Models that go for quality against the published figures that they are to reach."""
    heads = [
        "model", "set", "PSNR-Y", f"published by {TARGET}", "gap", f"gap to {BEST}", "LR to bicubic",
        "largest LR difference",
    ]  # fmt: skip
    rows = (
        [
            one["model"], one["folder"], f"{m['psnr_y']:.2f} dB", f"{target:.2f} dB", _to(TARGET, one), _to(BEST, one),
            f"{m['lr_psnr']:.2f} dB", str(m["lr_max_difference"]),
        ]
        for one, m in _of_sets()
        if _FOR_QUALITY.fullmatch(one["model"]) and (target := _published(TARGET, one)) is not None
    )  # fmt: skip
    return markdown(heads, rows)


def refined_table() -> list[str]:
    """What refinement makes of the same weights, beside published figures (`refined/NAME-WEIGHTS-SET-STEPS.json`)."""
    heads = [
        "model", "set", "steps", "PSNR-Y", "gain", f"to {TARGET}", f"to {BEST}", "LPIPS", "LR to bicubic",
        "largest difference",
    ]  # fmt: skip
    plain = {(one["model"], one["folder"]): one["means"] for one in shipped_quality()}
    rows = (
        [
            one["model"], one["folder"], str(one["refine"]), f"**{m['psnr_y']:.2f}** dB",
            f"{m['psnr_y'] - before['psnr_y']:+.2f} dB", _to(TARGET, one), _to(BEST, one),
            _pair(before, m, "lpips", 4), f"{_pair(before, m, 'lr_psnr', 2)} dB",
            _pair(before, m, "lr_max_difference", 0),
        ]
        for one in refined()
        for m, before in [(one["means"], plain.get((one["model"], one["folder"])))]
        if before is not None
    )  # fmt: skip
    return markdown(heads, rows)


def _published(name: str, one: dict[str, Any]) -> float | None:
    """What somebody published for a result's scale and set."""
    scale, folder = find_model(one["model"]).interface.scale, one["folder"]
    return next((row.psnr_y.get(folder) for row in PUBLISHED if (row.name, row.scale) == (name, scale)), None)


def _to(name: str, one: dict[str, Any]) -> str:
    """How far a result is above what somebody published; a dash where nothing was."""
    target = _published(name, one)
    return "-" if target is None else f"{one['means']['psnr_y'] - target:+.2f} dB"


def _pair(before: dict[str, Any], after: dict[str, Any], name: str, digits: int) -> str:
    """A figure before and after; a dash where one is missing."""
    return ", ".join("-" if one[name] is None else f"{one[name]:,.{digits}f}" for one in (before, after))


def graphics_table() -> list[str]:
    """What lines of saturated colours do to the LR picture (`graphics.json`)."""
    result = read("graphics.json")
    heads = [
        "model", "drawn over", "largest LR difference", f"LR pixels further than {result['far']} levels", "held back",
        "PSNR-Y", "bicubic",
    ]  # fmt: skip
    rows = (
        [
            row["model"], row["drawing"], str(row["lr_max_difference"]), f"{100 * row['far_share']:.2f} %",
            f"{100 * row['held_share']:.2f} %", f"{row['psnr_y']:.2f} dB", f"{row['bicubic_psnr_y']:.2f} dB",
        ]
        for row in result["rows"]
    )  # fmt: skip
    return markdown(heads, rows)


def structure_table() -> list[str]:
    """The held-out originals of fine structure, beside bicubic (`quality/NAME-WEIGHTS-structure-split.json`)."""
    rows = (
        [
            one["model"], f"**{m['psnr_y']:.2f}** dB", f"{m['bicubic_psnr_y']:.2f} dB", f"{m['psnr_rgb']:.2f} dB",
            f"{m['ssim_y']:.4f}", f"{m['lr_psnr']:.2f} dB",
        ]
        for one, m in _of_sets(structure=True)
    )  # fmt: skip
    return markdown(["model", "PSNR-Y", "bicubic", "PSNR RGB", "SSIM", "LR to bicubic"], rows)


def smooth_table() -> list[str]:
    """Flat colours and gradients beside bicubic (`smooth.json`)."""
    result = read("smooth.json")
    heads = [
        "model", "pictures", "PSNR-Y", "PSNR RGB", "bicubic, RGB", "largest difference",
        f"differences of more than {result['visible']} levels reach",
    ]  # fmt: skip
    rows = (
        [
            row["model"], row["kind"], f"{_cell(row, 'psnr_y')} dB", f"{_cell(row, 'psnr_rgb')} dB",
            "exact" if row["bicubic_psnr_rgb"] is None else f"{_cell(row, 'bicubic_psnr_rgb')} dB",
            str(row["max_difference"]), _reach(row["border_pixels"], result["side"]),
        ]
        for row in result["rows"]
    )  # fmt: skip
    return markdown(heads, rows)


def _reach(pixels: int, side: int) -> str:
    if not pixels:
        return "nowhere"
    return "everywhere" if 2 * pixels >= side else f"{pixels} pixel{'s' * (pixels != 1)} from the edge"


def perception_table() -> list[str]:
    """What luma PSNR does not see: RGB, LPIPS, and whether the LR looks natural."""
    heads = [
        "model", "set", "PSNR RGB", "SSIM RGB", "LPIPS", "LR SSIM to bicubic", "LR NIQE, bicubic's",
        "LR PIQE, bicubic's",
    ]  # fmt: skip
    rows = (
        [
            one["model"], one["folder"], f"{_cell(m, 'psnr_rgb')} dB",
            *(_cell(m, name, digits=4) for name in ("ssim_rgb", "lpips", "lr_ssim")),
            _cell(m, "lr_niqe", "bicubic_lr_niqe"), _cell(m, "lr_piqe", "bicubic_lr_piqe"),
        ]
        for one, m in _of_sets()
        if "psnr_rgb" in m
    )  # fmt: skip
    return markdown(heads, rows)


def faces_table() -> list[str]:
    """Large scales on faces, and below ours what is published for that scale."""
    rows: list[list[str]] = []
    ours: dict[int, list[dict[str, Any]]] = {}
    for one, _ in _of_sets():
        if one["folder"] == FACES_FOLDER:
            ours.setdefault(find_model(one["model"]).interface.scale, []).append(one)
    for scale, models in ours.items():
        # What bicubic makes does not depend on the model.
        named = [(one["model"], one["means"], "", channels) for one in models for channels in ("RGB", "luma")]
        for name, m, prefix, channels in [*named, ("bicubic", models[0]["means"], "bicubic_", "luma")]:
            kind = "rgb" if channels == "RGB" else "y"
            psnr, ssim = _cell(m, f"{prefix}psnr_{kind}"), _cell(m, f"{prefix}ssim_{kind}", digits=4)
            lpips = "-" if prefix else _cell(m, "lpips", digits=4)
            rows.append([f"{name}, {channels}", f"x{scale}", "no", f"{psnr} dB", ssim, lpips])
        for row in FACES:
            if row.scale == scale:
                figures = [f"{row.psnr:.2f} dB", f"{row.ssim:.4f}", f"{row.lpips:.4f}"]
                rows.append([f"{row.name}, as published", f"x{scale}", "yes", *figures])
    return markdown(["model", "scale", "trained on faces", "PSNR", "SSIM", "LPIPS"], rows)


def macs_table() -> list[str]:
    """Parameters and MACs of the configurations, by hidden width and K (counted, not measured)."""
    names = dict.fromkeys(one["model"] for one in shipped_quality())
    configs = ((name, find_model(name).config) for name in names)
    rows = (
        [
            name, str(list(config.blocks)), str(list(config.hidden)), f"{config.parameters():,}",
            f"{(macs := config.macs(1080, 1920)) / (1080 * 1920) / 1000:.1f} k", f"{macs / 1e9:.1f} G",
        ]
        for name, config in configs
        if isinstance(config, BDFlowConfig)
    )  # fmt: skip
    return markdown(["model", "K", "hidden width", "parameters", "MACs per HR pixel", "per 1080p frame"], rows)


def _cell(means: dict[str, Any], *names: str, digits: int = 2) -> str:
    found = [means.get(name) for name in names]
    return ", ".join("-" if value is None else f"{value:.{digits}f}" for value in found)
