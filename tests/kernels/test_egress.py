"""First-level Haar planes to frames: the kernels, run on the CPU from their CUDA source, and their twins."""

from __future__ import annotations

import dataclasses
import itertools

import cv2
import numpy as np
import pytest
import torch

from bdflow_rt.errors import ArgumentError, ArrayTooLargeError, DTypeError, EmptyImageError, LayoutError, ShapeError
from bdflow_rt.kernels.colour import rgb_of_nv12, to_rgb
from bdflow_rt.kernels.egress import (
    KERNELS,
    check_egress,
    egress,
    egress_launch,
    egress_nv12,
    egress_nv12_launch,
    egress_nv12_reference,
    egress_reference,
)
from bdflow_rt.kernels.ingest import ingest_nv12_reference, ingest_reference
from bdflow_rt.models.layers import haar as module
from tests.support import photo
from tests.support_shim import guarded, needs_shim, run

DTYPES = ["float16", "float32"]
COLOURS = list(itertools.product(["bt601", "bt709"], ["limited", "full"]))


def random_planes(count, height, width, dtype, seed=0):
    """Pictures of full contrast, a tenth of their pixels out of range."""
    planes = np.random.default_rng((seed, height, width)).normal(0, 0.15, (count, 12, height, width))
    planes[:, :3] = planes[:, :3] * 1.5 + 0.5
    return planes.astype(dtype)


def run_egress(planes, height, width, *, seed=0):
    out = guarded((planes.shape[0], height, width, 3), np.uint8, alignment=16)
    plan = egress_launch(planes, out.array)
    run(plan, kernels=KERNELS, seed=seed)
    out.check()
    return out.array, plan


def run_egress_nv12(planes, height, width, *, matrix="bt709", levels="limited"):
    luma = guarded((planes.shape[0], height, width), np.uint8)
    chroma = guarded((planes.shape[0], (height + 1) // 2, (width + 1) // 2, 2), np.uint8)
    plan = egress_nv12_launch(planes, luma.array, chroma.array, matrix=matrix, levels=levels)
    run(plan, kernels=KERNELS)
    luma.check()
    chroma.check()
    return luma.array, chroma.array, plan


def expression(plan):
    return plan.kernel.expression.partition("<")[2]


@needs_shim
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_size_up_to_17_equals_the_twin(dtype):
    for height, width in itertools.product(range(1, 18), range(1, 18)):
        content = random_planes(1, (height + 1) // 2, (width + 7) // 8 * 4 if height % 2 else (width + 1) // 2, dtype)
        planes = guarded(content.shape, dtype, content, alignment=content.itemsize).array
        frames, _ = run_egress(planes, height, width, seed=width)
        np.testing.assert_array_equal(frames, egress_reference(planes, height=height, width=width), f"{height}x{width}")


@needs_shim
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_nv12_size_up_to_17_equals_the_twin(dtype):
    for height, width in itertools.product(range(1, 18), range(1, 18)):
        matrix, levels = COLOURS[(height + width) % 4]
        content = random_planes(1, (height + 1) // 2, (width + 7) // 8 * 4 if height % 2 else (width + 1) // 2, dtype)
        planes = guarded(content.shape, dtype, content, alignment=content.itemsize).array
        luma, chroma, _ = run_egress_nv12(planes, height, width, matrix=matrix, levels=levels)
        expected = egress_nv12_reference(planes, height=height, width=width, matrix=matrix, levels=levels)
        np.testing.assert_array_equal(luma, expected[0], f"{height} x {width} {matrix} {levels}")
        np.testing.assert_array_equal(chroma, expected[1], f"{height} x {width} {matrix} {levels}")


@needs_shim
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("height", "width", "h", "w"),
    [(37, 64, 32, 32), (31, 41, 16, 21), (3, 2111, 2, 1056), (61, 22, 31, 12), (1, 1, 32, 32), (48, 80, 24, 40)],
)
def test_batches_and_crops_equal_the_twin(height, width, h, w, dtype):
    planes = random_planes(3, h, w, dtype)
    frames, _ = run_egress(planes, height, width)
    np.testing.assert_array_equal(frames, egress_reference(planes, height=height, width=width))
    luma, chroma, _ = run_egress_nv12(planes, height, width, matrix="bt601", levels="full")
    expected = egress_nv12_reference(planes, height=height, width=width, matrix="bt601", levels="full")
    np.testing.assert_array_equal(luma, expected[0])
    np.testing.assert_array_equal(chroma, expected[1])


@needs_shim
@pytest.mark.parametrize(
    "view",
    [
        lambda x: x[:, :, ::-1],
        lambda x: x[:, :, :, ::-1],
        lambda x: x[:, ::-1],
        lambda x: x[:, :, 1:, 3:],
        lambda x: x[::2, :, ::3, ::2],
        lambda x: x.transpose(0, 1, 3, 2),
        lambda x: np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1),
        lambda x: np.broadcast_to(x[:1, :, :, :1], x.shape),
    ],
    ids=["upside down", "mirrored", "bands", "unaligned", "strided", "transposed", "channels last", "broadcast"],
)
@pytest.mark.parametrize("dtype", DTYPES)
def test_views_of_any_strides_equal_the_twin(view, dtype):
    planes = view(random_planes(2, 12, 16, dtype))
    height, width = 2 * planes.shape[2] - 1, 2 * planes.shape[3]
    frames, _ = run_egress(planes, height, width)
    np.testing.assert_array_equal(frames, egress_reference(planes, height=height, width=width))
    luma, chroma, _ = run_egress_nv12(planes, height, width)
    expected = egress_nv12_reference(planes, height=height, width=width, matrix="bt709", levels="limited")
    np.testing.assert_array_equal(luma, expected[0])
    np.testing.assert_array_equal(chroma, expected[1])


@needs_shim
@pytest.mark.parametrize("pitch", [48, 49, 52, 55, 64])
def test_bytes_between_the_rows_of_an_output_stay(pitch):
    planes = random_planes(2, 6, 8, "float16")
    buffer = np.full((2, 11, pitch), 0xC3, np.uint8)
    frames = np.lib.stride_tricks.as_strided(buffer, (2, 11, 15, 3), (11 * pitch, pitch, 3, 1))
    run(egress_launch(planes, frames), kernels=KERNELS)
    np.testing.assert_array_equal(frames, egress_reference(planes, height=11, width=15))
    assert (buffer[:, :, 45:] == 0xC3).all()
    luma, chroma = np.full((2, 11, pitch), 0xC3, np.uint8), np.full((2, 6, pitch // 2, 2), 0xC3, np.uint8)
    plan = egress_nv12_launch(planes, luma[:, :, :15], chroma[:, :, :8], matrix="bt709", levels="full")
    run(plan, kernels=KERNELS)
    expected = egress_nv12_reference(planes, height=11, width=15, matrix="bt709", levels="full")
    np.testing.assert_array_equal(luma[:, :, :15], expected[0])
    np.testing.assert_array_equal(chroma[:, :, :8], expected[1])
    assert (luma[:, :, 15:] == 0xC3).all()
    assert (chroma[:, :, 8:] == 0xC3).all()


@needs_shim
def test_aligned_rows_move_in_the_widest_accesses():
    """A change that loses the fast path keeps all values, and much of the speed is gone."""
    for width, dtype, kind, run_bytes in (
        (64, "float16", "__half, 4>", 16),
        (64, "float32", "float, 2>", 16),
        (60, "float16", "__half, 2>", 4),
    ):
        _, plan = run_egress(random_planes(1, 4, width // 2, dtype), 8, width)
        assert (expression(plan), plan.arguments[5]) == (kind, run_bytes)
        _, _, plan = run_egress_nv12(random_planes(1, 4, width // 2, dtype), 8, width)
        assert (expression(plan), plan.arguments[6]) == (kind, 1)


@pytest.mark.parametrize("dtype", DTYPES)
def test_no_access_is_wider_than_its_address_allows(dtype):
    """A GPU faults where the CPU does not."""
    floats, bytes_ = guarded((2048,), dtype, start=True).array, guarded((2048,), np.uint8, start=True).array
    size = floats.itemsize
    for offset, row, band, picture in itertools.product(range(5), range(16, 21), range(40, 45), (480, 481, 482, 484)):
        steps = (picture, band, row)
        planes = np.lib.stride_tricks.as_strided(floats[offset:], (2, 12, 2, 16), (*(s * size for s in steps), size))
        frames = np.lib.stride_tricks.as_strided(bytes_[offset:], (2, 4, 32, 3), (band * 10, row + 80, 3, 1))
        plan = egress_launch(planes, frames)
        cells, run_bytes = int(expression(plan).rstrip(">").rpartition(" ")[2]), plan.arguments[5]
        assert not any(step % cells for step in (offset, *steps))
        narrow = egress_launch(planes[..., :14], frames[:, :, :28])
        assert 14 % int(expression(narrow).rstrip(">").rpartition(" ")[2]) == 0
        assert not any(step % run_bytes for step in (offset, *frames.strides[:2]))
        luma = np.lib.stride_tricks.as_strided(bytes_[offset:], (2, 4, 32), (*frames.strides[:2], 1))
        plan = egress_nv12_launch(planes, luma, np.zeros((2, 2, 16, 2), np.uint8), matrix="bt601", levels="full")
        if plan.arguments[6]:
            assert not any(step % (2 * cells) for step in (offset, *luma.strides[:2]))


@needs_shim
@pytest.mark.parametrize("start", [False, True])
@pytest.mark.parametrize(("height", "width", "h", "w"), [(8, 32, 4, 16), (7, 29, 4, 15), (1, 1, 1, 1), (2, 10, 2, 8)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_nothing_outside_the_planes_is_read(height, width, h, w, dtype, start):
    """The pages around the input cannot be read: a stray access ends the test process."""
    content = random_planes(2, h, w, dtype)
    planes = guarded(content.shape, dtype, content, alignment=content.itemsize, start=start).array
    frames, _ = run_egress(planes, height, width)
    np.testing.assert_array_equal(frames, egress_reference(planes, height=height, width=width))
    run_egress_nv12(planes, height, width)


@needs_shim
def test_more_lines_than_a_grid_has_rows_are_all_done():
    planes = random_planes(3, 5, 8, "float16")
    out = guarded((3, 9, 16, 3), np.uint8)
    plan = egress_launch(planes, out.array)
    for seed in range(4):
        out.array[...] = 0
        run(dataclasses.replace(plan, grid=(plan.grid[0], 2, 1)), kernels=KERNELS, seed=seed)
        np.testing.assert_array_equal(out.array, egress_reference(planes, height=9, width=16))
    luma, chroma = np.zeros((3, 9, 16), np.uint8), np.zeros((3, 5, 8, 2), np.uint8)
    plan = egress_nv12_launch(planes, luma, chroma, matrix="bt601", levels="full")
    run(dataclasses.replace(plan, grid=(plan.grid[0], 2, 1)), kernels=KERNELS)
    np.testing.assert_array_equal(
        luma, egress_nv12_reference(planes, height=9, width=16, matrix="bt601", levels="full")[0]
    )


@needs_shim
@pytest.mark.parametrize("dtype", DTYPES)
def test_what_is_not_a_number_becomes_0(dtype):
    planes = random_planes(1, 4, 8, dtype)
    planes[0, 0, 1, 2] = np.nan
    planes[0, 4, 2, 3] = np.inf
    planes[0, [2, 5], 3, 5] = np.inf, -np.inf
    expected = egress_reference(planes, height=8, width=16)
    assert (expected[0, 2:4, 4:6, 0] == 0).all()
    np.testing.assert_array_equal(expected[0, 4:6, 6:8, 1], [[255, 0], [255, 0]])
    np.testing.assert_array_equal(run_egress(planes, 8, 16)[0], expected)
    nv12 = egress_nv12_reference(planes, height=8, width=16, matrix="bt709", levels="limited")
    luma, chroma, _ = run_egress_nv12(planes, 8, 16)
    np.testing.assert_array_equal(luma, nv12[0])
    np.testing.assert_array_equal(chroma, nv12[1])


@needs_shim
def test_halves_are_rounded_to_even():
    """(k + 1/2)/255 exactly between two levels, wherever float32 can say so, and its neighbours."""
    middle = ((np.arange(255) + 0.5) / 255).astype(np.float32)
    exact = middle[middle * np.float32(255) == np.arange(255) + np.float32(0.5)]
    assert len(exact) > 100
    values = np.concatenate((exact, np.nextafter(exact, 1), np.nextafter(exact, 0)))
    planes = np.zeros((1, 12, 1, len(values)), np.float32)
    planes[0, :3, 0] = values
    frames, _ = run_egress(planes, 2, 2 * len(values))
    expected = [round(float(value * np.float32(255))) for value in values]  # Python rounds halves to even
    np.testing.assert_array_equal(frames[0, 1, ::2, 2], expected)


@pytest.mark.parametrize("dtype", DTYPES)
def test_egress_undoes_ingest_exactly(dtype):
    rng = np.random.default_rng(3)
    grey = np.arange(256, dtype=np.uint8).repeat(6).reshape(1, 2, 256, 3)
    extremes = np.array(list(itertools.product((0, 1, 127, 128, 254, 255), repeat=4)), np.uint8)
    blocks = extremes.reshape(-1, 2, 2).transpose(1, 0, 2).reshape(1, 2, -1, 1).repeat(3, 3)
    for frames in (
        grey,
        blocks,
        rng.integers(0, 256, (4, 255, 257, 3), np.uint8),
        rng.integers(0, 2, (1, 128, 128, 3), np.uint8) * 255,
        photo(123, 217, 5)[None],
    ):
        for multiple in (2, 16):
            planes = ingest_reference(frames, multiple=multiple, dtype=dtype)
            height, width = frames.shape[1:3]
            np.testing.assert_array_equal(egress_reference(planes, height=height, width=width), frames)


def test_float16_planes_leave_a_pixel_two_thirds_of_its_margin():
    """The bound of egress.cuh holds and is no exaggeration: no cell of 0..255 comes near half a level."""
    cells = np.random.default_rng(4).integers(0, 256, (1, 512, 512, 3), np.uint8)
    planes = ingest_reference(cells, multiple=2).astype(np.float32)
    picture = module.haar_inverse(torch.from_numpy(planes)).numpy()[0].transpose(1, 2, 0)
    worst = np.abs(picture - cells / 255.0).max()
    assert 0.00025 < worst < 2**-12 + 3 * 2**-13 < 1 / 510 * 0.34


@pytest.mark.parametrize(("matrix", "levels"), COLOURS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("height", "width"), [(64, 96), (63, 95)])
def test_nv12_comes_back_exactly_where_it_is_in_gamut(matrix, levels, dtype, height, width):
    """Of blocks whose RGB lies in [0, 1]; clamping changes the rest."""
    rng = np.random.default_rng(height)
    offset, gain, red_cr, green_cb, green_cr, blue_cb = map(float, to_rgb(matrix=matrix, levels=levels))
    chroma = rng.integers(48, 208, (1, 32, 48, 2)).astype(np.uint8)
    cb, cr = (chroma[0, :, :, i].repeat(2, 0).repeat(2, 1)[:height, :width] - 128.0 for i in (0, 1))
    shifts = np.stack((red_cr * cr, -green_cb * cb - green_cr * cr, blue_cb * cb))
    low = np.ceil(np.maximum(-shifts.min(0), 0) / gain + offset)
    high = np.floor(np.minimum(1 - shifts.max(0), 1) / gain + offset)
    inside = low <= high
    assert inside.mean() > 0.7
    luma = np.clip(rng.integers(0, 256, (height, width)), low, np.maximum(low, high)).astype(np.uint8)[None]
    options = {"matrix": matrix, "levels": levels}
    planes = ingest_nv12_reference(luma, chroma, multiple=4, dtype=dtype, **options)
    back = egress_nv12_reference(planes, height=height, width=width, **options)
    np.testing.assert_array_equal(back[0][0][inside], luma[0][inside])
    padded = np.pad(inside, ((0, height % 2), (0, width % 2)), constant_values=True)
    whole = padded[0::2, 0::2] & padded[0::2, 1::2] & padded[1::2, 0::2] & padded[1::2, 1::2]
    np.testing.assert_array_equal(back[1][0][whole], chroma[0][whole])


@pytest.mark.parametrize("height", [40, 41])
def test_twin_is_torchs_haar_and_rounding(height):
    planes = random_planes(2, 21, 17, "float32")
    picture = module.haar_inverse(torch.from_numpy(planes))[:, :, :height, :33]
    expected = (picture.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1)
    assert 0.05 < float(((picture < 0) | (picture > 1)).float().mean()) < 0.3
    np.testing.assert_array_equal(egress_reference(planes, height=height, width=33), expected.numpy())


def test_nv12_of_bt601_limited_is_opencvs():
    """Luma within 1 level; OpenCV takes chroma from the upper left pixel, so it is compared on flat blocks."""
    picture = photo(20, 24, 9).repeat(2, 0).repeat(2, 1)
    flat = cv2.cvtColor(picture, cv2.COLOR_RGB2YUV_I420).reshape(-1)
    planes = ingest_reference(picture[None], multiple=2, dtype="float32")
    luma, chroma = egress_nv12_reference(planes, height=40, width=48, matrix="bt601", levels="limited")
    assert np.abs(luma[0].astype(int) - flat[: 40 * 48].reshape(40, 48)).max() <= 1
    expected = flat[40 * 48 :].reshape(2, 20, 24).transpose(1, 2, 0)
    assert np.abs(chroma[0].astype(int) - expected).max() <= 1
    assert chroma.std() > 5


def test_chroma_at_odd_edges_is_the_mean_of_the_pixels_inside():
    rgb = np.random.default_rng(6).random((1, 3, 5, 7), np.float32) * 0.5 + 0.25
    padded = np.pad(rgb, ((0, 0), (0, 0), (0, 1), (0, 1)), constant_values=np.float32(0.9))
    planes = module.haar_forward(torch.from_numpy(padded)).numpy()
    _, chroma = egress_nv12_reference(planes, height=5, width=7, matrix="bt709", levels="full")
    for y, x in itertools.product(range(3), range(4)):
        red, green, blue = rgb[0, :, 2 * y : 2 * y + 2, 2 * x : 2 * x + 2].reshape(3, -1).mean(1, dtype=float)
        luma = 0.2126 * red + 0.7152 * green + 0.0722 * blue
        expected = 128 + 255 * (blue - luma) / 1.8556, 128 + 255 * (red - luma) / 1.5748
        np.testing.assert_allclose(chroma[0, y, x], expected, atol=0.51)


@needs_shim
@pytest.mark.parametrize(("matrix", "levels"), COLOURS)
def test_saturated_colours_stay_in_range(matrix, levels):
    """Pure blue is half a level above 255 at full range, and must not wrap around to 0."""
    colours = np.array(list(itertools.product((0.0, 1.0), repeat=3)), np.float16)
    planes = np.zeros((1, 12, 1, 8), np.float16)
    planes[0, :3, 0] = colours.T
    luma, chroma, _ = run_egress_nv12(planes, 2, 16, matrix=matrix, levels=levels)
    low, high, top = (16, 235, 240) if levels == "limited" else (0, 255, 255)
    assert luma.min() == luma[0, 0, 0] == low
    assert luma.max() == luma[0, 0, 15] == high
    assert chroma[0, 0, 1, 0] == chroma[0, 0, 4, 1] == chroma.max() == top
    back = rgb_of_nv12(luma, chroma, matrix=matrix, levels=levels)[0, :, 0, ::2]
    np.testing.assert_allclose(back, colours.T, atol=1.5 / 219)


@pytest.mark.parametrize(
    ("shape", "dtype", "size", "error", "message"),
    [
        ((12, 4, 4), np.float16, (8, 8), ShapeError, r"\(N, 12, h, w\)"),
        ((1, 3, 4, 4), np.float16, (8, 8), ShapeError, r"\(1, 3, 4, 4\)"),
        ((1, 12, 0, 4), np.float16, (1, 8), EmptyImageError, "planes"),
        ((1, 12, 4, 4), np.float64, (8, 8), DTypeError, "float64; it must be float16 or float32"),
        ((1, 12, 4, 4), np.float16, (9, 8), ShapeError, "height is 9; planes of shape .* make 1 to 8"),
        ((1, 12, 4, 4), np.float16, (8, 0), ShapeError, "width is 0"),
    ],
)
def test_unsuitable_planes_raise(shape, dtype, size, error, message):
    with pytest.raises(error, match=message):
        check_egress(np.zeros(shape, dtype), height=size[0], width=size[1])


def test_more_elements_than_a_kernel_counts_raise():
    planes = np.broadcast_to(np.float16(0), (1, 12, 2**14, 2**14))
    with pytest.raises(ArrayTooLargeError, match="planes has shape"):
        check_egress(planes, height=1, width=1)


def test_unknown_colours_raise():
    planes = np.zeros((1, 12, 2, 2), np.float16)
    with pytest.raises(ArgumentError, match="levels is 'pc'"):
        egress_nv12(planes, height=4, width=4, matrix="bt601", levels="pc")


def test_unsuitable_outputs_raise():
    planes = np.zeros((2, 12, 4, 4), np.float16)
    frames = np.zeros((2, 8, 8, 3), np.uint8)
    assert egress(planes, out=frames) is frames
    for out, error in (
        (frames[:1], ShapeError),
        (np.zeros((2, 9, 8, 3), np.uint8), ShapeError),
        (frames.view(np.int8), DTypeError),
        (frames[..., ::-1], LayoutError),
        (np.zeros((2, 8, 16, 3), np.uint8)[:, :, ::2], LayoutError),
    ):
        with pytest.raises(error):
            egress(planes, out=out)
    luma, chroma = np.zeros((2, 7, 8), np.uint8), np.zeros((2, 4, 4, 2), np.uint8)
    assert egress_nv12(planes, height=7, out=(luma, chroma)) == (luma, chroma)
    for pair, error in (
        ((luma[:1], chroma[:1]), ShapeError),
        ((luma, chroma[:, :3]), ShapeError),
        ((np.zeros((2, 7, 9), np.uint8), np.zeros((2, 4, 5, 2), np.uint8)), ShapeError),
        ((luma, np.zeros((2, 4, 8, 2), np.uint8)[:, :, ::2]), LayoutError),
    ):
        with pytest.raises(error):
            egress_nv12(planes, height=7, out=pair)
