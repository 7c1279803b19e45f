"""Reads the result files of bench/results."""

from __future__ import annotations

import json
import pathlib
import re
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench" / "results"


def read(name: str) -> dict[str, Any]:
    """One result file of bench/results."""
    result: dict[str, Any] = json.loads((RESULTS / name).read_text(encoding="utf-8"))
    return result


def read_all(pattern: str) -> list[dict[str, Any]]:
    """The result files of bench/results that match a pattern, by name."""
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(RESULTS.glob(pattern))]


def lossless_quality() -> list[dict[str, Any]]:
    """All results through files (`quality/MODEL-SET.json`), without those whose LR went through a lossy codec."""
    return [one for one in read_all("quality/*.json") if one.get("through") is None]


def newest_quality() -> list[dict[str, Any]]:
    """Of every model and set the result of its newest weights (`quality/MODEL-SET.json`), by scale, model and set."""
    newest: dict[tuple[str, str], dict[str, Any]] = {}
    for one in lossless_quality():
        name, _, version = one["model"].partition("@")
        held = newest.get((name, one["folder"]))
        if held is None or int(version) > int(held["model"].partition("@")[2]):
            newest[name, one["folder"]] = one
    return [newest[key] for key in sorted(newest, key=_by_numbers)]


def refined() -> list[dict[str, Any]]:
    """All results with refined LR pictures (`refined/MODEL-SET-STEPS.json`), by scale, weights, set and steps."""
    return sorted(
        read_all("refined/*.json"), key=lambda one: _by_numbers((one["model"], one["folder"], str(one["refine"])))
    )


def _by_numbers(key: tuple[str, ...]) -> list[list[str | int]]:
    """Sorts x16 behind x8, and Set14 behind Set5."""
    return [[int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", word)] for word in key]
