"""Real TensorRT-RTX plans of a tiny random model; they need no GPU to build."""

from __future__ import annotations

import fcntl
import functools
import importlib
import os
import tempfile
from pathlib import Path

import pytest

from bdflow_rt.engines.backends import BACKENDS
from bdflow_rt.engines.cache_entry import EngineKey
from bdflow_rt.files import write_atomically

needs_rtx = pytest.mark.skipif(not BACKENDS["tensorrt-rtx"].is_installed, reason="tensorrt-rtx is not installed")


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


def shared_plan() -> bytes:
    """One plan for all test processes, which differ from build to build; without TensorRT-RTX, bytes that are none."""
    if not BACKENDS["tensorrt-rtx"].is_installed:
        return bytes(range(256)) * 40
    folder = Path(tempfile.gettempdir()) / f"bdflow-plans-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    path = folder / f"tiny-{importlib.import_module('tensorrt_rtx').__version__}.plan"
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            write_atomically(path, real_plan()[1])
        return path.read_bytes()
