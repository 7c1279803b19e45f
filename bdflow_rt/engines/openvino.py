"""OpenVINO on the CPU: the public graphs as they are, in float32 unless the card allows bfloat16."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bdflow_rt.engines.engine import Backend, Precision, check_finite, check_inputs
from bdflow_rt.errors import BackendError
from bdflow_rt.zoo.card import Direction, ModelCard

if TYPE_CHECKING:
    import openvino

FLEXIBLE_PIXELS = 1 << 18
"""Inputs of fewer HR pixels share one graph compiled for all shapes; it takes at most 128 MiB (paper's networks).

For larger ones the graph is compiled for their very shape. That takes 0.1 to 0.4 s and pays: OpenVINO then plans its
buffers and fuses element-wise chains, and needs 40 % of the memory and 90 % of the time. The choice hangs on the shape
alone, so that a picture gives the same pixels every time.
"""


class OpenVINOEngine:
    """One direction of a model on the CPU.

    Args:
        card: of the model; its graph and weights are checked against their hashes before they are read.
        direction: which graph.
        precision: of the convolutions.
        threads: CPU threads; None leaves it to OpenVINO (all cores).

    Raises:
        CorruptModelError, WeightsHashError: the model's files are missing or altered.
        BackendError: OpenVINO cannot read the graph.
    """

    backend: Backend = "openvino"

    def __init__(
        self, card: ModelCard, direction: Direction, *, precision: Precision = "fp32", threads: int | None = None
    ) -> None:
        import openvino

        self.direction = direction
        self._card = card
        # OpenVINO follows no link out of the graph's folder, and some installers make site-packages of links.
        path = card.check_graph(direction).resolve()
        card.check_weights()
        # OpenVINO computes in bfloat16 of its own accord where the CPU can; the pixels promised are float32's.
        self._options: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": {"fp32": "f32", "bf16": "bf16"}[precision],
            "PERFORMANCE_HINT": "LATENCY",
        }
        if threads is not None:
            self._options["INFERENCE_NUM_THREADS"] = threads
        self._core = openvino.Core()
        try:
            self._model = self._core.read_model(str(path))
        except RuntimeError as error:
            raise BackendError(f"OpenVINO cannot read {path}: {error}") from None
        self._outputs = [port.get_any_name() for port in self._model.outputs]
        self._flexible: openvino.InferRequest | None = None
        self._fixed: openvino.InferRequest | None = None
        self._fixed_shapes: dict[str, tuple[int, ...]] = {}

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """See `Engine.run`."""
        check_inputs(self._card, self.direction, inputs)
        try:
            request = self._request_for({name: value.shape for name, value in inputs.items()})
            request.infer({name: np.ascontiguousarray(value) for name, value in inputs.items()}, share_inputs=True)
        except RuntimeError as error:
            raise BackendError(f"OpenVINO failed in {self.direction} of {self._card.id}: {error}") from None
        results = {name: request.get_tensor(name).data for name in self._outputs}
        check_finite(float(results.pop("mean")), backend=self.backend, model=self._card.id)
        return {name: value.copy() for name, value in results.items()}

    def release(self) -> None:
        """See `Engine.release`."""
        for request in (self._flexible, self._fixed):
            if request is not None:
                request.get_compiled_model().release_memory()

    def close(self) -> None:
        """See `Engine.close`."""
        self._flexible = self._fixed = None
        del self._model

    def _request_for(self, shapes: dict[str, tuple[int, ...]]) -> openvino.InferRequest:
        n, h, w = next(iter(shapes.values()))[:3]
        pixels = n * h * w * (1 if self.direction == "downscale" else self._card.config.scale**2)
        if pixels < FLEXIBLE_PIXELS:
            if self._flexible is None:
                self._flexible = self._compile(self._model)
            return self._flexible
        if self._fixed is None or self._fixed_shapes != shapes:
            self._fixed = None  # gives its memory back before the next one takes its own
            model = self._model.clone()
            model.reshape(shapes)
            self._fixed, self._fixed_shapes = self._compile(model), shapes
        return self._fixed

    def _compile(self, model: openvino.Model) -> openvino.InferRequest:
        return self._core.compile_model(model, "CPU", self._options).create_infer_request()
