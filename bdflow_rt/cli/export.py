"""`bdflow export MODEL`: the inference graphs of a model as ONNX, or with `--vsmlrt` the one that vs-mlrt takes."""

from __future__ import annotations

import argparse
import os
import pathlib

from bdflow_rt.cli.output import note, print_json
from bdflow_rt.errors import ArgumentError, ModelExistsError
from bdflow_rt.files import descriptor_of
from bdflow_rt.zoo import ModelCard, find_model
from bdflow_rt.zoo.registry import model_folders, zoo_folders


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help="name or folder of a model")
    parser.add_argument(
        "-o",
        "--output",
        type=pathlib.Path,
        metavar="PATH",
        help="folder to write graphs, weights and card to (default: a model folder's own; ./NAME@VERSION for a name); "
        "with --vsmlrt the file (default: ./NAME@VERSION.vsmlrt.onnx)",
    )
    parser.add_argument(
        "--vsmlrt",
        action="store_true",
        help="write the upscale direction alone, as one file that vs-mlrt runs in VapourSynth",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    card = find_model(args.model)
    if args.vsmlrt:
        return _export_vsmlrt(args, card)

    from bdflow_rt.export.onnx import export_model

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


def _export_vsmlrt(args: argparse.Namespace, card: ModelCard) -> int:
    from bdflow_rt.export.vsmlrt import export_vsmlrt

    output = args.output or pathlib.Path(f"{card.id}.vsmlrt.onnx")
    if args.json and descriptor_of(output) == 1:
        raise ArgumentError(
            "--json prints on standard output, where the graph is to go; leave --json out, or name a file."
        )
    size_bytes = export_vsmlrt(card, output)
    interface = card.interface
    if args.json:
        result = {"model": card.id, "output": str(output), "output_bytes": size_bytes, "scale": interface.scale}
        print_json({**result, "max_level": interface.max_level, "halo": interface.halo})
        return 0
    note(f"wrote {output} ({size_bytes:,} bytes)")
    if interface.bits:
        note(f'clips: the LR in RGBS, and std.Expr(boundary, "x {interface.max_level} /", vs.GRAYS)')
    else:
        note("clip: the LR in RGBS; the model has no boundary map")
    if interface.halo is not None:
        note(f"tiles: exact with overlap={interface.halo}")
    return 0


def _is_folder(given: str, folder: pathlib.Path) -> bool:
    """Whether a model was given by its folder. A name of the zoo never is, wherever the command runs.

    Released models never change: one found by name is copied, not written into.
    """
    if os.sep not in given and any(folder in model_folders(entry) for entry in zoo_folders()):
        return False
    return pathlib.Path(os.path.expanduser(given)).resolve() == folder.resolve()
