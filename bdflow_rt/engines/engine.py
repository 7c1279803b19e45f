"""The protocol every backend implements."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal, Protocol

from numpy.typing import NDArray

from bdflow_rt.errors import NonFiniteOutputError
from bdflow_rt.zoo.card import Direction

Precision = Literal["fp32", "bf16"]
Backend = Literal["openvino", "torch"]


class Engine(Protocol):
    """One direction of one model, ready to run on whole arrays.

    Inputs and outputs are those of the model's public graph, by name:
    "downscale" takes image (N, H, W, 3) uint8, H and W multiples of the scale, and gives lr (N, h, w, 3) uint8 and,
    for models with a boundary, boundary (N, h, w) uint8 levels; "upscale" takes those and gives image;
    "upscale_z" takes latent (N, Z, h, w) float32 besides.

    Not thread-safe: one call at a time.
    """

    backend: Backend
    direction: Direction

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Run once; the arrays returned are the caller's own.

        Raises:
            NonFiniteOutputError: the network's values were not finite before they were rounded.
        """
        ...

    def close(self) -> None:
        """Free the engine's memory."""
        ...


def check_finite(mean: float, *, backend: Backend, model: str) -> None:
    """Raise unless the mean of the unrounded output, and with it every value, is finite."""
    if not math.isfinite(mean):
        raise NonFiniteOutputError(
            f"Model {model} gave NaN or infinity on backend {backend!r}; no picture was made. Try precision='fp32', "
            "and please report the picture that does this."
        )
