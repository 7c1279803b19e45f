"""`bdflow downscale IN -o OUT`: a picture or a video becomes a small one that can be restored."""

from __future__ import annotations

import argparse
import time

from bdflow_rt.cli import video
from bdflow_rt.cli.options import (
    add_engine_options,
    add_output_options,
    add_picture_options,
    add_refine,
    colours_of,
    engine_options,
)
from bdflow_rt.cli.output import describe_run, print_left, print_result, progress_callback
from bdflow_rt.cli.streams import Source, add_existing, is_left, output_path, prepare_output
from bdflow_rt.zoo import DEFAULT_MODEL


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "input",
        help="picture: PNG, JPEG, WebP, TIFF, BMP, PPM, GIF; or video; or, with --fps, a folder of pictures or "
        "frame_%%05d.png; - is standard input",
    )
    parser.add_argument(
        "-o", "--output", required=True, help="the .png to write, of a video the .mkv; - is standard output"
    )
    parser.add_argument(
        "-m", "--model", default=DEFAULT_MODEL, help=f"name or folder of a model (default: {DEFAULT_MODEL})"
    )
    add_existing(parser)
    add_refine(parser)
    add_picture_options(parser)
    video.add_downscale_options(parser)
    add_output_options(parser)
    add_engine_options(parser)


def run(args: argparse.Namespace) -> int:
    from bdflow_rt.containers import check_packet_path, write_packet
    from bdflow_rt.rescaler import Rescaler

    started = time.monotonic()
    output = output_path(args.output)
    if prepare_output(args):
        return print_left(args)
    pictures = video.sequence(args)
    if pictures is not None:
        return video.downscale(args, pictures)
    source = Source.open(args.input, max_pixels=args.max_pixels)
    if source.is_video():
        return video.downscale(args, source)
    video.check_picture_options(args)
    check_packet_path(output)
    with Rescaler.from_pretrained(args.model, engine_options(args)) as rescaler:
        picture = source.read_picture(background=args.background, colours=colours_of(args), max_pixels=args.max_pixels)
        progress = progress_callback(label="downscale", quiet=args.quiet)
        packet = rescaler.downscale(picture, refine=args.refine, progress=progress)
        if is_left(args):
            return print_left(args)
        output_bytes = write_packet(output, packet)
        height, width = packet.lr.shape[:2]
        result = {
            "input": args.input,
            "output": args.output,
            **describe_run(rescaler, started),
            "hr_size": [packet.header.width, packet.header.height],
            "lr_size": [width, height],
            "refine": args.refine,
            "input_bytes": source.size_bytes,
            "output_bytes": output_bytes,
            "left_behind": list(picture.left_behind),
        }
    hr_width, hr_height = result["hr_size"]
    what = f"{hr_width} x {hr_height} -> {width} x {height}, {output_bytes} bytes"
    if picture.left_behind:
        what += f", without the input's {', '.join(picture.left_behind)}"
    print_result(args, result, what, rescaler)
    return 0
