"""Every kernel on the GPU gives every bit of its NumPy twin: sizes, strides, batches; and Canny's mask."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from bdflow_rt import kernels
from bdflow_rt.errors import LayoutError
from tests.gpu.support import FUNCTIONS, Case, assert_results, cases, frames, noise, on_gpu, on_host, one_each

SIZES = [(1, 1, 1), (2, 2, 3), (1, 17, 31), (3, 37, 54), (1, 64, 128), (2, 131, 67), (1, 240, 322)]


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_kernels_equal_their_twins(size: tuple[int, int, int]) -> None:
    for case in cases(*size):
        assert_results(case, case(*(on_gpu(array) for array in case.inputs)))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_unaligned_arrays_give_the_same_result(name: str) -> None:
    import cupy

    case = one_each()[name]
    moved = []
    for array in case.inputs:
        buffer = cupy.zeros(array.size + 1, array.dtype)
        view = buffer[1:].reshape(array.shape)
        view[...] = cupy.asarray(array)
        moved.append(view)
    assert_results(case, case(*moved))


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("layout", ["cropped", "reversed", "transposed"])
def test_strided_views_give_the_same_result_or_are_refused(name: str, layout: str) -> None:
    import cupy

    case = one_each()[name]
    views = []
    for array in case.inputs:
        if layout == "cropped":
            whole = cupy.full([length + 3 for length in array.shape], 99, array.dtype)
            view = whole[tuple(slice(1, 1 + length) for length in array.shape)]
        elif layout == "reversed":
            view = cupy.empty(array.shape, array.dtype)[..., ::-1, :]
        else:
            view = cupy.empty(array.shape[::-1], array.dtype).T
        view[...] = cupy.asarray(array)
        views.append(view)
    try:
        found = case(*views)
    except LayoutError:
        assert not name.startswith("haar"), "the Haar kernels take any strides"
        return
    assert_results(case, found)


@pytest.mark.parametrize("norm", [1, 2])
@pytest.mark.parametrize("size", [(1, 1), (2, 5), (61, 67), (512, 768), (721, 1279)], ids=str)
def test_the_1_bit_mask_is_canny(size: tuple[int, int], norm: int) -> None:
    (image,) = frames(1, *size, seed=7)
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    canny = cv2.Canny(cv2.GaussianBlur(grey, (5, 5), 0), 50, 50, L2gradient=norm == 2)
    found = on_host(kernels.boundary_mask(on_gpu(image), norm=norm))
    np.testing.assert_array_equal(found, canny // 255)


def test_two_dimensional_and_batched_pictures_have_masks_of_their_own_rank() -> None:
    image = frames(1, 33, 41)[0]
    for picture in (image, image[..., 0].copy()):
        found = on_host(kernels.boundary_mask(on_gpu(picture), bits=2))
        np.testing.assert_array_equal(found, kernels.boundary_mask(picture, bits=2))


def test_more_planes_than_a_grid_has_blocks_along_y() -> None:
    x = noise(70_000, 1, 2, 2)
    case = Case("haar_forward", kernels.haar_forward, (x,))
    assert_results(case, case(on_gpu(x)))
    maps = np.random.default_rng(1).integers(0, 8, (70_000, 1, 3), np.uint8)
    packed = Case("pack_bits", lambda x, **k: kernels.pack_bits(x, bits=3, **k), (maps,))
    assert_results(packed, packed(on_gpu(maps)))


def test_batches_larger_than_the_cache() -> None:
    """12 frames of 1080p: 75 MB in and up to 149 MB out, more than any L2 so far."""
    batch = np.stack([np.roll(frames(1, 1080, 1920)[0], 97 * index, axis=0) for index in range(12)])
    for case in (
        Case("boundary_mask", lambda x, **k: kernels.boundary_mask(x, bits=3, **k), (batch,)),
        Case("ingest", kernels.ingest, (batch,)),
    ):
        found = on_host(case(on_gpu(batch))[0])
        for index in (0, 5, 11):
            (wanted,) = case(batch[index : index + 1])
            np.testing.assert_array_equal(found[index : index + 1], wanted, err_msg=case.name)
    planes = on_gpu(kernels.ingest(batch[:1]).repeat(12, axis=0))
    restored = on_host(kernels.egress(planes, height=1080, width=1920))
    np.testing.assert_array_equal(restored, np.broadcast_to(kernels.egress(
        on_host(planes[:1]), height=1080, width=1920), restored.shape))  # fmt: skip
