"""The engine benchmark builds real engines, of models of the paper's size."""

from __future__ import annotations

from pathlib import Path

import pytest

from bdflow_rt.bench.engines import measure, paper_model
from bdflow_rt.engines.backends import BACKENDS
from bdflow_rt.export.profiles import parse_profile
from bdflow_rt.models.io import load_model
from tests.support_models import make_model, tiny_config


@pytest.mark.skipif(not BACKENDS["tensorrt-rtx"].is_installed, reason="tensorrt-rtx is not installed")
def test_a_measured_engine_is_described_by_its_own_numbers(tmp_path: Path) -> None:
    card = make_model(tmp_path, tiny_config(4))
    result = measure(card, "upscale", "public", parse_profile("64x64"))
    assert (result["scale"], result["direction"], result["kind"]) == (4, "upscale", "public")
    assert 0 < result["median_s"] <= result["max_s"]
    assert result["weights_bytes"] == card.weights_path.stat().st_size
    assert result["precision"]["learned_convolutions"] == 24
    assert result["network_layers"] == sum(sum(types.values()) for types in result["precision"]["layers"].values())


def test_a_model_of_the_papers_size_has_its_parameters_and_none_that_are_all_zero(tmp_path: Path) -> None:
    card = paper_model(tmp_path, 8)
    assert card.config.parameters() == 3_156_228
    weights = [parameter for parameter in load_model(card).parameters() if parameter.ndim > 1]
    assert all(parameter.count_nonzero() for parameter in weights)
