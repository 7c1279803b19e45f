"""Releasing a model: a card with measured figures, and never twice."""

from __future__ import annotations

import pathlib

import cv2
import pytest

from bdflow_rt.bench.release import release
from bdflow_rt.errors import UnwritableOutputError
from bdflow_rt.training.checkpoint import save_checkpoint
from bdflow_rt.training.config import TrainConfig
from bdflow_rt.training.trainer import CHECKPOINT_FILE
from tests.support import photo
from tests.support_models import random_model, tiny_config


@pytest.fixture
def run(tmp_path: pathlib.Path) -> pathlib.Path:
    """The folder of a run of a tiny network."""
    config = TrainConfig(model=tiny_config(2), crop=16)
    weights = random_model(config.model, seed=3).state_dict()
    state = {"config": config.to_dict(), "step": 7, "elapsed_s": 60.0, "setbacks": 0, "averaged": weights}
    state |= {"data": {"sources": ["a.tar"], "pictures": 1}, "validation": None}
    (tmp_path / "run").mkdir()
    save_checkpoint(tmp_path / "run" / CHECKPOINT_FILE, state)
    return tmp_path / "run"


def test_a_released_model_is_measured_and_never_written_again(run: pathlib.Path, tmp_path: pathlib.Path) -> None:
    pictures = tmp_path / "Set"
    pictures.mkdir()
    cv2.imwrite(str(pictures / "one.png"), photo(64, 80, 1))
    zoo = tmp_path / "zoo"
    options = {"name": "tiny", "folders": [pictures], "note": "none", "zoo": zoo}
    card = release(run, version=1, **options)
    assert card.folder == zoo / "tiny@1"
    card.check_weights()
    card.check_graph("upscale")
    assert card.details["iterations"] == 7
    assert card.details["metrics"]["Set"]["psnr_y"] > 15
    assert card.bf16_loss_db is not None
    before = {path.name: path.read_bytes() for path in card.folder.iterdir()}
    with pytest.raises(UnwritableOutputError, match="next version"):
        release(run, version=1, **options)
    assert {path.name: path.read_bytes() for path in card.folder.iterdir()} == before
    assert release(run, version=2, **options).id == "tiny@2"
    assert sorted(path.name for path in zoo.iterdir()) == ["tiny@1", "tiny@2"]
