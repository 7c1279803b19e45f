"""Several processes training one network: who one is, and decisions that all of them must make alike."""

from __future__ import annotations

import datetime
import gc
import importlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import distributed

TIMEOUT = datetime.timedelta(hours=1)
"""How long a process waits for the others: rank 0 decodes the pictures and validates alone meanwhile."""


@dataclass(frozen=True)
class Ranks:
    """One process among `world`; the default is a process alone.

    Every method is a collective operation: all processes call it at the same point and get the same answer, so a
    branch on the answer is taken by all of them or by none.
    """

    rank: int = 0
    world: int = 1
    device: str = "cpu"
    """Where tensors that travel must be: NCCL takes only those on the GPU."""

    @property
    def first(self) -> bool:
        """Whether this is the process that writes files and talks."""
        return self.rank == 0

    def mean(self, value: float) -> float:
        """Mean over the processes; not finite where one of them is not."""
        return self._sum(value) / self.world

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in some process."""
        return self._sum(float(flag)) > 0

    def of_first(self, value: float) -> float:
        """The value that rank 0 has: clocks differ between processes."""
        return self._sum(value if self.first else 0.0)

    def wait(self) -> None:
        """Return when all processes have come here."""
        self._sum(0.0)

    def _sum(self, value: float) -> float:
        if self.world == 1:
            return value
        tensor = torch.tensor(value, dtype=torch.float64, device=self.device)
        distributed.all_reduce(tensor)
        return float(tensor)


@contextmanager
def process_group(device: str) -> Iterator[tuple[Ranks, str]]:
    """Join the processes that torchrun started, and leave them at the end; without torchrun, a process alone.

    The group's threads end with it if nothing holds on to it any more, as a `Trainer` does. A thread that lives on and
    wants Python's lock when Python has gone aborts the process.

    Args:
        device: "cpu", "cuda" or "cuda:N"; plain "cuda" becomes the GPU with the process's local rank.

    Yields:
        Who this process is, and its device.
    """
    world = int(os.environ.get("WORLD_SIZE", 1))
    if device == "cuda":
        device = f"cuda:{os.environ.get('LOCAL_RANK', 0)}"
    if device.startswith("cuda"):
        torch.cuda.set_device(device)
    if world == 1:
        yield Ranks(), device
        return
    # Imported while there is a group, it would keep the group and its threads for good.
    importlib.import_module("torch._dynamo")
    distributed.init_process_group("nccl" if device.startswith("cuda") else "gloo", timeout=TIMEOUT)
    try:
        yield Ranks(rank=distributed.get_rank(), world=world, device=device), device
    finally:
        # After an error the others may be waiting in a collective; torchrun ends them.
        gc.collect()
        distributed.destroy_process_group()
