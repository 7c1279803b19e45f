"""From a run to a model folder: the averaged weights, and a card that says how they came about."""

from __future__ import annotations

import math
import pathlib
from typing import Any

from bdflow_rt.errors import CheckpointError
from bdflow_rt.models.bdflow import BDFlow
from bdflow_rt.models.io import Storage, save_model
from bdflow_rt.training.checkpoint import load_checkpoint
from bdflow_rt.training.config import TrainConfig
from bdflow_rt.zoo.card import ModelCard


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
        if config.transmit == "mask":
            raise CheckpointError(f"{checkpoint} was trained to transmit the mask itself, which no packet does.")
        model = BDFlow(config.model)
        model.load_state_dict(state["averaged"])
        details = {
            "iterations": state["step"],
            "pixels_seen": state["pixels_seen"],
            "training_minutes": round(state["elapsed_s"] / 60, 1),
            "setbacks": state["setbacks"],
            "seed": config.seed,
            "data": state.get("data"),
            "validation": _plain(state.get("validation")),
            "training": _without_folders(config),
        }
        if state.get("started_from"):
            details["training"]["start_from"] = state["started_from"]
        if state.get("earlier"):
            details["training_earlier"] = [_by_name(part) for part in state["earlier"]]
    except (KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise CheckpointError(f"{checkpoint} is not a checkpoint of a run: {error}") from None
    return save_model(model, folder, name=name, version=version, details=details, storage=storage)


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


def _plain(validation: dict[str, Any] | None) -> dict[str, Any] | None:
    """JSON has no infinity, which is the PSNR of equal pictures; the codec is named where there was one."""
    if validation is None:
        return None
    figures = {key: value for key, value in validation.items() if key != "through"}
    plain: dict[str, Any] = {key: round(value, 4) if math.isfinite(value) else None for key, value in figures.items()}
    return plain if validation.get("through") is None else {**plain, "through": validation["through"]}
