"""PyTorch's settings as the networks need them, and the host program's again afterwards."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any

import torch

from bdflow_rt.errors import BackendUnavailableError

_lock = threading.Lock()
_users = 0
"""Calls inside `own_settings`: some settings are the process's."""
_first = 1
"""CPU threads of the first of them."""
_undo = ExitStack()


def torch_device(device: str) -> torch.device:
    """The device that "cpu", "cuda" or "cuda:N" names.

    Raises:
        BackendUnavailableError: this PyTorch does not find it.
    """
    found = torch.cuda.device_count()
    if device != "cpu" and int(device.partition(":")[2] or 0) >= found:
        raise BackendUnavailableError(
            f"device is {device!r}, but this PyTorch ({torch.__version__}) finds {found or 'no'} CUDA "
            f"device{'s' * (found > 1)}; `bdflow doctor` says what is missing."
        )
    return torch.device("cpu") if device == "cpu" else torch.device("cuda", int(device.partition(":")[2] or 0))


@contextmanager
def own_settings(device: torch.device, *, threads: int | None, grad: bool = False) -> Iterator[None]:
    """Inside, PyTorch computes what is written, whatever the caller has set.

    Autocast, gradients, the default device, CPU threads and TF32 do not reach the networks.

    Args:
        device: that computes.
        threads: CPU threads; None leaves them.
        grad: gradients are asked for where they are wanted; otherwise there are none at all.
    """
    with (
        process_settings(threads),
        torch.device("cpu") if torch.get_default_device().type != "cpu" else nullcontext(),
        torch.autocast(device.type, enabled=False),
        torch.inference_mode(not grad),
        torch.no_grad(),
    ):
        yield


@contextmanager
def process_settings(threads: int | None) -> Iterator[None]:
    """Inside, the thread computes with so many CPU threads, and the process has no TF32; afterwards both are as before.

    PyTorch keeps the number for each thread, and for new ones what was set last. By default cuDNN rounds what float32
    convolutions read to the 10 bits of TF32, with which the pixels are not the CPU's.
    """
    global _users, _first
    with _lock:
        before = torch.get_num_threads()
        if not _users:
            _first = before
            _forbid_tf32()
        _users += 1
    try:
        if threads is not None:
            torch.set_num_threads(threads)
        yield
    finally:
        with _lock:
            _users -= 1
            if threads is not None:
                torch.set_num_threads(before if _users else _first)
            if not _users:
                _undo.close()


def _forbid_tf32() -> None:
    cudnn: Any = torch.backends.cudnn
    if not hasattr(cudnn, "conv"):  # PyTorch before 2.9
        _undo.callback(setattr, cudnn, "allow_tf32", cudnn.allow_tf32)
        cudnn.allow_tf32 = False
        return
    # From above, so that convolutions that inherit their precision still do afterwards.
    for place in (cudnn, cudnn.conv):
        if cudnn.conv.fp32_precision == "tf32":
            _undo.callback(_put_back, place, place.fp32_precision)
            place.fp32_precision = "ieee"


def _put_back(place: Any, precision: str) -> None:
    place.fp32_precision = "none"  # inherits
    if place.fp32_precision != precision:
        place.fp32_precision = precision
