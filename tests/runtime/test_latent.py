"""Z as a pure function of seed and place."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bdflow_rt.runtime.latent import latent_rows

WHOLE = {"columns": range(30), "width": 30, "channels": 5, "temperature": 0.5, "seed": 7}


def test_values_are_those_of_the_documented_formula() -> None:
    """Golden: packets with a seed must give the same Z in every release; the first blocks of Philox4x64-10."""
    raw = np.random.Philox(key=np.array([7, 0], np.uint64), counter=np.array([0, 0, 0, 3], np.uint64)).random_raw(2)
    upper, lower = int(raw[1]) >> 32, int(raw[1]) & 0xFFFFFFFF
    expected = 0.5 * math.sqrt(-2 * math.log((upper + 1) / 2**32)) * math.cos(2 * math.pi * lower / 2**32)
    found = latent_rows(range(3, 4), **WHOLE)  # type: ignore[arg-type]
    assert found[1, 0, 0] == pytest.approx(expected, abs=1e-7)
    golden = latent_rows(range(2), columns=range(2), width=2, channels=1, temperature=1.0, seed=1)
    assert golden.ravel() == pytest.approx(GOLDEN, abs=1e-6)


def test_windows_fit_together() -> None:
    whole = latent_rows(range(20), **WHOLE)  # type: ignore[arg-type]
    part = latent_rows(range(3, 11), **{**WHOLE, "columns": range(4, 19)})  # type: ignore[arg-type]
    assert np.array_equal(part, whole[:, 3:11, 4:19])


def test_distribution_is_normal_and_follows_the_temperature() -> None:
    z = latent_rows(range(200), columns=range(100), width=100, channels=5, temperature=0.5, seed=2**64 - 1).ravel()
    assert abs(float(z.mean())) < 0.005
    assert float(z.std()) == pytest.approx(0.5, abs=0.005)
    assert float(np.mean(np.abs(z) < 0.5)) == pytest.approx(math.erf(1 / math.sqrt(2)), abs=0.005)
    assert float(np.mean((z / 0.5) ** 4)) == pytest.approx(3, abs=0.1)


def test_other_seeds_rows_and_channels_give_other_values() -> None:
    whole = latent_rows(range(4), **WHOLE)  # type: ignore[arg-type]
    other = latent_rows(range(4), **{**WHOLE, "seed": 8})  # type: ignore[arg-type]
    assert not np.intersect1d(whole, other).size
    assert np.unique(whole).size == whole.size


GOLDEN = [-1.492006778717041, -0.073707215487957, -0.8010168075561523, -0.018806306645274162]
