"""The table of all models and their pages show what was measured of the weights that ship, and nothing else."""

from __future__ import annotations

import json
import pathlib
from typing import Any

import pytest

from bdflow_rt.zoo import ModelCard
from tests.zoo.build import make_model
from tools import measured, plots, report_models
from tools.measured import ROOT, shipped_cards


@pytest.fixture
def card(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> ModelCard:
    """The only model that ships, without results."""
    monkeypatch.setattr(measured, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(measured, "SHIPPED", tmp_path / "zoo")
    make_model(tmp_path / "zoo", "m-fast", 1, weights=b"weights")
    return ModelCard.read(tmp_path / "zoo" / "m-fast@1")


def _write(name: str, **content: Any) -> None:
    path = measured.RESULTS / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def _latency(card: ModelCard, size: list[int], ms: float) -> dict[str, Any]:
    timed = {way: {"median_ms": ms * factor} for way, factor in (("downscale", 1), ("upscale", 2))}
    result = {"model": card.id, "weights_sha256": card.weights_sha256, "size": size, "cpu": "c", "cores": 2}
    return {**result, "engines": {"openvino": timed}}


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split(" | ")]


def _row() -> list[str]:
    (line,) = report_models.which_table()[2:]
    return _cells(line)


def test_what_was_not_measured_is_a_dash(card: ModelCard) -> None:
    name, use, *figures = _row()
    assert (name, use) == ("`m-fast`", "speed")
    assert figures[:3] == ["-"] * 3
    assert figures[4:6] == ["-"] * 2
    page = report_models.model_page(card)
    assert page.count("Not measured yet.") == 2


def test_figures_are_of_the_very_weights(card: ModelCard) -> None:
    for digest, psnr_y in ((card.weights_sha256, 30.126), ("0" * 64, 99.0)):
        content = {"model": card.id, "weights_sha256": digest, "folder": "Set14", "means": {"psnr_y": psnr_y}}
        _write(f"quality/m-{digest[:4]}.json", **content)
    assert _row()[2:5] == ["30.13 dB", "-", "-"]


def test_milliseconds_of_a_1080p_picture_are_never_those_of_another_size(card: ModelCard) -> None:
    _write("latency/a-512x512.json", **_latency(card, [512, 512], 1.0))
    assert _row()[6] == "-"
    _write("latency/b-1920x1080.json", **_latency(card, [1920, 1080], 7.25))
    assert _row()[6] == "7.2 / 14 ms"
    _write("latency/b-1920x1080.json", **{**_latency(card, [1920, 1080], 7.25), "weights_sha256": "0" * 64})
    assert _row()[6] == "-"


def test_a_gpu_is_shown_where_the_model_was_measured_on_one(card: ModelCard) -> None:
    def rows(median_us: float) -> list[dict[str, Any]]:
        return [
            {"size": "1080p", "batch": batch, "way": way, "direction": direction, "median_us": us, "wall_us": us,
             "frames_per_s": 1.0, "fraction_of_arithmetic": 0.1}
            for batch, way, us in ((1, "cuda_graph", median_us), (1, "eager", 1.0), (8, "cuda_graph", 1.0))
            for direction in ("downscale", "upscale")
        ]  # fmt: skip

    _write("gpu/latency.json", gpu={"name": "G"}, model="other@1", rows=rows(9000))
    assert _row()[7] == "-"
    _write("gpu/latency.json", gpu={"name": "G"}, model=card.id, rows=rows(6250))
    assert _row()[7] == "6.2 / 6.2 ms"
    assert "| G | 1080p | 1 | upscale | float16, CUDA graph | 6.25 ms |" in report_models.model_page(card)


@pytest.mark.parametrize("card", shipped_cards(), ids=lambda card: card.id)
def test_the_page_of_a_model_has_its_terms_and_its_measures(card: ModelCard) -> None:
    page = report_models.model_page(card)
    assert f"# {card.name}\n" in page
    assert f"`{card.packet_identity.hex()}`" in page
    assert card.licence in page
    for data in card.training_data:
        assert f"| {data.name} | {data.licence} |" in page
    for name in ("Set5", "Set14", "BSD100", "fine structure"):
        assert f"| {name} | **" in page
    assert page.count("\n## ") == 5


def test_every_model_has_a_row_and_a_line_of_terms() -> None:
    names = {f"`{card.name}`" for card in shipped_cards()}
    rows = [_cells(line) for line in report_models.which_table()]
    assert {row[0] for row in rows[2:]} == names
    assert {len(row) for row in (rows[0], *rows[2:])} == {9}
    assert all(name in "".join(report_models.terms()) for name in names)


def test_every_model_of_a_scale_is_one_point_of_the_chart() -> None:
    drawn = [str(line.get_label()) for axes in plots.models().axes for line in axes.lines if line.get_marker() == "o"]
    assert sorted(drawn) == sorted(card.name for card in shipped_cards() if card.interface.scale in (2, 4))
    assert (ROOT / "docs" / "images" / "models.svg").is_file()
