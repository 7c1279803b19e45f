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
from torch import Tensor

from bdflow_rt.engines.engine import Backend, Precision, check_finite, check_inputs, closed, run_error
from bdflow_rt.engines.torch_graph import GraphedFlow, to_pixels, to_planes
from bdflow_rt.models.bdflow import BDFlow
from bdflow_rt.models.io import load_model
from bdflow_rt.models.quantize import bound_lr
from bdflow_rt.zoo.card import Direction, ModelCard

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
        model = load_model(card)
        try:
            self._model: BDFlow | None = model.to(self._device)
            self._graphs = GraphedFlow(self._model, direction) if precision == "fp16" else None
        except RuntimeError as error:
            raise run_error(error, backend=self.backend, what=f"loading {card.id}") from None

    @torch.inference_mode()
    def run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        model = self._model
        if model is None:
            raise closed(self._card, self.direction)
        check_inputs(self._card, self.direction, inputs)
        try:
            # Torch takes no negative strides, such as those of a flipped view.
            host = {name: torch.from_numpy(np.array(value, order="C")) for name, value in inputs.items()}
            if self._graphs is not None:
                results = {name: value.cpu().numpy() for name, value in self._graphs.run(host).items()}
                check_finite(float(results.pop("mean")), backend=self.backend, model=self._card.id)
                return results
            tensors = {name: value.to(self._device) for name, value in host.items()}
            with exact_convolutions():
                if self.direction == "downscale":
                    return self._downscale(model, tensors["image"])
                return self._upscale(model, tensors)
        except (RuntimeError, MemoryError) as error:
            raise run_error(error, backend=self.backend, what=f"{self.direction} of {self._card.id}") from None

    def release(self) -> None:
        """See `Engine.release`; of PyTorch's memory, what the graphs hold."""
        if self._graphs is not None:
            self._graphs.release()

    def close(self) -> None:
        self._model = self._graphs = None

    def _downscale(self, model: BDFlow, image: Tensor) -> dict[str, NDArray[Any]]:
        hr = to_planes(image)
        output = model(hr)
        self._check(output.lr)  # before it is bounded, which would hide an infinity
        results = {"lr": to_pixels(bound_lr(output.lr, hr)).cpu().numpy()}
        if output.boundary is not None and model.quantizer is not None:
            self._check(output.boundary)
            levels = model.quantizer.levels(output.boundary)
            results["boundary"] = levels[:, 0].to(torch.uint8).cpu().numpy()
        return results

    def _upscale(self, model: BDFlow, inputs: dict[str, Tensor]) -> dict[str, NDArray[Any]]:
        boundary = None
        if "boundary" in inputs and model.quantizer is not None:
            boundary = model.quantizer.value(inputs["boundary"][:, None].float())
        restored = model.inverse(to_planes(inputs["lr"]), boundary, inputs.get("latent"))
        self._check(restored)
        return {"image": to_pixels(restored).cpu().numpy()}

    def _check(self, x: Tensor) -> None:
        check_finite(float(x.mean()), backend=self.backend, model=self._card.id)
