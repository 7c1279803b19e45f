"""`bdflow downscale IN -o OUT`: a picture becomes a small PNG that can be restored."""

from __future__ import annotations

import argparse
import pathlib
import time

from bdflow_rt.cli.options import add_engine_options, add_output_options, add_refine, engine_options
from bdflow_rt.cli.output import describe_run, print_result, progress_callback
from bdflow_rt.zoo import DEFAULT_MODEL


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("input", type=pathlib.Path, help="PNG, JPEG, WebP, TIFF, BMP, PPM or GIF")
    parser.add_argument("-o", "--output", type=pathlib.Path, required=True, help="the .png to write")
    parser.add_argument(
        "-m", "--model", default=DEFAULT_MODEL, help=f"name or folder of a model (default: {DEFAULT_MODEL})"
    )
    add_refine(parser)
    parser.add_argument("--background", metavar="COLOUR", help="flatten a transparent picture over this colour")
    add_output_options(parser)
    add_engine_options(parser)


def run(args: argparse.Namespace) -> int:
    from bdflow_rt.containers import check_packet_path, write_packet
    from bdflow_rt.containers.source import file_size
    from bdflow_rt.files import check_output
    from bdflow_rt.rescaler import Rescaler

    started = time.monotonic()
    check_packet_path(args.output)
    check_output(args.output, inputs=[args.input])
    with Rescaler.from_pretrained(args.model, engine_options(args)) as rescaler:
        input_bytes = file_size(args.input)
        progress = progress_callback(label="downscale", quiet=args.quiet)
        packet = rescaler.downscale(args.input, background=args.background, refine=args.refine, progress=progress)
        output_bytes = write_packet(args.output, packet)
        height, width = packet.lr.shape[:2]
        result = {
            "input": str(args.input),
            "output": str(args.output),
            **describe_run(rescaler, started),
            "hr_size": [packet.header.width, packet.header.height],
            "lr_size": [width, height],
            "refine": args.refine,
            "input_bytes": input_bytes,
            "output_bytes": output_bytes,
        }
    hr_width, hr_height = result["hr_size"]
    what = f"{hr_width} x {hr_height} -> {width} x {height}, {output_bytes} bytes"
    print_result(args, result, what, rescaler)
    return 0
