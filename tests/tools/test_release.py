"""Releasing a model: a card with measured figures, and never twice."""

from __future__ import annotations

import pathlib
from typing import Any

import cv2
import numpy as np
import pytest

from bdflow_rt.errors import BdflowError, UnwritableOutputError
from bdflow_rt.export.onnx import export_model
from bdflow_rt.models.bdflow import BDFlow
from bdflow_rt.models.io import save_model
from bdflow_rt.training.checkpoint import load_checkpoint, save_checkpoint
from bdflow_rt.training.config import TrainConfig
from bdflow_rt.training.publish import publish
from bdflow_rt.training.runlog import RunLog
from bdflow_rt.training.trainer import CHECKPOINT_FILE, LOG_FILE
from bdflow_rt.zoo.weights import read_index
from tests.support import photo
from tests.support_models import HAS_BF16, CoreWithoutBf16, make_model, random_model, tiny_config
from tools.release import learning_curve, main, measure, release


@pytest.fixture
def run(tmp_path: pathlib.Path) -> pathlib.Path:
    """The folder of a run of a tiny network."""
    config = TrainConfig(model=tiny_config(2), crop=16, start_from="zoo/bdflow-x2@1")
    weights = random_model(config.model, seed=3).state_dict()
    state = {
        "config": config.to_dict(),
        "step": 7,
        "elapsed_s": 60.0,
        "pixels_seen": 5,
        "setbacks": 0,
        "averaged": weights,
    }
    state |= {"data": {"sources": ["a.tar"], "pictures": 1}, "validation": None}
    (tmp_path / "run").mkdir()
    save_checkpoint(tmp_path / "run" / CHECKPOINT_FILE, state)
    return tmp_path / "run"


def test_a_released_model_is_measured_and_never_written_again(run: pathlib.Path, tmp_path: pathlib.Path) -> None:
    pictures = tmp_path / "Set"
    pictures.mkdir()
    cv2.imwrite(str(pictures / "one.png"), photo(64, 80, 1))
    zoo = tmp_path / "zoo"
    options: dict[str, Any] = {"name": "tiny", "folders": [pictures], "note": "none", "zoo": zoo}
    card, (result,) = release(run, version=1, **options)
    assert (result["folder"], result["model"]) == ("Set", "tiny@1")
    assert card.folder == zoo / "tiny@1"
    card.check_weights()
    card.check_graph("upscale")
    assert card.details["iterations"] == 7
    assert card.details["metrics"]["Set"]["psnr_y"] == pytest.approx(result["means"]["psnr_y"], abs=1e-4)
    assert result["means"]["psnr_y"] > 15
    assert ("bf16" in card.precisions) == HAS_BF16
    before = {path.name: path.read_bytes() for path in card.folder.iterdir()}
    with pytest.raises(UnwritableOutputError, match="next version"):
        release(run, version=1, **options)
    assert {path.name: path.read_bytes() for path in card.folder.iterdir()} == before
    assert release(run, version=2, **options)[0].id == "tiny@2"
    assert sorted(path.name for path in zoo.iterdir()) == ["tiny@1", "tiny@2"]
    assert measure(card, [pictures])[0][0]["means"] == result["means"]


@pytest.mark.usefixtures("narrow_int8")
def test_a_model_released_in_int8_is_measured_as_it_is_stored(run: pathlib.Path, tmp_path: pathlib.Path) -> None:
    pictures = tmp_path / "Set"
    pictures.mkdir()
    cv2.imwrite(str(pictures / "one.png"), photo(64, 80, 1))
    options: dict[str, Any] = {"version": 1, "folders": [pictures], "note": "none", "zoo": tmp_path / "zoo"}
    whole, small = (release(run, name=one, storage=one, **options)[0] for one in ("float16", "int8"))
    assert "I8" in {tensor.dtype for tensor in read_index(small.weights_path).values()}
    assert small.weights_path.stat().st_size < 0.75 * whole.weights_path.stat().st_size
    means = measure(small, [pictures])[0][0]["means"]
    assert small.details["metrics"]["Set"]["psnr_y"] == pytest.approx(means["psnr_y"], abs=1e-4)
    found, wanted = (card.details["metrics"]["Set"]["psnr_y"] for card in (small, whole))
    assert found != wanted
    assert found == pytest.approx(wanted, abs=0.5)


def test_the_learning_curve_has_every_validation_that_led_to_the_weights(run: pathlib.Path) -> None:
    log = RunLog(run / LOG_FILE)
    for event, step, psnr in [("start", 0, 0.0), ("validation", 5, 30.5), ("validation", 9, 99.0), ("start", 5, 0.0),
                              ("step", 6, 1.0), ("validation", 7, 31.5)]:  # fmt: skip
        log.add({"event": event, "step": step, "elapsed_s": 10.0 * step, "psnr_y": psnr, "lr_psnr": 40.0})
    once = learning_curve([run])
    assert [(point["step"], point["psnr_y"]) for point in once["validations"]] == [(5, 30.5), (7, 31.5)]
    assert once["started_from"] == "bdflow-x2@1"
    twice = learning_curve([run, run])["validations"]
    assert [(point["step"], point["elapsed_s"]) for point in twice] == [(5, 50), (7, 70), (12, 110), (14, 130)]


def test_the_learning_curve_names_the_version_a_run_started_from_and_counts_what_followed_its_last_validation(
    run: pathlib.Path,
) -> None:
    RunLog(run / LOG_FILE).add({"event": "validation", "step": 4, "elapsed_s": 30.0, "psnr_y": 30.0, "lr_psnr": 40.0})
    state = load_checkpoint(run / CHECKPOINT_FILE)
    save_checkpoint(run / CHECKPOINT_FILE, {**state, "started_from": "bdflow-x2@9"})
    card = publish(run / CHECKPOINT_FILE, run / "model", name="tiny", version=1)
    curve = learning_curve([run, run])
    assert [(point["step"], point["elapsed_s"]) for point in curve["validations"]] == [(4, 30), (11, 90)]
    assert curve["started_from"] == card.details["training"]["start_from"] == "bdflow-x2@9"


def test_a_model_that_cannot_be_moved_into_place_leaves_nothing(
    run: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures, zoo = tmp_path / "Set", tmp_path / "zoo"
    pictures.mkdir()
    cv2.imwrite(str(pictures / "one.png"), photo(64, 80, 1))

    def measure_slowly(*args: Any) -> object:
        (zoo / "tiny@1").mkdir()
        (zoo / "tiny@1" / "model.json").write_text("another release was faster")
        return measure(*args)

    monkeypatch.setattr("tools.release.measure", measure_slowly)
    with pytest.raises(UnwritableOutputError, match="choose the next version"):
        release(run, name="tiny", version=1, folders=[pictures], note="none", zoo=zoo)
    assert [path.name for path in zoo.rglob("*")] == ["tiny@1", "model.json"]
    assert (zoo / "tiny@1" / "model.json").read_text() == "another release was faster"


def test_the_model_is_moved_into_place_in_one_step(
    run: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures, zoo = tmp_path / "Set", tmp_path / "zoo"
    pictures.mkdir()
    cv2.imwrite(str(pictures / "one.png"), photo(64, 80, 1))
    inodes: list[int] = []

    def measure_and_look(*args: Any) -> object:
        (weights,) = zoo.rglob("weights.safetensors")
        inodes.append(weights.stat().st_ino)
        return measure(*args)

    monkeypatch.setattr("tools.release.measure", measure_and_look)
    card, _ = release(run, name="tiny", version=1, folders=[pictures], note="none", zoo=zoo)
    assert inodes == [card.weights_path.stat().st_ino]


def test_a_processor_without_bfloat16_leaves_its_loss_unmeasured(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bdflow_rt.engines.openvino.process_core", CoreWithoutBf16)
    card = make_model(tmp_path / "zoo", tiny_config(2))
    (tmp_path / "Set").mkdir()
    cv2.imwrite(str(tmp_path / "Set" / "one.png"), photo(64, 80, 1))
    (result,), loss_db = measure(card, [tmp_path / "Set"])
    assert loss_db is None
    assert result["means"]["psnr_y"] > 15


def test_a_perfect_score_is_null_in_the_card(tmp_path: pathlib.Path) -> None:
    # A new network is the Haar pyramid, to which black is black in both directions and in either precision.
    model = BDFlow(tiny_config(2, bits=0)).eval()
    card = export_model(save_model(model, tmp_path / "black", name="black", version=1, details={}))
    (tmp_path / "Set").mkdir()
    cv2.imwrite(str(tmp_path / "Set" / "flat.png"), np.zeros((32, 32, 3), np.uint8))
    (result,), loss_db = measure(card, [tmp_path / "Set"])
    assert (result["means"]["psnr_y"], result["means"]["lr_psnr"], result["means"]["ssim_y"]) == (None, None, 1)
    assert loss_db == (0.0 if HAS_BF16 else None)


@pytest.mark.parametrize("missing", ["log of the run", "checkpoint of the earlier run"])
def test_a_run_whose_curve_cannot_be_read_is_not_released(
    run: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    (tmp_path / "earlier").mkdir()
    RunLog(tmp_path / "earlier" / LOG_FILE).add({"event": "start", "step": 0})
    if missing == "log of the run":
        save_checkpoint(tmp_path / "earlier" / CHECKPOINT_FILE, load_checkpoint(run / CHECKPOINT_FILE))
    else:
        RunLog(run / LOG_FILE).add({"event": "start", "step": 0})
    released: list[object] = []
    monkeypatch.setattr("tools.release.release", lambda *args, **options: released.append(args))
    words = [
        run,
        "--earlier",
        tmp_path / "earlier",
        "--name",
        "tiny",
        "--version",
        1,
        "--evaluate",
        "Set",
        "--note",
        "x",
    ]
    monkeypatch.setattr("sys.argv", ["release", *map(str, words)])
    with pytest.raises(BdflowError, match=LOG_FILE if missing == "log of the run" else "no checkpoint"):
        main()
    assert released == []
