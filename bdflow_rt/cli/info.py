"""`bdflow info FILE`: what is inside a file that downscale wrote."""

from __future__ import annotations

import argparse
import dataclasses
import math
from typing import TYPE_CHECKING, Any

from bdflow_rt.cli.output import print_json, print_text
from bdflow_rt.cli.streams import Source
from bdflow_rt.errors import EditedPictureError, ModelError, plural
from bdflow_rt.options import DEFAULT_MAX_PIXELS

if TYPE_CHECKING:
    from bdflow_rt.packet import Header


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("input", help="a .png or a video that downscale wrote; - is standard input, of pictures")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "--max-pixels", type=int, metavar="N", default=DEFAULT_MAX_PIXELS,
        help="of larger HR pictures read the header alone, not whether they were edited (default: 16384 x 16384)",
    )  # fmt: skip


def run(args: argparse.Namespace) -> int:
    source = Source.open(args.input, max_pixels=args.max_pixels)
    is_video = source.is_video()
    info = describe_video(source) if is_video else describe(source, max_pixels=args.max_pixels)
    if args.json:
        print_json(info)
        return 0
    width, height = info["hr_size"]
    name = "standard input" if args.input == "-" else args.input
    lines = [
        f"{name}: {info['lr_size'][0]} x {info['lr_size'][1]} {'video' if is_video else 'picture'} of a {width} x "
        f"{height} original",
        f"made with {info['model']} (identity {info['identity']}), which is "
        + ("here" if info["model_available"] else "not here"),
        f"{info['file_bytes']} bytes; boundary map of {plural(info['bits'], 'bit')} per pixel",
    ]
    if is_video:
        lines.append(
            f"LR pictures in {info['codec']}, timestamps in units of {'/'.join(map(str, info['time_base']))} s"
        )
    elif info["edited"]:
        lines.append("its pixels or its colour profile were edited since, so it cannot be restored faithfully")
    elif info["edited"] is None:
        lines.append("larger than --max-pixels, or than its picture needs, so nothing but its header was looked at")
    print_text("\n".join(lines))
    return 0


def describe(source: Source, *, max_pixels: int) -> dict[str, Any]:
    """Everything the header says, and whether the file can be restored here.

    Args:
        source: a packet.
        max_pixels: pictures of more are not looked at: `edited` is None, and `icc_profile_bytes` where there is one.

    Raises:
        PacketError, InputError: the file is no sound packet.
    """
    from bdflow_rt.containers.peek import summarise
    from bdflow_rt.containers.source import max_file_bytes

    with source.stream() as stream:
        summary = summarise(stream)
    edited: bool | None = None
    profile_bytes = None if summary is not None and summary.has_profile else 0
    if summary is None or (
        summary.header.width * summary.header.height <= max_pixels
        and source.size_bytes <= max_file_bytes(math.prod(summary.header.lr_size))
    ):
        packet = source.read_packet(max_pixels=max_pixels)
        header, profile_bytes, edited = packet.header, len(packet.icc_profile or b""), False
        try:
            packet.check_unedited()
        except EditedPictureError:
            edited = True
    else:
        header = summary.header
    return {**_describe_header(source, header), "edited": edited, "icc_profile_bytes": profile_bytes}


def describe_video(source: Source) -> dict[str, Any]:
    """Everything the header of an LR video says; its frames are not looked at.

    Raises:
        PacketError, InputError: the file is no LR video, or its header is damaged.
    """
    from bdflow_rt.video.lr_file import read_header

    header = read_header(source.video)
    return {
        **_describe_header(source, header),
        "time_base": list(header.time_base),
        "codec": header.codec,
        "lr_is_exact": header.lr_is_exact,
        "frame_data": header.frame_data,
    }


def _describe_header(source: Source, header: Header) -> dict[str, Any]:
    from bdflow_rt.zoo import find_model_by_identity

    available = True
    try:
        find_model_by_identity(header.model, header.identity)
    except ModelError:
        available = False
    return {
        "file": source.given,
        "file_bytes": source.size_bytes,
        "model": header.model,
        "identity": header.identity.hex(),
        "model_available": available,
        "scale": header.scale,
        "hr_size": [header.width, header.height],
        "lr_size": list(reversed(header.lr_size)),
        "bits": header.bits,
        "z": dataclasses.asdict(header.z),
        "colour": dataclasses.asdict(header.colour),
    }
