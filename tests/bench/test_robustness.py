"""Bytes beside quality of trials trained with and without a codec."""

from __future__ import annotations

import dataclasses
import json
import math
import pathlib
import sys
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bdflow_rt.bench import robustness
from bdflow_rt.bench.robustness import Curve, at_bytes
from bdflow_rt.bench.search import read_trials, run_folder
from bdflow_rt.containers.image import read_picture
from bdflow_rt.errors import ArgumentError, CheckpointError
from bdflow_rt.evaluate.codecs import JPEG, decode, through
from bdflow_rt.metrics import bicubic_downscale, psnr_y
from bdflow_rt.picture import Picture
from bdflow_rt.rescaler import Rescaler
from bdflow_rt.training.data import PicturePool
from bdflow_rt.training.publish import publish
from bdflow_rt.training.trainer import CHECKPOINT_FILE, Trainer
from tests.bench.test_search import TRIALS
from tests.support import photo
from tests.training.small import write_pictures

LOSSY = TRIALS.partition("[[trial]]")[0] + (
    '[[trial]]\nname = "clean"\ngroup = "clean"\n'
    '[[trial]]\nname = "lossy"\ngroup = "straight-through"\nchange = { codec = "jpeg" }\n'
)


def _at(**points: float) -> Curve:
    return {index: {"bytes": float(size[1:]), "psnr_y": value} for index, (size, value) in enumerate(points.items())}


def test_equal_bytes_are_interpolated_in_their_logarithm_and_never_beyond_the_curve() -> None:
    curve = _at(b400=34.0, b100=30.0)
    assert at_bytes(curve, 200) == pytest.approx(32)
    assert at_bytes(curve, 100) == pytest.approx(30)
    assert at_bytes(curve, 99) is None
    assert at_bytes(curve, 160, besides=40) == pytest.approx(at_bytes(_at(b360=34.0, b60=30.0), 160))
    assert at_bytes(curve, 401) is None


def _run(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, trials: str) -> dict[str, Any]:
    (tmp_path / "trials.toml").write_text(trials)
    folder = tmp_path / "set"
    folder.mkdir(exist_ok=True)
    Image.fromarray(photo(64, 81, 1)).save(folder / "colour.png")
    Image.fromarray(photo(63, 70, 2)[:, :, 0]).save(folder / "grey.png")
    words = [tmp_path / "trials.toml", "--runs", tmp_path / "runs", "--folder", folder, "--output", tmp_path / "o.json"]
    monkeypatch.setattr(sys, "argv", ["robustness", *map(str, words)])
    robustness.main()
    result: dict[str, Any] = json.loads((tmp_path / "o.json").read_text())
    return result


def test_every_figure_is_that_of_the_files(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "trials.toml").write_text(LOSSY)
    trials = read_trials(tmp_path / "trials.toml")
    pool = PicturePool([write_pictures(tmp_path / "pictures", count=1)], cache=tmp_path / "cache")
    for trial in trials:
        Trainer(trial.config, pool, run_folder(trial, tmp_path / "runs"), say=lambda line: None).train()
    result = _run(tmp_path, monkeypatch, LOSSY)

    rows = result["trials"]
    assert [row["name"] for row in rows] == ["clean", "lossy"]
    checkpoint = run_folder(trials[1], tmp_path / "runs") / CHECKPOINT_FILE
    card = publish(checkpoint, tmp_path / "model", name="m", version=1)
    expected = []
    names = ("colour.png", "grey.png")
    pictures = [read_picture(tmp_path / "set" / name) for name in names]
    with Rescaler(card, backend="torch") as rescaler:
        for picture in pictures:
            grey = picture.colour == "grey"
            packet = rescaler.downscale(picture.pixels[:, :, 0] if grey else picture.pixels)
            data = JPEG.encode(Picture(packet.lr), 50)
            restored = rescaler.upscale(dataclasses.replace(packet, lr=decode(data)), force=True)
            pair = (one[:, :, 0] if grey else one for one in (restored, picture.pixels))
            expected.append(psnr_y(*pair, border=2))
    assert rows[1]["jpeg"]["50"]["psnr_y"] == pytest.approx(np.mean(expected))
    bicubic = sum(len(JPEG.encode(Picture(bicubic_downscale(one.pixels, scale=2)), 75)) for one in pictures)
    assert result["equal_bytes"] == bicubic / 2
    for row in (*rows, *result["rivals"].values()):
        sizes = [row["jpeg"][quality]["bytes"] for quality in row["jpeg"]]
        assert sizes == sorted(sizes)
        value = row["psnr_y_at_equal_bytes"]
        assert value is None or math.isfinite(value)


def test_a_trial_that_was_not_trained_is_named(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CheckpointError, match="clean"):
        _run(tmp_path, monkeypatch, LOSSY)


def test_trials_of_several_scales_are_refused(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    change = "change = { model = { scale = 4, blocks = [1, 1], hidden = [4, 4] } }\n"
    with pytest.raises(ArgumentError, match=r"scales \[2, 4\]"):
        _run(tmp_path, monkeypatch, LOSSY.replace("change = { codec", change + "# ").replace('# = "jpeg" }', ""))


def test_the_codec_leaves_the_boundary_map_exact() -> None:
    from bdflow_rt.packet import Packet, PacketHeader

    lr, boundary = photo(20, 24, 1), (photo(20, 24, 2)[:, :, 0] > 128).astype(np.uint8)
    header = PacketHeader(
        model="m@1", identity=b"12345678", scale=2, width=48, height=40, bits=1, lr_crc32=Packet.crc32_of(lr)
    )
    lossy, size = through(Packet(lr, boundary, header), JPEG, 40)
    np.testing.assert_array_equal(lossy.boundary, boundary)
    assert 0 < np.abs(lossy.lr.astype(int) - lr).mean() < 30
    assert 100 < size < lr.size
