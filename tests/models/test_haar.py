"""The Haar transform: definition, order of the bands, inverse, and what it refuses."""

from __future__ import annotations

import pytest
import torch

from bdflow_rt.errors import ShapeError
from bdflow_rt.models.layers.haar import haar_forward, haar_inverse


def test_bands_are_the_definition_in_band_major_order() -> None:
    x = torch.rand(2, 3, 6, 10, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    bands = haar_forward(x)
    assert bands.shape == (2, 12, 3, 5)
    for channel in range(3):
        for row in range(3):
            for column in range(5):
                cell = x[:, channel, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
                a, b, c, d = cell[:, 0, 0], cell[:, 0, 1], cell[:, 1, 0], cell[:, 1, 1]
                wanted = ((a + b + c + d) / 4, (a - b + c - d) / 4, (a + b - c - d) / 4, (a - b - c + d) / 4)
                for band, value in enumerate(wanted):
                    torch.testing.assert_close(bands[:, 3 * band + channel, row, column], value, rtol=0, atol=1e-15)


@pytest.mark.parametrize("size", [(2, 2), (2, 34), (14, 6)])
@pytest.mark.parametrize("channels", [1, 3, 12])
def test_inverse_undoes_forward_exactly_on_whole_numbers(size: tuple[int, int], channels: int) -> None:
    x = torch.randint(0, 256, (2, channels, *size), generator=torch.Generator().manual_seed(2)).float()
    assert torch.equal(haar_inverse(haar_forward(x)), x)
    assert torch.equal(haar_forward(haar_inverse(haar_forward(x))), haar_forward(x))


@pytest.mark.parametrize("shape", [(1, 3, 3, 4), (1, 3, 4, 7), (3, 4, 4)])
def test_odd_or_flat_input_raises(shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match="even H and W"):
        haar_forward(torch.zeros(shape))


@pytest.mark.parametrize("shape", [(1, 6, 2, 2), (4, 2, 2)])
def test_bands_that_are_no_multiple_of_four_raise(shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match="4C"):
        haar_inverse(torch.zeros(shape))
