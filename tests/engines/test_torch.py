"""The torch engine: what it checks before it reads."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from bdflow_rt.engines.torch import TorchEngine
from bdflow_rt.errors import CorruptModelError, WeightsHashError
from tests.support_models import make_model, tiny_config


def test_altered_weights_are_refused_before_they_are_read(tmp_path: Path) -> None:
    card = make_model(tmp_path, tiny_config(2))
    content = bytearray(card.weights_path.read_bytes())
    content[-1] ^= 1
    card.weights_path.write_bytes(content)
    with pytest.raises(WeightsHashError):
        TorchEngine(card, "upscale")


def test_weights_of_another_configuration_are_refused(tmp_path: Path) -> None:
    card = make_model(tmp_path, tiny_config(2))
    with pytest.raises(CorruptModelError, match="do not fit its configuration"):
        TorchEngine(dataclasses.replace(card, config=tiny_config(2, hidden=16)), "upscale")
