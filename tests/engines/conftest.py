"""A tiny model, and a stand-in machine that TensorRT would run it on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bdflow_rt.engines.cache import EngineCache
from bdflow_rt.zoo import ModelCard
from tests.engines.stand import Stand
from tests.engines.standin import StandInLibrary
from tests.engines.standin_gpu import StandInDevice
from tests.support_models import make_model, tiny_config


@pytest.fixture(scope="module")
def card(tmp_path_factory: pytest.TempPathFactory) -> ModelCard:
    return make_model(tmp_path_factory.mktemp("zoo"), tiny_config(4))


@pytest.fixture
def stand(tmp_path: Path) -> Iterator[Stand]:
    device = StandInDevice()
    library = StandInLibrary(device)
    yield Stand(device, library, EngineCache(tmp_path))
    assert library.violations == []
