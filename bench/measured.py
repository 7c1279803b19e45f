"""Reads the result files of bench/results."""

from __future__ import annotations

import json
import pathlib
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
