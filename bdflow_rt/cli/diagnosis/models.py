"""The models: where they are looked for, which are found, and whether their files are what their cards say."""

from __future__ import annotations

import pathlib
from typing import Any

from bdflow_rt.errors import BdflowError
from bdflow_rt.zoo.card import ModelCard
from bdflow_rt.zoo.registry import SHIPPED, model_folders, zoo_folders


def zoo() -> dict[str, Any]:
    """`folders` (path, exists, shipped) in search order, and `models` (name, path, problem) with hashes checked."""
    folders = zoo_folders()
    return {
        "folders": [{"path": str(path), "exists": path.is_dir(), "shipped": path == SHIPPED} for path in folders],
        "models": [_model(model) for folder in folders for model in model_folders(folder)],
    }


def _model(folder: pathlib.Path) -> dict[str, Any]:
    name = folder.name
    try:
        card = ModelCard.read(folder)
        name = card.id
        card.check_weights()
        for direction in card.graphs_sha256:
            card.check_graph(direction)  # type: ignore[arg-type]
    except (BdflowError, OSError) as error:
        return {"name": name, "path": str(folder), "problem": str(error)}
    return {"name": name, "path": str(folder), "problem": None}
