"""The page on colour: its example, and its formulas in exact arithmetic, beside the code."""

from __future__ import annotations

import itertools
import re
from fractions import Fraction
from typing import get_args

import numpy as np
import pytest

from bdflow_rt.engines.front import NV12
from bdflow_rt.errors import ArgumentError
from bdflow_rt.kernels.colour import Levels, Matrix
from tests.support import ROOT, photo

FRONTS = [NV12(matrix, levels) for matrix, levels in itertools.product(get_args(Matrix), get_args(Levels))]
ROW = re.compile(r"\| BT\.(\d+) \| (\w+) \| ([\d ]+) \| ([\d ]+) \| ([\d, ]+) \| ([\d ]+), ([\d ]+) \|")


def constants(front: NV12) -> tuple[Fraction, Fraction, Fraction, int, int, int]:
    kr, kb = {"bt601": ("0.299", "0.114"), "bt709": ("0.2126", "0.0722"), "bt2020": ("0.2627", "0.0593")}[front.matrix]
    offset, luma, chroma = {"limited": (16, 219, 224), "full": (0, 255, 255)}[front.levels]
    return Fraction(kr), 1 - Fraction(kr) - Fraction(kb), Fraction(kb), offset, luma, chroma


def is_rounding(level: int, exact: Fraction) -> bool:
    """Whether a level is what a value rounds to, either one where it lies in the middle."""
    return abs(level - exact) <= Fraction(1, 2) + Fraction(1, 1000)


def clamp(value: Fraction) -> Fraction:
    return min(max(value, Fraction(0)), Fraction(1))


def test_the_page_s_example_is_what_the_code_makes() -> None:
    rows = ROW.findall((ROOT / "spec/colour.md").read_text())
    assert len(rows) == 6
    for matrix, levels, luma, chroma, pixels, luma_again, chroma_again in rows:
        front = NV12(f"bt{matrix}", levels)
        y, c, rgb, y2, c2 = (
            np.array(re.findall(r"\d+", text), np.uint8) for text in (luma, chroma, pixels, luma_again, chroma_again)
        )
        actual = front.to_rgb(y.reshape(2, 2), c.reshape(1, 1, 2))
        assert np.array_equal(actual.ravel(), rgb)
        again = front.from_rgb(actual)
        assert np.array_equal(again[0].ravel(), y2)
        assert np.array_equal(again[1].ravel(), c2)


@pytest.mark.parametrize("front", FRONTS, ids=str)
def test_colours_in_follow_the_page_s_formulas(front: NV12) -> None:
    kr, kg, kb, offset, a, c = constants(front)
    rng = np.random.default_rng(1)
    luma, chroma = rng.integers(0, 256, (6, 8), dtype=np.uint8), rng.integers(0, 256, (3, 4, 2), dtype=np.uint8)
    image = front.to_rgb(luma, chroma)
    for row, column in np.ndindex(luma.shape):
        cb, cr = map(int, chroma[row // 2, column // 2])
        y, b, r = Fraction(int(luma[row, column]) - offset, a), Fraction(cb - 128, c), Fraction(cr - 128, c)
        red, blue = 2 * (1 - kr) * r, 2 * (1 - kb) * b
        for level, value in zip(image[row, column], (y + red, y - (kb * blue + kr * red) / kg, y + blue), strict=True):
            assert is_rounding(int(level), 255 * clamp(value))


@pytest.mark.parametrize("size", [(6, 8), (5, 7), (1, 1)])
@pytest.mark.parametrize("front", FRONTS, ids=str)
def test_colours_out_follow_the_page_s_formulas(front: NV12, size: tuple[int, int]) -> None:
    kr, kg, kb, offset, a, c = constants(front)
    image = np.random.default_rng(2).integers(0, 256, (*size, 3), dtype=np.uint8)
    image[0, 0] = 0, 0, 255
    luma, chroma = front.from_rgb(image)
    assert chroma.shape == ((size[0] + 1) // 2, (size[1] + 1) // 2, 2)
    values = {place: [Fraction(int(level), 255) for level in image[place]] for place in np.ndindex(size)}
    grey = {place: kr * red + kg * green + kb * blue for place, (red, green, blue) in values.items()}
    for place in np.ndindex(size):
        assert is_rounding(int(luma[place]), a * grey[place] + offset)
    for top, left in np.ndindex(chroma.shape[:2]):
        block = [p for p in np.ndindex(size) if (p[0] // 2, p[1] // 2) == (top, left)]
        for index, channel, weight in ((0, 2, kb), (1, 0, kr)):
            total = sum((values[place][channel] - grey[place] for place in block), Fraction(0))
            exact = 128 + c * total / len(block) / (2 * (1 - weight))
            assert is_rounding(int(chroma[top, left, index]), min(exact, Fraction(255)))


@pytest.mark.parametrize("front", FRONTS, ids=str)
def test_colours_of_a_photograph_do_not_wander(front: NV12) -> None:
    """Out and in again gives the same pixels but where chroma was averaged; a second time nothing is lost at all."""
    luma, chroma = front.from_rgb(photo(64, 80, 4) // 2 + 64)
    first = front.from_rgb(front.to_rgb(luma, chroma))
    assert np.abs(first[0].astype(int) - luma).max() <= 1
    assert np.abs(first[1].astype(int) - chroma).max() <= 1
    assert (first[0] != luma).mean() < 0.001


def test_other_matrices_and_levels_are_refused() -> None:
    with pytest.raises(ArgumentError, match="matrix is 'bt2100'"):
        NV12("bt2100")
    with pytest.raises(ArgumentError, match="levels is 'tv'"):
        NV12("bt709", "tv")
