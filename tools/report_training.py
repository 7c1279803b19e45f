"""The tables about training: what each free choice is worth, and how far the weights have come."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from bdflow_rt.cli.output import markdown
from tools.measured import read

ROBUSTNESS_QUALITIES = (50, 75, 90)
"""Of JPEG, in the table."""
BASE = "base"
"""The trial that every other one is compared with."""


def search_table(group: str) -> Callable[[], list[str]]:
    """Makes a table of the trials of a group of `search.json`, each against the base."""

    def table() -> list[str]:
        trials = read("search.json")["trials"]
        (base,) = (one for one in trials if one["name"] == BASE)
        names = [name for name in base["sets"] if ", Z at" not in name]
        heads = [head for name in names for head in (f"{name}: PSNR-Y", "to base", "LR")]
        shown = [one for one in trials if one is base or one["group"] == group]
        return markdown(
            ["changed", *heads, "k MACs per pixel"], (row for one in shown for row in _rows(one, base, names))
        )

    return table


def _rows(one: dict[str, Any], base: dict[str, Any], names: list[str]) -> Iterator[list[str]]:
    """One row, and a second one for sampled Z where the trial has it."""
    macs = f"{one['macs_128x128'] / 128**2 / 1000:.1f}"
    label = "nothing" if one is base else difference(one["config"], base["config"])
    if not one["sets"]:
        yield [label, *["diverged", "", ""] * len(names), macs]
        return
    for kind in ["", *sorted({name.partition(", ")[2] for name in one["sets"]} - {""})]:
        cells = []
        for name in names:
            found, reference = one["sets"][f"{name}, {kind}" if kind else name], base["sets"][name]
            gain = "" if one is base else f"{found['psnr_y'] - reference['psnr_y']:+.2f}"
            cells += [f"{found['psnr_y']:.2f} dB", gain, f"{found['lr_psnr']:.2f} dB"]
        yield [f"{label}; measured with {kind}" if kind else label, *cells, macs]


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


def robustness_settings() -> list[str]:
    """One sentence: how the trials of `robustness.json` were trained and are compared."""
    result = read("robustness.json")
    (steps,) = {row["iterations"] for row in result["trials"]}
    return [
        f"{steps:,} steps of {result['batch']} crops of {result['crop']} pixels each, from scratch; "
        f"{result['folder']}, mean PSNR-Y in dB and kB a picture (JPEG 4:2:0 of the LR, and the exact map). Equal "
        f"bytes are {result['equal_bytes'] / 1000:.1f} kB, those of the bicubic LR at quality 75, of the JPEG alone "
        "or with the map."
    ]


def robustness_table() -> list[str]:
    """JPEG on the LR of networks trained with and without one (`robustness.json`)."""
    result = read("robustness.json")
    rows = [(row["group"], str(row["bits"]), row) for row in sorted(result["trials"], key=lambda row: row["bits"])]
    rows += [
        ("bicubic down and up", "-", result["rivals"]["bicubic"]),
        ("the HR picture as JPEG", "-", result["rivals"]["hr"]),
    ]
    cells = []
    for label, bits, row in rows:
        lossless, lr = (f"{row[key]:.2f}" if key in row else "-" for key in ("psnr_y", "lr_psnr"))
        points = [row["jpeg"][str(quality)] for quality in ROBUSTNESS_QUALITIES]
        lossy = [cell for point in points for cell in (f"{point['psnr_y']:.2f}", f"{point['bytes'] / 1000:.1f}")]
        equal = (row[f"psnr_y_at_equal_{what}"] for what in ("lr_bytes", "bytes"))
        cells.append([label, bits, lossless, lr, *lossy, *("-" if one is None else f"**{one:.2f}**" for one in equal)])
    at = [head for quality in ROBUSTNESS_QUALITIES for head in (f"at {quality}: PSNR-Y", "kB")]
    heads = ["trained with", "bits", "lossless", "LR to bicubic", *at, "at equal LR bytes", "at equal bytes"]
    return markdown(heads, cells)
