"""OpenVINO on the CPU: the public graphs as they are, in float32 unless the card allows bfloat16."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bdflow_rt.engines.engine import Backend, Precision, check_finite
from bdflow_rt.errors import BackendError
from bdflow_rt.zoo.card import Direction, ModelCard


class OpenVINOEngine:
    """One direction of a model on the CPU.

    Args:
        card: of the model; its graph and weights are checked against their hashes before they are read.
        direction: which graph.
        precision: of the convolutions.
        threads: CPU threads; None leaves it to OpenVINO (all cores).

    Raises:
        CorruptModelError, WeightsHashError: the model's files are missing or altered.
        BackendError: OpenVINO cannot compile the graph.
    """

    backend: Backend = "openvino"

    def __init__(
        self, card: ModelCard, direction: Direction, *, precision: Precision = "fp32", threads: int | None = None
    ) -> None:
        import openvino

        self.direction = direction
        self._model_id = card.id
        path = card.check_graph(direction)
        card.check_weights()
        # OpenVINO computes in bfloat16 of its own accord where the CPU can; the pixels promised are float32's.
        options: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": {"fp32": "f32", "bf16": "bf16"}[precision],
            "PERFORMANCE_HINT": "LATENCY",
        }
        if threads is not None:
            options["INFERENCE_NUM_THREADS"] = threads
        try:
            compiled = openvino.Core().compile_model(str(path), "CPU", options)
        except RuntimeError as error:
            raise BackendError(f"OpenVINO cannot compile {path}: {error}") from None
        self._request = compiled.create_infer_request()
        self._outputs = [port.get_any_name() for port in compiled.outputs]

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """See `Engine.run`."""
        try:
            self._request.infer(
                {name: np.ascontiguousarray(value) for name, value in inputs.items()}, share_inputs=True
            )
        except RuntimeError as error:
            raise BackendError(f"OpenVINO failed in {self.direction} of {self._model_id}: {error}") from None
        results = {name: self._request.get_tensor(name).data for name in self._outputs}
        check_finite(float(results.pop("mean")), backend=self.backend, model=self._model_id)
        return {name: value.copy() for name, value in results.items()}

    def close(self) -> None:
        """See `Engine.close`."""
        del self._request
