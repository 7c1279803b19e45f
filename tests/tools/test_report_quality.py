"""The tables about quality show the weights that ship, and never set them beside the wrong row."""

from __future__ import annotations

import json
import pathlib
import shutil
from types import SimpleNamespace
from typing import Any

import pytest

from bdflow_rt.zoo import ModelCard
from tests.zoo.build import make_model
from tools import measured, report_quality


@pytest.fixture
def results(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """An empty folder of results, and models whose scale is in their name."""
    monkeypatch.setattr(measured, "RESULTS", tmp_path)
    monkeypatch.setattr(measured, "SHIPPED", tmp_path / "zoo")
    monkeypatch.setattr(report_quality, "find_model", _model)
    (tmp_path / "quality").mkdir()
    (tmp_path / "refined").mkdir()
    return tmp_path


def _model(name: str) -> SimpleNamespace:
    return SimpleNamespace(
        interface=SimpleNamespace(scale=int(name.partition("@")[0].partition("-x")[2].partition("-")[0]))
    )


def _write(
    results: pathlib.Path, model: str, folder: str = "Set5", *, kind: str = "quality", refine: int = 0, **means: Any
) -> None:
    """A result of a model that ships, under whatever name it was measured."""
    name, _, version = model.partition("@")
    if not (results / "zoo" / model).exists():
        make_model(results / "zoo", name, int(version), weights=model.encode())
    digest = ModelCard.read(results / "zoo" / model).weights_sha256
    content = {"model": "measured@1", "weights_sha256": digest, "folder": folder, "refine": refine, "means": means}
    (results / kind / f"{model}-{folder}-{refine}.json").write_text(json.dumps(content))


def test_results_of_the_weights_that_ship_are_shown_by_scale_and_set(results: pathlib.Path) -> None:
    for model in ("m-x4@2", "m-x16@1", "gone-x4@9"):
        for folder in ("Set14", "Set5"):
            _write(results, model, folder)
    shutil.rmtree(results / "zoo" / "gone-x4@9")
    _write(results, "m-x4@2", "BSD100")
    path = results / "quality" / "m-x4@2-BSD100-0.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "through": "jpeg:75"}))
    shown = [(one["model"], one["folder"]) for one in measured.shipped_quality()]
    assert shown == [("m-x4@2", "Set5"), ("m-x4@2", "Set14"), ("m-x16@1", "Set5"), ("m-x16@1", "Set14")]


def test_the_gap_is_of_models_for_quality_to_their_scales_target(results: pathlib.Path) -> None:
    for model, folder, quality in (
        ("bdflow-x4@10", "Set5", 35.19),
        ("bdflow-x4-hq@1", "Set5", 36.19),
        ("bdflow-x4-fast@3", "Set5", 30.0),
        ("bdflow-x8@1", "Set5", 30.0),
        ("bdflow-x4@10", "Faces", 40.0),
    ):
        _write(results, model, folder, psnr_y=quality, lr_psnr=37.0, lr_max_difference=12)
    assert report_quality.gap_table()[2:] == [
        "| bdflow-x4@10 | Set5 | 35.19 dB | 36.19 dB | -1.00 dB | -1.78 dB | 37.00 dB | 12 |",
        "| bdflow-x4-hq@1 | Set5 | 36.19 dB | 36.19 dB | +0.00 dB | -0.78 dB | 37.00 dB | 12 |",
    ]


def test_missing_measures_are_dashes_and_old_results_are_left_out(results: pathlib.Path) -> None:
    _write(results, "old@1", psnr_y=1.0)
    _write(results, "new@1", psnr_rgb=30.0, ssim_rgb=0.9, lpips=None, lr_ssim=0.99)
    assert report_quality.perception_table()[2:] == ["| new@1 | Set5 | 30.00 dB | 0.9000 | - | 0.9900 | -, - | -, - |"]


def test_faces_stand_beside_the_published_rows_of_their_scale_alone(results: pathlib.Path) -> None:
    means: dict[str, Any] = {"psnr_rgb": 33.0, "ssim_rgb": 0.8, "psnr_y": 35.0, "ssim_y": 0.9, "lpips": 0.1}
    bicubic: dict[str, Any] = {"bicubic_psnr_y": 30.0, "bicubic_ssim_y": 0.7}
    _write(results, "m-x16@1", "Faces", **means, **bicubic)
    _write(results, "m-x16@1", "Set14", **means, **bicubic)
    _write(results, "n-x16@1", "Faces", **{**means, "psnr_y": 36.0}, **bicubic)
    assert report_quality.faces_table()[2:] == [
        "| m-x16@1, RGB | x16 | no | 33.00 dB | 0.8000 | 0.1000 |",
        "| m-x16@1, luma | x16 | no | 35.00 dB | 0.9000 | 0.1000 |",
        "| n-x16@1, RGB | x16 | no | 33.00 dB | 0.8000 | 0.1000 |",
        "| n-x16@1, luma | x16 | no | 36.00 dB | 0.9000 | 0.1000 |",
        "| bicubic, luma | x16 | no | 30.00 dB | 0.7000 | - |",
        "| BDFlow, as published | x16 | yes | 31.97 dB | 0.8219 | 0.2476 |",
    ]


def test_refined_pictures_stand_beside_the_same_weights_unrefined(results: pathlib.Path) -> None:
    before: dict[str, Any] = {
        "psnr_y": 36.0,
        "lpips": 0.08,
        "lr_psnr": 38.0,
        "lr_max_difference": 20,
    }
    for model in ("bdflow-x4@1", "bdflow-x4@2", "bdflow-x8@1"):
        _write(results, model, **before)
    for model, steps, quality in (
        ("bdflow-x4@1", 10, 36.3),
        ("bdflow-x4@2", 20, 36.69),
        ("bdflow-x4@2", 5, 36.19),
        ("bdflow-x8@1", 20, 36.5),
        ("bdflow-x9@1", 20, 36.5),  # never measured without
    ):
        means: dict[str, Any] = {"psnr_y": quality, "lpips": None, "lr_psnr": 38.25, "lr_max_difference": 21}
        _write(results, model, kind="refined", refine=steps, **means)
    rest = "0.0800, - | 38.00, 38.25 dB | 20, 21 |"
    assert report_quality.refined_table()[2:] == [
        f"| bdflow-x4@1 | Set5 | 10 | **36.30** dB | +0.30 dB | +0.11 dB | -0.67 dB | {rest}",
        f"| bdflow-x4@2 | Set5 | 5 | **36.19** dB | +0.19 dB | +0.00 dB | -0.78 dB | {rest}",
        f"| bdflow-x4@2 | Set5 | 20 | **36.69** dB | +0.69 dB | +0.50 dB | -0.28 dB | {rest}",
        f"| bdflow-x8@1 | Set5 | 20 | **36.50** dB | +0.50 dB | - | - | {rest}",
    ]
