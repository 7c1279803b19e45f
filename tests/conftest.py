"""Set-up of the whole test run."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.video.clips import Clips

# One thread per test process: several pools would only fight over the cores. Read when torch is first imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_configure(config: pytest.Config) -> None:
    """Keep what tests compile and measure out of the user's cache: a folder for the run, which its processes share.

    And take Ctrl-C, which tests send: a shell has what it starts in the background ignore it, children included.
    """
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if "BDFLOW_CACHE" not in os.environ:
        folder = tempfile.mkdtemp(prefix="bdflow-tests-")
        os.environ["BDFLOW_CACHE"] = folder
        config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))


@pytest.fixture(scope="session")
def tiny_zoo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for BDFLOW_ZOO with random models of a few thousand parameters; never to be written to.

    The default model, which has 1 bit and outranks any that ships; `tiny-x2@1` with 2 bits; `plain@1` with 0.
    """
    from tests.support_models import make_model, tiny_config

    folder = tmp_path_factory.mktemp("tiny-zoo")
    make_model(folder, tiny_config(4), name="bdflow-x4", version=99)
    make_model(folder, tiny_config(2, bits=2, coupling="additive"), name="tiny-x2")
    make_model(folder, tiny_config(4, bits=0), name="plain")
    return folder


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Clips:
    """`clips["vp9"]` is the path and the facts of that clip; never to be written to."""
    from tests.video.clips import Clips

    return Clips(tmp_path_factory.mktemp("clips"))


@pytest.fixture
def zoo(tiny_zoo: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Tiny models, in BDFLOW_ZOO of this process."""
    monkeypatch.setenv("BDFLOW_ZOO", str(tiny_zoo))
    return tiny_zoo


@pytest.fixture
def narrow_int8(monkeypatch: pytest.MonkeyPatch) -> None:
    """Models are stored in int8 to the last kernel: those of the small networks of tests would all stay float16."""
    monkeypatch.setattr("bdflow_rt.models.io.LEAST_AVERAGED", 1)
