"""Loss and gradients of a step: clipped, and 0 where they are not finite. Those of CUDA graphs are in tests/gpu."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from bdflow_rt.training.graphed import Gradients


class Step(nn.Module):
    """A step whose gradients are 3 and 4 times `factor`, and one parameter that it does not use."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.first, self.second, self.unused = (nn.Parameter(torch.ones(2, 1)) for _ in range(3))
        self.factor = factor

    def forward(self, crops: Tensor, progress: float, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        loss = self.factor * (3 * self.first[0, 0] + 4 * self.second[1, 0])
        return loss, {"part": loss.detach()}


def _gradients(step: Step) -> list[float]:
    assert step.unused.grad is None
    assert step.first.grad is not None
    assert step.second.grad is not None
    return [*step.first.grad.flatten().tolist(), *step.second.grad.flatten().tolist()]


@pytest.mark.parametrize(("clip", "share"), [(10.0, 1.0), (1.0, 0.2)])
def test_gradients_are_clipped_and_those_of_one_batch(clip: float, share: float) -> None:
    step = Step(1.0)
    gradients = Gradients(step, clip=clip)
    for _ in range(2):
        computed = gradients(torch.zeros(1), 0.0, 0)
        assert float(computed.norm) == pytest.approx(5)
        assert (float(computed.loss), float(computed.parts["part"])) == (7, 7)
        assert not computed.loss.requires_grad
        assert _gradients(step) == pytest.approx([3 * share, 0, 0, 4 * share], rel=1e-5)


@pytest.mark.parametrize("factor", [math.nan, math.inf])
def test_gradients_that_are_not_finite_become_0_and_their_norm_says_so(factor: float) -> None:
    step = Step(factor)
    computed = Gradients(step, clip=1.0)(torch.zeros(1), 0.0, 0)
    assert not math.isfinite(float(computed.norm))
    assert _gradients(step) == [0, 0, 0, 0]
