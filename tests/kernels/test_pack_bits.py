"""Levels packed without gaps: the kernels, run on the CPU from their CUDA source, their twins, and the containers."""

from __future__ import annotations

import dataclasses
import itertools
import sys
import tracemalloc

import numpy as np
import pytest

from bdflow_rt.containers.boundary import pack_levels, unpack_levels
from bdflow_rt.errors import ArgumentError, ArrayTooLargeError, DTypeError, EmptyImageError, LayoutError, ShapeError
from bdflow_rt.kernels.pack_bits import (
    KERNELS,
    check_pack_bits,
    check_unpack_bits,
    pack_bits,
    pack_bits_launch,
    pack_bits_reference,
    packed_shape,
    unpack_bits,
    unpack_bits_launch,
    unpack_bits_reference,
)
from tests.support import slow_but
from tests.support_shim import guarded, needs_shim, run

module = sys.modules["bdflow_rt.kernels.pack_bits"]  # the package has a function of that name
BITS = range(1, 9)
SIZES = [*itertools.product(range(1, 10), range(1, 10)), (37, 41), (16, 24), (67, 61), (1, 4097)]


def random_levels(count, height, width, bits):
    return np.random.default_rng((height, width, bits)).integers(0, 1 << bits, (count, height, width), dtype=np.uint8)


def run_pack(levels, bits, *, alignment=16):
    shape = packed_shape(*levels.shape, bits=bits)
    out = guarded(shape, np.uint8, alignment=alignment)
    run(pack_bits_launch(levels, out.array, bits=bits), kernels=KERNELS)
    out.check()
    return out.array


def run_unpack(packed, bits, height, width, *, alignment=16):
    out = guarded((packed.shape[0], height, width), np.uint8, alignment=alignment)
    run(unpack_bits_launch(packed, out.array, bits=bits), kernels=KERNELS)
    out.check()
    return out.array


@needs_shim
@pytest.mark.parametrize("bits", slow_but([1, 3, 8], BITS))
def test_bytes_are_those_of_the_containers(bits):
    """From kernel and twin alike, of every picture of a batch; and back. Pages around the inputs cannot be read."""
    for (height, width), alignment in itertools.product(SIZES, (1, 8)):
        levels = guarded((3, height, width), np.uint8, random_levels(3, height, width, bits), alignment=alignment).array
        expected = np.array([list(pack_levels(picture, bits)) for picture in levels], np.uint8)
        packed = run_pack(levels, bits, alignment=1)
        np.testing.assert_array_equal(packed, expected, f"{height} x {width}")
        np.testing.assert_array_equal(pack_bits_reference(levels, bits=bits), expected)
        source = guarded(packed.shape, np.uint8, packed, alignment=alignment).array
        np.testing.assert_array_equal(run_unpack(source, bits, height, width, alignment=alignment), levels)
        twin = unpack_bits_reference(source, bits=bits, height=height, width=width)
        np.testing.assert_array_equal(twin, levels)
        np.testing.assert_array_equal(unpack_levels(packed[2].tobytes(), bits, height, width), levels[2])


@needs_shim
@pytest.mark.parametrize("bits", BITS)
def test_arrays_at_the_start_of_a_page_are_not_read_before_it(bits):
    levels = guarded((2, 5, 7), np.uint8, random_levels(2, 5, 7, bits), start=True).array
    packed = guarded(packed_shape(2, 5, 7, bits=bits), np.uint8, run_pack(levels, bits), start=True).array
    np.testing.assert_array_equal(run_unpack(packed, bits, 5, 7), levels)


def test_no_access_is_wider_than_its_address_allows():
    """A GPU faults where the CPU does not."""
    buffer, packed = guarded((256,), np.uint8, start=True).array, np.zeros((2, 32), np.uint8)
    for offset, width in itertools.product(range(9), range(1, 10)):
        levels = buffer[offset : offset + 8 * width].reshape(2, 4, width)
        wide = offset % 8 == 0 and width % 2 == 0
        assert pack_bits_launch(levels, packed, bits=4).arguments[-1] == wide
        assert unpack_bits_launch(packed, levels, bits=4).arguments[-1] == wide


@needs_shim
@pytest.mark.parametrize("bits", [1, 3, 5])
def test_kernel_keeps_the_low_bits_of_levels_that_are_too_large(bits):
    levels = random_levels(2, 9, 11, 8)
    np.testing.assert_array_equal(run_pack(levels, bits), pack_bits_reference(levels & ((1 << bits) - 1), bits=bits))


@needs_shim
def test_unused_bits_are_written_as_0_and_ignored_when_read():
    levels = np.full((1, 1, 3), 7, np.uint8)
    packed = run_pack(levels, 3)
    np.testing.assert_array_equal(packed, [[0b11111111, 0b10000000]])
    packed[0, 1] |= 0b01111111
    np.testing.assert_array_equal(run_unpack(packed, 3, 1, 3), levels)
    np.testing.assert_array_equal(unpack_bits_reference(packed, bits=3, height=1, width=3), levels)


@needs_shim
def test_more_pictures_than_a_grid_has_rows_are_all_done():
    levels = random_levels(5, 4, 4, 2)
    packed = np.zeros((5, 4), np.uint8)
    plan = pack_bits_launch(levels, packed, bits=2)
    run(dataclasses.replace(plan, grid=(plan.grid[0], 2, 1)), kernels=KERNELS)
    np.testing.assert_array_equal(packed, pack_bits_reference(levels, bits=2))
    back = np.zeros_like(levels)
    plan = unpack_bits_launch(packed, back, bits=2)
    run(dataclasses.replace(plan, grid=(plan.grid[0], 2, 1)), kernels=KERNELS)
    np.testing.assert_array_equal(back, levels)


@pytest.mark.parametrize("bits", BITS)
def test_the_twin_in_blocks_gives_the_same(bits, monkeypatch):
    levels = random_levels(2, 31, 101, bits)
    whole = pack_bits_reference(levels, bits=bits)
    monkeypatch.setattr(module, "_BLOCK", 64)
    np.testing.assert_array_equal(pack_bits_reference(levels, bits=bits), whole)
    np.testing.assert_array_equal(unpack_bits_reference(whole, bits=bits, height=31, width=101), levels)


def test_the_twin_takes_memory_for_a_block_and_not_for_eight_times_the_picture():
    levels = random_levels(1, 4096, 4096, 1)
    tracemalloc.start()
    try:
        packed = pack_bits_reference(levels, bits=1)
        back = unpack_bits_reference(packed, bits=1, height=4096, width=4096)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    np.testing.assert_array_equal(back, levels)
    assert peak < 4 * levels.nbytes


def test_twin_refuses_levels_that_do_not_fit():
    levels = np.array([[[0, 3, 4]]], np.uint8)
    with pytest.raises(ArgumentError, match="the value 4; 2 bits hold 0 to 3"):
        pack_bits_reference(levels, bits=2)
    np.testing.assert_array_equal(pack_bits_reference(levels, bits=3), [[0b00001110, 0]])


@pytest.mark.parametrize(
    ("levels", "bits", "error", "message"),
    [
        (np.zeros((4, 4), np.uint8), 1, ShapeError, r"levels has shape \(4, 4\); it must be \(N, h, w\)"),
        (np.zeros((1, 0, 4), np.uint8), 1, EmptyImageError, "levels"),
        (np.zeros((1, 4, 4), np.uint16), 1, DTypeError, "uint16"),
        (np.zeros((1, 4, 4), np.uint8)[:, ::2], 1, LayoutError, "contiguous"),
        (np.zeros((1, 4, 4), np.uint8), 0, ArgumentError, "bits is 0"),
        (np.zeros((1, 4, 4), np.uint8), 9, ArgumentError, "bits is 9"),
        (np.zeros((1, 4, 4), np.uint8), True, ArgumentError, "bits is True"),
        (np.broadcast_to(np.uint8(0), (2, 2**15, 2**15)), 1, ArrayTooLargeError, "2147483648 elements"),
    ],
)
def test_unsuitable_levels_raise(levels, bits, error, message):
    with pytest.raises(error, match=message):
        check_pack_bits(levels, bits=bits)


@pytest.mark.parametrize(
    ("packed", "options", "error", "message"),
    [
        (np.zeros((1, 3), np.uint8), {}, ShapeError, r"\(1, 3\); here it must be \(1, 4\)"),
        (np.zeros((1, 4), np.uint8), {"bits": 9}, ArgumentError, "bits is 9"),
        (np.zeros((1, 4), np.uint8), {"width": 0}, ShapeError, "0 has no levels"),
        (np.zeros((1, 4), np.uint8), {"height": -5, "width": -2}, ShapeError, "-5 x -2"),
        (np.zeros(4, np.uint8), {}, ShapeError, r"\(N, bytes\)"),
        (np.zeros((0, 4), np.uint8), {}, EmptyImageError, "packed"),
        (np.zeros((1, 4), np.int8), {}, DTypeError, "int8"),
        (np.zeros((2, 8), np.uint8)[:, ::2], {}, LayoutError, "contiguous"),
        (np.broadcast_to(np.uint8(0), (1, 2**28)), {"height": 2**15, "width": 2**16}, ArrayTooLargeError, "out would"),
    ],
)
def test_unsuitable_packed_bytes_raise(packed, options, error, message):
    options = {"bits": 1 if options.get("height") == 2**15 else 3, "height": 5, "width": 2} | options
    with pytest.raises(error, match=message):
        check_unpack_bits(packed, **options)


def test_unsuitable_outputs_raise():
    levels = random_levels(2, 2, 5, bits=3)
    good = np.zeros((2, 4), np.uint8)
    assert pack_bits(levels, bits=3, out=good) is good
    np.testing.assert_array_equal(unpack_bits(good, bits=3, height=2, width=5), levels)
    for out, error in (
        (np.zeros((2, 5), np.uint8), ShapeError),
        (np.zeros((2, 4), np.int8), DTypeError),
        (np.zeros((4, 2), np.uint8).T, LayoutError),
    ):
        with pytest.raises(error, match="out"):
            pack_bits(levels, bits=3, out=out)
