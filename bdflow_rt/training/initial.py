"""A trained network's weights as the start of a larger one, which then begins as the very same function.

A new block is the identity (its last convolutions start at zero), so blocks can be added behind the trained ones of a
level, and whole levels behind the last one, without a step back: a larger K or a larger scale goes on from the hours
that a smaller network was trained for.
"""

from __future__ import annotations

import torch

from bdflow_rt.errors import TrainingConfigError
from bdflow_rt.models.bdflow import BDFlow
from bdflow_rt.models.io import load_model
from bdflow_rt.zoo.card import ModelCard
from bdflow_rt.zoo.config import ModelConfig
from bdflow_rt.zoo.registry import find_model


def start_from(model: BDFlow, name: str) -> ModelCard:
    """Copy a model's blocks into the same places of a network with at least as many levels and blocks.

    The gain of the boundary's quantiser is taken over where scale and bits are equal.

    Args:
        model: new network, as its constructor makes it.
        name: of a model of the zoo, or the path of a model folder.

    Returns:
        The model's card: its id has the version, which the name may leave open.

    Raises:
        UnknownModelError, CorruptModelError, WeightsHashError: the model cannot be found or read.
        TrainingConfigError: its blocks do not fit.
    """
    card = find_model(name)
    if fault := _misfit(card.config, model.config):
        raise TrainingConfigError(
            f"A run with {fault[1]} cannot start from {card.id}, which has {fault[0]}. Every level of the model must "
            "have the same hidden width and no more blocks than the run's, with the same coupling."
        )
    source = load_model(card)
    same_boundary = (card.config.scale, card.config.bits) == (model.config.scale, model.config.bits)
    state = {
        key: value for key, value in source.state_dict().items() if same_boundary or not key.startswith("quantizer.")
    }
    with torch.no_grad():
        model.load_state_dict(state, strict=False)
    return card


def _misfit(small: ModelConfig, large: ModelConfig) -> tuple[str, str] | None:
    """What differs, as it is in the one and in the other; None where the small network fits into the large one."""
    if small.coupling != large.coupling:
        return f"coupling {small.coupling!r}", f"{large.coupling!r}"
    if small.levels > large.levels:
        return f"scale {small.scale}", f"{large.scale}"
    for level in range(small.levels):
        if small.hidden[level] != large.hidden[level]:
            return f"hidden width {small.hidden[level]} at level {level + 1}", f"{large.hidden[level]}"
        if small.blocks[level] > large.blocks[level]:
            return f"{small.blocks[level]} blocks at level {level + 1}", f"{large.blocks[level]}"
    return None
