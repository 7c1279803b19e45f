"""The tables about quality: the weights that ship on every set, and the published figures beside them."""

from __future__ import annotations

import re
from typing import Any

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
_FOR_QUALITY = re.compile(r"bdflow-x(2|4)(-hq)?@\d+")
"""Models that `TARGET` is set against; those for real time are meant to be worse."""


def quality_table() -> list[str]:
    """PSNR, SSIM and bytes (`quality/NAME-WEIGHTS-SET.json`)."""
    lines = [
        "| model | set | PSNR-Y | bicubic | SSIM | LR to bicubic | LR file | of it boundary |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for result in shipped_quality():
        if result["folder"] == STRUCTURE_FOLDER:  # not a set of the literature; on a table of its own
            continue
        m = result["means"]
        lines.append(
            f"| {result['model']} | {result['folder']} | **{m['psnr_y']:.2f}** dB | {m['bicubic_psnr_y']:.2f} dB | "
            f"{m['ssim_y']:.4f} | {m['lr_psnr']:.2f} dB | {m['file_bytes']:,.0f} B | {m['chunk_bytes']:,.0f} B |"
        )
    return lines


def gap_table() -> list[str]:
    """Models that go for quality against the published figures that they are to reach."""
    lines = [
        f"| model | set | PSNR-Y | published by {TARGET} | gap | gap to {BEST} | LR to bicubic | "
        "largest LR difference |",
        "|---" * 8 + "|",
    ]
    for one in shipped_quality():
        found = _FOR_QUALITY.fullmatch(one["model"])
        rows = [row for row in PUBLISHED if found and (row.name, row.scale) == (TARGET, int(found[1]))]
        for target in (row.psnr_y[one["folder"]] for row in rows if one["folder"] in row.psnr_y):
            means = one["means"]
            lines.append(
                f"| {one['model']} | {one['folder']} | {means['psnr_y']:.2f} dB | {target:.2f} dB | "
                f"{means['psnr_y'] - target:+.2f} dB | {_to(BEST, one)} | {means['lr_psnr']:.2f} dB | "
                f"{means['lr_max_difference']} |"
            )
    return lines


def refined_table() -> list[str]:
    """What refinement makes of the same weights, beside published figures (`refined/NAME-WEIGHTS-SET-STEPS.json`)."""
    lines = [
        f"| model | set | steps | PSNR-Y | gain | to {TARGET} | to {BEST} | LPIPS | LR to bicubic | "
        "largest difference |",
        "|---" * 10 + "|",
    ]
    plain = {(one["model"], one["folder"]): one["means"] for one in shipped_quality()}
    for one in refined():
        means, before = one["means"], plain.get((one["model"], one["folder"]))
        if before is None:
            continue
        lines.append(
            f"| {one['model']} | {one['folder']} | {one['refine']} | **{means['psnr_y']:.2f}** dB | "
            f"{means['psnr_y'] - before['psnr_y']:+.2f} dB | {_to(TARGET, one)} | {_to(BEST, one)} | "
            f"{_pair(before, means, 'lpips', 4)} | {_pair(before, means, 'lr_psnr', 2)} dB | "
            f"{_pair(before, means, 'lr_max_difference', 0)} |"
        )
    return lines


def _to(name: str, one: dict[str, Any]) -> str:
    """How far a result is above what somebody published; a dash where nothing was."""
    scale, folder = find_model(one["model"]).interface.scale, one["folder"]
    rows = [row.psnr_y[folder] for row in PUBLISHED if (row.name, row.scale) == (name, scale) and folder in row.psnr_y]
    return f"{one['means']['psnr_y'] - rows[0]:+.2f} dB" if rows else "-"


def _pair(before: dict[str, Any], after: dict[str, Any], name: str, digits: int) -> str:
    """A figure before and after; a dash where one is missing."""
    return ", ".join("-" if one[name] is None else f"{one[name]:,.{digits}f}" for one in (before, after))


def graphics_table() -> list[str]:
    """What lines of saturated colours do to the LR picture (`graphics.json`)."""
    result = read("graphics.json")
    lines = [
        "| model | drawn over | largest LR difference | LR pixels further than "
        f"{result['far']} levels | held back | PSNR-Y | bicubic |",
        "|---" * 7 + "|",
    ]
    lines += [
        f"| {row['model']} | {row['drawing']} | {row['lr_max_difference']} | {100 * row['far_share']:.2f} % | "
        f"{100 * row['held_share']:.2f} % | "
        f"{row['psnr_y']:.2f} dB | {row['bicubic_psnr_y']:.2f} dB |"
        for row in result["rows"]
    ]
    return lines


def structure_table() -> list[str]:
    """The held-out originals of fine structure, beside bicubic (`quality/NAME-WEIGHTS-structure-split.json`)."""
    lines = ["| model | PSNR-Y | bicubic | PSNR RGB | SSIM | LR to bicubic |", "|---" * 6 + "|"]
    for one in shipped_quality():
        if one["folder"] == STRUCTURE_FOLDER:
            m = one["means"]
            lines.append(
                f"| {one['model']} | **{m['psnr_y']:.2f}** dB | {m['bicubic_psnr_y']:.2f} dB | "
                f"{m['psnr_rgb']:.2f} dB | {m['ssim_y']:.4f} | {m['lr_psnr']:.2f} dB |"
            )
    return lines


def smooth_table() -> list[str]:
    """Flat colours and gradients beside bicubic (`smooth.json`)."""
    result = read("smooth.json")
    lines = [
        "| model | pictures | PSNR-Y | PSNR RGB | bicubic, RGB | largest difference | differences of more than "
        f"{result['visible']} levels reach |",
        "|---" * 7 + "|",
    ]
    lines += [
        f"| {row['model']} | {row['kind']} | {_cell(row, 'psnr_y')} dB | {_cell(row, 'psnr_rgb')} dB | "
        f"{'exact' if row['bicubic_psnr_rgb'] is None else _cell(row, 'bicubic_psnr_rgb') + ' dB'} | "
        f"{row['max_difference']} | {_reach(row['border_pixels'], result['side'])} |"
        for row in result["rows"]
    ]
    return lines


def _reach(pixels: int, side: int) -> str:
    if not pixels:
        return "nowhere"
    return "everywhere" if 2 * pixels >= side else f"{pixels} pixel{'s' * (pixels != 1)} from the edge"


def perception_table() -> list[str]:
    """What luma PSNR does not see: RGB, LPIPS, and whether the LR looks natural."""
    lines = [
        "| model | set | PSNR RGB | SSIM RGB | LPIPS | LR SSIM to bicubic | LR NIQE, bicubic's | LR PIQE, bicubic's |",
        "|---" * 8 + "|",
    ]
    for one in shipped_quality():
        m = one["means"]
        if "psnr_rgb" in m and one["folder"] != STRUCTURE_FOLDER:
            lines.append(
                f"| {one['model']} | {one['folder']} | {_cell(m, 'psnr_rgb')} dB | {_cell(m, 'ssim_rgb', digits=4)} | "
                f"{_cell(m, 'lpips', digits=4)} | {_cell(m, 'lr_ssim', digits=4)} | "
                f"{_cell(m, 'lr_niqe', 'bicubic_lr_niqe')} | {_cell(m, 'lr_piqe', 'bicubic_lr_piqe')} |"
            )
    return lines


def faces_table() -> list[str]:
    """Large scales on faces, and below ours what is published for that scale."""
    lines = ["| model | scale | trained on faces | PSNR | SSIM | LPIPS |", "|---" * 6 + "|"]
    ours: dict[int, list[dict[str, Any]]] = {}
    for one in shipped_quality():
        if one["folder"] == FACES_FOLDER:
            ours.setdefault(find_model(one["model"]).interface.scale, []).append(one)
    for scale, models in ours.items():
        for one in models:
            m = one["means"]
            for channels, psnr, ssim in (("RGB", "psnr_rgb", "ssim_rgb"), ("luma", "psnr_y", "ssim_y")):
                lines.append(
                    f"| {one['model']}, {channels} | x{scale} | no | {_cell(m, psnr)} dB | "
                    f"{_cell(m, ssim, digits=4)} | {_cell(m, 'lpips', digits=4)} |"
                )
        m = models[0]["means"]  # what bicubic makes does not depend on the model
        lines.append(
            f"| bicubic, luma | x{scale} | no | {_cell(m, 'bicubic_psnr_y')} dB | "
            f"{_cell(m, 'bicubic_ssim_y', digits=4)} | - |"
        )
        lines += [
            f"| {row.name}, as published | x{scale} | yes | {row.psnr:.2f} dB | {row.ssim:.4f} | {row.lpips:.4f} |"
            for row in FACES
            if row.scale == scale
        ]
    return lines


def macs_table() -> list[str]:
    """Parameters and MACs of the configurations, by hidden width and K (counted, not measured)."""
    lines = ["| model | K | hidden width | parameters | MACs per HR pixel | per 1080p frame |", "|---" * 6 + "|"]
    for name in dict.fromkeys(one["model"] for one in shipped_quality()):
        config = find_model(name).config
        if not isinstance(config, BDFlowConfig):
            continue
        macs = config.macs(1080, 1920)
        lines.append(
            f"| {name} | {list(config.blocks)} | {list(config.hidden)} | {config.parameters():,} | "
            f"{macs / (1080 * 1920) / 1000:.1f} k | {macs / 1e9:.1f} G |"
        )
    return lines


def _cell(means: dict[str, Any], *names: str, digits: int = 2) -> str:
    found = [means.get(name) for name in names]
    return ", ".join("-" if value is None else f"{value:.{digits}f}" for value in found)
