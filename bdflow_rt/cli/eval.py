"""`bdflow eval DIR`: what a model makes of a folder of pictures, through real files."""

from __future__ import annotations

import argparse
import pathlib
from typing import Any

from bdflow_rt.cli.options import add_engine_options, add_output_options, engine_options
from bdflow_rt.cli.output import print_json, print_text, progress
from bdflow_rt.zoo import DEFAULT_MODEL


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("folder", type=pathlib.Path, help="folder of HR pictures")
    parser.add_argument(
        "-m", "--model", default=DEFAULT_MODEL, help=f"name or folder of a model (default: {DEFAULT_MODEL})"
    )
    add_output_options(parser)
    add_engine_options(parser)


def run(args: argparse.Namespace) -> int:
    """Carry the command out and return its exit code."""
    from bdflow_rt.bench.quality import evaluate, list_pictures
    from bdflow_rt.rescaler import Rescaler

    pictures = list_pictures(args.folder)
    with Rescaler.from_pretrained(args.model, **engine_options(args)) as rescaler:
        result = evaluate(rescaler, pictures, track=lambda items: progress(items, label="eval", quiet=args.quiet))
    if args.json:
        print_json({"folder": args.folder.name, **result})
    else:
        print_text(_table(result))
    return 0


def _table(result: dict[str, Any]) -> str:
    columns = ("psnr_y", "ssim_y", "bicubic_psnr_y", "lr_psnr", "file_bytes", "chunk_bytes")
    lines = [f"{result['model']} on {result['backend']}", f"{'picture':<20}" + "".join(f"{c:>16}" for c in columns)]
    for entry in [*result["pictures"], {"name": "mean", **result["means"]}]:
        cells = [_cell(name, entry[name]) for name in columns]
        lines.append(f"{entry['name'][:20]:<20}" + "".join(f"{cell:>16}" for cell in cells))
    return "\n".join(lines)


def _cell(name: str, value: float | None) -> str:
    if value is None:
        return "exact"
    return f"{value:.0f}" if name.endswith("bytes") else f"{value:.4f}" if name == "ssim_y" else f"{value:.2f}"
