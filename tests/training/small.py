"""Training in seconds: a few pictures, a tiny network, and processes of their own for what must not share one."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

import cv2
import torch

from bdflow_rt.training.checkpoint import load_checkpoint
from bdflow_rt.training.config import TrainConfig
from bdflow_rt.training.data import PicturePool
from bdflow_rt.training.losses import LossWeights
from bdflow_rt.training.trainer import Trainer
from bdflow_rt.zoo.arch.bdflow import BDFlowConfig
from tests.support import ROOT, photo

MODEL = BDFlowConfig(scale=2, blocks=(1,), hidden=(8,))
LOSS = LossWeights(lr=2, reconstruction=1, lpips=0, boundary=0, latent=0)


def small_config(**changes: Any) -> TrainConfig:
    """x2, one block, crops of 16, no worker processes."""
    settings: dict[str, Any] = {
        "model": MODEL, "loss": LOSS, "crop": 16, "batch": 4, "iterations": 12, "learning_rate": 1e-3, "warmup": 2,
        "workers": 0, "checkpoint_every": 4, "validate_every": 1000, "log_every": 1, "baw_after": 0.5, "ema": 0.9,
    }  # fmt: skip
    return TrainConfig(**{**settings, **changes})


def write_pictures(folder: pathlib.Path, *, count: int = 3) -> pathlib.Path:
    """Photographs of prime and even sizes as PNG; returns the folder."""
    folder.mkdir(parents=True)
    for index in range(count):
        cv2.imwrite(str(folder / f"{index}.png"), photo(53 + 10 * index, 67, index)[:, :, ::-1])
    return folder


def trainer(tmp: pathlib.Path, config: TrainConfig, run: str, **options: Any) -> Trainer:
    """A silent trainer on the pictures of TMP/pictures, in TMP/RUN."""
    if not (tmp / "pictures").exists():
        write_pictures(tmp / "pictures")
    pool = PicturePool([tmp / "pictures"], cache=tmp / "cache")
    say: Callable[[str], None] = options.pop("say", lambda line: None)
    return Trainer(config, pool, tmp / run, say=say, **options)


def assert_same_run(first: pathlib.Path, second: pathlib.Path) -> None:
    """Two checkpoints hold the same weights, averages and optimiser, bit for bit."""
    one, two = load_checkpoint(first), load_checkpoint(second)
    assert one["step"] == two["step"]
    for part in ("model", "averaged"):
        assert list(one[part]) == list(two[part])
        for name, value in one[part].items():
            assert torch.equal(value, two[part][name]), f"{part} {name}"
    for kind, part in one["optimizer"].items():
        for index, state in part["state"].items():
            for name, value in state.items():
                assert torch.equal(value, two["optimizer"][kind]["state"][index][name]), f"{kind} {index} {name}"


def run_python(
    arguments: Sequence[str], *, cwd: pathlib.Path | None = None, timeout_s: float = 120, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run this Python with one thread, the checkout importable, and both outputs captured."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env=child_environment(**environment),
        capture_output=True,
        text=True,
        timeout=timeout_s,
    )


def child_environment(**changes: str) -> dict[str, str]:
    """The environment of `run_python`."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), **changes}
