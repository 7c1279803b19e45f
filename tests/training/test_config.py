"""Training configurations: shipped ones, TOML, and every wrong value named."""

from __future__ import annotations

import json
import pathlib
from typing import Any

import pytest
import torch

from bdflow_rt.errors import TrainingConfigError
from bdflow_rt.models.network import build_network
from bdflow_rt.training.config import MAX_SEED, TrainConfig, shipped_configs
from bdflow_rt.training.losses import LossWeights
from bdflow_rt.training.step import TrainStep
from bdflow_rt.zoo.arch.bdflow import paper_config
from bdflow_rt.zoo.interface import SCALES
from tests.training.small import small_config, trainer


def test_every_paper_preset_ships_with_the_papers_losses_and_schedule() -> None:
    for scale in SCALES:
        config = TrainConfig.find(f"paper-x{scale}")
        assert config.model == paper_config(scale)
        assert config.loss == LossWeights(lr=2, reconstruction=2, lpips=1, boundary=16, latent=4, baw=True)
        assert (config.learning_rate, config.final_learning_rate, config.baw_after) == (2e-4, 1e-6, 0.3)


@pytest.mark.parametrize("name", shipped_configs())
def test_shipped_configurations_come_back_from_json(name: str) -> None:
    config = TrainConfig.find(name)
    assert TrainConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_the_shipped_configurations_are_these() -> None:
    assert set(shipped_configs()) == {f"paper-x{scale}" for scale in SCALES} | {
        "fast-x2",
        "fast-x4",
        "fast-x8",
        "hq-x2",
        "hq-x4",
        "psnr-x2",
        "psnr-x4",
        "psnr-x8",
        "psnr-x16",
        "robust-x2",
    }


def test_a_file_goes_before_a_shipped_name(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    pathlib.Path("psnr-x4").write_text("seed = 99")
    assert TrainConfig.find("psnr-x4").seed == 99


def test_an_unknown_name_lists_the_shipped_ones() -> None:
    with pytest.raises(TrainingConfigError, match=r"paper-x16, .*psnr-x4"):
        TrainConfig.find("psnr-x3")


def test_lpips_weights_belong_to_the_losses(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text('[loss]\nlpips = 1\nlpips_weights = "alex.npz"')
    config = TrainConfig.find(str(path))
    assert config.lpips_weights == "alex.npz"
    assert config.to_dict()["loss"]["lpips_weights"] == "alex.npz"
    assert TrainConfig.from_dict(config.to_dict()) == config


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"crop": 95}, "crop is 95"), ({"crop": 0}, "crop is 0"), ({"crop": "96"}, "crop is '96'"),
        ({"crop": 96.0}, "crop is 96.0"), ({"batch": 0}, "batch is 0"), ({"batch": True}, "batch is True"),
        ({"iterations": 0}, "iterations is 0"), ({"workers": -1}, "workers is -1"), ({"seed": -1}, "seed is -1"),
        ({"warmup": -1}, "warmup is -1"), ({"log_every": 0}, "log_every is 0"), ({"ema": 1.0}, "ema is 1.0"),
        ({"ema": float("nan")}, "ema is nan"), ({"clip": 0}, "clip 0"), ({"clip": "much"}, "clip is 'much'"),
        ({"learning_rate": 0}, "learning_rate is 0"), ({"learning_rate": 1e-9}, "final_learning_rate 1e-06"),
        ({"learning_rate": float("inf")}, "learning_rate is inf"), ({"precision": "fp16"}, "precision is 'fp16'"),
        ({"checkpoint_gradients": 1}, "checkpoint_gradients is 1"), ({"lpips_weights": 3}, "'lpips_weights'"),
        ({"learning_rat": 1}, "'learning_rat'"), ({"model": {"scale": 3}}, "scale is 3"), ({"model": 4}, "model is 4"),
        ({"model": {"depth": 3}}, "'depth'"), ({"loss": {"l1": 3}}, "'l1'"), ({"loss": []}, "loss is []"),
        ({"loss": {"lr": -1}}, "lr is -1"), ({"loss": {"lr": "2"}}, "lr is '2'"),
        ({"loss": {"lpips_weights": 3}}, "lpips_weights is 3"), ({"loss": {"lr": True}}, "lr is True"),
        ({"loss": {"baw": 2}}, "loss.baw is 2"), ({"loss": {"baw": "no"}}, "loss.baw is 'no'"),
        ({"baw_after": 30}, "baw_after is 30"), ({"baw_after": -0.1}, "baw_after is -0.1"),
        ({"seed": 2**64}, f"seed is {2**64}"), ({"workers": 100_000}, "workers is 100000"),
        ({"learning_rate": 1e300}, "learning_rate is 1e+300"), ({"batch": 10**8}, "batch is 100000000"),
        ({"crop": 10**6}, "crop 1000000"),
    ],
)  # fmt: skip
def test_impossible_values_raise_and_are_named(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(TrainingConfigError) as caught:
        TrainConfig.from_dict(changes)
    assert named in str(caught.value)


@pytest.mark.parametrize("text", [b"crop = ", b"\xff", b"crop = 1\ncrop = 2"])
def test_a_file_that_is_no_toml_raises(tmp_path: pathlib.Path, text: bytes) -> None:
    (tmp_path / "a.toml").write_bytes(text)
    with pytest.raises(TrainingConfigError, match=r"a\.toml cannot be read"):
        TrainConfig.find(str(tmp_path / "a.toml"))


def test_the_learning_rate_warms_up_and_falls_as_a_cosine() -> None:
    config = TrainConfig(learning_rate=1.0, final_learning_rate=0.5, warmup=3)
    assert [config.rate(step=step, progress=0) for step in range(5)] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert config.rate(step=99, progress=0.5) == pytest.approx(0.75)
    assert config.rate(step=99, progress=1) == 0.5


def test_edges_weigh_more_from_a_share_of_the_run_on_or_never() -> None:
    config = TrainConfig(baw_after=0.3)
    assert [config.baw_active(progress) for progress in (0, 0.29, 0.3, 1)] == [False, False, True, True]
    assert not TrainConfig(baw_after=1).baw_active(1)


@pytest.mark.parametrize(
    ("minutes", "step", "elapsed_s", "progress"), [(None, 50, 1e9, 0.25), (2, 10**9, 30, 0.25), (2, 0, 500, 1)]
)
def test_progress_goes_by_steps_or_by_minutes(
    tmp_path: pathlib.Path, minutes: float | None, step: int, elapsed_s: float, progress: float
) -> None:
    run = trainer(tmp_path, small_config(iterations=200), "run", minutes=minutes)
    run.step, run.elapsed_s = step, elapsed_s
    assert run.progress == progress


def test_the_largest_seed_seeds_the_network_and_z(tmp_path: pathlib.Path) -> None:
    config = small_config(seed=MAX_SEED, temperature=0.5, iterations=1)
    trainer(tmp_path, config, "run").train()
    TrainStep(build_network(config.model), config)(torch.zeros(1, 3, 16, 16, dtype=torch.uint8), 0.0, 2**32 - 1)
