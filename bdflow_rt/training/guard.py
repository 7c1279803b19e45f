"""Notices that a run diverges, and when it is fit to be saved."""

from __future__ import annotations

import math

DIVERGED = 3.0
"""Times the lowest mean loss at which a run has gone astray: about 10 dB, far beyond the noise of the batches."""
CALM = 2.0
"""Times the lowest mean loss up to which a run may be saved."""
OUTLIER = 10.0
"""Times the lowest mean loss as which a batch counts at most: a picture unlike all others may have a hundred times."""
HOPELESS = 1000.0
"""Times the lowest mean loss of which one batch is enough."""
MEMORY = 50
"""Steps over which the mean loss is taken."""
MAX_SKIPPED = 10
"""Gradients in a row that may fail to be finite."""


class DivergenceGuard:
    """Watches the loss of one phase of a run, within which all weights of the losses stay the same.

    Args:
        reference: mean loss of weights known to be good, measured over several batches without training on them.
    """

    def __init__(self, reference: float) -> None:
        self._mean = self._lowest = reference if math.isfinite(reference) else math.nan
        self._skipped = 0

    def diverged(self, loss: float, gradient_norm: float) -> bool:
        """Take in one step and say whether the run has gone astray."""
        self._skipped = 0 if math.isfinite(gradient_norm) else self._skipped + 1
        if not loss <= HOPELESS * self._lowest or self._skipped > MAX_SKIPPED:
            return True
        self._mean += (min(loss, OUTLIER * self._lowest) - self._mean) / MEMORY
        self._lowest = min(self._lowest, self._mean)
        # Both written so that a NaN, which a reference that is not finite has become, counts as diverged.
        return not self._mean <= DIVERGED * self._lowest

    def calm(self, loss: float) -> bool:
        """Whether weights whose batches have this loss are fit to be gone back to.

        Divergence shows in the mean only after some steps; a checkpoint taken on the way would be worth nothing.
        """
        return self._skipped == 0 and loss <= DIVERGED * self._lowest and self._mean <= CALM * self._lowest
