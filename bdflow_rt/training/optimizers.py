"""Adam, as the paper trains, and Muon, which is several times further after the same number of steps."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from bdflow_rt.training.config import OptimizerName

BETAS = (0.9, 0.999)
"""Of Adam (paper, section 4.2)."""
MOMENTUM = 0.95
"""Of Muon, the default of its authors."""
VECTOR_RATE = 0.3
"""Learning rate of what Muon leaves to Adam (biases and the boundary's gain), as a share of Muon's own."""


class StackedMuon(torch.optim.Muon):
    """torch.optim.Muon with all matrices of one shape orthogonalised at once; the state is the same.

    A network has hundreds of matrices in a dozen shapes, and one at a time their products are very small. On a CPU the
    iteration runs in float32, which is faster there than bfloat16. There is no weight decay, the momentum is
    Nesterov's, and the updates have the size of Adam's ("match_rms_adamw").

    Args:
        matrices: two-dimensional parameters.
        learning_rate: of the first step.
    """

    def __init__(self, matrices: list[nn.Parameter], learning_rate: float) -> None:
        super().__init__(
            matrices, lr=learning_rate, weight_decay=0.0, momentum=MOMENTUM, adjust_lr_fn="match_rms_adamw"
        )

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update all matrices that have a gradient; `closure` is not called."""
        for group in self.param_groups:
            shapes: dict[torch.Size, list[Tensor]] = defaultdict(list)
            for matrix in group["params"]:
                if matrix.grad is not None:
                    shapes[matrix.shape].append(matrix)
            for shape, matrices in shapes.items():
                update = orthogonal(self._momentum(matrices, group), group)
                size = 0.2 * max(shape) ** 0.5  # "match_rms_adamw"
                torch._foreach_add_(matrices, list(update.unbind()), alpha=-group["lr"] * size)

    def _momentum(self, matrices: list[Tensor], group: dict[str, Any]) -> Tensor:
        """Nesterov's momentum, (matrices, rows, columns); the buffers are updated."""
        gradients = [matrix.grad for matrix in matrices if matrix.grad is not None]
        buffers = []
        for matrix in matrices:
            state = self.state[matrix]
            if "momentum_buffer" not in state:
                state["momentum_buffer"] = torch.zeros_like(matrix)
            buffers.append(state["momentum_buffer"])
        torch._foreach_lerp_(buffers, gradients, 1 - group["momentum"])
        return torch.stack(gradients).lerp_(torch.stack(buffers), group["momentum"])


def orthogonal(matrices: Tensor, group: dict[str, Any]) -> Tensor:
    """Nearly the orthogonal matrices nearest to these, by the Newton-Schulz iteration of `torch.optim.Muon`.

    Args:
        matrices: (N, rows, columns) float32.
        group: settings of the optimiser, of which "ns_coefficients", "ns_steps" and "eps" are used.

    Returns:
        The same shape and dtype.
    """
    a, b, c = group["ns_coefficients"]
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=group["eps"])
    x = x.bfloat16() if x.is_cuda else x
    for _ in range(group["ns_steps"]):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    x = x.to(matrices.dtype)
    return x.mT if tall else x


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
            self._parts["muon"] = StackedMuon([matrix for _, matrix in self._matrices], learning_rate), 1.0
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
