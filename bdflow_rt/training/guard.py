"""Notices that a run diverges, and when it is fit to be saved."""

from __future__ import annotations

import math

DIVERGED = 3.0
"""Times the lowest usual loss at which a run has gone astray: about 10 dB, far beyond the noise of the batches."""
CALM = 2.0
"""Times the lowest usual loss up to which a run may be saved."""
OUTLIER = 10.0
"""Times the lowest usual loss as which a batch counts at most."""
HOPELESS = 1000.0
"""Times the lowest usual loss of which one batch is enough."""
MEMORY = 50
"""Steps over which the usual loss is taken."""
_LEAST = 1e-12
"""A loss of 0 has no logarithm."""
MAX_NOT_FINITE = 10
"""Gradients in a row that may fail to be finite."""


class DivergenceGuard:
    """Watches the loss of one phase of a run, within which all weights of the losses stay the same.

    The usual loss is the geometric mean: a picture unlike all that the weights have seen may have a hundred times the
    loss of others, and some of them are no divergence.

    Args:
        reference: usual loss of weights known to be good, measured over several batches without training on them.
    """

    def __init__(self, reference: float) -> None:
        self._usual = self._lowest = reference if math.isfinite(reference) else math.nan
        self._not_finite = 0

    def diverged(self, loss: float, gradient_norm: float) -> bool:
        """Take in one step and say whether the run has gone astray."""
        self._not_finite = 0 if math.isfinite(gradient_norm) else self._not_finite + 1
        # Comparisons are written so that a NaN, which a reference that is not finite has become, counts as diverged.
        if not loss <= HOPELESS * self._lowest or self._not_finite > MAX_NOT_FINITE:
            return True
        seen = min(max(loss, _LEAST), OUTLIER * self._lowest)
        self._usual *= (seen / self._usual) ** (1 / MEMORY)
        self._lowest = min(self._lowest, self._usual)
        return not self._usual <= DIVERGED * self._lowest

    def calm(self, loss: float) -> bool:
        """Whether weights whose batches have this loss are fit to be gone back to.

        Divergence shows in the usual loss only after some steps; a checkpoint taken on the way would be worth nothing.
        """
        return self._not_finite == 0 and loss <= DIVERGED * self._lowest and self._usual <= CALM * self._lowest


def usual(losses: list[float]) -> float:
    """The geometric mean; not finite where one of them is not."""
    return math.exp(
        sum(math.log(max(loss, _LEAST)) if math.isfinite(loss) else math.inf for loss in losses) / len(losses)
    )
