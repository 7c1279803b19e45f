"""Model folders for the tests of the zoo: the weights are any bytes, since the zoo only hashes them."""

from __future__ import annotations

import hashlib
import pathlib

from bdflow_rt.zoo.arch.bdflow import BDFlowConfig
from bdflow_rt.zoo.card import CARD_FILE, WEIGHTS_FILE, ModelCard


def make_model(
    zoo: pathlib.Path, name: str, version: int, *, weights: bytes | None = None, config: BDFlowConfig | None = None
) -> ModelCard:
    """Write ZOO/NAME@VERSION; the weights' bytes default to the id, so that every model has its own hash."""
    folder = zoo / f"{name}@{version}"
    folder.mkdir(parents=True)
    data = f"{name}@{version}".encode() if weights is None else weights
    (folder / WEIGHTS_FILE).write_bytes(data)
    card = ModelCard(
        folder=folder,
        name=name,
        version=version,
        config=config or BDFlowConfig(),
        weights_sha256=hashlib.sha256(data).hexdigest(),
        details={"seed": 1},
    )
    (folder / CARD_FILE).write_text(card.to_json())
    return card
