"""Reads the result files of bench/results."""

from __future__ import annotations

import json
import pathlib
import re
from collections.abc import Iterable
from typing import Any

from bdflow_rt.zoo.card import ModelCard
from bdflow_rt.zoo.registry import SHIPPED, model_folders

ROOT = pathlib.Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench" / "results"


def read(name: str) -> dict[str, Any]:
    """One result file of bench/results."""
    result: dict[str, Any] = json.loads((RESULTS / name).read_text(encoding="utf-8"))
    return result


def read_all(pattern: str) -> list[dict[str, Any]]:
    """The result files of bench/results that match a pattern, by name."""
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(RESULTS.glob(pattern))]


def shipped_cards() -> list[ModelCard]:
    """The cards of the models that ship, by scale, and by the work within one."""
    return sorted(
        map(ModelCard.read, model_folders(SHIPPED)),
        key=lambda card: (card.interface.scale, card.config.macs(1080, 1920), card.version),
    )


def shipped_ids() -> dict[str, str]:
    """The ids of the models that ship, by the SHA-256 of their weights."""
    return {card.weights_sha256: card.id for card in map(ModelCard.read, model_folders(SHIPPED))}


def shipped_quality() -> list[dict[str, Any]]:
    """The results through files of the weights that ship (`quality/NAME-WEIGHTS-SET.json`), by scale, model and set.

    Without those whose LR went through a lossy codec.
    """
    return _of_shipped(one for one in read_all("quality/*.json") if one.get("through") is None)


def refined() -> list[dict[str, Any]]:
    """Results with refined LR pictures (`refined/NAME-WEIGHTS-SET-STEPS.json`), in the same order."""
    return _of_shipped(read_all("refined/*.json"))


def _of_shipped(results: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Results of weights that ship, under the id that these have now: the weights' hash is what ties them together."""
    ids = shipped_ids()
    found = [{**one, "model": ids[one["weights_sha256"]]} for one in results if one["weights_sha256"] in ids]
    return sorted(
        found, key=lambda one: _by_numbers((*one["model"].split("@"), one["folder"], str(one.get("refine", 0))))
    )


def _by_numbers(key: tuple[str, ...]) -> list[list[str | int]]:
    """Sorts x16 behind x8, and Set14 behind Set5."""
    return [[int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", word)] for word in key]
