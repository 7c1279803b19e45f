"""The arithmetic behind "is a boundary map worth its bytes"."""

from __future__ import annotations

import pytest

from bdflow_rt.bench.bits import verdicts


def run(scale: int, bits: int, psnr_y: float, file_bytes: float, iterations: int = 100) -> dict[str, object]:
    return {
        "set": "S", "scale": scale, "bits": bits, "psnr_y": psnr_y, "file_bytes": file_bytes, "iterations": iterations
    }  # fmt: skip


def test_the_price_of_a_byte_is_that_of_the_other_scale() -> None:
    # From x4 to x2 four times the bytes buy 6 dB: 3 dB per doubling. Twice the bytes must then gain more than 3 dB.
    runs = [run(4, 0, 32, 1000), run(2, 0, 38, 4000), run(4, 1, 34, 2000), run(2, 1, 42, 8000)]
    small, large = sorted(verdicts(runs), key=lambda one: -one["scale"])
    assert small["price_db_per_doubling"] == pytest.approx(3)
    assert (small["gain_db"], small["bytes_worth_db"], small["wins_per_byte"]) == (2, pytest.approx(3), False)
    assert (large["gain_db"], large["bytes_worth_db"], large["wins_per_byte"]) == (4, pytest.approx(3), True)


def test_without_two_scales_at_0_bits_there_is_no_price_and_no_verdict() -> None:
    assert verdicts([run(4, 0, 32, 1000), run(4, 1, 34, 2000)]) == []


def test_only_equal_training_is_compared_and_the_dearest_price_asked_elsewhere() -> None:
    runs = [run(4, 0, 32, 1000), run(2, 0, 38, 4000)]
    runs += [run(4, 0, 33, 1000, 200), run(4, 1, 34, 2000, 200), run(4, 1, 40, 2000, 300)]
    (one,) = verdicts(runs)
    assert (one["iterations"], one["gain_db"], one["price_db_per_doubling"]) == (200, 1, pytest.approx(3))
