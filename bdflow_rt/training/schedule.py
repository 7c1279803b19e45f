"""How far a run is, and the learning rate there."""

from __future__ import annotations

import math

from bdflow_rt.training.config import TrainConfig


def learning_rate(config: TrainConfig, *, step: int, progress: float) -> float:
    """Cosine from the first to the final learning rate over progress 0..1, after a linear warm-up by steps."""
    progress = min(max(progress, 0.0), 1.0)
    span = config.learning_rate - config.final_learning_rate
    cosine = config.final_learning_rate + span * (1 + math.cos(math.pi * progress)) / 2
    return cosine * min(1.0, (step + 1) / (config.warmup + 1))


class Progress:
    """Progress of a run, by iterations or by the seconds it has been training.

    Args:
        iterations: length of the run when it goes by iterations.
        minutes: length of the run in minutes of training, pauses between resumed parts not counted; None: by
            iterations.
    """

    def __init__(self, *, iterations: int, minutes: float | None) -> None:
        self._iterations = iterations
        self._seconds = None if minutes is None else minutes * 60

    def at(self, *, step: int, elapsed_s: float) -> float:
        """0 at the start, 1 at the end."""
        done = step / self._iterations if self._seconds is None else elapsed_s / self._seconds
        return min(1.0, done)
