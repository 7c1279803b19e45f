"""The Haar kernels, run on the CPU from their CUDA source, against their NumPy twins and the networks' own module."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from bdflow_rt.errors import (
    ArgumentError,
    ArrayTooLargeError,
    DTypeError,
    EmptyImageError,
    LayoutError,
    OverlapError,
    ShapeError,
)
from bdflow_rt.kernels import haar_forward, haar_inverse
from bdflow_rt.kernels.haar import (
    KERNELS,
    check_forward,
    check_inverse,
    forward_launch,
    haar_forward_reference,
    haar_inverse_reference,
    inverse_launch,
)
from bdflow_rt.models.layers import haar as module
from tests.support import photo
from tests.support_shim import guarded, needs_shim, run

DTYPES = [np.float16, np.float32]
SHAPES = [(1, 1, 2, 2), (2, 3, 2, 6), (1, 3, 34, 22), (3, 5, 6, 16), (2, 1, 46, 64), (1, 12, 58, 8), (1, 2, 62, 74)]


def random(shape, dtype, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def run_forward(x, seed=0):
    out = guarded(check_forward(x)[0].shape, x.dtype)
    run(forward_launch(x, out.array), kernels=KERNELS, seed=seed)
    out.check()
    return out.array


def run_inverse(bands, seed=0):
    out = guarded(check_inverse(bands)[0].shape, bands.dtype)
    run(inverse_launch(bands, out.array), kernels=KERNELS, seed=seed)
    out.check()
    return out.array


@needs_shim
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_kernels_equal_their_twins(shape, dtype):
    x = guarded(shape, dtype, random(shape, dtype)).array
    bands = run_forward(x)
    np.testing.assert_array_equal(bands, haar_forward_reference(x))
    bands = guarded(bands.shape, dtype, bands).array
    np.testing.assert_array_equal(run_inverse(bands), haar_inverse_reference(bands))


@needs_shim
@pytest.mark.parametrize("dtype", DTYPES)
def test_views_with_strides_and_odd_addresses_equal_their_twins(dtype):
    wide = random((2, 6, 40, 48), dtype)
    views = {
        "every other column": wide[..., ::2],
        "from the second column": wide[..., 1:33],
        "rows upside down": wide[:, :, ::-1],
        "columns mirrored": wide[..., ::-1],
        "every other channel": wide[:, ::2],
        "channels last": np.moveaxis(np.ascontiguousarray(np.moveaxis(wide, 1, 3)), 3, 1),
        "broadcast": np.broadcast_to(wide[:1, :1], wide.shape),
    }
    views["channels last"] = views["channels last"][:, :4]
    for name, view in views.items():
        np.testing.assert_array_equal(run_forward(view), haar_forward_reference(view), name)
        if view.shape[1] % 4 == 0:
            np.testing.assert_array_equal(run_inverse(view), haar_inverse_reference(view), name)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("width", [6, 16])
def test_vector_accesses_are_chosen_only_where_every_one_is_aligned(dtype, width):
    cells = {np.float16: 4, np.float32: 2}[dtype]
    x = guarded((2, 3, 4, 2 * width), dtype).array
    out = guarded(check_forward(x)[0].shape, dtype).array
    vector = f", {cells}>" if width % cells == 0 else ", 1>"
    assert forward_launch(x, out).kernel.expression.endswith(vector)
    shifted = guarded((2, 3, 4, 2 * width + 2), dtype).array[..., 2:]
    assert forward_launch(shifted, out).kernel.expression.endswith(", 1>")


@needs_shim
@pytest.mark.parametrize("rows", [1, 3, 14])
def test_more_planes_than_a_grid_has_blocks(rows):
    """Blocks go on to the next plane; a smaller grid stands for the limit that 65536 planes would meet."""
    many = np.broadcast_to(np.float16(0), (257, 256, 2, 2))
    assert forward_launch(many, np.empty(0, np.float16)).grid == (1, 65535, 1)
    x = random((2, 7, 6, 10), np.float16)
    bands, restored = np.empty(check_forward(x)[0].shape, x.dtype), np.empty_like(x)
    for plan in (forward_launch(x, bands), inverse_launch(bands, restored)):
        run(dataclasses.replace(plan, grid=(plan.grid[0], rows, 1)), kernels=KERNELS)
    np.testing.assert_array_equal(bands, haar_forward_reference(x))
    np.testing.assert_array_equal(restored, haar_inverse_reference(bands))


@pytest.mark.parametrize("shape", SHAPES)
def test_float32_is_the_networks_module_bit_for_bit(shape):
    x = random(shape, np.float32, seed=1)
    bands = module.haar_forward(torch.from_numpy(x)).numpy()
    np.testing.assert_array_equal(haar_forward_reference(x), bands)
    np.testing.assert_array_equal(haar_inverse_reference(bands), module.haar_inverse(torch.from_numpy(bands)).numpy())


@pytest.mark.parametrize("shape", SHAPES)
def test_float16_is_the_networks_module_in_float32_rounded_once(shape):
    x = random(shape, np.float16, seed=2)
    exact = module.haar_forward(torch.from_numpy(x).float())
    bands = haar_forward_reference(x)
    np.testing.assert_array_equal(bands, exact.half().numpy())
    # The module in half precision rounds every partial sum: one unit in the last place of the largest of them.
    partial = module.haar_forward(torch.from_numpy(np.abs(x)).float()).numpy().max(axis=1, keepdims=True) * 4
    halves = module.haar_forward(torch.from_numpy(x)).numpy().astype(np.float32)
    assert (np.abs(halves - bands) <= np.spacing(partial.astype(np.float16)).astype(np.float32)).all()


@needs_shim
def test_round_trip_of_8_bit_pixels_is_exact_in_float32():
    x = photo(62, 94, seed=3).transpose(2, 0, 1)[None].astype(np.float32)
    np.testing.assert_array_equal(run_inverse(run_forward(x)), x)
    normalised = x / np.float32(255)
    restored = run_inverse(run_forward(normalised))
    np.testing.assert_array_equal(np.rint(restored * 255), x)
    assert np.abs(restored - normalised).max() <= np.spacing(np.float32(1))


@pytest.mark.parametrize("function", [haar_forward, haar_inverse])
def test_numpy_in_numpy_out_into_the_callers_array(function):
    x = random((1, 4, 4, 6), np.float16)
    result = function(x)
    out = np.empty_like(result)
    assert function(x, out=out) is out
    np.testing.assert_array_equal(out, result)
    for wrong, error in [
        (np.empty((1, 4, 4, 7), np.float16), ShapeError),
        (np.empty(result.shape, np.float32), DTypeError),
        (np.empty((*result.shape, 2), np.float16)[..., 0], LayoutError),
    ]:
        with pytest.raises(error, match="out"):
            function(x, out=wrong)


def test_output_over_input_is_refused():
    memory = np.zeros(2 * 96, np.float32)
    x = memory[:96].reshape(1, 4, 4, 6)
    haar_forward(x, out=memory[96:].reshape(1, 16, 2, 3))
    with pytest.raises(OverlapError, match="share memory"):
        haar_forward(x, out=memory[95:-1].reshape(1, 16, 2, 3))


@pytest.mark.parametrize("function", [haar_forward, haar_inverse])
def test_wrong_arrays_are_refused(function):
    with pytest.raises(ShapeError, match=r"\(4, 4, 4\)"):
        function(np.zeros((4, 4, 4), np.float32))
    with pytest.raises(EmptyImageError):
        function(np.zeros((1, 4, 0, 4), np.float32))
    with pytest.raises(DTypeError, match="float64"):
        function(np.zeros((1, 4, 4, 4)))
    with pytest.raises(ArrayTooLargeError, match="Split"):
        function(np.broadcast_to(np.float16(0), (1, 4, 2**15, 2**15)))
    with pytest.raises(ArgumentError, match="stream"):
        function(np.zeros((1, 4, 4, 4), np.float32), stream=0)


def test_odd_sizes_and_channels_that_are_no_bands_are_refused():
    for shape in [(1, 3, 5, 4), (1, 3, 4, 5)]:
        with pytest.raises(ShapeError, match="even"):
            haar_forward(np.zeros(shape, np.float32))
    with pytest.raises(ShapeError, match="four bands"):
        haar_inverse(np.zeros((1, 6, 4, 4), np.float32))
