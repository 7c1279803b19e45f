"""A JPEG file in the loop: the same pixels as libjpeg's, and two gradients that get past it."""

from __future__ import annotations

import math
import multiprocessing
import pathlib
import time

import cv2
import numpy as np
import pytest
import torch

from bdflow_rt.errors import TrainingConfigError, TrainingError
from bdflow_rt.evaluate.codecs import JPEG, JPEG_444, decode
from bdflow_rt.models.bdflow import BDFlow
from bdflow_rt.picture import Picture
from bdflow_rt.training import step as step_module
from bdflow_rt.training.boundary import boundary_target
from bdflow_rt.training.codec import LossyLr, differentiable_jpeg, straight_through_jpeg
from bdflow_rt.training.jpeg import Jpeg, JpegWorkers
from bdflow_rt.training.losses import LossWeights
from bdflow_rt.training.step import TrainStep
from bdflow_rt.training.validate import validate
from bdflow_rt.zoo.arch.bdflow import BDFlowConfig
from bdflow_rt.zoo.boundary import BoundaryConfig
from tests.support import photo, slow
from tests.training.small import assert_same_run, run_python, small_config, trainer

QUALITIES = (1, 30, 40, 50, 75, 90, 95, 100)


def _batch(*pictures: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 255


def _pictures(height: int, width: int) -> torch.Tensor:
    """A photograph, noise, flat saturated colour and a gradient."""
    noise = np.random.default_rng(3).integers(0, 256, (height, width, 3), dtype=np.uint8)
    flat = np.full((height, width, 3), (255, 0, 60), np.uint8)
    gradient = np.broadcast_to(np.linspace(0, 255, width)[None, :, None], (height, width, 3)).astype(np.uint8)
    return _batch(photo(height, width, 1), noise, flat, gradient)


@pytest.mark.parametrize("quality", QUALITIES)
def test_the_tables_are_those_of_annex_k_scaled_by_the_quality(quality: int) -> None:
    luma, chroma = Jpeg(quality).tables()
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    for table, first, last in ((luma, 16, 99), (chroma, 17, 99)):
        for found, step in ((table[0], first), (table[-1], last)):
            assert found == min(max((step * scale + 50) // 100, 1), 255)


@pytest.mark.parametrize("size", [(48, 48), (16, 16), (37, 53), (8, 9), (1, 1), (7, 64)])
@pytest.mark.parametrize("halved", [True, False])
@pytest.mark.parametrize("quality", QUALITIES)
def test_the_differentiable_jpeg_is_within_two_levels_of_libjpeg(
    quality: int, halved: bool, size: tuple[int, int]
) -> None:
    batch, settings = _pictures(*size), Jpeg(quality, halved)
    difference = 255 * (differentiable_jpeg(batch, settings) - straight_through_jpeg(batch, settings)).abs()
    assert difference.mean(dim=(1, 2, 3)).max() < 2
    # Their integer DCTs differ by a rounding, which may tip a coefficient over, never many of them.
    assert (difference > 2).float().mean() < 0.12


@pytest.mark.parametrize("codec", [JPEG, JPEG_444], ids=lambda codec: codec.key)
def test_training_and_evaluation_use_the_same_codec(codec: object) -> None:
    pixels = photo(37, 53, 2)
    coded = decode(codec.encode(Picture(pixels), 62))  # type: ignore[attr-defined]
    np.testing.assert_array_equal(coded, Jpeg(62, halved_chroma=codec is JPEG).apply(pixels[None])[0])


@pytest.mark.parametrize("halved", [True, False])
def test_opencv_writes_the_same_pixels(halved: bool) -> None:
    """Another build of libjpeg."""
    pixels = photo(48, 64, 5)
    sampling = cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420 if halved else cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444
    options = [cv2.IMWRITE_JPEG_QUALITY, 80, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, sampling]
    coded = decode(cv2.imencode(".jpg", pixels[:, :, ::-1], options)[1].tobytes())
    difference = np.abs(coded.astype(int) - Jpeg(80, halved).apply(pixels[None])[0])
    assert difference.mean() < 0.05


def test_the_straight_gradient_passes_as_if_nothing_had_been_done() -> None:
    batch = _pictures(16, 24).requires_grad_()
    weights = torch.rand(batch.shape, generator=torch.Generator().manual_seed(1))
    coded = straight_through_jpeg(batch, Jpeg(50))
    assert not torch.equal(coded, batch)
    (gradient,) = torch.autograd.grad((coded * weights).sum(), batch)
    assert torch.equal(gradient, weights)


@pytest.mark.parametrize(("row", "column", "step"), [(7, 7, 99), (0, 1, 11), (4, 4, 68), (0, 4, 24)])
def test_the_differentiable_gradient_of_a_coefficient_is_that_of_its_soft_rounding(
    row: int, column: int, step: int
) -> None:
    """3 (c/q - round(c/q))^2: next to nothing for what quantisation takes away, the most half way between levels."""
    y, x = torch.meshgrid(torch.arange(8.0), torch.arange(8.0), indexing="ij")
    pattern = torch.cos(math.pi * (2 * y + 1) * row / 16) * torch.cos(math.pi * (2 * x + 1) * column / 16)
    pattern = pattern / pattern.square().sum().sqrt()
    levels = (20 * pattern).round()
    coefficient = float((levels * pattern).sum())
    batch = ((128 + levels) / 255).expand(1, 3, 8, 8).clone().requires_grad_()
    grey = differentiable_jpeg(batch, Jpeg(50, halved_chroma=False)).mean(dim=1)
    (gradient,) = torch.autograd.grad((grey * pattern).sum(), batch)
    kept = float((gradient.sum(dim=1) * pattern).sum())
    position = coefficient / step
    assert kept == pytest.approx(3 * (position - round(position)) ** 2, rel=0.05, abs=0.01)


def test_at_the_highest_quality_both_are_near_the_identity() -> None:
    batch = _batch(photo(32, 40, 7))
    for function in (straight_through_jpeg, differentiable_jpeg):
        assert 255 * (function(batch, Jpeg(100, halved_chroma=False)) - batch).abs().mean() < 0.6


@pytest.mark.parametrize("gradient", ["straight-through", "differentiable"])
def test_settings_are_a_function_of_seed_and_step(gradient: str) -> None:
    def coded(seed: int, step: int) -> torch.Tensor:
        codec = LossyLr(gradient, lowest=40, highest=95, seed=seed, workers=0)  # type: ignore[arg-type]
        return codec(batch, step)

    batch = _batch(photo(32, 40, 7))
    assert torch.equal(coded(1, 5), coded(1, 5))
    assert len({coded(1, step).numpy().tobytes() for step in range(20)}) > 15
    assert not torch.equal(coded(1, 5), coded(2, 5))


def test_quality_and_chroma_are_drawn_from_the_whole_range() -> None:
    random = np.random.default_rng(1)
    drawn = [Jpeg.draw(random, lowest=40, highest=95) for _ in range(3000)]
    assert {settings.quality for settings in drawn} == set(range(40, 96))
    assert abs(np.mean([settings.halved_chroma for settings in drawn]) - 0.5) < 0.05


def test_workers_give_the_same_pixels_and_end() -> None:
    pictures = np.stack([photo(16, 24, seed) for seed in range(5)])
    workers = JpegWorkers(2)
    for _ in range(2):  # a closed one starts again
        np.testing.assert_array_equal(workers.apply(Jpeg(60), pictures), Jpeg(60).apply(pictures))
        workers.close()


def test_a_worker_that_was_ended_is_a_typed_error_and_the_next_batch_is_coded() -> None:
    pictures = np.stack([photo(16, 24, seed) for seed in range(4)])
    workers = JpegWorkers(2)
    workers.apply(Jpeg(60), pictures)
    for child in multiprocessing.active_children():
        child.kill()
        child.join()
    with pytest.raises(TrainingError, match="--resume"):
        workers.apply(Jpeg(60), pictures)
    np.testing.assert_array_equal(workers.apply(Jpeg(60), pictures), Jpeg(60).apply(pictures))
    workers.close()


ORPHANS = """
import multiprocessing, numpy as np, os, signal
from bdflow_rt.training.jpeg import Jpeg, JpegWorkers
JpegWorkers(2).apply(Jpeg(60), np.zeros((2, 8, 8, 3), np.uint8))
print(*(child.pid for child in multiprocessing.active_children()), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_workers_end_when_their_parent_is_killed() -> None:
    done = run_python(["-c", ORPHANS])
    pids = [int(word) for word in done.stdout.split()]
    assert len(pids) == 2, done.stderr
    deadline = time.monotonic() + 30
    while any(pathlib.Path(f"/proc/{pid}").exists() for pid in pids):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_validation_measures_the_lr_as_it_was_sent() -> None:
    torch.manual_seed(1)
    model = BDFlow(BDFlowConfig(scale=2, blocks=(1,), hidden=(8,)))
    pictures = [photo(40, 48, 1)]
    lossless, lossy = (validate(model, pictures, step=1, jpeg=jpeg) for jpeg in (None, Jpeg(30)))
    assert lossy.lr_psnr == lossless.lr_psnr
    assert lossy.psnr_y < lossless.psnr_y
    assert (lossless.through, lossy.through) == (None, "jpeg:30")


def test_the_boundary_s_target_is_that_of_the_lr_as_it_was_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    model = BDFlowConfig(scale=2, blocks=(1,), hidden=(8,), bits=1, boundary=BoundaryConfig(source="lr"))
    seen: list[torch.Tensor] = []

    def spy(crops: torch.Tensor, lr: torch.Tensor, config: BDFlowConfig) -> torch.Tensor:
        seen.append(lr)
        return boundary_target(crops, lr, config)

    monkeypatch.setattr(step_module, "boundary_target", spy)
    crops = torch.from_numpy(np.stack([photo(16, 16, seed) for seed in range(4)])).permute(0, 3, 1, 2)
    for codec in ("none", "jpeg"):
        config = small_config(model=model, loss=LossWeights(lpips=0, boundary=1, latent=0), codec=codec)
        torch.manual_seed(1)
        TrainStep(BDFlow(model), config)(crops, 0.0, 1)
    assert torch.equal(seen[0], seen[1])


def test_bfloat16_does_not_reach_the_codec() -> None:
    batch = _batch(photo(32, 40, 7))
    codec = LossyLr("differentiable", lowest=90, highest=90, seed=1, workers=0)
    with torch.autocast("cpu", torch.bfloat16):
        inside = codec(batch, 3)
    assert torch.equal(inside, codec(batch, 3))


@pytest.mark.parametrize("gradient", ["straight-through", slow("differentiable")])
def test_a_resumed_run_with_a_codec_is_that_of_an_unbroken_one(tmp_path: pathlib.Path, gradient: str) -> None:
    settings = {"codec": "jpeg", "codec_gradient": gradient, "ema": 0.5, "validate_every": 6}
    whole = trainer(tmp_path, small_config(**settings), "whole")
    whole.train()
    clean = trainer(tmp_path, small_config(ema=0.5), "clean")
    clean.train()
    pairs = zip(whole.model.parameters(), clean.model.parameters(), strict=True)
    assert not all(torch.equal(one, other) for one, other in pairs)
    part = trainer(tmp_path, small_config(**settings), "part")
    part.train(stop=lambda: part.step == 5)
    trainer(tmp_path, small_config(**settings, workers=2), "part", resume=True).train()
    assert_same_run(whole.checkpoint, tmp_path / "part" / "checkpoint.pt")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"codec": "webp"}, "codec is 'webp'; it must be 'none' or 'jpeg'"),
        ({"codec_gradient": "none"}, "'straight-through' or 'differentiable'"),
        ({"codec_lowest_quality": 0}, "1 <= lowest <= highest <= 100"),
        ({"codec_lowest_quality": 80, "codec_highest_quality": 70}, "1 <= lowest <= highest <= 100"),
        ({"codec_highest_quality": 101}, "1 <= lowest <= highest <= 100"),
        ({"codec_lowest_quality": 40.0}, "whole number"),
        ({"codec": "jpeg", "execution": "graphed"}, "writes no files"),
    ],
)
def test_codec_settings_that_make_no_sense_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(TrainingConfigError, match=message):
        small_config(**settings)
