"""What of the kernel benchmark runs without a GPU: its cases and their bytes, the refusal."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bdflow_rt.bench.kernels import cases, pictures
from bdflow_rt.errors import CudaUnavailableError
from bdflow_rt.interop import require_cuda

BYTES_PER_PIXEL = {
    "haar_forward float16": 12,
    "haar_forward float32": 24,
    "haar_inverse float16": 12,
    "haar_inverse float32": 24,
    "ingest": 9,
    "egress": 9,
    "ingest_nv12": 7.5,
    "egress_nv12": 7.5,
    "boundary_mask 1 bit": 4,
    "boundary_mask 3 bits": 4,
    "boundary_mask 1 bit, 4 x 4 cells": 3 + 1 / 16,
    "boundary_mask 1 bit, planar float16": 7,
    "sparse_magnitude": 7,
    "pack_bits 3 bits": 1 + 3 / 8,
    "unpack_bits 3 bits": 1 + 3 / 8,
}


def test_every_case_runs_and_moves_the_bytes_that_the_page_states() -> None:
    n, height, width = 2, 32, 48
    found = {}
    for case in cases(n, height, width):
        outputs = case.run(case.inputs)
        found[case.name] = sum(array.nbytes for array in (*case.inputs, *outputs)) / (n * height * width)
        again = tuple(np.ones(array.shape, array.dtype) for array in outputs)
        assert all(one is other for one, other in zip(case.run(case.inputs, again), again, strict=True))
        assert all(np.array_equal(one, other) for one, other in zip(outputs, again, strict=True))
    assert found == BYTES_PER_PIXEL


def test_pictures_differ_and_have_edges() -> None:
    from bdflow_rt import kernels

    first, second = pictures(2, 270, 480)
    assert (first != second).any()
    assert 0.01 < kernels.boundary_mask(first).mean() < 0.3


def test_without_a_gpu_the_benchmark_is_refused_in_one_line(tmp_path: Path) -> None:
    try:
        require_cuda()
    except CudaUnavailableError:
        pass
    else:
        pytest.skip("there is a GPU")
    done = subprocess.run(
        [sys.executable, "-m", "bdflow_rt.bench.kernels", "--quick", "--output", str(tmp_path / "x.json")],
        cwd=tmp_path, env=dict(os.environ), capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == CudaUnavailableError.exit_code
    assert done.stderr.startswith("kernels: ")
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "x.json").exists()
