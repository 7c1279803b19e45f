"""Everything in this folder needs CuPy and an NVIDIA GPU, and is skipped with the reason where one is missing.

Environment:
    BDFLOW_TEST_POOL: "off" makes every array of CuPy an allocation of its own, so that compute-sanitizer sees an access
        one byte outside.
"""

from __future__ import annotations

import os

import pytest

from bdflow_rt.errors import CudaUnavailableError
from bdflow_rt.interop import require_cuda


@pytest.fixture(scope="session", autouse=True)
def _gpu() -> None:
    try:
        require_cuda()
    except CudaUnavailableError as error:
        reason, _, _ = str(error).partition(" (")
        pytest.skip(f"needs an NVIDIA GPU: {reason}")
    if os.environ.get("BDFLOW_TEST_POOL") == "off":
        import cupy

        cupy.cuda.set_allocator(None)
