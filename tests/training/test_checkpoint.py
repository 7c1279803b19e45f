"""Checkpoints: exact round trip, every damage noticed, nothing executed."""

from __future__ import annotations

import contextlib
import hashlib
import os
import pathlib
import pickle
from typing import Any

import pytest
import torch

from bdflow_rt.errors import CheckpointError
from bdflow_rt.training.checkpoint import CHECKPOINT_VERSION, MARK, load_checkpoint, save_checkpoint

STATE = {"step": 7, "model": {"a.weight": torch.arange(12.0).view(3, 4), "b": torch.tensor(0.1)}, "name": "x"}


class Attack:
    """Runs a command where a pickle of it is loaded without care."""

    def __init__(self, marker: pathlib.Path) -> None:
        self._marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self._marker}",)


def test_a_checkpoint_comes_back_whole(tmp_path: pathlib.Path) -> None:
    save_checkpoint(tmp_path / "c.pt", STATE)
    state = load_checkpoint(tmp_path / "c.pt")
    assert (state["step"], state["name"]) == (7, "x")
    assert torch.equal(state["model"]["a.weight"], STATE["model"]["a.weight"])  # type: ignore[index]
    assert [path.name for path in tmp_path.iterdir()] == ["c.pt"]


def test_every_changed_bit_is_noticed(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "c.pt"
    save_checkpoint(path, STATE)
    whole = path.read_bytes()
    for position in range(0, len(whole), 7):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ (1 << position % 8)]) + whole[position + 1 :])
        with pytest.raises(CheckpointError):
            load_checkpoint(path)


def test_every_truncation_is_noticed(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "c.pt"
    save_checkpoint(path, STATE)
    whole = path.read_bytes()
    for length in [*range(0, len(whole), 13), *range(len(whole) - 45, len(whole))]:
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError):
            load_checkpoint(path)


def test_a_missing_checkpoint_says_how_to_start(tmp_path: pathlib.Path) -> None:
    with pytest.raises(CheckpointError, match="without --resume"):
        load_checkpoint(tmp_path / "c.pt")


def test_a_folder_in_the_place_of_the_checkpoint_raises(tmp_path: pathlib.Path) -> None:
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize("state", [{"version": 2}, {"step": 1}, [1, 2], torch.zeros(3)])
def test_another_torch_file_is_refused(tmp_path: pathlib.Path, state: Any) -> None:
    torch.save(state, tmp_path / "c.pt")
    with pytest.raises(CheckpointError, match="no checkpoint"):
        load_checkpoint(tmp_path / "c.pt")


@pytest.mark.parametrize("version", [1, 99, None, "2"])
def test_a_checkpoint_of_another_version_is_refused(tmp_path: pathlib.Path, version: Any) -> None:
    save_checkpoint(tmp_path / "c.pt", {**STATE, "version": version})
    with pytest.raises(CheckpointError, match=f"not {CHECKPOINT_VERSION}; start a new run"):
        load_checkpoint(tmp_path / "c.pt")


@pytest.mark.parametrize("payload", [b"", b"PK\x03\x04", b"no torch file" * 99])
def test_a_signed_file_of_something_else_is_refused(tmp_path: pathlib.Path, payload: bytes) -> None:
    (tmp_path / "c.pt").write_bytes(payload + MARK + hashlib.sha256(payload).digest())
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_checkpoint(tmp_path / "c.pt")


@pytest.mark.parametrize("kind", ["torch file", "bare pickle"])
def test_code_in_a_signed_checkpoint_is_refused_and_does_not_run(tmp_path: pathlib.Path, kind: str) -> None:
    path, marker = tmp_path / "c.pt", tmp_path / "executed"
    state = {"version": 2, "step": Attack(marker)}
    if kind == "torch file":
        save_checkpoint(path, state)
    else:
        payload = pickle.dumps(state, protocol=2)
        path.write_bytes(payload + MARK + hashlib.sha256(payload).digest())
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_checkpoint(path)
    assert not marker.exists()
    # The attack is a real one: a careless load runs it, even where it then says that this is no torch file.
    with contextlib.suppress(RuntimeError):
        torch.load(path, weights_only=False)
    assert marker.exists()


def test_a_failed_write_keeps_the_older_checkpoint(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "c.pt"
    save_checkpoint(path, STATE)
    with pytest.raises((TypeError, AttributeError, pickle.PicklingError)):
        save_checkpoint(path, {"step": lambda: None})
    assert load_checkpoint(path)["step"] == 7
