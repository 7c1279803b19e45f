"""`bdflow upscale IN -o OUT`: the picture or video comes back; the file that downscale wrote is all that is needed."""

from __future__ import annotations

import argparse
import os
import pathlib
import time

from bdflow_rt.cli import video
from bdflow_rt.cli.options import add_engine_options, add_output_options, engine_options
from bdflow_rt.cli.output import describe_run, print_left, print_result, progress_callback
from bdflow_rt.cli.streams import Source, add_existing, is_left, output_path, prepare_output
from bdflow_rt.errors import ArgumentError
from bdflow_rt.files import descriptor_of, is_file

FORMATS = ("png", "jpg", "webp", "tif", "bmp", "ppm")
_VIDEO_FORMATS = ("y4m", "mkv")
_SAME = {"jpeg": "jpg", "tiff": "tif"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("input", help="a .png or a video that downscale wrote; - is standard input")
    parser.add_argument(
        "-o",
        "--output",
        required=True,
        help="picture to write: .png, .webp, .tif, .bmp, .ppm or .jpg; or video: .mkv, .mp4, .mov or .webm, or "
        "numbered pictures such as frame_%%05d.png; - is standard output",
    )
    parser.add_argument(
        "--format",
        choices=(*FORMATS, *_VIDEO_FORMATS),
        help="of a picture whose name does not say it (default: png, on "
        "standard output), or of a video on standard output (default: y4m)",
    )
    parser.add_argument(
        "--quality", type=int, metavar="Q", help="1 to 100, for JPEG or WebP (default: 95 for JPEG, lossless WebP)"
    )
    add_existing(parser)
    parser.add_argument("-m", "--model", help="name or folder of the file's model (default: found by identity)")
    parser.add_argument(
        "--force", action="store_true", help="restore even if the small picture or its colour profile was edited"
    )
    parser.add_argument(
        "--temperature", type=float, help="sample Z ~ N(0, T^2) instead of what the file says (normally Z = 0)"
    )
    parser.add_argument("--seed", type=int, help="of the sampled Z, with --temperature (default: 0)")
    video.add_upscale_options(parser)
    add_output_options(parser)
    add_engine_options(parser)


def run(args: argparse.Namespace) -> int:
    from bdflow_rt.containers import check_picture_path, write_picture
    from bdflow_rt.packet import ZPolicy
    from bdflow_rt.picture import Picture
    from bdflow_rt.rescaler import Rescaler

    started = time.monotonic()
    if args.seed is not None and args.temperature is None:
        raise ArgumentError(f"--seed is {args.seed}, but nothing is sampled: give a --temperature as well.")
    z = None if args.temperature is None else ZPolicy(temperature=args.temperature, seed=args.seed or 0)
    options = engine_options(args)
    output = output_path(args.output)
    if prepare_output(args):
        return print_left(args)
    source = Source.open(args.input, max_pixels=args.max_pixels)
    if source.is_video():
        return video.upscale(args, source)
    video.check_picture_options(args)
    if args.format in _VIDEO_FORMATS:
        raise ArgumentError(f"--format is {args.format}, which is for videos, and the input is a picture.")
    suffix = _suffix(output, args.format)
    packet = source.read_packet(max_pixels=args.max_pixels)
    height, width = packet.header.height, packet.header.width
    check_picture_path(output, width=width, height=height, quality=args.quality, suffix=suffix)
    # A folder outside the zoo has to be named; that its weights are those of the file is checked either way.
    opened = Rescaler.from_pretrained(args.model, options) if args.model else Rescaler.for_packet(packet, options)
    with opened as rescaler:
        progress = progress_callback(label="upscale", quiet=args.quiet)
        pixels = rescaler.upscale(packet, z=z, force=args.force, progress=progress)
        if is_left(args):
            return print_left(args)
        picture = Picture(pixels, packet.header.colour.model, packet.icc_profile)
        output_bytes = write_picture(output, picture, quality=args.quality, suffix=suffix)
        result = {
            "input": args.input,
            "output": args.output,
            **describe_run(rescaler, started),
            "hr_size": [width, height],
            "input_bytes": source.size_bytes,
            "output_bytes": output_bytes,
        }
    print_result(args, result, f"{width} x {height}", rescaler)
    return 0


def _suffix(output: pathlib.Path, format_name: str | None) -> str | None:
    """The suffix of the format where the name does not have it; None where it does.

    Raises:
        ArgumentError: the name says another format than --format.
    """
    own = output.suffix.lower().removeprefix(".")
    if descriptor_of(output) is not None or not own:
        return f".{format_name or 'png'}" if format_name or not _is_plain(output) else None
    if format_name is not None and _SAME.get(own, own) != format_name:
        raise ArgumentError(f"--format is {format_name}, but '{output}' ends in .{own}; leave one of them out.")
    return None


def _is_plain(output: pathlib.Path) -> bool:
    """Whether the name is that of a file, existing or not: no pipe, device or descriptor."""
    if descriptor_of(output) is not None:
        return False
    try:
        status = os.stat(output)
    except (OSError, ValueError):
        return True
    return is_file(status)
