"""`bdflow verify MODEL`: whether every backend here computes what the model computes in PyTorch."""

from __future__ import annotations

import argparse
import pathlib
from collections.abc import Iterator
from typing import Any

from bdflow_rt.cli.options import add_max_pixels, add_output_options, add_picture_options, colours_of
from bdflow_rt.cli.output import print_json, print_text, progress, table
from bdflow_rt.containers.image import read_picture
from bdflow_rt.evaluate.verify import (
    COMPARED,
    MIDDLE_SIDE,
    as_verified,
    check_report,
    sample_pictures,
    share,
    verify_model,
)
from bdflow_rt.zoo import find_model


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help="name or folder of a model")
    parser.add_argument(
        "pictures",
        nargs="*",
        type=pathlib.Path,
        help=f"HR pictures; at most their middle {MIDDLE_SIDE} x {MIDDLE_SIDE} pixels are used (default: two that are "
        "drawn)",
    )
    parser.add_argument(
        "--backend",
        action="append",
        choices=tuple(dict.fromkeys(setup.backend for setup in COMPARED)),
        help="to compare with PyTorch on the CPU; may be repeated (default: all)",
    )
    add_picture_options(parser)
    add_max_pixels(parser)
    add_output_options(parser)


def run(args: argparse.Namespace) -> int:
    card = find_model(args.model)
    scale, limit = card.interface.scale, args.max_pixels
    pictures = {
        str(path): as_verified(
            read_picture(path, background=args.background, colours=colours_of(args), max_pixels=limit).pixels, scale
        )
        for path in args.pictures
    }
    report = verify_model(
        card,
        pictures or sample_pictures(scale),
        backends=args.backend or (),
        track=lambda items, label: progress(items, label=label, quiet=args.quiet),
    )
    if args.json:
        print_json(report)
    else:
        print_text("\n".join(_lines(report)))
    check_report(report, asked=args.backend or ())
    return 0


def _lines(report: dict[str, Any]) -> Iterator[str]:
    count = len(report["pictures"])
    yield f"{report['model']} on {count} picture{'s' * (count != 1)}, against {report['reference']}"
    rows: list[tuple[str, ...]] = [
        ("backend", "direction", "output", "largest", "differing", "PSNR to it", "restored", "loss dB")
    ]
    for one in report["backends"]:
        rows += _rows(one)
    if len(rows) > 1:
        yield table(rows)
    for one in report["backends"]:
        why = "; ".join([one["reason"]] if one["reason"] else one["errors"])
        yield f"{one['name']}: {one['verdict']}" + (f": {why}" if why else "")


def _rows(one: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    """One row per direction and output: the worst of all pictures."""
    pictures = one["pictures"]
    for direction in ("downscale", "upscale"):
        for name in pictures[0][direction] if pictures else ():
            found = [picture[direction][name] for picture in pictures]
            cells = [str(max(f["largest"] for f in found)), f"{max(map(share, found)):.3%}"]
            if direction == "upscale":
                cells += [_worst(pictures, key) for key in ("psnr_to_reference_db", "psnr_to_original_db")]
                cells.append(f"{max(picture['loss_db'] for picture in pictures):.3f}")
            cells += ["-"] * (5 - len(cells))
            yield (one["name"], direction, name, *cells)


def _worst(pictures: list[dict[str, Any]], key: str) -> str:
    values = [picture[key] for picture in pictures if picture[key] is not None]
    return f"{min(values):.2f}" if values else "exact"
