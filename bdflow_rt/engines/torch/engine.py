"""The training-time modules as an engine: the reference the other backends are compared with, and in half precision the
way on a GPU where TensorRT is absent."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bdflow_rt.engines.engine import check_finite, check_inputs, closed, run_error
from bdflow_rt.engines.torch.graph import GraphedWire
from bdflow_rt.models.io import load_model
from bdflow_rt.models.wire import Wire
from bdflow_rt.options import Backend, Precision
from bdflow_rt.zoo.card import ModelCard
from bdflow_rt.zoo.interface import Direction

_exact = threading.Lock()
_exact_runs = 0
"""Calls inside `exact_convolutions`: the setting is the process's."""
_exact_undo = ExitStack()


@contextmanager
def exact_convolutions() -> Iterator[None]:
    """Have cuDNN compute float32 convolutions in float32 for a while.

    By default it rounds what they read to the 10 bits of TF32, with which the pixels are not the CPU's. There is no
    other arithmetic of that kind in a model. The user's own settings are as before when the last call has left.
    """
    global _exact_runs
    with _exact:
        if not _exact_runs:
            _forbid_tf32(_exact_undo)
        _exact_runs += 1
    try:
        yield
    finally:
        with _exact:
            _exact_runs -= 1
            if not _exact_runs:
                _exact_undo.close()


def _forbid_tf32(undo: ExitStack) -> None:
    cudnn: Any = torch.backends.cudnn
    if not hasattr(cudnn, "conv"):  # PyTorch before 2.9
        undo.callback(setattr, cudnn, "allow_tf32", cudnn.allow_tf32)
        cudnn.allow_tf32 = False
        return
    # From above, so that convolutions that inherit their precision still do afterwards.
    for place in (cudnn, cudnn.conv):
        if cudnn.conv.fp32_precision == "tf32":
            undo.callback(_put_back, place, place.fp32_precision)
            place.fp32_precision = "ieee"


def _put_back(place: Any, precision: str) -> None:
    place.fp32_precision = "none"  # inherits
    if place.fp32_precision != precision:
        place.fp32_precision = precision


class TorchEngine:
    """One direction of a model in PyTorch: eager float32, or on a GPU float16 in CUDA graphs.

    Args:
        card: of the model.
        direction: which of its public graphs to stand for.
        device: "cpu", "cuda" or "cuda:N".
        precision: "fp32", or on a GPU "fp16".

    Raises:
        CorruptModelError, WeightsHashError: the weights are missing, altered, or do not fit the card.
        OutOfMemoryError, BackendError: the device has no room for the weights, or fails.
    """

    backend: Backend = "torch"

    def __init__(
        self, card: ModelCard, direction: Direction, *, device: str = "cpu", precision: Precision = "fp32"
    ) -> None:
        self.direction = direction
        self._card = card
        self._device = torch.device(device)
        network = load_model(card)
        try:
            self._wire: Wire | None = Wire(network.to(self._device), direction)
            self._graphs = GraphedWire(network, direction) if precision == "fp16" else None
        except RuntimeError as error:
            raise run_error(error, backend=self.backend, what=f"loading {card.id}") from None

    @torch.inference_mode()
    def run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        wire = self._wire
        if wire is None:
            raise closed(self._card, self.direction)
        check_inputs(self._card, self.direction, inputs)
        try:
            # Torch takes no negative strides, such as those of a flipped view.
            host = {name: torch.from_numpy(np.array(value, order="C")) for name, value in inputs.items()}
            if self._graphs is not None:
                outputs = self._graphs.run(host)
            else:
                with exact_convolutions():
                    outputs = wire({name: value.to(self._device) for name, value in host.items()})
            results = {name: value.cpu().numpy() for name, value in outputs.items()}
        except (RuntimeError, MemoryError) as error:
            raise run_error(error, backend=self.backend, what=f"{self.direction} of {self._card.id}") from None
        check_finite(float(results.pop("mean")), backend=self.backend, model=self._card.id)
        return results

    def release(self) -> None:
        """See `Engine.release`; of PyTorch's memory, what the graphs hold."""
        if self._graphs is not None:
            self._graphs.release()

    def close(self) -> None:
        self._wire = self._graphs = None
