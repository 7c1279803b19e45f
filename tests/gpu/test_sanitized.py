"""A few small launches of every kernel, for compute-sanitizer: `make gpu-sanitize`; seconds without it."""

from __future__ import annotations

import pytest

from tests.gpu.support import assert_results, cases, on_gpu


@pytest.mark.parametrize("size", [(1, 1, 1), (2, 17, 31), (1, 64, 96), (1, 67, 130)], ids=str)
def test_every_kernel_stays_inside_its_arrays_and_writes_all_of_its_output(size: tuple[int, int, int]) -> None:
    for case in cases(*size):
        assert_results(case, case(*(on_gpu(array) for array in case.inputs)))
