"""Several processes under torchrun: the same weights everywhere, the same decisions, and a clean end."""

from __future__ import annotations

import pathlib
import subprocess

import pytest
import torch

from bdflow_rt.training.checkpoint import load_checkpoint
from bdflow_rt.training.distributed import Ranks
from tests.training.small import run_python, write_pictures

WORKER = """
import os, pathlib, sys, torch
from bdflow_rt.training.data import PicturePool
from bdflow_rt.training.distributed import process_group
from bdflow_rt.training.validate import read_folder
from tests.training.small import small_config, trainer

tmp, task = pathlib.Path(sys.argv[1]), sys.argv[2]
options = {"learning_rate": 1e4, "warmup": 0, "iterations": 1000} if task == "diverge" else {}
with process_group("cpu") as (ranks, device):
    pictures = read_folder(tmp / "pictures") if task == "minutes" else None
    run = trainer(tmp, small_config(validate_every=3, **options), "run", ranks=ranks, device=device,
                  minutes=0.03 if task == "minutes" else None, validation=pictures)
    if ranks.rank == 1:
        assert task != "fail", "this rank fails on purpose"
    stop = lambda: task == "stop" and ranks.rank == 1 and run.step == 5
    try:
        run.train(stop=stop)
    finally:
        state = {"model": run.model.state_dict(), "averaged": run.averaged.state_dict(), "step": run.step,
                 "elapsed_s": run.elapsed_s}
        torch.save(state, tmp / f"rank{ranks.rank}.pt")
print("ended", ranks.rank)
"""


def _torchrun(tmp: pathlib.Path, task: str) -> subprocess.CompletedProcess[str]:
    write_pictures(tmp / "pictures")
    script = tmp / "worker.py"
    script.write_text(WORKER)
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    return run_python([*launcher, str(script), str(tmp), task])


def _same_on_both(tmp: pathlib.Path) -> dict[str, object]:
    """The state of rank 0, after a check that rank 1 has the same."""
    one, two = (torch.load(tmp / f"rank{rank}.pt", weights_only=True) for rank in (0, 1))
    for part in ("model", "averaged"):
        for name, value in one[part].items():
            assert torch.equal(value, two[part][name]), f"{part} {name}"
    assert (one["step"], one["elapsed_s"]) == (two["step"], two["elapsed_s"])
    return one


def test_both_ranks_end_with_the_weights_that_rank_0_saved(tmp_path: pathlib.Path) -> None:
    done = _torchrun(tmp_path, "plain")
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.split("\n"))[-2:] == ["ended 0", "ended 1"]
    ended = _same_on_both(tmp_path)
    saved = load_checkpoint(tmp_path / "run" / "checkpoint.pt")
    assert saved["step"] == ended["step"] == 12
    for name, value in saved["model"].items():
        assert torch.equal(value, ended["model"][name])  # type: ignore[index]


@pytest.mark.slow
def test_a_stop_that_only_one_rank_sees_ends_both_at_the_same_step(tmp_path: pathlib.Path) -> None:
    done = _torchrun(tmp_path, "stop")
    assert done.returncode == 0, done.stderr
    assert _same_on_both(tmp_path)["step"] == 5
    assert load_checkpoint(tmp_path / "run" / "checkpoint.pt")["step"] == 5


@pytest.mark.slow
def test_the_clock_of_rank_0_ends_both_while_it_also_validates(tmp_path: pathlib.Path) -> None:
    done = _torchrun(tmp_path, "minutes")
    assert done.returncode == 0, done.stderr
    _same_on_both(tmp_path)


@pytest.mark.slow
def test_both_ranks_go_back_and_give_up_together(tmp_path: pathlib.Path) -> None:
    done = _torchrun(tmp_path, "diverge")
    assert done.returncode != 0
    assert done.stderr.count("DivergedError: ") >= 2
    _same_on_both(tmp_path)


@pytest.mark.slow
def test_a_rank_that_fails_does_not_leave_the_other_waiting(tmp_path: pathlib.Path) -> None:
    done = _torchrun(tmp_path, "fail")
    assert done.returncode != 0
    assert "this rank fails on purpose" in done.stderr


def test_a_process_alone_agrees_with_itself() -> None:
    alone = Ranks()
    assert alone.first
    assert alone.mean(0.25) == alone.of_first(0.25) == 0.25
    assert alone.any(True)
    assert not alone.any(False)


@pytest.mark.parametrize("rank", [0, 1])
def test_only_rank_0_is_the_first(rank: int) -> None:
    assert Ranks(rank=rank, world=2).first == (rank == 0)
