"""Checkpoints: written atomically, checked against their own digest, read without running code from them."""

from __future__ import annotations

import hashlib
import io
import pathlib
import pickle
from typing import Any

import torch

from bdflow_rt.errors import CheckpointError
from bdflow_rt.files import write_atomically

CHECKPOINT_VERSION = 4
MARK = b"BDFLOWCK"
TRAILER_BYTES = len(MARK) + hashlib.sha256().digest_size
_DAMAGE = (RuntimeError, EOFError, ValueError, LookupError, TypeError, AttributeError, pickle.UnpicklingError)
"""What torch.load stumbles over in a file that holds something else."""


def save_checkpoint(path: pathlib.Path, state: dict[str, Any]) -> None:
    """Write tensors and plain values; a killed process leaves the old checkpoint or the new one.

    The file is what torch.save writes, the eight bytes "BDFLOWCK", and the SHA-256 of what stands before them:
    torch.load alone returns altered weights without a word.

    Raises:
        OutputError: the file cannot be written; the old one is untouched.
    """
    buffer = io.BytesIO()
    torch.save({"version": CHECKPOINT_VERSION, **state}, buffer)
    data = buffer.getvalue()
    write_atomically(path, data + MARK + hashlib.sha256(data).digest())


def load_checkpoint(path: pathlib.Path) -> dict[str, Any]:
    """Read what `save_checkpoint` wrote, on the CPU.

    Raises:
        CheckpointError: it is missing, damaged, holds anything but tensors and plain values, or is of another version.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise CheckpointError(f"There is no checkpoint at {path}; start the run without --resume.") from None
    except OSError as error:
        raise CheckpointError(f"The checkpoint {path} cannot be read: {error.strerror}.") from None
    payload, trailer = data[:-TRAILER_BYTES], data[-TRAILER_BYTES:]
    if trailer != MARK + hashlib.sha256(payload).digest():
        raise CheckpointError(
            f"{path} is no checkpoint, or it was altered, damaged or cut short; restore a copy or start a new run."
        )
    try:
        state = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
    except _DAMAGE as error:
        reason = str(error).partition("\n")[0]
        raise CheckpointError(
            f"The checkpoint {path} cannot be read ({reason}); restore a copy or start a new run."
        ) from None
    version = state.get("version") if isinstance(state, dict) else None
    if version != CHECKPOINT_VERSION:
        raise CheckpointError(
            f"{path} is a checkpoint of version {version}, not {CHECKPOINT_VERSION}; start a new run."
        )
    return state
