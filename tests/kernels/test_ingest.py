"""Frames to first-level Haar planes: the kernels, run on the CPU from their CUDA source, and their twins."""

from __future__ import annotations

import dataclasses
import itertools

import cv2
import numpy as np
import pytest
import torch

from bdflow_rt.errors import (
    ArgumentError,
    ArrayTooLargeError,
    DTypeError,
    EmptyImageError,
    LayoutError,
    ShapeError,
)
from bdflow_rt.kernels.colour import from_rgb, to_rgb
from bdflow_rt.kernels.ingest import (
    KERNELS,
    check_ingest,
    check_ingest_nv12,
    ingest,
    ingest_launch,
    ingest_nv12_launch,
    ingest_nv12_reference,
    ingest_reference,
    ingest_shape,
)
from bdflow_rt.models.layers import haar as module
from tests.support import photo
from tests.support_shim import guarded, needs_shim, run

DTYPES = ["float16", "float32"]
MULTIPLES = [2, 4, 8, 16, 32, 64]
COLOURS = list(itertools.product(["bt601", "bt709"], ["limited", "full"]))


def noise(*shape, seed=0):
    return np.random.default_rng((seed, *shape)).integers(0, 256, shape, dtype=np.uint8)


def nv12(count, height, width, seed=0):
    chroma = noise(count, (height + 1) // 2, (width + 1) // 2, 2, seed=seed + 1)
    return noise(count, height, width, seed=seed), chroma


def run_ingest(frames, *, multiple=2, dtype="float16", seed=0):
    check_ingest(frames, multiple=multiple)
    shape = ingest_shape(*frames.shape[:3], multiple=multiple)
    out = guarded(shape, dtype)
    plan = ingest_launch(frames, out.array)
    run(plan, kernels=KERNELS, seed=seed)
    out.check()
    return out.array, plan


def run_ingest_nv12(luma, chroma, *, multiple=2, matrix="bt709", levels="limited", dtype="float16"):
    check_ingest_nv12(luma, chroma, multiple=multiple, matrix=matrix, levels=levels)
    out = guarded(ingest_shape(*luma.shape, multiple=multiple), dtype)
    plan = ingest_nv12_launch(luma, chroma, out.array, matrix=matrix, levels=levels)
    run(plan, kernels=KERNELS)
    out.check()
    return out.array, plan


def cells(plan):
    return int(plan.kernel.expression.rstrip(">").rpartition(" ")[2])


def bits(array):
    return array.view(f"u{array.itemsize}")


@needs_shim
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_size_up_to_17_equals_the_twin(dtype):
    for height, width in itertools.product(range(1, 18), range(1, 18)):
        multiple = MULTIPLES[(height + 3 * width) % 4]
        frames = guarded((1, height, width, 3), np.uint8, noise(1, height, width, 3), alignment=1).array
        planes, _ = run_ingest(frames, multiple=multiple, dtype=dtype, seed=height)
        expected = ingest_reference(frames, multiple=multiple, dtype=dtype)
        np.testing.assert_array_equal(bits(planes), bits(expected), f"{height} x {width} to {multiple}")


@needs_shim
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_nv12_size_up_to_17_equals_the_twin(dtype):
    for height, width in itertools.product(range(1, 18), range(1, 18)):
        multiple, (matrix, levels) = MULTIPLES[(height + 3 * width) % 4], COLOURS[(height + width) % 4]
        luma, chroma = (guarded(x.shape, np.uint8, x, alignment=1).array for x in nv12(1, height, width))
        options = {"multiple": multiple, "matrix": matrix, "levels": levels, "dtype": dtype}
        planes, _ = run_ingest_nv12(luma, chroma, **options)
        expected = ingest_nv12_reference(luma, chroma, **options)
        np.testing.assert_array_equal(bits(planes), bits(expected), f"{height} x {width} {options}")


@needs_shim
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("height", "width"), [(37, 64), (31, 41), (6, 1030), (61, 24), (67, 70)])
@pytest.mark.parametrize("multiple", MULTIPLES)
def test_batches_and_all_paddings_equal_the_twin(height, width, multiple, dtype):
    frames = noise(3, height, width, 3)
    planes, _ = run_ingest(frames, multiple=multiple, dtype=dtype)
    np.testing.assert_array_equal(bits(planes), bits(ingest_reference(frames, multiple=multiple, dtype=dtype)))
    luma, chroma = nv12(3, height, width)
    options = {"multiple": multiple, "matrix": "bt601", "levels": "full", "dtype": dtype}
    planes, _ = run_ingest_nv12(luma, chroma, **options)
    np.testing.assert_array_equal(bits(planes), bits(ingest_nv12_reference(luma, chroma, **options)))


@needs_shim
@pytest.mark.parametrize(
    "view",
    [
        lambda x: x[:, ::-1],
        lambda x: x[:, :, ::-1],
        lambda x: x[..., ::-1],
        lambda x: x[::-1, 1:, 3:],
        lambda x: x[:, ::3, ::2],
        lambda x: x.transpose(0, 2, 1, 3),
        lambda x: np.moveaxis(np.ascontiguousarray(np.moveaxis(x, -1, 1)), 1, -1),
        lambda x: np.broadcast_to(x[:1, :1], x.shape),
        lambda x: x[:, :, 8:24],
        lambda x: x[:, :, :31],
    ],
    ids=[
        "upside down",
        "mirrored",
        "bgr",
        "unaligned",
        "strided",
        "transposed",
        "planar",
        "broadcast",
        "pitched",
        "odd",
    ],
)
def test_views_of_any_strides_equal_the_twin(view):
    frames = view(noise(2, 24, 32, 3))
    planes, _ = run_ingest(frames, multiple=8)
    np.testing.assert_array_equal(bits(planes), bits(ingest_reference(frames, multiple=8)))


@needs_shim
def test_aligned_rows_are_read_in_the_widest_accesses():
    """A change that loses the fast path keeps all values, and a quarter of the speed."""
    for width, dtype, expected in ((64, "float16", (4, 1)), (64, "float32", (2, 1)), (60, "float16", (2, 1))):
        _, plan = run_ingest(noise(1, 4, width, 3), multiple=4, dtype=dtype)
        assert (cells(plan), plan.arguments[7]) == expected
        _, plan = run_ingest_nv12(*nv12(1, 4, width), multiple=4, dtype=dtype)
        assert (cells(plan), plan.arguments[8]) == expected
    padded = noise(2, 6, 80, 3)[:, :, :62]
    assert run_ingest(padded, multiple=8)[1].arguments[7] == 1


@pytest.mark.parametrize("dtype", DTYPES)
def test_no_access_is_wider_than_its_address_allows(dtype):
    """A GPU faults where the CPU does not."""
    bytes_, floats = guarded((4096,), np.uint8, start=True).array, guarded((4096,), dtype, start=True).array
    for offset, pitch, frame, first in itertools.product(range(9), range(96, 105), (424, 425, 426, 428), range(4)):
        frames = np.lib.stride_tricks.as_strided(bytes_[offset:], (2, 4, 32, 3), (frame, pitch, 3, 1))
        out = floats[first : first + 768].reshape(2, 12, 2, 16)
        plan = ingest_launch(frames, out)
        assert out.ctypes.data % (cells(plan) * out.itemsize) == 0
        if plan.arguments[7]:
            assert not any(step % (2 * cells(plan)) for step in (offset, pitch, frame))
        for luma_at, chroma_at in ((offset, 512), (512, offset)):
            luma = np.lib.stride_tricks.as_strided(bytes_[luma_at:], (2, 4, 32), (frame, pitch, 1))
            chroma = np.lib.stride_tricks.as_strided(bytes_[chroma_at:], (2, 2, 16, 2), (frame, pitch, 2, 1))
            plan = ingest_nv12_launch(luma, chroma, out, matrix="bt601", levels="full")
            if plan.arguments[8]:
                assert not any(step % (2 * cells(plan)) for step in (offset, pitch, frame))


@needs_shim
@pytest.mark.parametrize("start", [False, True])
@pytest.mark.parametrize(("height", "width"), [(8, 32), (7, 31), (1, 1), (2, 30), (5, 48)])
def test_nothing_outside_the_frames_is_read(height, width, start):
    """The pages around the inputs cannot be read: a stray access ends the test process."""
    for multiple in (2, 8, 64):
        frames = guarded((2, height, width, 3), np.uint8, 200, alignment=1, start=start).array
        planes, _ = run_ingest(frames, multiple=multiple)
        np.testing.assert_array_equal(planes[:, :3], np.float16(200 / 255))
        luma, chroma = (guarded(x.shape, np.uint8, x, alignment=1, start=start).array for x in nv12(2, height, width))
        run_ingest_nv12(luma, chroma, multiple=multiple)


@needs_shim
def test_pitch_between_nv12_rows_is_skipped():
    """Nor is what lies there taken for pixels: neither where rows are aligned nor elsewhere."""
    whole = nv12(2, 34, 80)
    options = {"multiple": 8, "matrix": "bt601", "levels": "limited"}
    for columns, pairs in ((slice(3, 46), slice(1, 23)), (slice(0, 47), slice(0, 24)), (slice(8, 56), slice(8, 32))):
        luma, chroma = whole[0][:, :29, columns], whole[1][:, 1:16, pairs]
        planes, _ = run_ingest_nv12(luma, chroma, **options)
        np.testing.assert_array_equal(bits(planes), bits(ingest_nv12_reference(luma, chroma, **options)))


@needs_shim
def test_more_frames_than_a_grid_has_rows_are_all_done():
    frames = noise(7, 6, 6, 3)
    out = guarded(ingest_shape(7, 6, 6, multiple=2), np.float16)
    plan = ingest_launch(frames, out.array)
    run(dataclasses.replace(plan, grid=(plan.grid[0], 2, 1)), kernels=KERNELS)
    np.testing.assert_array_equal(bits(out.array), bits(ingest_reference(frames, multiple=2)))


@pytest.mark.parametrize("multiple", [2, 16])
def test_twin_is_the_public_graphs_start(multiple):
    """uint8 / 255, replicated edge, Haar of the networks' own module; an ulp is the order of the roundings."""
    frames = np.stack([photo(45, 37, seed) for seed in (1, 2)])
    x = torch.from_numpy(np.moveaxis(frames, -1, 1).astype(np.float32)) / 255
    x = torch.nn.functional.pad(x, (0, -37 % multiple, 0, -45 % multiple), mode="replicate")
    bands = module.haar_forward(x).numpy()
    planes = ingest_reference(frames, multiple=multiple, dtype="float32")
    assert planes.shape == ingest_shape(2, 45, 37, multiple=multiple)
    np.testing.assert_allclose(planes, bands, rtol=0, atol=2**-23)


def test_every_sum_of_levels_is_divided_to_the_nearest_float16():
    """All 1021 averages against the exact quotient: pictures of cells a, 255, 255, 255 and so on."""
    sums = np.arange(1021)
    levels = np.stack([np.clip(sums - 255 * i, 0, 255) for i in range(4)]).astype(np.uint8)
    frames = np.empty((1, 2, 2 * len(sums), 3), np.uint8)
    frames[0, 0, 0::2], frames[0, 0, 1::2], frames[0, 1, 0::2], frames[0, 1, 1::2] = levels[..., None].repeat(3, 2)
    average = ingest_reference(frames, multiple=2)[0, 0, 0]
    np.testing.assert_array_equal(average, (sums / 1020).astype(np.float16))


@pytest.mark.parametrize("seed", [0, 1])
def test_nv12_of_bt601_limited_is_opencvs_rgb(seed):
    """Within 2 levels: OpenCV's coefficients and results are integers. It takes luma below black for black."""
    luma, chroma = nv12(1, 46, 62, seed=seed)
    luma = np.maximum(luma, 16)
    picture = cv2.cvtColor(np.vstack((luma[0], chroma[0].reshape(23, 62))), cv2.COLOR_YUV2RGB_NV12)
    planes = ingest_nv12_reference(luma, chroma, multiple=2, matrix="bt601", levels="limited", dtype="float32")
    rgb = module.haar_inverse(torch.from_numpy(planes)).numpy()[0].transpose(1, 2, 0) * 255
    assert np.abs(rgb - picture).max() <= 2
    assert picture.std() > 50


@pytest.mark.parametrize(
    ("matrix", "levels", "ycc", "rgb"),
    [
        ("bt601", "limited", (16, 128, 128), (0, 0, 0)),
        ("bt709", "limited", (235, 128, 128), (1, 1, 1)),
        ("bt601", "full", (255, 128, 128), (1, 1, 1)),
        ("bt601", "limited", (81, 90, 240), (1, 0, 0)),
        ("bt601", "limited", (145, 54, 34), (0, 1, 0)),
        ("bt601", "limited", (41, 240, 110), (0, 0, 1)),
        ("bt709", "limited", (63, 102, 240), (1, 0, 0)),
        ("bt709", "limited", (173, 42, 26), (0, 1, 0)),
        ("bt709", "limited", (32, 240, 118), (0, 0, 1)),
        ("bt601", "full", (76, 85, 255), (1, 0, 0)),
        ("bt709", "full", (182, 30, 12), (0, 1, 0)),
    ],
)
def test_published_levels_of_the_primaries_are_the_primaries(matrix, levels, ycc, rgb):
    """The 100 % bars, whose levels are rounded: within 1 level."""
    luma = np.full((1, 2, 2), ycc[0], np.uint8)
    chroma = np.array(ycc[1:], np.uint8).reshape(1, 1, 1, 2)
    planes = ingest_nv12_reference(luma, chroma, multiple=2, matrix=matrix, levels=levels, dtype="float32")
    np.testing.assert_allclose(planes[0, :3, 0, 0], rgb, atol=1.3 / 219)
    np.testing.assert_array_equal(planes[0, 3:], 0)


@pytest.mark.parametrize(("matrix", "levels"), COLOURS)
def test_the_two_sets_of_coefficients_undo_each_other(matrix, levels):
    offset, gain, red_cr, green_cb, green_cr, blue_cb = map(float, to_rgb(matrix=matrix, levels=levels))
    kr, kg, kb, luma_gain, luma_offset, cb_gain, cr_gain = map(float, from_rgb(matrix=matrix, levels=levels))
    forward = np.array([[gain, 0, red_cr], [gain, -green_cb, -green_cr], [gain, blue_cb, 0]])
    luma = np.array([kr, kg, kb])
    back = np.array([luma * luma_gain, ([0, 0, 1] - luma) * cb_gain, ([1, 0, 0] - luma) * cr_gain])
    np.testing.assert_allclose(back @ forward, np.eye(3), atol=1e-6)
    assert offset == luma_offset


def frames_of(*shape, dtype=np.uint8):
    return np.lib.stride_tricks.as_strided(np.zeros(16, dtype), shape, (0,) * len(shape))


@pytest.mark.parametrize(
    ("frames", "multiple", "error", "message"),
    [
        (np.zeros((4, 4, 3), np.uint8), 2, ShapeError, r"\(4, 4, 3\); it must be \(N, H, W, 3\)"),
        (np.zeros((1, 4, 4, 4), np.uint8), 2, ShapeError, r"\(1, 4, 4, 4\)"),
        (np.zeros((0, 4, 4, 3), np.uint8), 2, EmptyImageError, r"\(0, 4, 4, 3\)"),
        (np.zeros((1, 4, 0, 3), np.uint8), 2, EmptyImageError, "no elements"),
        (np.zeros((1, 4, 4, 3), np.int8), 2, DTypeError, "int8; it must be uint8"),
        (np.zeros((1, 4, 4, 3), np.uint8), 3, ArgumentError, "multiple is 3; it must be one of 2, 4, 8, 16, 32, 64"),
        (np.zeros((1, 4, 4, 3), np.uint8), 128, ArgumentError, "multiple is 128"),
        (np.zeros((1, 4, 4, 3), np.uint8), True, ArgumentError, "multiple is True"),
        (frames_of(1, 2**15, 2**15, 3), 2, ArrayTooLargeError, "at most 2147483647"),
        (frames_of(2**20, 1, 1, 3), 64, ArrayTooLargeError, r"out would have shape \(1048576, 12, 32, 32\)"),
    ],
)
def test_unsuitable_frames_raise(frames, multiple, error, message):
    with pytest.raises(error, match=message):
        check_ingest(frames, multiple=multiple)


@pytest.mark.parametrize(
    ("luma", "chroma", "options", "error", "message"),
    [
        ((1, 5, 7), (1, 2, 4, 2), {}, ShapeError, r"chroma has shape \(1, 2, 4, 2\); here it must be \(1, 3, 4, 2\)"),
        ((2, 4, 4), (1, 2, 2, 2), {}, ShapeError, "chroma"),
        ((1, 4, 4), (1, 2, 2, 3), {}, ShapeError, r"\(N, h, w, 2\)"),
        ((1, 4, 4, 1), (1, 2, 2, 2), {}, ShapeError, r"luma has shape \(1, 4, 4, 1\)"),
        ((1, 0, 4), (1, 0, 2, 2), {}, EmptyImageError, "luma"),
        (
            (1, 4, 4),
            (1, 2, 2, 2),
            {"matrix": "bt2100"},
            ArgumentError,
            "'bt2100'; it must be one of 'bt601', 'bt709', 'bt2020'",
        ),
        ((1, 4, 4), (1, 2, 2, 2), {"levels": "tv"}, ArgumentError, "'tv'; it must be one of 'limited', 'full'"),
        ((1, 4, 4), (1, 2, 2, 2), {"multiple": 6}, ArgumentError, "multiple is 6"),
    ],
)
def test_unsuitable_nv12_raises(luma, chroma, options, error, message):
    options = {"multiple": 2, "matrix": "bt601", "levels": "full"} | options
    with pytest.raises(error, match=message):
        check_ingest_nv12(np.zeros(luma, np.uint8), np.zeros(chroma, np.uint8), **options)


def test_nv12_rows_that_are_not_contiguous_raise():
    luma, chroma = nv12(1, 8, 8)
    options = {"multiple": 2, "matrix": "bt601", "levels": "full"}
    for pair, name in (((luma[:, :, ::-1], chroma), "luma"), ((luma, chroma[..., ::-1]), "chroma")):
        with pytest.raises(LayoutError, match=f"{name} of shape.*must follow"):
            check_ingest_nv12(*pair, **options)
    with pytest.raises(LayoutError, match="chroma"):
        check_ingest_nv12(luma, nv12(1, 8, 16)[1][:, :, ::2], **options)


def test_unsuitable_outputs_raise():
    shape = ingest_shape(2, 5, 9, multiple=4)
    assert shape == (2, 12, 4, 6)
    frames = noise(2, 5, 9, 3)
    good = np.empty(shape, np.float16)
    assert ingest(frames, multiple=4, out=good) is good
    np.testing.assert_array_equal(good, ingest_reference(frames, multiple=4))
    for out, error in (
        (np.empty((2, 12, 4, 5), np.float16), ShapeError),
        (np.empty(shape, np.float64), DTypeError),
        (np.empty(shape, ">f4"), DTypeError),
        (np.empty((*shape[:3], 12), np.float16)[..., ::2], LayoutError),
        (np.empty(shape[0] * 288 * 2 + 1, np.uint8)[1:].view(np.float16).reshape(shape), LayoutError),
    ):
        with pytest.raises(error, match="out"):
            ingest(frames, multiple=4, out=out)
