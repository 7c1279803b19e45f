"""`bdflow export MODEL`: the inference graphs of a model as ONNX."""

from __future__ import annotations

import argparse
import os
import pathlib

from bdflow_rt.cli.output import note, print_json
from bdflow_rt.errors import ModelExistsError
from bdflow_rt.zoo import find_model
from bdflow_rt.zoo.registry import model_folders, zoo_folders


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help="name or folder of a model")
    parser.add_argument(
        "-o",
        "--output",
        type=pathlib.Path,
        metavar="DIR",
        help="folder to write graphs, weights and card to (default: a model folder's own; ./NAME@VERSION for a name)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    from bdflow_rt.export.onnx import export_model

    card = find_model(args.model)
    folder = args.output or (None if _is_folder(args.model, card.folder) else pathlib.Path(card.id))
    if args.output is None and folder is not None and folder.resolve() == card.folder.resolve():
        raise ModelExistsError(
            f"'{folder}' is the folder of the model itself, which is not written into where it is found by name; name "
            f"another one with --output, or the model by its folder, {os.path.join('.', folder)}."
        )
    card = export_model(card, folder=folder)
    files = {name: str(card.folder / f"{name}.onnx") for name in card.graphs_sha256}
    if args.json:
        print_json({"model": card.id, "folder": str(card.folder), "graphs": files})
    else:
        for path in files.values():
            note(f"wrote {path} ({pathlib.Path(path).stat().st_size:,} bytes)")
    return 0


def _is_folder(given: str, folder: pathlib.Path) -> bool:
    """Whether a model was given by its folder. A name of the zoo never is, wherever the command runs.

    Released models never change: one found by name is copied, not written into.
    """
    if os.sep not in given and any(folder in model_folders(entry) for entry in zoo_folders()):
        return False
    return pathlib.Path(os.path.expanduser(given)).resolve() == folder.resolve()
