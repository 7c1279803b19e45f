"""The models that ship: whole, unaltered, documented, and as good as the release promises."""

from __future__ import annotations

import pathlib

import numpy as np
import onnx
import pytest

from bdflow_rt.containers.image import read_picture
from bdflow_rt.errors import BdflowError
from bdflow_rt.evaluate.pictures import list_pictures
from bdflow_rt.evaluate.quality import evaluate
from bdflow_rt.metrics import psnr_y
from bdflow_rt.packet import Packet
from bdflow_rt.rescaler import Rescaler
from bdflow_rt.zoo import ModelCard, find_model, paper_config
from bdflow_rt.zoo.arch.bdflow import BDFlowConfig
from bdflow_rt.zoo.interface import LR_BOUND
from bdflow_rt.zoo.registry import SHIPPED
from tests.support import data_dir, needs_data, photo, slow_but

NAMES = sorted(path.name for path in SHIPPED.iterdir() if path.is_dir())
CARDS = [ModelCard.read(SHIPPED / name) for name in NAMES]
QUICK = ["bdflow-x2-fast@1", "bdflow-x4@1"]
"""What takes a second and more is tried every time with these: one level and two, a small and the default model."""
PROMISED = {
    "bdflow-x2@1": (44.1, 40.2, 38.0),
    "bdflow-x2-hq@1": (44.5, 40.6, 38.0),
    "bdflow-x2-fast@1": (44.1, 40.2, 38.0),
    "bdflow-x4@1": (35.6, 31.6, 36.0),
    "bdflow-x4-hq@1": (36.1, 32.0, 36.0),
    "bdflow-x4-fast@1": (35.2, 31.2, 36.0),
    "bdflow-x8@1": (29.1, 26.5, 34.0),
    "bdflow-x8-fast@1": (29.5, 26.8, 35.0),
    "bdflow-x16@1": (24.7, 23.2, 31.0),
}
"""PSNR-Y on Set5 and Set14, and LR PSNR to bicubic, in dB."""


def pictures(name: str) -> list[pathlib.Path]:
    folder = data_dir()
    assert folder is not None
    return list_pictures(folder / "test" / name)


def test_the_promised_models_ship_one_version_each_within_32_mb() -> None:
    assert set(PROMISED) == set(NAMES)
    assert len({card.name for card in CARDS}) == len(NAMES)
    assert sum(card.weights_path.stat().st_size for card in CARDS) <= 32_000_000


@pytest.mark.parametrize("card", CARDS, ids=NAMES)
def test_files_are_those_of_the_card(card: ModelCard) -> None:
    assert card.folder.name == card.id
    card.check_weights()
    for direction in ("downscale", "upscale", "upscale_z"):
        model = onnx.load(str(card.check_graph(direction)), load_external_data=False)
        metadata = {entry.key: entry.value for entry in model.metadata_props}
        assert metadata["weights_sha256"] == card.weights_sha256


@pytest.mark.parametrize("card", CARDS, ids=NAMES)
def test_structure_is_the_papers_unless_its_name_says_otherwise(card: ModelCard) -> None:
    config = card.config
    assert isinstance(config, BDFlowConfig)
    paper = paper_config(config.scale, bits=config.bits)
    if card.name == f"bdflow-x{config.scale}":
        assert config == paper
    elif card.name == f"bdflow-x{config.scale}-hq":
        assert config.coupling == paper.coupling
        assert sum(config.blocks) > sum(paper.blocks)
        assert all(more >= blocks for more, blocks in zip(config.blocks, paper.blocks, strict=True))
    else:
        assert card.name == f"bdflow-x{config.scale}-fast"
        limit = 40e9 if config.scale <= 4 else paper.macs(1080, 1920) / 4
        assert config.macs(1080, 1920) <= limit


@pytest.mark.parametrize("card", CARDS, ids=NAMES)
def test_the_card_says_how_it_was_trained(card: ModelCard) -> None:
    for key in ("iterations", "training_minutes", "seed", "validation", "training", "metrics", "note"):
        assert card.details.get(key), key
    assert card.pixels_seen is not None
    assert card.pixels_seen >= card.details["iterations"]
    assert card.precisions
    assert card.training_data
    # Until weights on open data are here, nothing that ships is more than a preview.
    assert (card.status, card.commercial, card.licence) == ("preview", "no", "CC-BY-NC-4.0")


@pytest.mark.parametrize("name", slow_but(QUICK, NAMES))
def test_no_lr_pixel_is_further_from_the_mean_of_its_hr_pixels_than_is_promised(name: str) -> None:
    """On what networks overshoot on: noise, and a grid of saturated lines over a photograph."""
    card = ModelCard.read(SHIPPED / name)
    scale = card.interface.scale
    noise = np.random.default_rng(5).integers(0, 2, (8 * scale, 12 * scale, 3), np.uint8) * 255
    grid = photo(8 * scale, 12 * scale, 3)
    grid[::4] = grid[:, ::4] = (255, 0, 255)
    cut = 0
    with Rescaler(card) as rescaler:
        for hr in (noise, grid):
            packet = rescaler.downscale(hr)
            assert isinstance(packet, Packet)
            mean = hr.reshape(8, scale, 12, scale, 3).mean(axis=(1, 3))
            distance = np.abs(packet.lr - mean)
            # Half a level of rounding, and what sums in float32 leave.
            assert distance.max() <= LR_BOUND + 0.51
            cut += int((distance > LR_BOUND - 1).sum())
    assert cut  # else this shows nothing


@needs_data
@pytest.mark.parametrize("name", slow_but(QUICK, NAMES))
def test_openvino_equals_torch_on_photographs_and_packets_cross_over(name: str) -> None:
    card = ModelCard.read(SHIPPED / name)
    differing = values = 0
    with Rescaler(card, backend="openvino") as fast, Rescaler(card, backend="torch") as reference:
        for path in pictures("Set5")[1:3]:  # the smaller ones: PyTorch takes its time
            hr = read_picture(path).pixels
            ours, theirs = fast.downscale(hr), reference.downscale(hr)
            assert isinstance(ours, Packet)
            assert isinstance(theirs, Packet)
            restored = {"same": fast.upscale(theirs), "torch": reference.upscale(theirs), "own": fast.upscale(ours)}
            pairs = [(ours.lr, theirs.lr), (restored["same"], restored["torch"])]
            for one, other in pairs:
                difference = np.abs(np.asarray(one, np.int16) - np.asarray(other, np.int16))
                assert difference.max() <= 1
                differing += int(np.count_nonzero(difference))
                values += difference.size
            quality = {
                name: psnr_y(np.asarray(image), hr, border=card.interface.scale) for name, image in restored.items()
            }
            assert abs(quality["same"] - quality["torch"]) < 0.02
            assert abs(quality["own"] - quality["torch"]) < 0.02
    assert differing < 1e-3 * values


@needs_data
@pytest.mark.parametrize("name", slow_but(QUICK, NAMES))
def test_quality_through_files_on_set5(name: str) -> None:
    check_quality(name, "Set5", PROMISED[name][0])


@needs_data
@pytest.mark.slow
@pytest.mark.parametrize("name", PROMISED)
def test_quality_through_files_on_set14(name: str) -> None:
    check_quality(name, "Set14", PROMISED[name][1])


def check_quality(name: str, dataset: str, least_db: float) -> None:
    with Rescaler.from_pretrained(name) as rescaler:
        result = evaluate(rescaler, pictures(dataset))
    assert result["means"]["psnr_y"] >= least_db
    assert result["means"]["lr_psnr"] >= PROMISED[name][2]
    for picture in result["pictures"]:
        assert picture["chunk_bytes"] <= picture["chunk_limit_bytes"]


def test_a_model_that_does_not_ship_is_named_as_unknown() -> None:
    with pytest.raises(BdflowError, match="bdflow-x64"):
        find_model("bdflow-x64")
