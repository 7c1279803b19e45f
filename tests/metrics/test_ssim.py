"""SSIM against scikit-image's, which has the same options under other names."""

from __future__ import annotations

import numpy as np
import pytest
from skimage.metrics import structural_similarity

from bdflow_rt.errors import ArgumentError, DTypeError, ShapeError
from bdflow_rt.metrics import rgb_to_y, ssim, ssim_y
from tests.support import photo


@pytest.mark.parametrize(("height", "width", "border"), [(11, 11, 0), (37, 53, 0), (64, 41, 4), (97, 131, 2)])
def test_ssim_equals_scikit_image(height, width, border):
    a = photo(height, width, seed=1)
    noise = np.random.default_rng(0).normal(0, 12, a.shape)
    b = np.clip(a + noise, 0, 255).astype(np.uint8)
    inside = (slice(border, height - border), slice(border, width - border))
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 255}
    expected = structural_similarity(rgb_to_y(a)[inside], rgb_to_y(b)[inside], **options)
    assert expected < 0.999
    assert ssim_y(a, b, border=border) == pytest.approx(expected, abs=1e-9)
    all_channels = structural_similarity(a[inside], b[inside], channel_axis=2, **options)
    assert all_channels != pytest.approx(expected, abs=1e-4)
    assert ssim(a, b, border=border) == pytest.approx(all_channels, abs=1e-9)
    one_channel = structural_similarity(a[inside][..., 1], b[inside][..., 1], **options)
    assert ssim(a[..., 1], b[..., 1], border=border) == pytest.approx(one_channel, abs=1e-9)


def test_identical_pictures_give_1():
    image = photo(23, 19, seed=1)
    assert ssim_y(image, image, border=0) == pytest.approx(1, abs=1e-12)
    assert ssim(image, image) == pytest.approx(1, abs=1e-12)


def test_picture_smaller_than_the_window_raises():
    image = np.zeros((18, 40), np.uint8)
    with pytest.raises(ArgumentError, match="border of 4"):
        ssim_y(image, image, border=4)
    with pytest.raises(ArgumentError, match="border of 4"):
        ssim(image, image, border=4)


def test_pictures_that_do_not_fit_together_raise():
    with pytest.raises(ShapeError):
        ssim(np.zeros((20, 20, 3), np.uint8), np.zeros((20, 20), np.uint8))
    with pytest.raises(DTypeError):
        ssim(np.zeros((20, 20)), np.zeros((20, 20)))  # type: ignore[arg-type]
