"""The boundary-aware mask: OpenCV's Canny for one bit, its NumPy twin for all, the definition for the levels."""

from __future__ import annotations

import math
from decimal import Decimal, localcontext
from fractions import Fraction

import cv2
import numpy as np
import pytest
from PIL import Image

from bdflow_rt.errors import ArgumentError, DTypeError, EmptyImageError, ShapeError
from bdflow_rt.kernels import boundary_mask, boundary_mask_reference, cell_maximum, sparse_magnitude
from bdflow_rt.kernels.boundary_definition import level_table
from bdflow_rt.kernels.boundary_reference import _local_maximum
from tests.support import data_dir, needs_data, photo, slow, slow_but

PRIMES = [19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67]


def canny(image, threshold, norm):
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) if image.ndim == 3 else image
    return cv2.Canny(cv2.GaussianBlur(grey, (5, 5), 0), threshold, threshold, L2gradient=norm == 2) // 255


def pictures(height, width, seed):
    """Noise, noise of few levels (so that neighbours tie), and a photograph."""
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return noise, noise // 128 * 255, photo(height, width, seed)


@needs_data
@pytest.mark.parametrize("norm", [1, 2])
@pytest.mark.parametrize("threshold", slow_but([50], [20, 50, 100]))
def test_one_bit_is_canny_on_every_picture_of_set14(threshold, norm):
    folder = data_dir()
    assert folder is not None
    paths = sorted((folder / "test" / "Set14").glob("*.png"))
    assert len(paths) == 14
    for path in paths:
        image = np.asarray(Image.open(path).convert("RGB"))
        expected = canny(image, threshold, norm)
        assert 0 < expected.mean() < 0.5
        np.testing.assert_array_equal(boundary_mask(image, threshold=threshold, norm=norm), expected, path.name)
        np.testing.assert_array_equal(boundary_mask_reference(image, threshold=threshold, norm=norm), expected)


@pytest.mark.parametrize(
    ("bits", "norm"), [(1, 1), (3, 2), *(slow(*one) for one in [(1, 2), (2, 1), (2, 2), (3, 1), (8, 1), (8, 2)])]
)
def test_every_size_up_to_17_equals_twin_and_canny(bits, norm):
    for height in range(1, 18):
        for width in range(1, 18):
            for image in pictures(height, width, seed=bits):
                mask = boundary_mask(image, bits=bits, norm=norm)
                np.testing.assert_array_equal(mask, boundary_mask_reference(image, bits=bits, norm=norm))
                np.testing.assert_array_equal(mask > 0, canny(image, 50, norm))


@pytest.mark.parametrize("norm", [1, 2])
@pytest.mark.parametrize("threshold", [0, 50, 200])
def test_prime_sizes_equal_twin(threshold, norm):
    for height, width in zip(PRIMES, PRIMES[::-1], strict=True):
        for image in pictures(height, width, seed=threshold):
            for bits in (1, 2, 3):
                options = {"threshold": threshold, "bits": bits, "norm": norm, "saturation": 300}
                np.testing.assert_array_equal(
                    boundary_mask(image, **options), boundary_mask_reference(image, **options)
                )


def test_720p_equals_twin():
    image = photo(720, 1280, seed=7)
    mask = boundary_mask(image, bits=3)
    np.testing.assert_array_equal(mask, boundary_mask_reference(image, bits=3))
    assert set(np.unique(mask)) == set(range(8))


def test_luma_of_every_colour_is_opencvs():
    """At threshold 0 a step of one grey level is an edge, so a wrong luma anywhere changes the mask."""
    channel = np.arange(256, dtype=np.uint8)
    image = np.empty((256, 256, 3), np.uint8)
    image[..., 1], image[..., 2] = channel[:, None], channel[None]
    for red in range(0, 256, 5):
        image[..., 0] = red
        np.testing.assert_array_equal(boundary_mask_reference(image, threshold=0), canny(image, 0, 2))


def sector_boundaries():
    """Gradients around both limits of the diagonal sectors, 577:239 among them, which a slip in tan 22.5 would move."""
    gx = np.random.default_rng(0).integers(-1020, 1021, (400, 300))
    near = np.round(gx * np.sqrt(2) - gx).astype(int) + np.random.default_rng(1).integers(-1, 2, gx.shape)
    gx[::7, ::5], near[::7, ::5] = 577, 239
    return [(gx, near), (near, gx), (-gx, near)]


@pytest.mark.parametrize("norm", [1, 2])
@pytest.mark.parametrize("case", range(3))
def test_sectors_and_ties_of_the_twin_are_opencvs(case, norm):
    gx, gy = sector_boundaries()[case]
    measure = abs(gx) + abs(gy) if norm == 1 else gx * gx + gy * gy
    expected = cv2.Canny(gx.astype(np.int16), gy.astype(np.int16), 0, 0, L2gradient=norm == 2)
    np.testing.assert_array_equal(_local_maximum(gx, gy, measure) & (measure > 0), expected > 0)


def test_grey_picture_equals_three_equal_channels():
    grey = photo(45, 31, seed=2)[..., 0]
    np.testing.assert_array_equal(boundary_mask(grey, bits=3), boundary_mask(np.dstack([grey] * 3), bits=3))
    np.testing.assert_array_equal(boundary_mask_reference(grey, bits=3), boundary_mask(grey, bits=3))


@pytest.mark.parametrize("value", [0, 128, 255])
def test_constant_picture_has_no_edge(value):
    image = np.full((33, 17, 3), value, np.uint8)
    for mask in (boundary_mask(image, threshold=0), boundary_mask(image, bits=8), sparse_magnitude(image)):
        assert not mask.any()


def test_strided_and_read_only_pictures_are_accepted_and_left_alone():
    image = photo(40, 60, seed=3)
    view = image[::-1, ::-2]
    view.flags.writeable = False
    before = image.copy()
    np.testing.assert_array_equal(boundary_mask(view, bits=2), boundary_mask(view.copy(), bits=2))
    np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize("norm", [1, 2])
def test_sparse_magnitude_is_the_gradient_on_edges_and_0_elsewhere(norm):
    image = photo(61, 83, seed=4)
    sparse = sparse_magnitude(image, threshold=30, norm=norm)
    smooth = cv2.GaussianBlur(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), (5, 5), 0)
    gx, gy = (cv2.Sobel(smooth, cv2.CV_64F, *order, borderType=cv2.BORDER_REPLICATE) for order in ((1, 0), (0, 1)))
    magnitude = np.hypot(gx, gy) if norm == 2 else abs(gx) + abs(gy)
    assert sparse.dtype == np.float32
    np.testing.assert_allclose(sparse, magnitude * canny(image, 30, norm), rtol=1e-7)
    assert sparse[sparse > 0].min() > 30


@pytest.mark.parametrize(("threshold", "saturation"), [(50, 255), (0, 1), (20, 1500), (99, 100), (3, 1020)])
@pytest.mark.parametrize("bits", [1, 2, 3, 5, 8])
def test_levels_are_the_rounded_down_formula(bits, threshold, saturation):
    """1 + min(2^k - 2, floor((B_s - T)(2^k - 1)/(saturation - T))), in exact arithmetic on every 1-norm."""
    steps = 2**bits - 1
    table = level_table(threshold=threshold, bits=bits, norm=1, saturation=saturation)
    for magnitude in range(threshold + 1, 2041):
        exact = math.floor(Fraction((magnitude - threshold) * steps, saturation - threshold))
        assert 1 + np.searchsorted(table, magnitude, side="right") == 1 + min(steps - 1, exact)
    table = level_table(threshold=threshold, bits=bits, norm=2, saturation=saturation)
    roots = np.arange(threshold + 1, 1443)  # perfect squares are where rounding could go wrong
    measures = np.concatenate([roots**2 - 1, roots**2, roots**2 + 1, np.arange(threshold**2 + 1, 2 * 1020**2, 4999)])
    with localcontext() as context:
        context.prec = 60
        for measure in measures[measures > threshold**2].tolist():
            exact = math.floor((Decimal(measure).sqrt() - threshold) * steps / (saturation - threshold))
            assert 1 + np.searchsorted(table, measure, side="right") == 1 + min(steps - 1, exact)


def test_thresholds_beyond_any_gradient_do_not_overflow():
    image = photo(40, 40, seed=5)
    for bits in (1, 8):
        assert not boundary_mask(image, threshold=10**6, saturation=10**9, bits=bits).any()
        assert not boundary_mask_reference(image, threshold=10**6, saturation=10**7, bits=bits).any()
    assert set(np.unique(boundary_mask(image, saturation=10**9, bits=8))) == {0, 1}


@pytest.mark.parametrize("scale", [1, 2, 4, 7, 64])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (64, 32), (63, 65), (5, 130)])
def test_cell_maximum_keeps_every_cells_largest_value(height, width, scale):
    mask = np.random.default_rng(scale).integers(0, 200, (height, width)).astype(np.uint8)
    result = cell_maximum(mask, scale)
    assert result.dtype == mask.dtype
    assert result.shape == (-(-height // scale), -(-width // scale))
    for (row, column), value in np.ndenumerate(result):
        cell = mask[row * scale : (row + 1) * scale, column * scale : (column + 1) * scale]
        assert value == cell.max()


@pytest.mark.parametrize("function", [boundary_mask, boundary_mask_reference])
@pytest.mark.parametrize(
    "options",
    [
        {"threshold": -1},
        {"threshold": 50.0},
        {"bits": 0},
        {"bits": 9},
        {"norm": 3},
        {"saturation": 50},
        {"saturation": 99.5},
    ],
)
def test_options_out_of_range_raise(function, options):
    with pytest.raises(ArgumentError, match=next(iter(options))):
        function(np.zeros((4, 4, 3), np.uint8), **options)


@pytest.mark.parametrize("function", [boundary_mask, boundary_mask_reference, sparse_magnitude])
@pytest.mark.parametrize(
    ("image", "error"),
    [
        (np.zeros((4, 4, 4), np.uint8), ShapeError),
        (np.zeros(4, np.uint8), ShapeError),
        (np.zeros((0, 4, 3), np.uint8), EmptyImageError),
        (np.zeros((4, 4, 3)), DTypeError),
    ],
)
def test_arrays_that_are_no_pictures_raise(function, image, error):
    with pytest.raises(error):
        function(image)


def test_cells_of_no_size_or_no_mask_raise():
    with pytest.raises(ArgumentError, match="scale is 0"):
        cell_maximum(np.zeros((4, 4), np.uint8), 0)
    with pytest.raises(ShapeError):
        cell_maximum(np.zeros((4, 4, 1), np.uint8), 2)
    with pytest.raises(EmptyImageError):
        cell_maximum(np.zeros((4, 0), np.uint8), 2)


@pytest.mark.parametrize("function", [boundary_mask, sparse_magnitude])
def test_a_batch_in_any_layout_is_its_pictures(function):
    batch = np.stack([photo(37, 41, seed) for seed in range(3)])
    expected = np.stack([function(picture) for picture in batch])
    first = np.ascontiguousarray(np.moveaxis(batch, -1, 1))
    half = (first / 255).astype(np.float16)
    assert (np.rint(half.astype(np.float32) * 255) == first).all()
    cases: list[tuple[np.ndarray, dict[str, str]]] = [
        (batch, {}),
        (batch, {"layout": "HWC"}),
        (first, {"layout": "CHW"}),
        (half, {}),
        (np.moveaxis(half, 1, -1), {"layout": "HWC"}),
    ]
    for image, options in cases:
        result = function(image, **options)
        assert result.dtype == expected.dtype
        np.testing.assert_array_equal(result, expected)
        np.testing.assert_array_equal(function(image[1], **options), expected[1])
    grey = np.ascontiguousarray(batch[..., :1])
    np.testing.assert_array_equal(function(grey), np.stack([function(picture[..., 0]) for picture in grey]))


def test_half_precision_is_clamped_rounded_and_free_of_nan():
    values = np.array([np.nan, -np.inf, -1, 0, 0.5, 1, 1.5, np.inf], np.float16)
    plain = np.array([0, 0, 0, 0, 128, 255, 255, 255], np.uint8)
    picture = np.random.default_rng(5).integers(0, 8, (23, 29))
    mask = boundary_mask(values[picture][None], bits=3)
    np.testing.assert_array_equal(mask, boundary_mask(plain[picture], bits=3))
    assert mask.any()


@pytest.mark.parametrize("cell", [1, 2, 4, 8, 16, 32, 64])
def test_cells_are_the_largest_levels_also_at_the_edge(cell):
    image = photo(67, 131, seed=2)
    whole = boundary_mask(image, bits=3)
    out = np.empty((-(-67 // cell), -(-131 // cell)), np.uint8)
    assert boundary_mask(image, bits=3, cell=cell, out=out) is out
    np.testing.assert_array_equal(out, cell_maximum(whole, cell))


def test_unknown_layouts_and_cells_raise():
    image = np.zeros((4, 5, 3), np.uint8)
    with pytest.raises(ArgumentError, match="layout is 'NHWC'"):
        boundary_mask(image, layout="NHWC")
    with pytest.raises(ShapeError, match=r"\(4, 5, 3\); it must be \(H, W\), \(C, H, W\)"):
        boundary_mask(image, layout="CHW")
    for cell in (0, 3, 128, True):
        with pytest.raises(ArgumentError, match=f"cell is {cell}"):
            boundary_mask(image, cell=cell)
    with pytest.raises(ArgumentError, match="stream"):
        boundary_mask(image, stream=0)
