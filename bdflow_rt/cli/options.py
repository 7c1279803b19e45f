"""Options that several commands share."""

from __future__ import annotations

import argparse
from typing import get_args

from bdflow_rt.engines.backends import BACKENDS
from bdflow_rt.options import DEFAULT_MAX_PIXELS, MEMORY_LIMIT_MIB, Colours, PrecisionChoice, RescalerOptions


def add_engine_options(parser: argparse.ArgumentParser) -> None:
    """Options that say what runs the model, and within what limits."""
    group = parser.add_argument_group("engine")
    group.add_argument("--backend", default="auto", help=f"auto, {', '.join(BACKENDS)} (default: auto)")
    group.add_argument("--device", help="cpu, cuda or cuda:N (default: cpu, for TensorRT cuda)")
    group.add_argument(
        "--precision",
        choices=get_args(PrecisionChoice),
        help="bf16 on a CPU or fp16 on a GPU where it costs at most 0.3 dB; auto: where 0.05 dB (default: fp32, for "
        "TensorRT fp16)",
    )
    group.add_argument("--threads", type=int, help="CPU threads (default: all cores)")
    group.add_argument(
        "--memory-limit", type=float, metavar="MIB", default=MEMORY_LIMIT_MIB,
        help="working memory of the network in MiB (default: 1024)",
    )  # fmt: skip
    add_max_pixels(group)


def add_refine(parser: argparse.ArgumentParser) -> None:
    """Whether the LR picture is refined when it is made."""
    parser.add_argument(
        "--refine",
        type=int,
        default=0,
        metavar="STEPS",
        help="steps of gradient descent on the LR picture: slower here, better restored; needs PyTorch (default: 0)",
    )


def add_picture_options(parser: argparse.ArgumentParser) -> None:
    """What becomes of pictures that are not opaque, or not in sRGB."""
    parser.add_argument("--background", metavar="COLOUR", help="flatten a transparent picture over this colour")
    group = parser.add_mutually_exclusive_group()
    group.add_argument(
        "--assume-srgb", action="store_true", help="take colours as sRGB where the file says that they are others"
    )
    group.add_argument(
        "--convert-srgb", action="store_true", help="convert to sRGB where the file says that colours are others"
    )


def colours_of(args: argparse.Namespace) -> Colours:
    """What `add_picture_options` was given, as `read_picture` takes it."""
    return "assume" if args.assume_srgb else "convert" if args.convert_srgb else "keep"


def add_max_pixels(parser: argparse._ActionsContainer) -> None:
    """The limit of what is read."""
    parser.add_argument(
        "--max-pixels", type=int, metavar="N", default=DEFAULT_MAX_PIXELS,
        help="refuse larger HR pictures (default: 16384 x 16384)",
    )  # fmt: skip


def engine_options(args: argparse.Namespace) -> RescalerOptions:
    """What `add_engine_options` was given."""
    return RescalerOptions(
        backend=args.backend,
        device=args.device,
        precision=args.precision,
        threads=args.threads,
        memory_limit_mib=args.memory_limit,
        max_pixels=args.max_pixels,
    )


def add_output_options(parser: argparse.ArgumentParser) -> None:
    """What the command prints."""
    parser.add_argument("--json", action="store_true", help="print the result as JSON on stdout")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress bar and no notes")
