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


def progress_of(*, iterations: int, minutes: float | None, step: int, elapsed_s: float) -> float:
    """How far a run is, 0 at its start and 1 at its end.

    Args:
        iterations: length of the run in steps.
        minutes: its length in minutes of training, pauses between resumed parts not counted; None: by `iterations`.
        step, elapsed_s: steps and seconds of training so far.
    """
    return min(1.0, step / iterations if minutes is None else elapsed_s / (60 * minutes))
