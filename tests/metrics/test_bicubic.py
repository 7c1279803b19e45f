"""Bicubic resizing: closed forms, Pillow in the interior, and the published bicubic row."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from bdflow_rt.errors import ArgumentError, DTypeError, EmptyImageError, ShapeError
from bdflow_rt.metrics import bicubic_downscale, bicubic_resize, psnr, rgb_to_y, ssim_y
from bdflow_rt.metrics.bicubic import bicubic_taps, cell_means
from tests.support import data_dir, needs_data, photo, slow


def test_weights_of_a_half_are_the_closed_form():
    indices, weights = bicubic_taps(16, 8, 0.5)
    np.testing.assert_allclose(weights, np.tile(np.array([-3, -9, 29, 111, 111, 29, -9, -3]) / 256, (8, 1)))
    assert indices[0].tolist() == [2, 1, 0, 0, 1, 2, 3, 4]
    assert indices[-1].tolist() == [11, 12, 13, 14, 15, 15, 14, 13]


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (5, 3), (63, 65), (127, 1)])
@pytest.mark.parametrize("scale", [1 / 64, 1 / 4, 1 / 3, 0.5, 1, 2, 3.7])
def test_odd_sized_constant_pictures_stay_constant_and_sizes_round_up(size, scale):
    image = np.full((*size, 3), 77, np.uint8)
    result = bicubic_resize(image, scale=scale)
    assert result.shape == (int(np.ceil(size[0] * scale)), int(np.ceil(size[1] * scale)), 3)
    assert (result == 77).all()


def test_size_that_only_rounding_makes_larger_is_not_rounded_up():
    assert 50 * 1.1 > 55
    assert bicubic_resize(np.zeros((50, 90)), scale=1.1).shape == (55, 99)


@pytest.mark.parametrize("size", [(31, 29), (97, 118), (160, 301)])
def test_interior_equals_pillow(size):
    """Pillow has the same kernel and antialiasing, and another border."""
    image = photo(101, 113, seed=3)[..., 1].astype(np.float32)
    ours = bicubic_resize(image, size=size)
    pillow = np.asarray(Image.fromarray(image).resize(size[::-1], Image.Resampling.BICUBIC))
    inside = tuple(
        slice(int(np.ceil(3 * max(n / m, 1))), -int(np.ceil(3 * max(n / m, 1))))
        for n, m in zip(size, image.shape, strict=True)
    )
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours[inside], pillow[inside], atol=2e-3)


def test_border_is_symmetric():
    image = photo(24, 20, seed=4).astype(np.float64)
    mirrored = np.pad(image, ((24, 24), (20, 20), (0, 0)), mode="symmetric")
    np.testing.assert_allclose(
        bicubic_resize(image, scale=0.25), bicubic_resize(mirrored, scale=0.25)[6:12, 5:10], atol=1e-9
    )


def test_8_bit_result_is_the_float_one_rounded_and_clamped():
    image = np.zeros((16, 16), np.uint8)
    image[:, 8:] = 255
    exact = bicubic_resize(image.astype(np.float64), scale=2)
    assert exact.min() < -1
    assert exact.max() > 256
    np.testing.assert_array_equal(bicubic_resize(image, scale=2), np.floor(np.clip(exact, 0, 255) + 0.5))


@pytest.mark.parametrize(("height", "width"), [(64, 96), (61, 97), (1, 1), (3, 130)])
def test_lr_reference_repeats_the_edge_of_sizes_that_do_not_divide(height, width):
    image = photo(height, width, seed=5)
    padded = np.pad(image, ((0, -height % 4), (0, -width % 4), (0, 0)), mode="edge")
    result = bicubic_downscale(image, scale=4)
    np.testing.assert_array_equal(result, bicubic_resize(padded, scale=0.25))
    matlab = bicubic_resize(image, scale=0.25)
    assert result.shape == matlab.shape
    # Eight input samples to each side of a centre: nothing further from the padding can differ.
    far = tuple(slice(0, length // 4 - 2 if length % 4 else None) for length in (height, width))
    np.testing.assert_array_equal(result[far], matlab[far])


@pytest.mark.parametrize(
    "options", [{}, {"scale": 2, "size": (2, 2)}, {"scale": 0}, {"scale": float("nan")}, {"size": (0, 3)}]
)
def test_impossible_scale_or_size_raises(options):
    with pytest.raises(ArgumentError):
        bicubic_resize(np.zeros((4, 4), np.uint8), **options)


@pytest.mark.parametrize(
    ("image", "error"),
    [
        (np.zeros(4, np.uint8), ShapeError),
        (np.zeros((0, 4), np.uint8), EmptyImageError),
        (np.zeros((4, 4), np.int16), DTypeError),
    ],
)
def test_arrays_that_are_no_pictures_raise(image, error):
    with pytest.raises(error):
        bicubic_resize(image, scale=2)


@pytest.mark.parametrize("scale", [0, 0.25, -2])
def test_lr_reference_of_a_scale_that_is_not_whole_raises(scale):
    with pytest.raises(ArgumentError, match="whole number"):
        bicubic_downscale(np.zeros((4, 4), np.uint8), scale=scale)


@needs_data
@pytest.mark.parametrize(
    ("dataset", "scale", "published_psnr", "published_ssim"),
    [
        ("Set5", 2, 33.66, 0.9299),
        ("Set14", 2, 30.24, 0.8688),
        slow("BSD100", 2, 29.56, 0.8431),
        ("Set5", 4, 28.42, 0.8104),
        ("Set14", 4, 26.00, 0.7027),
        slow("BSD100", 4, 25.96, 0.6675),
    ],
)
def test_published_bicubic_row(dataset, scale, published_psnr, published_ssim):
    """On 8-bit luma as the tables do; PSNR leaves out a border of `scale` pixels, SSIM only on BSD100.

    With the border in, SSIM on BSD100 is 0.8435 and 0.6690: not what is published, nor is Set14's with it left out.
    """
    folder = data_dir()
    assert folder is not None
    scores = []
    for path in sorted((folder / "test" / dataset).glob("*.png")):
        image = np.asarray(Image.open(path))
        height, width = (length // scale * scale for length in image.shape[:2])
        luma = np.round(rgb_to_y(image[:height, :width]))
        restored = bicubic_resize(bicubic_resize(luma, scale=1 / scale), scale=scale)
        pair = luma.astype(np.uint8), np.round(np.clip(restored, 0, 255)).astype(np.uint8)
        scores.append((psnr(*pair, border=scale), ssim_y(*pair, border=scale if dataset == "BSD100" else 0)))
    mean_psnr, mean_ssim = np.mean(scores, axis=0)
    assert mean_psnr == pytest.approx(published_psnr, abs=0.02)
    assert mean_ssim == pytest.approx(published_ssim, abs=0.0005)


def test_means_of_cells_repeat_the_edge_where_the_size_does_not_divide() -> None:
    image = np.arange(5 * 7 * 3, dtype=np.uint8).reshape(5, 7, 3)
    found = cell_means(image, scale=4)
    assert found.shape == (2, 2, 3)
    np.testing.assert_allclose(found[0, 0], image[:4, :4].mean(axis=(0, 1)))
    # The last cell is row 4 four times over, and column 6 twice.
    np.testing.assert_allclose(found[1, 1], image[4, [4, 5, 6, 6]].mean(axis=0))
