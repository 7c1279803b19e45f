"""Finds models by name, folder or identity.

Models ship in `zoo/models/NAME@VERSION`; the folders in the environment variable BDFLOW_ZOO (separated as PATH is),
each a model's own or one of such folders, are searched before them. From the first public release on, weights never
change: a new training is a new version.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
from dataclasses import dataclass

from bdflow_rt.errors import CorruptModelError, ModelConflictError, ModelError, UnknownModelError, WeightsHashError
from bdflow_rt.files import as_path
from bdflow_rt.zoo.arch.bdflow import paper_config
from bdflow_rt.zoo.architecture import Architecture
from bdflow_rt.zoo.card import CARD_FILE, Commercial, ModelCard, Status
from bdflow_rt.zoo.interface import SCALES

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
    status: Status | None = None
    licence: str | None = None
    commercial: Commercial | None = None
    """Of the weights, as in `ModelCard`; None without."""


def zoo_folders() -> list[pathlib.Path]:
    """Where models are looked for, in order."""
    extra = os.environ.get(ZOO_VARIABLE, "")
    return [_expanded(entry) for entry in extra.split(os.pathsep) if entry] + [SHIPPED]


def model_folders(folder: pathlib.Path) -> list[pathlib.Path]:
    """The model folders that a folder of the zoo stands for: itself where it has a card, and those right inside it."""
    try:
        return [path.parent for path in (*folder.glob(CARD_FILE), *sorted(folder.glob(f"*/{CARD_FILE}")))]
    except OSError:  # a name that is too long for a path is one of nothing; later releases of Python say so themselves
        return []


def list_models() -> list[ModelInfo]:
    """All usable models, and the paper's networks that have no weights, by scale and name.

    Model folders that cannot be read are left out; `list_problems` has them.
    """
    cards = {card.id: card for card in reversed(_scan()[0])}
    found = [_info(card.id, card.config, card) for card in cards.values()]
    named = {card.name for card in cards.values()}
    presets = [(f"bdflow-x{scale}", paper_config(scale)) for scale in SCALES]
    found += [_info(name, config, None) for name, config in presets if name not in named]
    return sorted(found, key=lambda info: (info.scale, info.name))


def list_problems() -> list[ModelError]:
    """What is wrong with each model folder whose card cannot be read, and with each id that several models share.

    Such folders do not get in the way of others.
    """
    cards, damaged = _scan()
    conflicts = (_conflict(model_id, cards) for model_id in sorted({card.id for card in cards}))
    return [*damaged.values(), *(conflict for conflict in conflicts if conflict)]


def find_model(name: str | os.PathLike[str]) -> ModelCard:
    """The card of a model.

    Args:
        name: "bdflow-x4" (the newest version), "bdflow-x4@1", or the path of a model folder.

    Raises:
        UnknownModelError: there is none of that name or version.
        CorruptModelError, ModelVersionError: the folder has no card that this release can read, or a folder of that
            name in the zoo has none.
        ModelConflictError: several folders hold different models of that name and version.
    """
    name = str(as_path(name)) if not isinstance(name, str) else name
    stem, at, version = name.partition("@")
    cards, damaged = _scan()
    for folder, problem in damaged.items():
        # Not passed over: a bare name means the newest version, and the damaged one may be that.
        if folder.name == name or (not at and folder.name.startswith(f"{stem}@")):
            raise problem
    matching = [card for card in cards if card.name == stem and (not at or version == str(card.version))]
    if matching:
        newest = max(matching, key=lambda card: card.version)
        if conflict := _conflict(newest.id, matching):
            raise conflict
        return newest
    folder = _expanded(name)
    with contextlib.suppress(OSError):  # a name that is too long for a path
        if (folder / CARD_FILE).exists():
            return ModelCard.read(folder)
        if name and folder.is_dir():
            raise CorruptModelError(f"{folder} is a folder, but no model: it has no {CARD_FILE}.")
    if name in {f"bdflow-x{scale}" for scale in SCALES}:
        raise UnknownModelError(
            f"The model {name!r} has no weights here; train it, for example with 'bdflow train paper-{name[7:]}', or "
            "give another one: 'bdflow models' lists those with weights."
        )
    known = ", ".join(sorted({card.id for card in cards})) or "none"
    raise UnknownModelError(
        f"There is no model {name!r:.100} here. Known: {known}. Give one of these, the path of a model "
        f"folder, or add one, or a folder of models, with {ZOO_VARIABLE}."
    )


def find_model_by_identity(model_id: str, identity: bytes) -> ModelCard:
    """The card of the very model a packet was made with.

    Args:
        model_id: id in the packet, which decides where several have this identity, and helps the error message.
        identity: first 8 bytes of the model's identity.

    Raises:
        UnknownModelError: no model of that id is here.
        WeightsHashError: the model is here, but with other weights or another configuration.
        CorruptModelError, ModelVersionError: the model's folder has no card that this release can read.
    """
    cards, damaged = _scan()
    if matching := [card for card in cards if card.packet_identity == identity]:
        return next((card for card in matching if card.id == model_id), matching[0])
    same_id = [card for card in cards if card.id == model_id]
    if same_id:
        raise WeightsHashError(
            f"The packet was made with a {model_id} of identity {identity.hex()}, but the {model_id} in "
            f"{same_id[0].folder} has {same_id[0].packet_identity.hex()}: other weights, or another configuration. Add "
            f"the folder of the right one with {ZOO_VARIABLE}."
        )
    for folder, problem in damaged.items():
        if folder.name == model_id:
            raise problem
    raise UnknownModelError(
        f"The packet was made with {model_id} (identity {identity.hex()}), which is not here. Install a release of "
        f"bdflow-rt that ships it, or add the folder that holds {model_id} with {ZOO_VARIABLE}."
    )


def _scan() -> tuple[list[ModelCard], dict[pathlib.Path, ModelError]]:
    """The cards of the zoo in the order of its folders, and what is wrong with the folders whose card is damaged."""
    cards: list[ModelCard] = []
    damaged: dict[pathlib.Path, ModelError] = {}
    for folder in (model for entry in zoo_folders() for model in model_folders(entry)):
        card = _read(folder)
        if isinstance(card, ModelCard):
            cards.append(card)
        else:
            damaged[folder] = card
    return cards, damaged


def _read(folder: pathlib.Path) -> ModelCard | ModelError:
    try:
        return ModelCard.read(folder)
    except ModelError as error:
        return error


def _conflict(model_id: str, cards: list[ModelCard]) -> ModelConflictError | None:
    """The error where cards of one id are of different models; equal ones in two folders are one model."""
    folders: dict[bytes, pathlib.Path] = {}
    for card in cards:
        if card.id == model_id:
            folders.setdefault(card.packet_identity, card.folder)
    if len(folders) < 2:
        return None
    found = " and ".join(f"{folder} (identity {identity.hex()})" for identity, folder in folders.items())
    return ModelConflictError(
        f"{model_id} stands for different models: {found}. Give one of them another name or version, remove it, or "
        "open it by its folder."
    )


def _expanded(path: str | os.PathLike[str]) -> pathlib.Path:
    """The path with "~" resolved; unlike pathlib's, this leaves an unknown "~user" as it is."""
    return pathlib.Path(os.path.expanduser(path))


def _info(name: str, config: Architecture, card: ModelCard | None) -> ModelInfo:
    interface = config.interface()
    return ModelInfo(
        name=name,
        scale=interface.scale,
        parameters=config.parameters(),
        macs_128x128=config.macs(128, 128),
        shipped=card is not None,
        bits=interface.bits,
        folder=str(card.folder) if card else None,
        status=card.status if card else None,
        licence=card.licence if card else None,
        commercial=card.commercial if card else None,
    )
