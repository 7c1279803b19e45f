"""SSIM against scikit-image's, which has the same options under other names."""

from __future__ import annotations

import numpy as np
import pytest
from skimage.metrics import structural_similarity

from bdflow_rt.errors import ArgumentError
from bdflow_rt.metrics import rgb_to_y, ssim_y
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


def test_identical_pictures_give_1():
    image = photo(23, 19, seed=1)
    assert ssim_y(image, image, border=0) == pytest.approx(1, abs=1e-12)


def test_picture_smaller_than_the_window_raises():
    image = np.zeros((18, 40), np.uint8)
    with pytest.raises(ArgumentError, match="border of 4"):
        ssim_y(image, image, border=4)
