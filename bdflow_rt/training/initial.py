"""A trained network's weights as the start of a larger one, which then begins as the very same function.

A new block is the identity (its last convolutions start at zero), so blocks can be added behind the trained ones of a
level, and whole levels behind the last one, without a step back: a larger K or a larger scale goes on from the hours
that a smaller network was trained for.
"""

from __future__ import annotations

import torch

from bdflow_rt.errors import TrainingConfigError
from bdflow_rt.models.io import load_model
from bdflow_rt.models.network import Network
from bdflow_rt.zoo.card import ModelCard
from bdflow_rt.zoo.registry import find_model


def start_from(model: Network, name: str) -> ModelCard:
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
    if reason := model.config.extends(card.config):
        raise TrainingConfigError(
            f"The run's network cannot start from {card.id}, which has {reason}. That model must fit into it: of "
            "BDFlow, levels of the same hidden width with no more blocks, and the same coupling."
        )
    source = load_model(card)
    theirs, ours = card.interface, model.interface
    same_boundary = (theirs.scale, theirs.bits) == (ours.scale, ours.bits)
    state = {
        key: value for key, value in source.state_dict().items() if same_boundary or not key.startswith("quantizer.")
    }
    with torch.no_grad():
        model.load_state_dict(state, strict=False)
    return card
