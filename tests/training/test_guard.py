"""When a run counts as diverged, and when it may be saved."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bdflow_rt.training.guard import MAX_NOT_FINITE, DivergenceGuard, usual


@pytest.mark.parametrize("loss", [math.nan, math.inf, 1e30])
def test_a_loss_out_of_all_bounds_is_noticed_at_once(loss: float) -> None:
    guard = DivergenceGuard(0.1)
    assert not guard.diverged(0.1, 1.0)
    assert guard.diverged(loss, 1.0)


def test_a_lasting_rise_is_noticed_and_not_saved_on_the_way() -> None:
    guard = DivergenceGuard(0.1)
    steps = 0
    while not guard.diverged(0.5, 1.0):
        steps += 1
        assert not guard.calm(0.5)
    assert 10 < steps < 80


def test_the_noise_of_small_batches_is_no_divergence() -> None:
    """Losses of single batches were seen to differ by a factor of five."""
    random = np.random.default_rng(1)
    guard = DivergenceGuard(0.02)
    losses = 0.02 * np.exp(random.normal(0, 0.6, 20_000))
    assert not any(guard.diverged(float(loss), 1.0) for loss in losses)
    assert guard.calm(0.02)


def test_a_single_bad_batch_is_no_divergence_but_no_time_to_save() -> None:
    guard = DivergenceGuard(0.1)
    assert not guard.diverged(0.9, 1.0)
    assert not guard.calm(0.9)
    assert not guard.diverged(0.1, 1.0)
    assert guard.calm(0.1)


@pytest.mark.parametrize("share", [0.02, 0.1])
def test_now_and_then_a_picture_unlike_all_others_is_no_divergence(share: float) -> None:
    """Weights that had seen photographs alone had a hundred times their loss on a few drawings in a hundred."""
    random = np.random.default_rng(2)
    guard = DivergenceGuard(0.05)
    calm = 0
    for is_unlike in random.random(20_000) < share:
        assert not guard.diverged(5.0 if is_unlike else 0.05, 1.0)
        calm += guard.calm(0.05)
    assert calm > 15_000
    assert any(guard.diverged(5.0, 1.0) for _ in range(40))


def test_the_usual_loss_is_moved_little_by_one_that_is_far_from_the_others() -> None:
    assert usual([0.05] * 15 + [5.0]) == pytest.approx(0.05 * 100 ** (1 / 16))
    assert usual([0.0, 0.5]) < 0.5
    assert not math.isfinite(usual([0.05, math.inf]))
    assert not math.isfinite(usual([0.05, math.nan]))


def test_progress_lowers_the_level_that_is_compared_with() -> None:
    guard = DivergenceGuard(1.0)
    assert not any(guard.diverged(0.01, 1.0) for _ in range(400))
    assert any(guard.diverged(0.3, 1.0) for _ in range(50))


def test_gradients_may_fail_to_be_finite_but_not_for_ever() -> None:
    guard = DivergenceGuard(0.1)
    for _ in range(3):
        assert not any(guard.diverged(0.1, math.nan) for _ in range(MAX_NOT_FINITE))
        assert not guard.calm(0.1)
        assert not guard.diverged(0.1, 1.0)
        assert guard.calm(0.1)
    assert [guard.diverged(0.1, math.inf) for _ in range(MAX_NOT_FINITE + 1)][-1]


@pytest.mark.parametrize("reference", [math.nan, math.inf])
def test_a_start_that_is_not_finite_counts_as_diverged(reference: float) -> None:
    guard = DivergenceGuard(reference)
    assert not guard.calm(0.1)
    assert guard.diverged(0.1, 1.0)
