"""PSNR: closed forms, scikit-image, and the conversions of MATLAB."""

from __future__ import annotations

import math

import numpy as np
import pytest
from skimage.color import rgb2ycbcr
from skimage.metrics import peak_signal_noise_ratio

from bdflow_rt.errors import ArgumentError, DTypeError, ShapeError
from bdflow_rt.metrics import psnr, psnr_y, rgb_to_y
from tests.support import photo


def test_luma_of_black_and_white_is_16_and_235():
    pair = np.array([[[0, 0, 0], [255, 255, 255]]], np.uint8)
    np.testing.assert_allclose(rgb_to_y(pair), [[16, 235]])


def test_luma_equals_scikit_image():
    image = photo(37, 41, seed=1)
    np.testing.assert_allclose(rgb_to_y(image), rgb2ycbcr(image)[..., 0], atol=1e-10)


def test_identical_pictures_give_infinity():
    image = photo(9, 7, seed=1)
    assert psnr(image, image) == psnr_y(image, image, border=2) == math.inf


def test_psnr_equals_scikit_image_inside_the_border():
    a, b = photo(53, 47, seed=1), photo(53, 47, seed=2)
    assert psnr(a, b) == pytest.approx(peak_signal_noise_ratio(a, b))
    expected = peak_signal_noise_ratio(a[4:-4, 4:-4], b[4:-4, 4:-4])
    assert psnr(a, b, border=4) == pytest.approx(expected)
    assert psnr(a, b, border=4) != pytest.approx(psnr(a, b))


def test_one_grey_level_of_luma_costs_what_the_formula_says():
    a = np.full((8, 8, 3), 100, np.uint8)
    assert psnr_y(a, a + np.uint8(1), border=1) == pytest.approx(20 * math.log10(255 / (219 / 255)))
    assert psnr_y(a[..., 0], a[..., 0] + np.uint8(1), border=1) == pytest.approx(20 * math.log10(255))


def test_pictures_of_two_shapes_raise():
    with pytest.raises(ShapeError):
        psnr(np.zeros((4, 4), np.uint8), np.zeros((4, 5), np.uint8))


def test_pictures_that_are_not_8_bit_raise():
    with pytest.raises(DTypeError):
        psnr(np.zeros((4, 4), np.uint8), np.zeros((4, 4)))  # type: ignore[arg-type]


@pytest.mark.parametrize("border", [-1, 2, 3])
def test_border_that_leaves_nothing_raises(border):
    image = np.zeros((4, 9), np.uint8)
    with pytest.raises(ArgumentError, match="0 to 1 is allowed"):
        psnr(image, image, border=border)
