"""Weights between modules and model folders."""

from __future__ import annotations

import hashlib
import pathlib
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from bdflow_rt.errors import ArgumentError, CorruptModelError, UnwritableOutputError
from bdflow_rt.files import write_atomically
from bdflow_rt.models.bdflow import BDFlow
from bdflow_rt.zoo.card import CARD_FILE, MAX_VERSION, NAME_PATTERN, WEIGHTS_FILE, ModelCard


def load_model(card: ModelCard) -> BDFlow:
    """The trained network of a card, in float32, on the CPU, in evaluation mode.

    Raises:
        WeightsHashError: the weights are not the card's.
        CorruptModelError: they are missing or do not fit the configuration.
    """
    card.check_weights()
    model = BDFlow(card.config)
    try:
        state = {name: tensor.float() for name, tensor in load_file(card.weights_path).items()}
        model.load_state_dict(state)
    except (RuntimeError, ValueError, SafetensorError) as error:
        raise CorruptModelError(f"The weights of {card.id} do not fit its configuration: {error}") from None
    return model.eval()


def save_model(model: BDFlow, folder: pathlib.Path, *, name: str, version: int, details: dict[str, Any]) -> ModelCard:
    """Write a model folder: weights in float16 and the card; `export` adds the graphs.

    Float16 halves the file; the rounded values are the model from then on, in every backend. The card comes last, so
    a folder with a card has its weights.

    Args:
        model: the network.
        folder: made where it is missing.
        name, version: of the model.
        details: training and metrics for the card, plain JSON types.

    Raises:
        ArgumentError: the name or version is not allowed, or a weight has no finite float16 value.
        ModelExistsError: the folder holds another model, or this one with other weights.
        OutputError: the folder cannot be written.
    """
    check_name(name, version)
    if not isinstance(model, BDFlow):
        raise ArgumentError(f"model is a {type(model).__name__}; save_model takes a BDFlow.")
    # The gain stays float32: one number, and the levels hang on it.
    state = {
        key: value.detach().to("cpu", torch.float32 if key.startswith("quantizer.") else torch.float16).contiguous()
        for key, value in model.state_dict().items()
    }
    if bad := [key for key, value in state.items() if not value.isfinite().all()]:
        raise ArgumentError(f"{bad[0]} holds values that float16 cannot, up to 65504; train the model again.")
    weights = save(state)
    card = ModelCard(
        folder=folder,
        name=name,
        version=version,
        config=model.config,
        weights_sha256=hashlib.sha256(weights).hexdigest(),
        details=details,
    )
    card.check_target(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UnwritableOutputError(f"The model folder {folder} cannot be made: {error.strerror}.") from None
    write_atomically(folder / WEIGHTS_FILE, weights)
    write_atomically(folder / CARD_FILE, card.to_json().encode())
    return card


def check_name(name: str, version: int) -> None:
    """Check a model's name and version before the work whose result will bear them.

    Raises:
        ArgumentError: one is not allowed.
    """
    if not NAME_PATTERN.fullmatch(name):
        raise ArgumentError(
            f"The model's name is {name!r}; up to 64 of a-z, 0-9, '.', '_' and '-' are allowed, the first of them a "
            "letter or digit."
        )
    if not 1 <= version <= MAX_VERSION:
        raise ArgumentError(f"The model's version is {version}; 1 to {MAX_VERSION} is allowed.")
