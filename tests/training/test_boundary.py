"""The masks of tensors are those of the kernels, picture by picture; the target and the weight are what eq. 4 says."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bdflow_rt import kernels
from bdflow_rt.errors import ArgumentError, DTypeError, EmptyImageError, ShapeError
from bdflow_rt.training.boundary import boundary_aware_weight, boundary_mask, boundary_target, sparse_boundary
from bdflow_rt.zoo.arch.bdflow import BDFlowConfig
from bdflow_rt.zoo.boundary import BoundaryConfig
from tests.support import photo


def batch(height, width, seed):
    """A photograph, noise, and noise of two levels (so that neighbours tie): (3, H, W, 3) uint8."""
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return np.stack([photo(height, width, seed), noise, noise // 128 * 255])


def tensor(images):
    return torch.tensor(images).permute(0, 3, 1, 2)


def assert_equal_to_kernels(images, config, bits):
    masks = boundary_mask(tensor(images), config, bits)
    assert masks.dtype == torch.uint8
    for image, mask in zip(images, masks, strict=True):
        expected = kernels.boundary_mask(
            image, threshold=config.threshold, bits=bits, norm=config.norm, saturation=config.saturation
        )
        np.testing.assert_array_equal(mask.numpy(), expected)


@pytest.mark.parametrize("norm", [1, 2])
@pytest.mark.parametrize("bits", [1, 2, 3, 8])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 59), (67, 23), (96, 96)])
def test_masks_of_a_batch_equal_those_of_its_pictures(height, width, bits, norm):
    assert_equal_to_kernels(batch(height, width, bits), BoundaryConfig(threshold=20, norm=norm, saturation=400), bits)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_tensor_may_lie_in_memory_as_it_likes_and_is_left_as_it_is(layout):
    x = tensor(batch(24, 40, 1)).contiguous(memory_format=layout)[:, :, 1:, ::2]
    before = x.clone()
    mask = boundary_mask(x, BoundaryConfig(), 3)
    assert torch.equal(mask, boundary_mask(before.contiguous(), BoundaryConfig(), 3))
    mask += 1
    assert torch.equal(x, before)


def test_threshold_beyond_any_gradient_does_not_overflow():
    assert not boundary_mask(tensor(batch(32, 32, 1)), BoundaryConfig(threshold=10**6, saturation=10**7), 2).any()


@pytest.mark.parametrize("norm", [1, 2])
def test_sparse_boundary_equals_numpy(norm):
    images = batch(97, 131, 3)
    for image, sparse in zip(images, sparse_boundary(tensor(images), BoundaryConfig(norm=norm)), strict=True):
        np.testing.assert_array_equal(sparse.numpy(), kernels.sparse_magnitude(image, norm=norm))


@pytest.mark.parametrize("bits", [1, 3])
def test_target_from_hr_is_the_maximum_of_each_cell(bits):
    images = batch(56, 88, 4)
    config = BDFlowConfig(scale=8, blocks=(1,) * 3, hidden=(8,) * 3, bits=bits)
    target = boundary_target(tensor(images), torch.zeros(3, 3, 7, 11), config)
    assert target.shape == (3, 1, 7, 11)
    for image, levels in zip(images, target[:, 0], strict=True):
        expected = kernels.cell_maximum(kernels.boundary_mask(image, bits=bits), 8)
        np.testing.assert_array_equal((levels * config.interface().max_level).numpy(), expected)


def test_target_from_lr_is_the_mask_of_the_8_bit_lr_picture():
    images = batch(13, 17, 5)
    config = BDFlowConfig(bits=2, boundary=BoundaryConfig(source="lr"))
    lr = (tensor(images).float() / 255).requires_grad_()
    target = boundary_target(torch.zeros(3, 3, 52, 68, dtype=torch.uint8), lr, config)
    assert not target.requires_grad
    for image, levels in zip(images, target[:, 0], strict=True):
        np.testing.assert_array_equal((levels * 3).numpy(), kernels.boundary_mask(image, bits=2))


def test_target_of_a_network_without_boundary_raises():
    with pytest.raises(ArgumentError, match="bits is 0"):
        boundary_target(torch.zeros(1, 3, 8, 8, dtype=torch.uint8), torch.zeros(1, 3, 2, 2), BDFlowConfig(bits=0))


@pytest.mark.parametrize(("hr", "lr"), [((1, 3, 10, 8), (1, 3, 2, 2)), ((1, 3, 8, 8), (1, 3, 2, 3))])
def test_sizes_that_do_not_fit_raise(hr, lr):
    with pytest.raises(ShapeError, match="x4 network"):
        boundary_target(torch.zeros(hr, dtype=torch.uint8), torch.zeros(lr), BDFlowConfig())


def test_weight_runs_from_base_to_base_plus_1_in_proportion_to_the_magnitude():
    images = batch(48, 40, 6)
    weight = boundary_aware_weight(tensor(images), BoundaryConfig(), base=2.0)
    assert weight.shape == (3, 1, 48, 40)
    for image, values in zip(images, weight[:, 0].numpy(), strict=True):
        sparse = kernels.sparse_magnitude(image)
        np.testing.assert_allclose(values, 2 + sparse / sparse.max(), rtol=1e-6)


def test_weight_of_a_picture_without_edges_is_the_base():
    images = batch(32, 32, 7)
    images[1] = 90
    weight = boundary_aware_weight(tensor(images), BoundaryConfig(), base=1.5)
    assert (weight[1] == 1.5).all()
    assert weight[0].max() == weight[2].max() == 2.5


@pytest.mark.parametrize(
    ("x", "error"),
    [
        (torch.zeros(3, 8, 8, dtype=torch.uint8), ShapeError),
        (torch.zeros(1, 1, 8, 8, dtype=torch.uint8), ShapeError),
        (torch.zeros(1, 3, 0, 8, dtype=torch.uint8), EmptyImageError),
        (torch.zeros(1, 3, 8, 8), DTypeError),
    ],
)
def test_tensors_that_are_no_pictures_raise(x, error):
    with pytest.raises(error):
        boundary_mask(x, BoundaryConfig(), 1)


@pytest.mark.parametrize("bits", [0, 9])
def test_bits_out_of_range_raise(bits):
    with pytest.raises(ArgumentError, match="1 to 8"):
        boundary_mask(torch.zeros(1, 3, 8, 8, dtype=torch.uint8), BoundaryConfig(), bits)
