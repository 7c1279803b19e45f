"""Values of wrong types and out of all range give typed errors, in everything that is public."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bdflow_rt import Packet, Picture, Rescaler, ZPolicy, decode_png, encode_png, read_packet, write_packet
from bdflow_rt.containers import (
    check_packet_path,
    check_picture_path,
    decode_header,
    encode_header,
    read_picture,
    write_picture,
)
from bdflow_rt.errors import BdflowError, DTypeError
from bdflow_rt.packet import ColourInfo, PacketHeader

HR = np.zeros((9, 7, 3), np.uint8)
MASKED = np.ma.masked_array(HR, True)
WRONG: tuple[Any, ...] = (
    None, 5, -1, 10**400, 10**5000, 1.5, float("nan"), True, "a", "\0", b"a", memoryview(b""), memoryview(b"PNG"), [],
    {}, (1, 2), [HR], object(), len, Path("a"), np.float64(2), np.array("x"), np.array([1]), HR[0].view(np.matrix),
    np.zeros((3, 3)), MASKED,
)  # fmt: skip
Call = Callable[..., Any]


def with_open(function: Call, name: str, *others: Any) -> Call:
    return lambda value: function(*others, **{name: value})


@pytest.fixture
def calls(tiny_zoo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Call]]:
    """Every public function, with one argument left open."""
    monkeypatch.setenv("BDFLOW_ZOO", str(tiny_zoo))
    monkeypatch.chdir(tmp_path)
    with Rescaler.from_pretrained("tiny-x2", threads=1) as rescaler:
        packet = rescaler.downscale(HR)
        data, picture, header = encode_png(packet), Picture(HR), packet.header
        for name in ("packet.png", "out.png"):
            write_packet(name, packet)
        yield {
            "ZPolicy.temperature": lambda x: ZPolicy(temperature=x),
            "ZPolicy.seed": lambda x: ZPolicy(seed=x),
            "Rescaler": Rescaler,
            **{
                f"Rescaler.{name}": with_open(Rescaler, name, rescaler.card)
                for name in ("backend", "device", "precision", "threads", "memory_limit_mib", "max_pixels")
            },
            "from_pretrained": Rescaler.from_pretrained,
            "for_packet": Rescaler.for_packet,
            "open": Rescaler.open,
            "for_packet.max_pixels": lambda x: Rescaler.for_packet("packet.png", max_pixels=x),
            "warm_up.height": lambda x: rescaler.warm_up(height=x),
            "warm_up.width": lambda x: rescaler.warm_up(width=x),
            "downscale": rescaler.downscale,
            "downscale.z": lambda x: rescaler.downscale(HR, z=x),
            "downscale.background": lambda x: rescaler.downscale("packet.png", background=x),
            "downscale.colours": lambda x: rescaler.downscale("packet.png", colours=x),
            "upscale_file.quality": lambda x: rescaler.upscale_file(packet, "out.jpg", quality=x),
            "downscale.refine": lambda x: rescaler.downscale(HR, refine=0 if x is WRONG[1] else x),
            "downscale.progress": lambda x: rescaler.downscale(HR, progress=None if x is len else x),
            "downscale_batch": rescaler.downscale_batch,
            "upscale": rescaler.upscale,
            "upscale.z": lambda x: rescaler.upscale(packet, z=x),
            "upscale.force": lambda x: rescaler.upscale(packet, force=x),
            "upscale.progress": lambda x: rescaler.upscale(packet, progress=None if x is len else x),
            "upscale_batch": rescaler.upscale_batch,
            "downscale_file": lambda x: rescaler.downscale_file(x, "out.png"),
            "downscale_file.target": lambda x: rescaler.downscale_file("packet.png", x),
            "upscale_file": lambda x: rescaler.upscale_file(x, "out.png"),
            "upscale_file.target": lambda x: rescaler.upscale_file(packet, x),
            "read_picture": read_picture,
            "read_picture.background": lambda x: read_picture(data, background=x),
            "read_picture.max_pixels": lambda x: read_picture(data, max_pixels=x),
            "write_picture": lambda x: write_picture(x, picture),
            "write_picture.picture": lambda x: write_picture("out.png", x),
            "check_picture_path": lambda x: check_picture_path(x, width=1, height=1),
            "check_picture_path.width": lambda x: check_picture_path("out.png", width=x, height=1),
            "Picture": Picture,
            "Picture.colour": lambda x: Picture(HR, x),
            "Picture.icc_profile": lambda x: Picture(HR, "rgb", x),
            "decode_png": decode_png,
            "decode_png.max_pixels": lambda x: decode_png(data, max_pixels=x),
            "encode_png": encode_png,
            "read_packet": read_packet,
            "read_packet.max_pixels": lambda x: read_packet("packet.png", max_pixels=x),
            "write_packet": lambda x: write_packet(x, packet),
            "write_packet.packet": lambda x: write_packet("out.png", x),
            "check_packet_path": check_packet_path,
            "decode_header": decode_header,
            "encode_header": encode_header,
            "crc32_of": Packet.crc32_of,
            **{
                f"Packet.{field.name}": with_open(dataclasses.replace, field.name, packet)
                for field in dataclasses.fields(Packet)
            },
            **{
                f"PacketHeader.{field.name}": with_open(dataclasses.replace, field.name, header)
                for field in dataclasses.fields(PacketHeader)
            },
            **{
                f"ColourInfo.{field.name}": with_open(ColourInfo, field.name)
                for field in dataclasses.fields(ColourInfo)
            },
        }


def test_wrong_arguments_raise_nothing_but_typed_errors(calls: dict[str, Call]) -> None:
    raised = [error for name, call in calls.items() for value in WRONG if (error := untyped(name, call, value))]
    assert raised == []


def untyped(name: str, call: Call, value: Any) -> str | None:
    """What a call raises beside our errors."""
    try:
        with contextlib.suppress(BdflowError):
            call(value)
    except Exception as error:
        return f"{name}({type(value).__name__}): {type(error).__name__}: {error}"
    return None


@pytest.mark.parametrize("name", ["downscale", "Picture", "Packet.lr", "Packet.boundary", "crc32_of"])
def test_no_mask_is_lost(name: str, calls: dict[str, Call]) -> None:
    mask = np.ma.masked_array(np.zeros((5, 4) if name == "Packet.boundary" else HR.shape, np.uint8), False)
    with pytest.raises(DTypeError, match="masked array"):
        calls[name](mask)
