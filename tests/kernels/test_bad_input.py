"""What no kernel function takes, on the CPU: typed errors that name the argument. GPU arrays have tests/gpu."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from bdflow_rt import kernels
from bdflow_rt.errors import ArgumentError, DeviceMismatchError, LayoutError, OverlapError
from bdflow_rt.kernels.boundary_launch import check_pixels

FRAMES = np.zeros((1, 8, 16, 3), np.uint8)
PLANES = np.zeros((1, 12, 4, 8), np.float16)
LEVELS = np.zeros((1, 8, 16), np.uint8)
CALLS: dict[str, tuple[Callable[..., Any], tuple[np.ndarray, ...], dict[str, Any]]] = {
    "haar_forward": (kernels.haar_forward, (PLANES,), {}),
    "haar_inverse": (kernels.haar_inverse, (PLANES,), {}),
    "ingest": (kernels.ingest, (FRAMES,), {"multiple": 2}),
    "ingest_nv12": (kernels.ingest_nv12, (LEVELS, np.zeros((1, 4, 8, 2), np.uint8)), {"multiple": 2}),
    "egress": (kernels.egress, (PLANES,), {"height": 8, "width": 16}),
    "egress_nv12": (kernels.egress_nv12, (PLANES,), {"height": 8, "width": 16}),
    "boundary_mask": (kernels.boundary_mask, (FRAMES,), {"threshold": 50, "bits": 2, "saturation": 255, "cell": 2}),
    "sparse_magnitude": (kernels.sparse_magnitude, (FRAMES,), {"threshold": 50}),
    "pack_bits": (kernels.pack_bits, (LEVELS,), {"bits": 2}),
    "unpack_bits": (kernels.unpack_bits, (np.zeros((1, 32), np.uint8),), {"bits": 2, "height": 8, "width": 16}),
}
every_call = pytest.mark.parametrize("name", CALLS)
OPTIONS = [(name, option) for name, (_, _, options) in CALLS.items() for option in options]


@every_call
@pytest.mark.parametrize("value", [None, 3, "x", [1, 2], object(), b"x"])
def test_what_is_no_array_is_refused(name: str, value: Any) -> None:
    function, inputs, options = CALLS[name]
    with pytest.raises(ArgumentError, match="must be a NumPy array"):
        function(value, *inputs[1:], **options)


@every_call
def test_tensors_without_memory_are_refused(name: str) -> None:
    function, inputs, options = CALLS[name]
    with pytest.raises(DeviceMismatchError, match="not on a CUDA GPU"):
        function(torch.zeros(inputs[0].shape, device="meta"), *inputs[1:], **options)


@every_call
def test_masked_arrays_are_refused(name: str) -> None:
    function, inputs, options = CALLS[name]
    with pytest.raises(LayoutError, match="is masked"):
        function(np.ma.masked_array(inputs[0]), *inputs[1:], **options)


@pytest.mark.parametrize(("name", "option"), OPTIONS)
@pytest.mark.parametrize("value", ["2", 2.0, True, [2], (), np.array([2, 2]), 1j], ids=repr)
def test_options_that_are_no_whole_numbers_are_refused(name: str, option: str, value: Any) -> None:
    function, inputs, options = CALLS[name]
    with pytest.raises(ArgumentError, match=f"{option} is"):
        function(*inputs, **{**options, option: value})


@pytest.mark.parametrize(("name", "option"), OPTIONS)
def test_numpys_integers_are_whole_numbers(name: str, option: str) -> None:
    function, inputs, options = CALLS[name]
    result, expected = (function(*inputs, **{**options, option: kind(options[option])}) for kind in (np.uint8, int))
    np.testing.assert_array_equal(*(pair[0] if isinstance(pair, tuple) else pair for pair in (result, expected)))


@pytest.mark.parametrize("norm", [2.0, True, "2", None, 0])
def test_norms_are_1_or_2(norm: Any) -> None:
    for function in (kernels.boundary_mask, kernels.sparse_magnitude):
        with pytest.raises(ArgumentError, match="norm is"):
            function(FRAMES, norm=norm)


@every_call
def test_read_only_outputs_are_refused(name: str) -> None:
    function, inputs, options = CALLS[name]
    result = function(*inputs, **options)
    outs = [np.array(one) for one in (result if isinstance(result, tuple) else (result,))]
    outs[-1].flags.writeable = False
    with pytest.raises(LayoutError, match="read-only"):
        function(*inputs, **options, out=tuple(outs) if isinstance(result, tuple) else outs[0])


def test_outputs_that_overlap_themselves_are_refused() -> None:
    memory = np.zeros(2048, np.uint8)
    for strides in [(0, 0, 3, 1), (384, 40, 3, 1), (100, 48, 3, 1)]:
        out = np.lib.stride_tricks.as_strided(memory, (2, 8, 16, 3), strides)
        with pytest.raises(LayoutError, match="elements share memory"):
            kernels.egress(np.zeros((2, 12, 4, 8), np.float16), out=out)


def test_luma_and_chroma_of_one_surface_do_not_overlap() -> None:
    """A decoder's batch: every picture's chroma follows its luma, so their ranges of memory interleave."""
    surface = np.zeros((3, 12, 32), np.uint8)
    luma, chroma = surface[:, :8, :16], surface[:, 8:, :16].reshape(3, 4, 8, 2)
    chroma = np.lib.stride_tricks.as_strided(surface[:, 8:], (3, 4, 8, 2), (12 * 32, 32, 2, 1))
    planes = np.random.default_rng(0).normal(0.3, 0.1, (3, 12, 4, 8)).astype(np.float16)
    kernels.egress_nv12(planes, out=(luma, chroma))
    expected = kernels.egress_nv12(planes)
    np.testing.assert_array_equal(luma, expected[0])
    np.testing.assert_array_equal(chroma, expected[1])
    with pytest.raises(OverlapError, match="chroma and luma"):
        kernels.egress_nv12(planes, out=(luma, np.lib.stride_tricks.as_strided(luma, chroma.shape, chroma.strides)))


@pytest.mark.parametrize("out", [np.zeros(3), (LEVELS,), (LEVELS,) * 3, [LEVELS] * 2, 5])
def test_nv12_outputs_are_a_pair(out: Any) -> None:
    with pytest.raises(ArgumentError, match="pair of arrays"):
        kernels.egress_nv12(PLANES, out=out)


def test_half_precision_pixels_at_odd_addresses_are_refused() -> None:
    memory = np.zeros(8 * 16 * 3 * 2 + 1, np.uint8)
    pixels = memory[1:].view(np.float16).reshape(1, 8, 16, 3)
    with pytest.raises(LayoutError, match="multiples of its 2 bytes"):
        kernels.boundary_mask(pixels, layout="HWC")
    with pytest.raises(LayoutError):
        check_pixels(pixels)
