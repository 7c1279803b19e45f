"""Windows over a picture: exact cover, enough halo, and sizes within the memory limit."""

from __future__ import annotations

import itertools
import re
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from bdflow_rt.errors import OutOfMemoryError
from bdflow_rt.runtime.plan import MIB, bytes_per_lr_pixel, halo_of, spans, tile_size
from bdflow_rt.zoo import BDFlowConfig, paper_config

LENGTHS = st.integers(1, 700)
HALOS = st.integers(0, 40)
SIDES = st.integers(1, 5000)
SCALES = st.sampled_from([2, 4, 8, 16])
BACKENDS = st.sampled_from(["openvino", "torch"])


@given(length=LENGTHS, halo=HALOS, extra=st.integers(1, 300))
def test_kept_parts_cover_a_side_exactly_once(length: int, halo: int, extra: int) -> None:
    found = spans(length, 2 * halo + extra, halo)
    assert found[0].keep_start == 0
    assert found[-1].keep_stop == length
    assert all(one.keep_stop == following.keep_start for one, following in itertools.pairwise(found))
    assert all(one.keep_start < one.keep_stop for one in found)


@given(length=LENGTHS, halo=HALOS, extra=st.integers(1, 300))
def test_windows_have_one_size_lie_inside_and_keep_the_halo(length: int, halo: int, extra: int) -> None:
    tile = 2 * halo + extra
    for span in spans(length, tile, halo):
        assert span.stop - span.start == min(tile, length)
        assert 0 <= span.start <= span.keep_start < span.keep_stop <= span.stop <= length
        assert span.start == 0 or span.keep_start - span.start >= halo
        assert span.stop == length or span.stop - span.keep_stop >= halo


@given(height=SIDES, width=SIDES, scale=SCALES, limit_mib=st.floats(0.01, 4000), backend=BACKENDS)
def test_tiles_stay_within_the_limit_or_the_error_names_one_that_works(
    height: int, width: int, scale: int, limit_mib: float, backend: Any
) -> None:
    interface = paper_config(scale).interface()
    try:
        rows, columns = tile_size(height, width, interface, memory_limit_mib=limit_mib, backend=backend)
    except OutOfMemoryError as error:
        named = re.search(r"takes about (\d+) MiB", str(error))
        assert named is not None
        assert int(named[1]) > limit_mib
        tile_size(height, width, interface, memory_limit_mib=int(named[1]), backend=backend)
        return
    assert rows * columns * bytes_per_lr_pixel(interface, backend) <= limit_mib * MIB
    assert 1 <= rows <= height
    assert 1 <= columns <= width
    assert rows == height or rows > 2 * halo_of(interface, backend)
    assert columns == width or columns > 2 * halo_of(interface, backend)


@given(height=SIDES, width=SIDES, scale=SCALES)
def test_a_picture_that_fits_is_one_tile(height: int, width: int, scale: int) -> None:
    interface = paper_config(scale).interface()
    enough = height * width * bytes_per_lr_pixel(interface, "openvino") / MIB
    for limit_mib in (enough * (1 + 1e-9), float("inf")):
        size = tile_size(height, width, interface, memory_limit_mib=limit_mib, backend="openvino")
        assert size == (height, width)


@given(height=st.integers(200, 5000), width=st.integers(200, 5000), limit_mib=st.floats(20, 4000))
def test_no_smaller_tile_would_do_with_as_many(height: int, width: int, limit_mib: float) -> None:
    interface = paper_config(4).interface()
    halo = halo_of(interface, "openvino")
    size = tile_size(height, width, interface, memory_limit_mib=limit_mib, backend="openvino")
    for length, tile in zip((height, width), size, strict=True):
        count = len(spans(length, tile, halo))
        assert tile in (length, 2 * halo + 1) or len(spans(length, tile - 1, halo)) > count


def test_tiling_costs_little_at_the_default_limit() -> None:
    interface = paper_config(4).interface()
    rows, columns = tile_size(2000, 3000, interface, memory_limit_mib=1024, backend="openvino")
    halo = halo_of(interface, "openvino")
    tiles = len(spans(2000, rows, halo)) * len(spans(3000, columns, halo))
    assert tiles * rows * columns < 1.15 * 2000 * 3000


def test_memory_follows_the_largest_level() -> None:
    wide = BDFlowConfig(scale=4, blocks=(1, 1), hidden=(8, 8)).interface()
    deep = BDFlowConfig(scale=4, blocks=(1, 1), hidden=(8, 512)).interface()
    assert bytes_per_lr_pixel(wide, "openvino") == 4 * 4 * (3 * 8 + 3 * 12)
    assert bytes_per_lr_pixel(deep, "openvino") == 4 * (3 * 512 + 3 * 48)
