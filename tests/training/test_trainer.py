"""The loop: it learns, resumes bit for bit, goes back when it diverges, and keeps only good checkpoints."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import os
import pathlib
import signal
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from bdflow_rt.errors import CheckpointError, DivergedError, TrainingDataError
from bdflow_rt.models.network import build_network
from bdflow_rt.training.checkpoint import load_checkpoint, save_checkpoint
from bdflow_rt.training.data import PicturePool
from bdflow_rt.training.guard import DivergenceGuard
from bdflow_rt.training.publish import publish
from bdflow_rt.training.trainer import MAX_SETBACKS, Trainer
from bdflow_rt.training.validate import read_folder, validate
from bdflow_rt.zoo.arch.bdflow import BDFlowConfig
from tests.support import photo, slow
from tests.training.small import LOSS, assert_same_run, run_python, small_config, trainer, write_pictures


def _stop_after(steps: int, run: Trainer) -> bool:
    return run.step >= steps


def test_a_short_training_is_better_than_the_haar_start_by_two_db(tmp_path: pathlib.Path) -> None:
    config = small_config(crop=32, batch=8, iterations=150, learning_rate=3e-3, warmup=10, log_every=50)
    pictures = read_folder(write_pictures(tmp_path / "pictures"))
    run = trainer(tmp_path, config, "run", validation=pictures)
    start = validate(build_network(config.model), pictures, step=0)
    end = run.train()
    assert end is not None
    assert end.step == 150
    assert end.psnr_y > start.psnr_y + 2
    assert end == validate(run.averaged, pictures, step=150)


@pytest.mark.parametrize(("baw_after", "precision", "bits"), [(0.5, "fp32", 1), (1.0, "bf16", 0)])
def test_a_resumed_run_is_the_unbroken_one_bit_for_bit(
    tmp_path: pathlib.Path, baw_after: float, precision: str, bits: int
) -> None:
    model = BDFlowConfig(scale=2, blocks=(1,), hidden=(8,), bits=bits)
    config = small_config(model=model, baw_after=baw_after, precision=precision)
    trainer(tmp_path, config, "whole").train()
    first = trainer(tmp_path, config, "parts")
    first.train(stop=lambda: _stop_after(5, first))
    assert load_checkpoint(first.checkpoint)["step"] == 5
    second = trainer(tmp_path, small_config(model=model, baw_after=baw_after, precision=precision, workers=2), "parts",
                     resume=True)  # fmt: skip
    second.train()
    assert_same_run(tmp_path / "whole" / "checkpoint.pt", tmp_path / "parts" / "checkpoint.pt")


def test_another_seed_gives_other_weights(tmp_path: pathlib.Path) -> None:
    for seed in (1, 2):
        trainer(tmp_path, small_config(iterations=2, seed=seed), str(seed)).train()
    with pytest.raises(AssertionError):
        assert_same_run(tmp_path / "1" / "checkpoint.pt", tmp_path / "2" / "checkpoint.pt")


def test_gradient_checkpointing_ends_with_the_same_weights(tmp_path: pathlib.Path) -> None:
    for checkpointing in (False, True):
        config = small_config(iterations=3, checkpoint_gradients=checkpointing)
        trainer(tmp_path, config, str(checkpointing)).train()
    assert_same_run(tmp_path / "False" / "checkpoint.pt", tmp_path / "True" / "checkpoint.pt")


KILLED = """
import os, pathlib, signal, sys
from tests.training.small import small_config, trainer
tmp = pathlib.Path(sys.argv[1])
def say(line):
    if line.startswith("step 7 "):
        os.kill(os.getpid(), signal.SIGKILL)
trainer(tmp, small_config(workers=1), "killed", resume=len(sys.argv) > 2, say=say).train()
"""


def test_a_run_killed_in_mid_step_ends_as_the_unbroken_one(tmp_path: pathlib.Path) -> None:
    trainer(tmp_path, small_config(), "whole").train()
    done = run_python(["-c", KILLED, str(tmp_path)])
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert load_checkpoint(tmp_path / "killed" / "checkpoint.pt")["step"] == 4
    trainer(tmp_path, small_config(), "killed", resume=True).train()
    assert_same_run(tmp_path / "whole" / "checkpoint.pt", tmp_path / "killed" / "checkpoint.pt")


def test_an_existing_run_is_not_overwritten(tmp_path: pathlib.Path) -> None:
    trainer(tmp_path, small_config(iterations=1), "run").train()
    with pytest.raises(CheckpointError, match="--resume"):
        trainer(tmp_path, small_config(), "run")


def test_nothing_to_resume_raises(tmp_path: pathlib.Path) -> None:
    with pytest.raises(CheckpointError, match="no checkpoint"):
        trainer(tmp_path, small_config(), "run", resume=True)


def test_a_checkpoint_of_another_network_is_refused(tmp_path: pathlib.Path) -> None:
    trainer(tmp_path, small_config(iterations=1), "run").train()
    with pytest.raises(CheckpointError, match="another network"):
        trainer(tmp_path, small_config(model=BDFlowConfig(scale=2, blocks=(1,), hidden=(9,))), "run", resume=True)


def test_a_checkpoint_that_lacks_something_is_refused(tmp_path: pathlib.Path) -> None:
    run = trainer(tmp_path, small_config(iterations=1), "run")
    run.train()
    whole = {key: value for key, value in load_checkpoint(run.checkpoint).items() if key != "version"}
    for part in ("config", "model", "averaged", "optimizer", "step", "elapsed_s", "setbacks", "pixels_seen"):
        save_checkpoint(run.checkpoint, {key: value for key, value in whole.items() if key != part})
        with pytest.raises(CheckpointError, match="not a checkpoint of such a run"):
            trainer(tmp_path, small_config(), "run", resume=True)


def test_an_absurd_learning_rate_goes_back_and_then_says_so(tmp_path: pathlib.Path) -> None:
    config = small_config(learning_rate=1e4, warmup=0, iterations=1000)
    run = trainer(tmp_path, config, "run")
    with pytest.raises(DivergedError) as caught:
        run.train()
    assert str(run.checkpoint) in str(caught.value)
    assert "learning_rate (10000.0)" in str(caught.value)
    events = [json.loads(line)["event"] for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert events.count("diverged") == MAX_SETBACKS + 1
    start, kept = build_network(config.model), load_checkpoint(run.checkpoint)
    assert kept["step"] == 0
    pictures = read_folder(tmp_path / "pictures")
    haar = validate(start, pictures, step=0).psnr_y
    start.load_state_dict(kept["averaged"])
    assert validate(start, pictures, step=0).psnr_y == pytest.approx(haar)


class Spoiler:
    """Spoils the weights of a run once, after some step, as an unlucky update does."""

    def __init__(self, after: int, value: float) -> None:
        self.run: Trainer | None = None
        self._after, self._value, self._done = after, value, False

    def __call__(self) -> bool:
        if self.run is not None and self.run.step == self._after and not self._done:
            self._done = True
            with torch.no_grad():
                for weights in self.run.model.parameters():
                    weights.add_(self._value)
        return False


@pytest.mark.parametrize(
    ("after", "value"),
    [(4, 0.5), (12, math.nan), *(slow(*one) for one in [(4, math.nan), (8, 0.5), (8, math.nan), (12, 0.5)])],
)
def test_spoilt_weights_are_never_saved_over_good_ones(tmp_path: pathlib.Path, after: int, value: float) -> None:
    """Also where they fall on a step that is saved (4, 8) or on the last one (12)."""
    spoiler = Spoiler(after, value)
    spoiler.run = run = trainer(tmp_path, small_config(), "run")
    run.train(stop=spoiler)
    assert run.step == 12
    assert run.setbacks == 1
    events = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in events if entry["event"] == "start"] == [0, after - 4]
    for weights in load_checkpoint(run.checkpoint)["model"].values():
        assert weights.isfinite().all()
        assert weights.abs().max() < 0.5


def test_a_stop_while_diverging_keeps_the_older_checkpoint(tmp_path: pathlib.Path) -> None:
    said: list[str] = []
    spoiler = Spoiler(6, 0.5)
    spoiler.run = run = trainer(tmp_path, small_config(), "run", say=said.append)
    run.train(stop=lambda: spoiler() or run.step == 6)
    assert load_checkpoint(run.checkpoint)["step"] == 4
    assert "step 6 is not saved" in said[-1]


def test_weights_are_saved_before_their_update_and_after_their_loss_was_read(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nothing is due, the update is queued first."""
    run = trainer(tmp_path, small_config(iterations=6, checkpoint_every=3, baw_after=1.0), "run")
    done: list[str] = []

    def noting(owner: type, name: str) -> None:
        method = getattr(owner, name)

        def call(*args: object) -> object:
            done.append(f"{name.strip('_')} {run.step}")
            return method(*args)

        monkeypatch.setattr(owner, name, call)

    for owner, name in ((Trainer, "_update"), (Trainer, "_save"), (DivergenceGuard, "diverged")):
        noting(owner, name)
    run.train()
    steps = [[f"update {step}", f"diverged {step}"] for step in (0, 1, 2, 4, 5)]
    steps.insert(3, ["diverged 3", "save 3", "update 3"])
    assert done == ["save 0", *itertools.chain.from_iterable(steps), "save 6"]


def test_the_shortest_run_takes_a_step(tmp_path: pathlib.Path) -> None:
    """Measuring the loss of its start takes longer, which does not count."""
    run = trainer(tmp_path, small_config(), "run", minutes=1e-6)
    run.train()
    assert run.step == 1
    assert load_checkpoint(run.checkpoint)["step"] == 1


def test_a_gradient_that_is_not_finite_does_no_harm(tmp_path: pathlib.Path) -> None:
    run = trainer(tmp_path, small_config(iterations=6), "run")
    poisoned: list[int] = []

    def poison(gradient: torch.Tensor) -> torch.Tensor:
        if run.step == 3 and not poisoned:
            poisoned.append(run.step)
            return gradient * math.nan
        return gradient

    next(run.model.parameters()).register_hook(poison)
    run.train()
    assert poisoned == [3]
    assert run.step == 6
    assert run.setbacks == 0
    assert all(weights.isfinite().all() for weights in run.model.parameters())


def test_gradients_that_stay_not_finite_end_the_run(tmp_path: pathlib.Path) -> None:
    run = trainer(tmp_path, small_config(iterations=1000), "run")
    next(run.model.parameters()).register_hook(lambda gradient: gradient * math.nan)
    with pytest.raises(DivergedError):
        run.train()


def test_the_onset_of_baw_is_no_divergence(tmp_path: pathlib.Path) -> None:
    """With a small base weight the loss grows many times over when the boundary-aware weight sets in."""
    loss = type(LOSS)(lr=0, reconstruction=0.01, lpips=0, boundary=0, latent=0)
    config = small_config(loss=loss, iterations=60, checkpoint_every=10, learning_rate=1e-4)
    run = trainer(tmp_path, config, "run")
    run.train()
    entries = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    losses = {entry["step"]: entry["loss"] for entry in entries if entry["event"] == "step"}
    assert losses[31] > 3 * max(losses[step] for step in range(1, 31))
    assert run.setbacks == 0
    assert load_checkpoint(run.checkpoint)["step"] == 60


def test_a_run_by_the_clock_ends_in_time_at_the_final_learning_rate(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A clock that goes on by a quarter of a second whenever it is read, once before each step.
    clock = SimpleNamespace(monotonic=itertools.count(100, 0.25).__next__)
    monkeypatch.setattr("bdflow_rt.training.trainer.time", clock)
    run = trainer(tmp_path, small_config(iterations=1), "run", minutes=0.25)
    run.train()
    assert run.step == 15 / 0.25 - 1
    entries = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    rates = [entry["learning_rate"] for entry in entries if entry["event"] == "step"]
    assert rates[-1] < 0.01 * max(rates)
    assert load_checkpoint(run.checkpoint)["elapsed_s"] == 15


def test_time_spent_on_what_diverged_is_not_given_back(tmp_path: pathlib.Path) -> None:
    config = small_config(learning_rate=1e4, warmup=0)
    run = trainer(tmp_path, config, "run", minutes=1)
    with pytest.raises(DivergedError):
        run.train()
    entries = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    times = [entry["elapsed_s"] for entry in entries]
    assert times == sorted(times)
    assert times[-1] > times[0]


def test_the_log_has_every_step_and_validation_as_json(tmp_path: pathlib.Path) -> None:
    pictures = read_folder(write_pictures(tmp_path / "pictures"))
    trainer(tmp_path, small_config(log_every=3, validate_every=4), "run", validation=pictures).train()
    entries = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    found = [(entry["event"], entry["step"]) for entry in entries]
    assert found == [
        ("start", 0), ("step", 3), ("validation", 4), ("step", 6), ("validation", 8), ("step", 9), ("step", 12),
        ("validation", 12),
    ]  # fmt: skip
    assert set(entries[1]["parts"]) == {"lr", "reconstruction"}
    assert (tmp_path / "run" / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(os.listdir(tmp_path / "run")) == ["checkpoint.pt", "curves.png", "log.jsonl"]


def test_the_last_validation_is_in_the_checkpoint(tmp_path: pathlib.Path) -> None:
    pictures = read_folder(write_pictures(tmp_path / "pictures"))
    run = trainer(tmp_path, small_config(), "run", validation=pictures)
    last = run.train()
    assert last is not None
    assert load_checkpoint(run.checkpoint)["validation"] == dataclasses.asdict(last)
    assert last.step == 12


@pytest.mark.parametrize("size", [(4, 40), (40, 4), (1, 1)])
def test_a_picture_too_small_to_validate_on_is_said_before_the_training(
    tmp_path: pathlib.Path, size: tuple[int, int]
) -> None:
    with pytest.raises(TrainingDataError, match=f"{size[1]} x {size[0]} pixels; x2 needs at least 5 x 5"):
        trainer(tmp_path, small_config(), "run", validation=[np.zeros((*size, 3), np.uint8)])
    run = trainer(tmp_path, small_config(iterations=1), "run", validation=[photo(5, 5, 1)])
    assert run.train() is not None


def test_a_resumed_run_says_what_is_otherwise_than_before(tmp_path: pathlib.Path) -> None:
    trainer(tmp_path, small_config(iterations=1), "run").train()
    said: list[str] = []
    trainer(tmp_path, small_config(iterations=9), "run", resume=True, say=said.append)
    assert said == []
    write_pictures(tmp_path / "more", count=1)
    pool = PicturePool([tmp_path / "more"], cache=tmp_path / "cache")
    loss = dataclasses.replace(LOSS, lr=9)
    run = Trainer(small_config(seed=5, loss=loss, iterations=2), pool, tmp_path / "run", resume=True, say=said.append)
    assert [line.split(", and was ")[0] for line in said] == [
        "from here on seed is 5",
        "from here on loss.lr is 9",
        "from here on data is {'sources': ['more'], 'pictures': 1}",
    ]
    run.train()
    said.clear()
    again = Trainer(small_config(seed=5, loss=loss), pool, tmp_path / "run", resume=True, say=said.append)
    assert said == []
    again.train()
    assert load_checkpoint(again.checkpoint)["data"] == {
        "sources": ["more"], "pictures": 1, "licences": {"not stated": 1}, "excluded": {},
        "before": {"sources": ["pictures"], "pictures": 3, "licences": {"not stated": 3}, "excluded": {}},
    }  # fmt: skip
    assert load_checkpoint(again.checkpoint)["earlier"] == [{"until_step": 1, "seed": 1, "loss.lr": LOSS.lr}]
    trainer(tmp_path, small_config(seed=6, loss=loss, iterations=20), "run", resume=True).train()
    card = publish(again.checkpoint, tmp_path / "model", name="m", version=1)
    assert card.details["training_earlier"] == [
        {"until_step": 1, "seed": 1, "loss.lr": LOSS.lr}, {"until_step": 12, "seed": 5},
    ]  # fmt: skip
