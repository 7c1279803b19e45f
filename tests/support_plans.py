"""A real TensorRT-RTX plan, built once per test process from a tiny random model; needs no GPU."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

import pytest

from bdflow_rt.engines.cache_entry import EngineKey
from bdflow_rt.engines.select import is_installed

needs_rtx = pytest.mark.skipif(not is_installed("tensorrt-rtx"), reason="tensorrt-rtx is not installed")


@functools.cache
def real_plan() -> tuple[EngineKey, bytes]:
    """The key and bytes of an x2 core engine."""
    from bdflow_rt.export.profiles import parse_profile
    from bdflow_rt.export.tensorrt import EngineBuild
    from tests.support_models import make_model, tiny_config

    with tempfile.TemporaryDirectory() as folder:
        card = make_model(Path(folder), tiny_config(2, hidden=4))
        build = EngineBuild.prepare(card, "downscale", flavour="tensorrt-rtx", profile=parse_profile("64x64"))
        return build.key, build.run().plan
