"""The differentiable bicubic equals the NumPy one, and its gradient is right."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bdflow_rt.errors import ArgumentError, DTypeError, ShapeError
from bdflow_rt.metrics import bicubic_resize
from bdflow_rt.training.bicubic import bicubic_downscale
from tests.support import photo


@pytest.mark.parametrize("scale", [1, 2, 4, 8, 16, 32, 64])
@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (3, 2), (1, 5)])
def test_equals_numpy(scale, rows, columns):
    images = np.stack([photo(rows * scale, columns * scale, seed) / 255 for seed in (1, 2)])
    expected = np.stack([bicubic_resize(image, scale=1 / scale) for image in images]).transpose(0, 3, 1, 2)
    for dtype, tolerance in ((torch.float32, 1e-6), (torch.float64, 1e-12)):
        x = torch.tensor(images, dtype=dtype).permute(0, 3, 1, 2)
        result = bicubic_downscale(x, scale)
        assert result.dtype == dtype
        np.testing.assert_allclose(result.numpy(), expected, atol=tolerance)


def test_gradient_equals_finite_differences():
    x = torch.rand(1, 2, 8, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    assert torch.autograd.gradcheck(lambda value: bicubic_downscale(value, 4), x)


def test_autocast_does_not_make_it_coarser():
    x = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", torch.bfloat16):
        inside = bicubic_downscale(x, 2)
    assert torch.equal(inside, bicubic_downscale(x, 2))


@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 3, 9, 8), (1, 3, 8, 9), (1, 3, 0, 8)])
def test_sizes_that_do_not_divide_raise(shape):
    with pytest.raises(ShapeError, match="multiples of 4"):
        bicubic_downscale(torch.zeros(shape), 4)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.bfloat16])
def test_coarse_dtypes_raise(dtype):
    with pytest.raises(DTypeError):
        bicubic_downscale(torch.zeros(1, 3, 8, 8, dtype=dtype), 4)


@pytest.mark.parametrize("scale", [0, 0.5])
def test_scale_that_is_not_whole_raises(scale):
    with pytest.raises(ArgumentError):
        bicubic_downscale(torch.zeros(1, 3, 8, 8), scale)
