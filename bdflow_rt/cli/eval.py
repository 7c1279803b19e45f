"""`bdflow eval DIR`: what a model makes of a folder of pictures, through real files; of a video see `eval_video`."""

from __future__ import annotations

import argparse
import os
import pathlib
from typing import Any

from bdflow_rt.cli import eval_video
from bdflow_rt.cli.options import (
    add_engine_options,
    add_output_options,
    add_picture_options,
    add_refine,
    colours_of,
    engine_options,
)
from bdflow_rt.cli.output import markdown, note, one_line, print_json, print_text, progress, table
from bdflow_rt.cli.words import for_command_line
from bdflow_rt.errors import ArgumentError, InputError, plural
from bdflow_rt.zoo import DEFAULT_MODEL

_RESTORED = {
    "psnr_y": "PSNR-Y",
    "ssim_y": "SSIM-Y",
    "psnr_rgb": "PSNR-RGB",
    "ssim_rgb": "SSIM-RGB",
    "lpips": "LPIPS",
    "border_psnr_rgb": "border PSNR-RGB",
    "border_max_difference": "border, largest difference",
    "bicubic_psnr_y": "bicubic PSNR-Y",
    "bicubic_ssim_y": "bicubic SSIM-Y",
}
_LR = {
    "lr_psnr": "PSNR-RGB",
    "lr_psnr_y": "PSNR-Y",
    "lr_ssim": "SSIM-RGB",
    "lr_ssim_y": "SSIM-Y",
    "lr_max_difference": "largest difference",
    "lr_niqe": "NIQE",
    "bicubic_lr_niqe": "bicubic NIQE",
    "lr_piqe": "PIQE",
    "bicubic_lr_piqe": "bicubic PIQE",
    "file_bytes": "file, bytes",
    "chunk_bytes": "of it boundary",
}
"""Columns of the two tables by their names in JSON, and what they are called for people."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "folder",
        type=pathlib.Path,
        help="folder of HR pictures, a list of held-out originals (.json) by its packs, or a video",
    )
    parser.add_argument(
        "-m", "--model", default=DEFAULT_MODEL, help=f"name or folder of a model (default: {DEFAULT_MODEL})"
    )
    parser.add_argument("-r", "--recursive", action="store_true", help="pictures of subfolders too")
    add_picture_options(parser)
    add_refine(parser)
    parser.add_argument(
        "--through", metavar="jpeg:Q", help="lossy codec and quality that every LR picture goes through (default: none)"
    )
    parser.add_argument("--markdown", action="store_true", help="print the result as Markdown on stdout")
    eval_video.add_options(parser)
    add_output_options(parser)
    add_engine_options(parser)


def run(args: argparse.Namespace) -> int:
    from bdflow_rt.evaluate.codecs import parse_through
    from bdflow_rt.evaluate.pictures import open_pictures, subfolders_with_pictures
    from bdflow_rt.evaluate.quality import evaluate
    from bdflow_rt.rescaler import Rescaler

    if args.json and args.markdown:
        raise ArgumentError("--json and --markdown are both given; the result is printed once, so give one of them.")
    if eval_video.is_video(args.folder):
        return eval_video.run(args)
    if args.frames is not None:
        raise ArgumentError(f"--frames is for a video, and '{args.folder}' is none; leave it out.")
    with (
        open_pictures(args.folder, recursive=args.recursive) as pictures,
        Rescaler.from_pretrained(args.model, engine_options(args)) as rescaler,
    ):
        result = evaluate(
            rescaler,
            pictures,
            root=args.folder if args.recursive and args.folder.is_dir() else None,
            background=args.background,
            colours=colours_of(args),
            refine=args.refine,
            codec=None if args.through is None else parse_through(args.through),
            track=lambda items: progress(items, label="eval", quiet=args.quiet),
        )
    if not args.quiet:
        below = [] if args.recursive or not args.folder.is_dir() else subfolders_with_pictures(args.folder)
        if below:
            note(
                f"bdflow: note: {plural(len(below), 'subfolder')} with pictures left out ({', '.join(below[:3])}"
                f"{', ...' if len(below) > 3 else ''}); --recursive measures them too"
            )
        for line in (*_left_out(result), *_failed(result)):
            note(f"bdflow: note: {line}")
    name = os.path.basename(os.path.abspath(args.folder)).removesuffix(".json")  # of "." too
    if args.json:
        print_json({"folder": name, **result})
    elif args.markdown:
        print_text(_markdown(name, result))
    else:
        print_text(_text(result))
    return InputError.exit_code if result["failed"] else 0


def _text(result: dict[str, Any]) -> str:
    lines = [f"{result['model']} on {result['backend']}{_how(result)}"]
    for title, columns in (("restored", _RESTORED), ("LR", _LR)):
        shown = _shown(columns, result)
        rows = [
            [one_line(entry["name"])[:20], *(_cell(name, entry[name]) for name in shown)] for entry in _rows(result)
        ]
        lines += ["", table([[title, *shown], *rows], numbers=True)]
    return "\n".join(lines)


def _markdown(folder: str, result: dict[str, Any]) -> str:
    from bdflow_rt.evaluate.quality import BORDER

    lines = [f"## {result['model']} on {_escaped(folder)}{_how(result)}"]
    for title, columns in (("Restored against HR", _RESTORED), ("LR against bicubic", _LR)):
        shown = _shown(columns, result)
        rows = [[_escaped(entry["name"]), *(_cell(name, entry[name]) for name in shown)] for entry in _rows(result)]
        lines += [
            "",
            f"### {title}",
            "",
            *markdown(["picture", *(columns[name] for name in shown)], rows, numbers=True),
        ]
    lines += [
        "",
        "- PSNR in dB leaves out a border of `scale` pixels of the restored picture, SSIM none. Bicubic is MATLAB's. "
        "Of the largest difference the last row has the maximum.",
        f"- The border is the outermost {BORDER} pixels of each side, where the zero padding of a network shows.",
        *(f"- {line}" for line in _left_out(result)),
        *(f"- {_escaped(line)}" for line in _failed(result)),
    ]
    return "\n".join(lines)


def _how(result: dict[str, Any]) -> str:
    steps, through = result["refine"], result["through"]
    refined = f", LR refined in {steps} step{'s' * (steps != 1)}" if steps else ""
    return refined + (f", LR through {through}" if through else "")


def _shown(columns: dict[str, str], result: dict[str, Any]) -> list[str]:
    """The columns that any picture has: those left out for all of them are not shown."""
    count = len(result["pictures"])
    absent = {name for one in result["left_out"] if one["pictures"] == count for name in one["columns"]}
    return [name for name in columns if name not in absent]


def _rows(result: dict[str, Any]) -> list[dict[str, Any]]:
    return [*result["pictures"], {"name": "mean", **result["means"]}]


def _left_out(result: dict[str, Any]) -> list[str]:
    """One sentence per reason why something is not measured."""
    count = len(result["pictures"])
    names = {**_RESTORED, **{name: f"LR {title}" for name, title in _LR.items()}}
    return [
        f"{', '.join(names[name] for name in one['columns'])} left out for {one['pictures']} of {count} pictures. "
        f"{for_command_line(one['reason'])}"
        for one in result["left_out"]
    ]


def _failed(result: dict[str, Any]) -> list[str]:
    """One sentence per picture that could not be measured."""
    return [f"{one['name']} was not measured: {for_command_line(one['reason'])}" for one in result["failed"]]


def _cell(name: str, value: float | None) -> str:
    if value is None:
        return "exact" if "psnr" in name else "-"
    if name.endswith(("bytes", "difference")):
        return f"{value:.0f}"
    return f"{value:.4f}" if "ssim" in name or name == "lpips" else f"{value:.2f}"


def _escaped(text: str) -> str:
    """A file name as it reads in a Markdown table."""
    return "".join(f"\\{letter}" if letter in "\\|`*_<>[]#" else letter for letter in one_line(text))
