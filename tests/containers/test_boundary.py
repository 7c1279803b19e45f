"""Packing of boundary levels."""

from __future__ import annotations

import numpy as np
import pytest

from bdflow_rt.containers.boundary import pack_levels, unpack_levels
from bdflow_rt.errors import CorruptPacketError
from tests.containers.build import refused

SIZES = [(1, 1), (1, 7), (5, 3), (7, 13), (127, 1), (64, 64), (31, 101)]


@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_levels_come_back_equal_and_take_bits_over_eight_bytes(height: int, width: int, bits: int) -> None:
    levels = np.random.default_rng(bits).integers(0, 1 << bits, (height, width), np.uint8)
    packed = pack_levels(levels, bits)
    assert len(packed) == -(-height * width * bits // 8)
    assert np.array_equal(unpack_levels(packed, bits, height, width), levels)


def test_the_order_is_row_major_with_the_most_significant_bit_first() -> None:
    assert pack_levels(np.array([[1, 0, 1], [1, 0, 0]], np.uint8), 1) == bytes([0b10110000])
    assert pack_levels(np.array([[5, 2], [7, 0]], np.uint8), 3) == bytes([0b10101011, 0b10000000])


def test_levels_in_any_memory_order_pack_the_same() -> None:
    levels = np.random.default_rng(0).integers(0, 4, (7, 13), np.uint8)
    assert pack_levels(np.asfortranarray(levels), 2) == pack_levels(levels, 2)


def test_wrong_lengths_are_refused() -> None:
    for data in (b"", bytes(1), bytes(3)):
        with refused(CorruptPacketError, "3 x 3 pixels of 1 bit"):
            unpack_levels(data, 1, 3, 3)


def test_unused_bits_that_are_not_zero_are_refused() -> None:
    with refused(CorruptPacketError, "last 7 bits"):
        unpack_levels(b"\xff\x81", 1, 3, 3)
    assert unpack_levels(b"\xff\x80", 1, 3, 3).all()
