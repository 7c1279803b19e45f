"""Finds models by name, folder or weights hash.

Models ship in `zoo/models/NAME@VERSION`; the folders in the environment variable BDFLOW_ZOO (separated as PATH is)
are searched before them. Released weights never change: a new training is a new version.
"""

from __future__ import annotations

import os
import pathlib
from collections.abc import Iterator
from dataclasses import dataclass

from bdflow_rt.errors import CorruptModelError, UnknownModelError, WeightsHashError
from bdflow_rt.zoo.card import CARD_FILE, ModelCard
from bdflow_rt.zoo.config import SCALES, ModelConfig, paper_config

DEFAULT_MODEL = "bdflow-x4"
SHIPPED = pathlib.Path(__file__).parent / "models"
ZOO_VARIABLE = "BDFLOW_ZOO"


@dataclass(frozen=True)
class ModelInfo:
    """One line of `list_models`: a model that can be used, or a preset of the paper without weights here."""

    name: str
    """With its version, "bdflow-x4@1"; a preset without weights has none, "bdflow-x8"."""
    scale: int
    parameters: int
    """Trainable parameters of the flow (paper, Table 2)."""
    macs_128x128: int
    """Multiply-accumulates of one direction for a 128 x 128 HR picture (paper, Table 2)."""
    shipped: bool
    """Whether weights are there, with the package or in BDFLOW_ZOO."""
    bits: int
    folder: str | None


def zoo_folders() -> list[pathlib.Path]:
    """Where models are looked for, in order."""
    extra = os.environ.get(ZOO_VARIABLE, "")
    return [pathlib.Path(entry).expanduser() for entry in extra.split(os.pathsep) if entry] + [SHIPPED]


def list_models() -> list[ModelInfo]:
    """All models with weights, then the paper's presets without, by scale and name."""
    cards = {card.id: card for card in _cards()}
    found = [_info(card.id, card.config, card.folder) for card in cards.values()]
    named = {card.name for card in cards.values()}
    presets = [(f"bdflow-x{scale}", paper_config(scale)) for scale in SCALES]
    found += [_info(name, config, None) for name, config in presets if name not in named]
    return sorted(found, key=lambda info: (info.scale, info.name))


def find_model(name: str | os.PathLike[str]) -> ModelCard:
    """The card of a model.

    Args:
        name: "bdflow-x4" (the newest version), "bdflow-x4@1", or the path of a model folder.

    Raises:
        UnknownModelError: there is none of that name or version.
        CorruptModelError: the folder has no readable card.
    """
    wanted, _, version = os.fspath(name).partition("@")
    matching = [card for card in _cards() if card.name == wanted and version in ("", str(card.version))]
    if matching:
        # The first of equal versions: BDFLOW_ZOO comes before what ships.
        return max(matching, key=lambda card: card.version)
    folder = pathlib.Path(name).expanduser()
    if (folder / CARD_FILE).exists():
        return ModelCard.read(folder)
    if folder.is_dir():
        raise CorruptModelError(f"{folder} is a folder, but no model: it has no {CARD_FILE}.")
    known = ", ".join(sorted({card.id for card in _cards()})) or "none"
    raise UnknownModelError(
        f"There is no model {os.fspath(name)!r} here. Known: {known}. Give one of these, the path of a model folder, "
        f"or add a folder of models with {ZOO_VARIABLE}."
    )


def find_model_by_hash(model_id: str, weights_hash: bytes) -> ModelCard:
    """The card of the very weights a packet was made with.

    Args:
        model_id: id in the packet; it only helps the error message.
        weights_hash: first 8 bytes of the weights' SHA-256.

    Raises:
        UnknownModelError: no model of that id is here.
        WeightsHashError: the model is here, but with other weights.
    """
    cards = list(_cards())
    for card in cards:
        if card.weights_hash == weights_hash:
            return card
    same_id = [card for card in cards if card.id == model_id]
    if same_id:
        raise WeightsHashError(
            f"The packet was made with weights {weights_hash.hex()} of {model_id}, but the {model_id} in "
            f"{same_id[0].folder} has {same_id[0].weights_hash.hex()}. Add the folder of the right ones "
            f"with {ZOO_VARIABLE}."
        )
    raise UnknownModelError(
        f"The packet was made with {model_id} (weights {weights_hash.hex()}), which is not here. Install a release of "
        f"bdflow-rt that ships it, or add the folder that holds {model_id} with {ZOO_VARIABLE}."
    )


def _cards() -> Iterator[ModelCard]:
    for folder in zoo_folders():
        for path in sorted(folder.glob(f"*/{CARD_FILE}")):
            yield ModelCard.read(path.parent)


def _info(name: str, config: ModelConfig, folder: pathlib.Path | None) -> ModelInfo:
    return ModelInfo(
        name=name,
        scale=config.scale,
        parameters=config.parameters(),
        macs_128x128=config.macs(128, 128),
        shipped=folder is not None,
        bits=config.bits,
        folder=None if folder is None else str(folder),
    )
