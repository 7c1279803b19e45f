"""A packet that exists is consistent: arrays, header and values agree."""

from __future__ import annotations

import dataclasses
from typing import Any, cast

import numpy as np
import pytest

from bdflow_rt.errors import (
    ArgumentError,
    DTypeError,
    EditedPictureError,
    EmptyImageError,
    PacketMismatchError,
    ShapeError,
)
from bdflow_rt.packet import ColourInfo, Packet, PacketHeader, ZPolicy
from bdflow_rt.picture import MAX_ICC_BYTES
from tests.containers.build import make_packet, refused


@pytest.mark.parametrize(
    ("height", "width", "scale", "expected"),
    [(1, 1, 64, (1, 1)), (1, 7, 4, (1, 2)), (127, 1, 2, (64, 1)), (64, 65, 32, (2, 3)), (1080, 1920, 4, (270, 480))],
)
def test_lr_size_is_the_hr_size_over_the_scale_rounded_up(
    height: int, width: int, scale: int, expected: tuple[int, int]
) -> None:
    assert make_packet(height, width, scale=scale).header.lr_size == expected


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("model", "bdflow-x4"),
        ("model", "bdflow-x4@0"),
        ("model", "../x@1"),
        ("model", "a" * 65 + "@1"),
        ("model", "x@1\n"),
        ("identity", b"1234567"),
        ("identity", "12345678"),
        ("scale", 3),
        ("scale", 4.0),
        ("width", 0),
        ("height", 2**31),
        ("height", True),
        ("bits", 9),
        ("bits", -1),
        ("lr_crc32", 2**32),
    ],
)
def test_impossible_header_values_are_refused(field: str, value: object) -> None:
    changes: dict[str, Any] = {field: value}
    with refused(ArgumentError, field):
        dataclasses.replace(make_packet().header, **changes)


@pytest.mark.parametrize("temperature", [float("nan"), float("inf"), -0.1, 10.5, "1", 10**400])
def test_impossible_temperatures_are_refused(temperature: Any) -> None:
    with refused(ArgumentError, "temperature"):
        ZPolicy(temperature=temperature)


@pytest.mark.parametrize("changes", [{"model": "cmyk"}, {"primaries": 256}, {"matrix": -1}, {"full_range": 1}])
def test_impossible_colour_descriptions_are_refused(changes: dict[str, Any]) -> None:
    with refused(ArgumentError, f"colour.{next(iter(changes))}"):
        ColourInfo(**changes)


def test_a_packet_of_another_size_than_its_header_says_is_refused() -> None:
    packet = make_packet(37, 53)
    with refused(PacketMismatchError, "14 x 9", "53 x 37"):
        dataclasses.replace(packet, lr=packet.lr[:-1])


def test_a_boundary_of_another_kind_than_the_header_says_is_refused() -> None:
    packet = make_packet(bits=2)
    assert packet.boundary is not None
    with refused(PacketMismatchError, "level 4", "at most 3"):
        dataclasses.replace(packet, boundary=np.full_like(packet.boundary, 4))
    with refused(PacketMismatchError, "no boundary map"):
        dataclasses.replace(packet, boundary=None)
    with refused(PacketMismatchError, "0 bits"):
        dataclasses.replace(packet, header=dataclasses.replace(packet.header, bits=0))
    with refused(ShapeError, "boundary"):
        dataclasses.replace(packet, boundary=packet.boundary[:, :-1])
    with refused(DTypeError, "float32"):
        dataclasses.replace(packet, boundary=packet.boundary.astype(np.float32))


def test_lr_pixels_of_another_kind_are_refused() -> None:
    packet = make_packet()
    with refused(DTypeError, "uint16"):
        dataclasses.replace(packet, lr=packet.lr.astype(np.uint16))
    with refused(ShapeError, "(10, 14)"):
        dataclasses.replace(packet, lr=packet.lr[..., 0])
    with refused(EmptyImageError, "no pixels"):
        dataclasses.replace(packet, lr=packet.lr[:0])


def test_an_oversized_colour_profile_is_refused() -> None:
    with refused(ArgumentError, str(MAX_ICC_BYTES)):
        dataclasses.replace(make_packet(), icc_profile=bytes(MAX_ICC_BYTES + 1))


def test_one_changed_pixel_is_noticed() -> None:
    packet = make_packet()
    packet.check_unedited()
    packet.lr[3, 5, 1] ^= 1
    with refused(EditedPictureError, "edited", "--force"):
        packet.check_unedited()


@pytest.mark.parametrize(
    ("made_with", "found", "word"), [(b"icc", None, "lost"), (b"icc", b"other", "changed"), (None, b"icc", "got")]
)
def test_a_colour_profile_that_came_or_went_is_noticed(made_with: bytes | None, found: bytes | None, word: str) -> None:
    packet = make_packet(icc=made_with)
    packet.check_unedited()
    with refused(EditedPictureError, word, "--force"):
        dataclasses.replace(packet, icc_profile=found).check_unedited()


def test_the_pixels_of_a_lossy_file_are_not_compared() -> None:
    packet = make_packet()
    packet.lr[3, 5, 1] ^= 1
    dataclasses.replace(packet, header=dataclasses.replace(packet.header, lr_crc32=None)).check_unedited()


@pytest.mark.parametrize("boundary", [[], "map", None])
def test_what_is_no_array_is_no_boundary(boundary: Any) -> None:
    packet = make_packet()
    with refused(PacketMismatchError if boundary is None else DTypeError, "boundary"):
        dataclasses.replace(packet, boundary=boundary)


def test_what_is_no_header_or_profile_is_refused() -> None:
    packet, anything = make_packet(), cast(Any, 5)
    with refused(ArgumentError, "header is a int"):
        dataclasses.replace(packet, header=anything)
    with refused(ArgumentError, "icc_profile is a int"):
        dataclasses.replace(packet, icc_profile=anything)


def test_the_crc_does_not_depend_on_the_memory_layout() -> None:
    lr = make_packet().lr
    assert Packet.crc32_of(np.asfortranarray(lr)) == Packet.crc32_of(lr)


def test_header_fields_are_passed_by_name_only() -> None:
    with pytest.raises(TypeError):
        PacketHeader("bdflow-x4@1", bytes(8), 4, 1, 1, 1)  # type: ignore[call-arg]
