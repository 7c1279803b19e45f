"""A tiny model, and a stand-in machine that TensorRT would run it on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bdflow_rt import Rescaler
from bdflow_rt.engines import select
from bdflow_rt.engines.backends import BackendInfo
from bdflow_rt.engines.cache import EngineCache
from bdflow_rt.zoo import Direction, ModelCard
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


@pytest.fixture
def rescaler(stand: Stand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Rescaler:
    """On the stand-in machine; its engines take one to three pictures from 8 x 8 to 128 x 128 pixels."""
    card = make_model(tmp_path, tiny_config(2))
    monkeypatch.setattr(BackendInfo, "is_installed", property(lambda info: True))

    def open_engine(selection: Any, card: ModelCard, direction: Direction, **options: Any) -> Any:
        on_stand = selection.backend == "tensorrt"
        return stand.engine(card, direction) if on_stand else select.open_engine(selection, card, direction, **options)

    monkeypatch.setattr("bdflow_rt.runtime.runner.open_engine", open_engine)
    return Rescaler(card, backend="tensorrt")
