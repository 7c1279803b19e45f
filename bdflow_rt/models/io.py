"""Weights between modules and model folders."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import pathlib
from typing import Any, Literal, get_args

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from bdflow_rt.errors import ArgumentError, CorruptModelError, UnwritableOutputError
from bdflow_rt.files import write_atomically
from bdflow_rt.models.int8 import LARGEST_WEIGHT, from_int8, to_int8
from bdflow_rt.models.network import Network, build_network
from bdflow_rt.zoo.card import CARD_FILE, MAX_VERSION, NAME_PATTERN, WEIGHTS_FILE, ModelCard
from bdflow_rt.zoo.weights import are_exact, read_index, scale_name

Storage = Literal["float16", "int8"]
LEAST_AVERAGED = 16
"""Inputs of a kernel from which on the errors of int8 average out. Narrower ones are small, and cost PSNR in int8."""


def load_model(card: ModelCard) -> Network:
    """The trained network of a card, in float32, on the CPU, in evaluation mode.

    Raises:
        WeightsHashError: the weights are not the card's.
        CorruptModelError: they are missing or do not fit the configuration.
    """
    card.check_weights()
    try:
        stored = load_file(card.weights_path)
        read_index(card.weights_path)  # what is int8 has sound scales
        kernels = {name: scale_name(name) for name, tensor in stored.items() if tensor.dtype == torch.int8}
        state = {name: tensor.float() for name, tensor in stored.items() if name not in kernels.values()}
        state |= {name: from_int8(stored[name], stored[scale]) for name, scale in kernels.items()}
        needed, found = card.config.parameters(), sum(value.numel() for value in state.values())
        if needed > found:  # Not even made: a card can ask for more than there is memory.
            raise ValueError(f"it needs {needed} values, and they have {found}.")
        with torch.device("cpu"):
            model = build_network(card.config).float()  # whatever the caller's defaults are
        model.load_state_dict(state)
    except (RuntimeError, ValueError, SafetensorError) as error:
        raise CorruptModelError(f"The weights of {card.id} do not fit its configuration: {error!s:.500}") from None
    return model.eval()


def save_model(
    model: Network,
    folder: pathlib.Path,
    *,
    name: str,
    version: int,
    details: dict[str, Any],
    storage: Storage = "float16",
    **facts: Any,
) -> ModelCard:
    """Write a model folder: weights in float16 or int8, and the card; `export` adds the graphs.

    The rounded values are the model from then on, in every backend. The card comes last, so a folder with a card has
    its weights.

    Args:
        model: the network.
        folder: made where it is missing.
        name, version: of the model.
        details: training and metrics for the card, plain JSON types. Graphs and measurements of this very model that
            the folder's card has stay in it.
        storage: of the convolution kernels with `LEAST_AVERAGED` inputs and more; "int8" nearly halves the file once
            more (`to_int8`). All else is float16.
        facts: `status`, `licence`, `training_data` and `pixels_seen` of the card, see `ModelCard`.

    Raises:
        ArgumentError: the name, version or storage is not allowed, the details are not JSON, or a weight has no finite
            value in that storage.
        ModelExistsError: the folder holds another model, or this one with other weights or another configuration.
        OutputError: the folder cannot be written.
    """
    check_name(name, version)
    if storage not in get_args(Storage):
        raise ArgumentError(f"storage is {storage!r}; it must be one of {', '.join(get_args(Storage))}.")
    if not isinstance(model, Network):
        raise ArgumentError(f"model is a {type(model).__name__}; save_model takes a Network.")
    try:
        json.dumps(details, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ArgumentError(f"details cannot be written as JSON: {error}. Give plain, finite values.") from None
    state: dict[str, torch.Tensor] = {}
    for key, value in model.state_dict().items():
        state |= _stored(key, value.detach().cpu().contiguous(), storage)
    weights = save(state)
    card = ModelCard(
        folder=folder,
        name=name,
        version=version,
        config=model.config,
        weights_sha256=hashlib.sha256(weights).hexdigest(),
        details=details,
        **facts,
    )
    if (there := card.check_target(folder)) is not None:
        card = dataclasses.replace(card, graphs_sha256=there.graphs_sha256, precisions=there.precisions)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UnwritableOutputError(f"The model folder {folder} cannot be made: {error.strerror}.") from None
    write_atomically(folder / WEIGHTS_FILE, weights)
    write_atomically(folder / CARD_FILE, card.to_json().encode())
    return card


def _stored(key: str, value: torch.Tensor, storage: Storage) -> dict[str, torch.Tensor]:
    """The tensors that hold a parameter in the file."""
    if storage == "int8" and value.ndim == 4 and value.shape[1] >= LEAST_AVERAGED:
        kernel, scales = to_int8(value)
        state, is_sound, limit = {key: kernel, scale_name(key): scales}, are_exact(scales.tolist()), LARGEST_WEIGHT
    else:
        # The gain stays float32: one number, and the levels hang on it.
        rounded = value.to(torch.float32 if key.startswith("quantizer.") else torch.float16)
        state, is_sound, limit = {key: rounded}, bool(rounded.isfinite().all()), 65504
        if key == "quantizer.gain" and not rounded:
            raise ArgumentError("quantizer.gain is 0, which the boundary channel is divided by; train the model again.")
    if not is_sound:
        raise ArgumentError(f"{key} holds values beyond {limit:.0f}, which cannot be stored; train the model again.")
    return state


def check_name(name: str, version: int) -> None:
    """Check a model's name and version before the work whose result will bear them.

    Raises:
        ArgumentError: one is not allowed.
    """
    if not isinstance(name, str) or not NAME_PATTERN.fullmatch(name):
        raise ArgumentError(
            f"The model's name is {name!r}; up to 64 of a-z, 0-9, '.', '_' and '-' are allowed, the first of them a "
            "letter or digit."
        )
    if type(version) is not int or not 1 <= version <= MAX_VERSION:
        raise ArgumentError(f"The model's version is {version!r}; whole numbers from 1 to {MAX_VERSION} are allowed.")
