"""Adam, as the paper trains, and Muon, which is several times further after the same number of steps."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from bdflow_rt.training.config import OptimizerName

BETAS = (0.9, 0.999)
"""Of Adam (paper, section 4.2)."""
MOMENTUM = 0.95
"""Of Muon, the default of its authors."""
VECTOR_RATE = 0.3
"""Learning rate of what Muon leaves to Adam (biases and the boundary's gain), as a share of Muon's own."""


class Optimizer:
    """One of the two for all parameters of a network, with one learning rate.

    Muon (Jordan et al. 2024) takes each gradient of a matrix to the nearest orthogonal one. A convolution counts as the
    matrix (outputs, 9 * inputs) and is updated through a view; biases and the gain are Adam's. Steps are scaled as in
    Moonlight (Liu et al. 2025), to the size that Adam's steps have.

    Args:
        name: "adam" or "muon".
        model: its convolutions' weights must lie in memory as channels-last; they are updated in place.
        learning_rate: of the first step.
    """

    def __init__(self, name: OptimizerName, model: nn.Module, *, learning_rate: float) -> None:
        self._matrices: list[tuple[nn.Parameter, nn.Parameter]] = []
        vectors = list(model.parameters())
        self._parts: dict[str, tuple[torch.optim.Optimizer, float]] = {}
        share = 1.0
        if name == "muon":
            # `view` and no copy: an update of the matrix has to reach the weight.
            self._matrices = [
                (weight, nn.Parameter(weight.detach().permute(0, 2, 3, 1).view(weight.shape[0], -1)))
                for weight in vectors
                if weight.ndim == 4
            ]
            vectors = [parameter for parameter in vectors if parameter.ndim != 4]
            muon = torch.optim.Muon(
                [matrix for _, matrix in self._matrices],
                lr=learning_rate,
                weight_decay=0.0,
                momentum=MOMENTUM,
                adjust_lr_fn="match_rms_adamw",
            )
            self._parts["muon"] = muon, 1.0
            share = VECTOR_RATE
        self._parts["adam"] = torch.optim.Adam(vectors, lr=share * learning_rate, betas=BETAS), share
        self.learning_rate = learning_rate

    def step(self, learning_rate: float) -> None:
        """Update the parameters by their gradients."""
        self.learning_rate = learning_rate
        for weight, matrix in self._matrices:
            gradient = weight.grad
            matrix.grad = None if gradient is None else gradient.permute(0, 2, 3, 1).reshape(matrix.shape)
        for part, share in self._parts.values():
            for group in part.param_groups:
                group["lr"] = share * learning_rate
            part.step()

    def state_dict(self) -> dict[str, Any]:
        """State of the parts by name, "adam" and for Muon "muon" as well."""
        return {name: part.state_dict() for name, (part, _) in self._parts.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` returned.

        Raises:
            KeyError, ValueError: it is of the other kind or of another network.
        """
        if set(state) != set(self._parts):
            raise ValueError(f"its optimiser is {'muon' if 'muon' in state else 'adam'}, and the run's is the other")
        for name, (part, _) in self._parts.items():
            part.load_state_dict(state[name])
