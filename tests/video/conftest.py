"""Clips that PyAV writes, for all tests of video."""

from __future__ import annotations

import pytest

from tests.video.clips import Clips


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Clips:
    """`clips["vp9"]` is the path and the facts of that clip; never to be written to."""
    return Clips(tmp_path_factory.mktemp("clips"))
