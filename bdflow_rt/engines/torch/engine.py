"""The training-time modules as an engine: the reference the other backends are compared with, and in half precision the
way on a GPU where TensorRT is absent."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bdflow_rt.engines.engine import (
    FinishedJob,
    Job,
    check_finite,
    check_inputs,
    closed,
    host_outputs,
    make_spec,
    run_error,
)
from bdflow_rt.engines.torch.graph import GraphedWire
from bdflow_rt.engines.torch.settings import own_settings, torch_device
from bdflow_rt.fork import torch_threads
from bdflow_rt.models.io import load_model
from bdflow_rt.models.wire import Wire
from bdflow_rt.options import Backend, Precision
from bdflow_rt.zoo.card import ModelCard
from bdflow_rt.zoo.interface import Direction


class TorchEngine:
    """One direction of a model in PyTorch: eager float32, or on a GPU float16 in CUDA graphs.

    Args:
        card: of the model.
        direction: which of its public graphs to stand for.
        device: "cpu", "cuda" or "cuda:N".
        precision: "fp32", or on a GPU "fp16".
        threads: CPU threads while it runs; None leaves PyTorch's setting.

    Raises:
        BackendUnavailableError: there is no such device.
        CorruptModelError, WeightsHashError: the weights are missing, altered, or do not fit the card.
        OutOfMemoryError, BackendError: the device has no room for the weights, or fails.
    """

    backend: Backend = "torch"

    def __init__(
        self,
        card: ModelCard,
        direction: Direction,
        *,
        device: str = "cpu",
        precision: Precision = "fp32",
        threads: int | None = None,
    ) -> None:
        self.direction = direction
        self.spec = make_spec(card, direction, backend=self.backend, device="cpu")  # it takes and gives host arrays
        self._card = card
        self._device, self._threads = torch_device(device), torch_threads(threads)
        network = load_model(card)
        try:
            self._wire: Wire | None = Wire(network.to(self._device), direction)
            self._graphs = GraphedWire(network, direction) if precision == "fp16" else None
        except RuntimeError as error:
            raise run_error(error, backend=self.backend, what=f"loading {card.id}") from None

    def run(
        self, inputs: Mapping[str, NDArray[Any]], *, out: Mapping[str, NDArray[Any]] | None = None
    ) -> dict[str, NDArray[Any]]:
        wire = self._wire
        if wire is None:
            raise closed(self._card, self.direction)
        check_inputs(self._card, self.direction, inputs)
        targets = host_outputs(self.spec, inputs, out)
        try:
            with own_settings(self._device, threads=self._threads):
                # Torch takes no negative strides, such as those of a flipped view.
                host = {name: torch.from_numpy(np.array(value, order="C")) for name, value in inputs.items()}
                if self._graphs is not None:
                    outputs = self._graphs.run(host)
                else:
                    outputs = wire({name: value.to(self._device) for name, value in host.items()})
                mean = float(outputs["mean"])
                for name, target in targets.items():
                    torch.from_numpy(target).copy_(outputs[name])
        except (RuntimeError, MemoryError) as error:
            raise run_error(error, backend=self.backend, what=f"{self.direction} of {self._card.id}") from None
        check_finite(mean, backend=self.backend, model=self._card.id)
        return targets

    def submit(self, inputs: Mapping[str, Any], *, out: Mapping[str, Any] | None = None, stream: Any = None) -> Job:
        """See `Engine.submit`; it has ended when this returns."""
        return FinishedJob(self.run(inputs, out=out))

    def clone(self) -> TorchEngine:
        """See `Engine.clone`; graphs of CUDA are captured anew."""
        if self._wire is None:
            raise closed(self._card, self.direction)
        twin = copy.copy(self)
        if self._graphs is not None:
            twin._graphs = GraphedWire(self._wire.network, self.direction)
        return twin

    def release(self) -> None:
        """See `Engine.release`; of PyTorch's memory, what the graphs hold."""
        if self._graphs is not None:
            self._graphs.release()

    def close(self) -> None:
        self._wire = self._graphs = None


def open_engine(
    card: ModelCard, direction: Direction, *, backend: Backend, device: str, precision: Precision, threads: int | None
) -> TorchEngine:
    """See `BackendInfo.open`."""
    return TorchEngine(card, direction, device=device, precision=precision, threads=threads)
