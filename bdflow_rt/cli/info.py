"""`bdflow info FILE`: what is inside a file that downscale wrote."""

from __future__ import annotations

import argparse
import dataclasses
import pathlib
from typing import Any

from bdflow_rt.cli.options import add_max_pixels
from bdflow_rt.cli.output import print_json, print_text
from bdflow_rt.errors import EditedPictureError, ModelError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("input", type=pathlib.Path, help="a .png that downscale wrote")
    parser.add_argument("--json", action="store_true", help="print JSON")
    add_max_pixels(parser)


def run(args: argparse.Namespace) -> int:
    info = describe(args.input, max_pixels=args.max_pixels)
    if args.json:
        print_json(info)
        return 0
    width, height = info["hr_size"]
    lines = [
        f"{args.input}: {info['lr_size'][0]} x {info['lr_size'][1]} picture of a {width} x {height} original",
        f"made with {info['model']} (identity {info['identity']}), which is "
        + ("here" if info["model_available"] else "not here"),
        f"{info['file_bytes']} bytes; boundary map of {info['bits']} bits per pixel",
    ]
    if info["edited"]:
        lines.append("its pixels were edited since, so it cannot be restored faithfully")
    print_text("\n".join(lines))
    return 0


def describe(path: pathlib.Path, *, max_pixels: int) -> dict[str, Any]:
    """Everything the header says, and whether the file can be restored here.

    Args:
        path: of the file.
        max_pixels: as for `read_packet`.

    Raises:
        PacketError, InputError: the file is no sound packet.
    """
    from bdflow_rt.containers.png import read_packet
    from bdflow_rt.containers.source import file_size
    from bdflow_rt.zoo import find_model_by_identity

    file_bytes = file_size(path)
    packet = read_packet(path, max_pixels=max_pixels)
    header = packet.header
    edited = available = True
    try:
        packet.check_unedited()
        edited = False
    except EditedPictureError:
        pass
    try:
        find_model_by_identity(header.model, header.identity)
    except ModelError:
        available = False
    return {
        "file": str(path),
        "file_bytes": file_bytes,
        "model": header.model,
        "identity": header.identity.hex(),
        "model_available": available,
        "scale": header.scale,
        "hr_size": [header.width, header.height],
        "lr_size": [packet.lr.shape[1], packet.lr.shape[0]],
        "bits": header.bits,
        "edited": edited,
        "z": dataclasses.asdict(header.z),
        "colour": dataclasses.asdict(header.colour),
        "icc_profile_bytes": len(packet.icc_profile or b""),
    }
