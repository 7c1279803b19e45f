"""`bdflow upscale IN -o OUT`: the picture comes back; the file that downscale wrote is all that is needed."""

from __future__ import annotations

import argparse
import pathlib
import time

from bdflow_rt.cli.options import add_engine_options, add_output_options, engine_options
from bdflow_rt.cli.output import describe_run, print_result, progress_callback
from bdflow_rt.errors import ArgumentError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("input", type=pathlib.Path, help="a .png that downscale wrote")
    parser.add_argument(
        "-o",
        "--output",
        type=pathlib.Path,
        required=True,
        help="picture to write: .png, .webp, .tif, .bmp, .ppm or .jpg",
    )
    parser.add_argument("-m", "--model", help="name or folder of the file's model (default: found by identity)")
    parser.add_argument(
        "--force", action="store_true", help="restore even if the small picture or its colour profile was edited"
    )
    parser.add_argument(
        "--temperature", type=float, help="sample Z ~ N(0, T^2) instead of what the file says (normally Z = 0)"
    )
    parser.add_argument("--seed", type=int, help="of the sampled Z, with --temperature (default: 0)")
    add_output_options(parser)
    add_engine_options(parser)


def run(args: argparse.Namespace) -> int:
    from bdflow_rt.containers import check_picture_path, read_packet, write_picture
    from bdflow_rt.containers.source import file_size
    from bdflow_rt.files import check_output
    from bdflow_rt.packet import ZPolicy
    from bdflow_rt.picture import Picture
    from bdflow_rt.rescaler import Rescaler

    started = time.monotonic()
    if args.seed is not None and args.temperature is None:
        raise ArgumentError(f"--seed is {args.seed}, but nothing is sampled: give a --temperature as well.")
    z = None if args.temperature is None else ZPolicy(temperature=args.temperature, seed=args.seed or 0)
    options = engine_options(args)
    check_output(args.output, inputs=[args.input])
    input_bytes = file_size(args.input)
    packet = read_packet(args.input, max_pixels=args.max_pixels)
    height, width = packet.header.height, packet.header.width
    check_picture_path(args.output, width=width, height=height)
    # A folder outside the zoo has to be named; that its weights are those of the file is checked either way.
    opened = Rescaler.from_pretrained(args.model, options) if args.model else Rescaler.for_packet(packet, options)
    with opened as rescaler:
        progress = progress_callback(label="upscale", quiet=args.quiet)
        pixels = rescaler.upscale(packet, z=z, force=args.force, progress=progress)
        output_bytes = write_picture(args.output, Picture(pixels, packet.header.colour.model, packet.icc_profile))
        result = {
            "input": str(args.input),
            "output": str(args.output),
            **describe_run(rescaler, started),
            "hr_size": [width, height],
            "input_bytes": input_bytes,
            "output_bytes": output_bytes,
        }
    print_result(args, result, f"{width} x {height}", rescaler)
    return 0
