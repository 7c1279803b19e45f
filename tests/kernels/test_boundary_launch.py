"""What the host decides for the boundary-mask kernel: layout, alignment, division, refusals."""

from __future__ import annotations

import numpy as np
import pytest

from bdflow_rt.errors import ArgumentError, ArrayTooLargeError, DTypeError, EmptyImageError, ShapeError
from bdflow_rt.kernels import boundary_mask
from bdflow_rt.kernels.boundary_launch import (
    _LOOSE,
    _PACKED,
    _ROWS,
    _STRIDED,
    _divisor,
    _layout,
    check_pixels,
    magnitude_launch,
    mask_launch,
)


def test_vector_loads_only_where_memory_is_aligned():
    """A GPU faults on what a CPU forgives, so the choice itself is tested."""
    memory = np.zeros(1 << 16, np.uint8)
    memory = memory[-memory.ctypes.data % 16 :]
    picture = memory[: 2 * 8 * 12 * 3].reshape(2, 8, 12, 3)
    assert _layout(picture) == _PACKED
    assert _layout(memory[1 : 1 + picture.size].reshape(picture.shape)) == _LOOSE
    assert _layout(picture[:, :, 1:]) == _LOOSE
    assert _layout(memory[: 2 * 8 * 13 * 3].reshape(2, 8, 13, 3)) == _LOOSE
    assert _layout(picture[:, :, ::2]) == _STRIDED
    assert _layout(picture[..., ::-1]) == _STRIDED
    for dtype in (np.uint8, np.float16):
        planar = memory[: 2 * 3 * 8 * 12 * np.dtype(dtype).itemsize].view(dtype).reshape(2, 3, 8, 12)
        assert _layout(planar.transpose(0, 2, 3, 1)) == _ROWS
        assert _layout(planar.transpose(0, 2, 3, 1)[..., :1]) == _ROWS
        assert _layout(planar[..., 2:].transpose(0, 2, 3, 1)) == _STRIDED
        assert _layout(planar[..., :10].copy().transpose(0, 2, 3, 1)) == _STRIDED
    assert _layout(memory[: 4 * 6 * 12 * 3].view(np.float16).reshape(1, 6, 12, 6)[..., :3]) == _STRIDED
    for width, offset, whole in ((8, 0, 1), (8, 1, 0), (8, 2, 0), (7, 0, 0), (8, 4, 1)):
        pixels = np.zeros((1, 4, width, 1), np.uint8)
        out = memory[offset : offset + 4 * width].reshape(1, 4, width)
        assert mask_launch(pixels, out, threshold=0, bits=1, norm=2, saturation=1).arguments[-7] == whole
    real = memory[4 : 4 + 16 * 8].view(np.float32).reshape(1, 4, 8)
    assert magnitude_launch(np.zeros((1, 4, 8, 1), np.uint8), real, threshold=0, norm=2).arguments[-7] == 0


def test_tiles_are_divided_exactly():
    rng = np.random.default_rng(0)
    counts = [1, 2, 3, 5, 7, 10, 17, 64, 255, 641, 65535, 65537, 2**20, 2**20 - 1, 2**30, 2**24 + 1]
    for tiles in counts + [int(value) for value in rng.integers(1, 2**24, 200)]:
        _, magic, shift = (int(value) for value in _divisor(tiles))
        top = (2**31 - 1) // tiles * tiles
        for index in [0, 1, tiles - 1, tiles, top - 1, top, 2**31 - 1, *(int(i) for i in rng.integers(0, 2**31, 50))]:
            if 0 <= index < 2**31:
                assert index * magic >> shift == index // tiles
                assert index * magic < 2**64


def test_what_the_kernel_cannot_take_is_refused():
    for shape in ((4, 4, 3), (1, 4, 4, 2), (1, 3, 4, 4)):
        with pytest.raises(ShapeError, match="N, H, W"):
            check_pixels(np.zeros(shape, np.uint8))
    with pytest.raises(EmptyImageError):
        check_pixels(np.zeros((0, 4, 4, 3), np.uint8))
    with pytest.raises(DTypeError, match="float32"):
        check_pixels(np.zeros((1, 4, 4, 3), np.float32))
    with pytest.raises(ArrayTooLargeError, match="1073741825"):
        check_pixels(np.broadcast_to(np.uint8(0), (1, 2**30 + 1, 1, 1)))
    for cell in (0, 3, 128, -1):
        with pytest.raises(ArgumentError, match="cell"):
            boundary_mask(np.zeros((4, 4, 3), np.uint8), cell=cell)
