"""`bdflow eval CLIP`: what a model makes of a video, frame by frame and from frame to frame."""

from __future__ import annotations

import argparse
import os
import pathlib
from collections.abc import Sequence
from typing import Any

from bdflow_rt.cli.options import engine_options
from bdflow_rt.cli.output import markdown, note, one_line, print_json, print_text, progress_callback, table
from bdflow_rt.errors import ArgumentError, InputError, plural

_PICTURES_ONLY = ("recursive", "background", "assume_srgb", "convert_srgb", "through")
_QUALITY = {"restored": "restored", "bicubic": "bicubic", "lr": "LR to bicubic LR"}
_FLICKER = {"source": "source", "restored": "restored", "bicubic": "bicubic", "lr": "LR", "bicubic_lr": "bicubic LR"}
"""Rows of the two tables by their names in JSON, and what they are called for people."""
_PSNR = ("PSNR-Y", "lowest", "PSNR-RGB", "lowest", "of differences, Y", "of differences, RGB")
_CHANGES = ("mean change", "99th percentile")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options of `bdflow eval` for videos."""
    group = parser.add_argument_group("videos")
    group.add_argument("--frames", type=int, metavar="N", help="measure the first N frames alone (default: all)")


def is_video(path: pathlib.Path) -> bool:
    """Whether the input is a video, by its first bytes."""
    from bdflow_rt.containers.kind import PREFIX_BYTES, video_format
    from bdflow_rt.containers.source import open_input

    if not os.path.isfile(path):
        return False
    with open_input(path) as file:
        return video_format(file.read(PREFIX_BYTES)) is not None


def run(args: argparse.Namespace) -> int:
    """Run `bdflow eval` on a video."""
    from bdflow_rt.evaluate.video import evaluate_video
    from bdflow_rt.rescaler import Rescaler
    from bdflow_rt.video.av_source import AvSource

    for name in _PICTURES_ONLY:
        if getattr(args, name) not in (None, False):
            raise ArgumentError(f"--{name.replace('_', '-')} is for pictures, and the input is a video; leave it out.")
    with (
        Rescaler.from_pretrained(args.model, engine_options(args)) as rescaler,
        AvSource(args.folder, max_pixels=rescaler.max_pixels) as source,
    ):
        progress = progress_callback(label="eval", quiet=args.quiet)
        result = evaluate_video(rescaler, source, frames=args.frames, refine=args.refine, progress=progress)
    if result["damaged"] and not args.quiet:
        note(f"bdflow: note: {plural(result['damaged'], 'frame')} of {args.folder} damaged or missing")
    name = args.folder.name
    if args.json:
        print_json({"video": name, **result})
    else:
        print_text(_described(name, result, is_markdown=args.markdown))
    return InputError.exit_code if result["damaged"] else 0


def _described(name: str, result: dict[str, Any], *, is_markdown: bool) -> str:
    """The two tables, as text or as Markdown."""
    (width, height), (lr_width, lr_height) = result["hr_size"], result["lr_size"]
    size = f"{plural(result['frames'], 'frame')} of {width} x {height}, LR {lr_width} x {lr_height}"
    steps = result["refine"]
    refined = f", LR refined in {plural(steps, 'step')}" if steps else ""
    flicker = result["flicker"]
    share = flicker["static_share"]
    static = "no second frame" if share is None else f"{100 * share:.1f} % of the cells, within {flicker['tolerance']}"
    quality = [[title, *_psnr_cells(result[key], frames=result["frames"])] for key, title in _QUALITY.items()]
    changes = [[title, *_change_cells(flicker[key])] for key, title in _FLICKER.items()]
    tables = ((("PSNR in dB", *_PSNR), quality), ((f"static: {static}", *_CHANGES), changes))
    head = f"{result['model']} on {result['backend']}, {size}{refined}"
    lines = [f"## {one_line(name)}: {head}" if is_markdown else head]
    for heads, rows in tables:
        lines += ["", *_lines(heads, rows, is_markdown=is_markdown)]
    return "\n".join(lines)


def _lines(heads: Sequence[str], rows: list[list[str]], *, is_markdown: bool) -> list[str]:
    return markdown(heads, rows, numbers=True) if is_markdown else [table([heads, *rows], numbers=True)]


def _psnr_cells(quality: dict[str, Any], *, frames: int) -> list[str]:
    values = [quality[of][which] for of in ("psnr_y", "psnr_rgb") for which in ("mean", "min")]
    differences = [quality["difference_psnr_y"], quality["difference_psnr_rgb"]]
    shown = ["exact" if value is None else f"{value:.2f}" for value in (*values, *differences)]
    return shown if frames > 1 else [*shown[: len(values)], "-", "-"]


def _change_cells(change: dict[str, Any]) -> list[str]:
    if change["mean"] is None:
        return ["-", "-"]
    return [f"{change['mean']:.3f}", str(change["p99"])]
