"""The tables about training: what each free choice is worth, what a step costs, and how far the weights have come."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bdflow_rt.bench.measured import read, read_all
from bdflow_rt.bench.published import PUBLISHED
from bdflow_rt.zoo.config import ModelConfig

BASE = "base"
"""The trial that every other one is compared with."""
TARGETS = {2: "IRN", 4: "IRN"}
"""Scale -> whose published figures the weights are measured against."""


def search_table(groups: tuple[str, ...]) -> Callable[[], list[str]]:
    """Makes a table of the trials of some groups of `search.json`, each against the base."""

    def table() -> list[str]:
        trials = read("search.json")["trials"]
        (base,) = (one for one in trials if one["name"] == BASE)
        names = [name for name in base["sets"] if ", Z at" not in name]
        head = [f"{name}: PSNR-Y | to base | LR" for name in names]
        lines = [f"| changed | {' | '.join(head)} | k MACs per pixel |", "|---" * (3 * len(names) + 2) + "|"]
        for one in trials:
            if one is base or one["group"] in groups:
                lines += _rows(one, base, names)
        return lines

    return table


def _rows(one: dict[str, Any], base: dict[str, Any], names: list[str]) -> list[str]:
    """One row, and a second one for sampled Z where the trial has it."""
    kinds = ["", *sorted({name.partition(", ")[2] for name in one["sets"]} - {""})]
    rows = []
    for kind in kinds:
        cells = []
        for name in names:
            found, reference = one["sets"][f"{name}, {kind}" if kind else name], base["sets"][name]
            gain = "" if one is base else f"{found['psnr_y'] - reference['psnr_y']:+.2f}"
            cells += [f"{found['psnr_y']:.2f} dB", gain, f"{found['lr_psnr']:.2f} dB"]
        label = "nothing" if one is base else difference(one["config"], base["config"])
        macs = f"{one['macs_128x128'] / 128**2 / 1000:.1f}"
        rows.append(f"| {label}{f'; measured with {kind}' if kind else ''} | {' | '.join(cells)} | {macs} |")
    return rows


def difference(config: dict[str, Any], base: dict[str, Any], prefix: str = "") -> str:
    """What a configuration changes, as `key = value` with the names of the TOML file."""
    found = []
    for key, value in config.items():
        if isinstance(value, dict) and isinstance(base.get(key), dict):
            found.append(difference(value, base[key], f"{prefix}{key}."))
        elif value != base.get(key):
            found.append(f"`{prefix}{key} = {value}`")
    return ", ".join(part for part in found if part)


def base_settings() -> list[str]:
    """One sentence: what the base is trained with."""
    (base,) = (one for one in read("search.json")["trials"] if one["name"] == BASE)
    config = base["config"]
    model = config["model"]
    return [
        f"The base: x{model['scale']}, K = {model['blocks']}, hidden width {model['hidden']}, {model['bits']} bit, "
        f"coupling {model['coupling']!r}; {base['iterations']:,} steps of {config['batch']} crops of {config['crop']} "
        "pixels, "
        f"{config['optimizer']} at {config['learning_rate']:g}, loss = {config['loss']['reconstruction']:g} * L1 + "
        f"{config['loss']['lr']:g} * LR guidance."
    ]


def step_table() -> list[str]:
    """Milliseconds per training step, way by way (`training_speed.json`, and per GPU `GPU/training_speed.json`)."""
    lines = ["| on | step | time | steps per second | against the first |", "|---|---|---|---|---|"]
    for result in [*read_all("training_speed.json"), *read_all("*/training_speed.json")]:
        where = result["device"] if result["device"] != "cpu" else f"{result['cpu']}, {result['threads']} thread"
        first = next(iter(result["ways"].values()))["median_ms"]
        for name, one in result["ways"].items():
            ms = one["median_ms"]
            lines.append(f"| {where} | {name} | {ms:.0f} ms | {1000 / ms:.2f} | {first / ms:.2f}x |")
        lines.append(f"| {where} | crops from one worker | | {result['crops_per_second']:,.0f} crops per second | |")
    return lines


def gap_table() -> list[str]:
    """The newest weights of each scale against the published figures they are to reach (`quality/MODEL-SET.json`)."""
    newest: dict[tuple[int, str], dict[str, Any]] = {}
    for one in read_all("quality/*.json"):
        name, _, version = one["model"].partition("@")
        scale = int(name.removeprefix("bdflow-x")) if name.removeprefix("bdflow-x").isdecimal() else 0
        held = newest.get((scale, one["folder"]))
        if scale in TARGETS and (held is None or int(version) > int(held["model"].partition("@")[2])):
            newest[scale, one["folder"]] = one
    lines = [
        "| model | set | PSNR-Y | published by IRN | gap | LR to bicubic | largest LR difference |",
        "|---" * 7 + "|",
    ]
    for (scale, folder), one in sorted(newest.items()):
        (target,) = (row for row in PUBLISHED if row.scale == scale and row.name == TARGETS[scale])
        means = one["means"]
        lines.append(
            f"| {one['model']} | {folder} | {means['psnr_y']:.2f} dB | {target.psnr_y[folder]:.2f} dB | "
            f"{means['psnr_y'] - target.psnr_y[folder]:+.2f} dB | {means['lr_psnr']:.2f} dB | "
            f"{means['lr_max_difference']} |"
        )
    return lines


def perception_table() -> list[str]:
    """What luma PSNR does not see: RGB, LPIPS, and whether the LR looks natural (`quality/MODEL-SET.json`)."""
    lines = [
        "| model | set | PSNR RGB | SSIM RGB | LPIPS | LR SSIM to bicubic | LR NIQE, bicubic's | LR PIQE, bicubic's |",
        "|---" * 8 + "|",
    ]
    for one in read_all("quality/*.json"):
        m = one["means"]
        if "psnr_rgb" not in m:
            continue

        def cell(*names: str, digits: int, means: dict[str, Any] = m) -> str:
            found = [means.get(name) for name in names]
            return ", ".join("-" if value is None else f"{value:.{digits}f}" for value in found)

        lines.append(
            f"| {one['model']} | {one['folder']} | {cell('psnr_rgb', digits=2)} dB | {cell('ssim_rgb', digits=4)} | "
            f"{cell('lpips', digits=4)} | {cell('lr_ssim', digits=4)} | "
            f"{cell('lr_niqe', 'bicubic_lr_niqe', digits=2)} | {cell('lr_piqe', 'bicubic_lr_piqe', digits=2)} |"
        )
    return lines


def curve_table() -> list[str]:
    """First and last validations of every kept run (`training/MODEL.json`)."""
    lines = ["| model | started from | steps | minutes | PSNR-Y by steps |", "|---|---|---|---|---|"]
    for one in read_all("training/*.json"):
        points = one["validations"]
        shown = points[:: max(1, len(points) // 6)]
        shown = shown if shown[-1] is points[-1] else [*shown, points[-1]]
        curve = ", ".join(f"{point['step']:,}: {point['psnr_y']:.2f}" for point in shown)
        start = one["started_from"] or "the Haar pyramid"
        minutes = points[-1]["elapsed_s"] / 60
        lines.append(f"| {one['model']} | {start} | {points[-1]['step']:,} | {minutes:.0f} | {curve} |")
    return lines


def macs_table() -> list[str]:
    """Parameters and MACs of the shipped configurations, by hidden width and K (counted, not measured)."""
    seen: dict[str, ModelConfig] = {}
    for one in read_all("training/*.json"):
        seen[one["model"]] = ModelConfig.from_dict(one["config"]["model"])
    lines = ["| model | K | hidden width | parameters | MACs per HR pixel | per 1080p frame |", "|---" * 6 + "|"]
    for name, config in seen.items():
        macs = config.macs(1080, 1920)
        lines.append(
            f"| {name} | {list(config.blocks)} | {list(config.hidden)} | {config.parameters():,} | "
            f"{macs / (1080 * 1920) / 1000:.1f} k | {macs / 1e9:.1f} G |"
        )
    return lines
