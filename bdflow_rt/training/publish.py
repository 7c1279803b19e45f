"""From a run to a model folder: the averaged weights, and a card that says how they came about."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

from bdflow_rt.errors import CheckpointError
from bdflow_rt.files import finite
from bdflow_rt.models.io import Storage, save_model
from bdflow_rt.models.network import build_network
from bdflow_rt.training.checkpoint import load_checkpoint
from bdflow_rt.training.config import TrainConfig
from bdflow_rt.training.sources import UNSTATED
from bdflow_rt.zoo.card import Commercial, ModelCard, TrainingData

_FREE = ("CC0", "CC-BY", "CC BY", "public domain", "PD", "MIT", "BSD", "Apache", "GPL", "LGPL", "Unsplash", "Pexels")
"""What licences that allow commercial use begin with."""


def publish(
    checkpoint: pathlib.Path, folder: pathlib.Path, *, name: str, version: int, storage: Storage = "float16"
) -> ModelCard:
    """Write the model folder of a run, finished or not; one that holds another model is refused.

    Args:
        checkpoint: of the run.
        folder: of the model, made where it is missing.
        name, version: of the model.
        storage: of its weights, as for `save_model`.

    Raises:
        CheckpointError: the checkpoint is missing, damaged or not of a run.
        ArgumentError: the name, version or storage is not allowed, or a weight has no finite value in that storage.
        ModelExistsError: the folder holds another model, or this one with other weights or another configuration.
        OutputError: the folder cannot be written.
    """
    state = load_checkpoint(checkpoint)
    try:
        config = TrainConfig.from_dict(state["config"])
        model = build_network(config.model)
        model.load_state_dict(state["averaged"])
        data, seen = state.get("data") or {}, state["pixels_seen"]
        details = {
            "iterations": state["step"],
            "training_minutes": round(state["elapsed_s"] / 60, 1),
            "setbacks": state["setbacks"],
            "seed": config.seed,
            "data": data,
            "validation": _rounded(state.get("validation")),
            "training": _without_folders(config),
        }
        if state.get("started_from"):
            details["training"]["start_from"] = state["started_from"]
        if state.get("earlier"):
            details["training_earlier"] = [_by_name(part) for part in state["earlier"]]
    except (KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise CheckpointError(f"{checkpoint} is not a checkpoint of a run: {error}") from None
    rows = tuple(dict.fromkeys(training_data(data)))
    started_from = (data.get("started_from") or {}).get("pixels_seen", 0)
    return save_model(
        model,
        folder,
        name=name,
        version=version,
        details=details,
        storage=storage,
        licence="CC-BY-NC-4.0" if any(row.commercial == "no" for row in rows) else "Apache-2.0",
        training_data=rows,
        pixels_seen=None if started_from is None else started_from + seen,
    )


def training_data(data: Mapping[str, Any]) -> Iterator[TrainingData]:
    """The rows of a card: what a run records of its data, of its earlier parts, and of the weights it started from."""
    name = ", ".join(data.get("sources", ()))
    for licence, count in data.get("licences", {}).items():
        yield TrainingData(f"{name}: {count} picture{'s' * (count > 1)}", licence, commercial_use(licence))
    if before := data.get("before"):
        yield from training_data(before)
    for row in (data.get("started_from") or {}).get("training_data", ()):
        yield TrainingData(**row)


def commercial_use(licence: str) -> Commercial:
    """Whether a licence, as a manifest states it, allows commercial use; "unstated" where its name does not tell."""
    if licence == UNSTATED:
        return "unstated"
    if "-NC" in licence or " NC" in licence or "non-commercial" in licence.lower():
        return "no"
    return "yes" if licence.lower().startswith(tuple(word.lower() for word in _FREE)) else "unstated"


def _without_folders(config: TrainConfig) -> dict[str, Any]:
    """The configuration as a card shows it: without the model, which the card has, and the paths of this machine."""
    data = _by_name(config.to_dict())
    del data["model"]
    return {**data, "loss": _by_name(data["loss"])}


def _by_name(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings with the last part of every path."""
    paths = ("start_from", "lpips_weights", "loss.lpips_weights")
    return {
        key: pathlib.PurePath(value).name if key in paths and value is not None else value
        for key, value in settings.items()
    }


def _rounded(validation: dict[str, Any] | None) -> dict[str, Any] | None:
    """A validation for a card; the codec is named where there was one."""
    if validation is None:
        return None
    figures = {key: value for key, value in validation.items() if value is not None}
    return finite({key: value if key == "through" else round(value, 4) for key, value in figures.items()})
