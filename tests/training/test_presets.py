"""Every shipped configuration trains as it stands, and what it writes takes a picture down and up again."""

from __future__ import annotations

import pathlib

import cv2
import numpy as np
import pytest

from bdflow_rt.cli.main import main
from bdflow_rt.containers.image import read_picture, write_picture
from bdflow_rt.containers.png import read_packet
from bdflow_rt.picture import Picture
from bdflow_rt.training.checkpoint import load_checkpoint
from bdflow_rt.training.config import TrainConfig, shipped_configs
from tests.support import data_dir, needs_data, photo

SIDE = 256
"""Of the picture, at least any preset's crop."""


@needs_data
@pytest.mark.slow
@pytest.mark.parametrize("preset", shipped_configs())
def test_preset_trains_and_its_model_rescales(
    preset: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BDFLOW_DATA", str(data_dir()))
    scale = TrainConfig.find(preset).model.interface().scale
    picture = photo(SIDE, SIDE, 1)
    pathlib.Path("pictures").mkdir()
    write_picture("pictures/photo.png", Picture(picture))

    assert main(["train", preset, "--data", "pictures", "--minutes", "0.001", "--threads", "1"]) == 0

    assert load_checkpoint(pathlib.Path(f"runs/{preset}/checkpoint.pt"))["step"] > 0
    model = f"runs/{preset}/model"
    assert main(["export", model]) == 0
    cut = picture[: SIDE - 3, : SIDE - 5]
    write_picture("hr.png", Picture(np.ascontiguousarray(cut)))
    assert main(["downscale", "hr.png", "-o", "lr.png", "--model", model]) == 0
    packet = read_packet("lr.png")
    assert packet.lr.shape[:2] == tuple(-(-side // scale) for side in cut.shape[:2])
    assert main(["upscale", "lr.png", "-o", "back.png", "--model", model]) == 0
    restored = read_picture("back.png").pixels.astype(int)
    assert restored.shape == cut.shape
    blurred = cv2.resize(packet.lr, cut.shape[1::-1], interpolation=cv2.INTER_NEAREST)
    # One step leaves a preset near the Haar pyramid, or at the model it starts from: about enlarged cells, or better.
    assert np.abs(restored - cut).mean() < 1.5 * np.abs(blurred.astype(int) - cut).mean()
