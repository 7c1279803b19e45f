"""`bdflow export MODEL`: the inference graphs of a model as ONNX."""

from __future__ import annotations

import argparse
import os
import pathlib

from bdflow_rt.cli.output import note, print_json
from bdflow_rt.zoo import find_model


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
    # Released models never change: one found by name is copied, not written into.
    given_folder = pathlib.Path(os.path.expanduser(args.model)).resolve() == card.folder.resolve()
    folder = args.output or (None if given_folder else pathlib.Path(card.id))
    card = export_model(card, folder=folder)
    files = {name: str(card.folder / f"{name}.onnx") for name in card.graphs_sha256}
    if args.json:
        print_json({"model": card.id, "folder": str(card.folder), "graphs": files})
    else:
        for path in files.values():
            note(f"wrote {path} ({pathlib.Path(path).stat().st_size:,} bytes)")
    return 0
