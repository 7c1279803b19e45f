"""The arithmetic behind "is a boundary map worth its bytes"."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from bdflow_rt.bench.bits import measure_runs, verdicts
from tests.support import photo


def run(
    scale: int,
    bits: int,
    psnr_y: float | None,
    file_bytes: float,
    iterations: int | None = 100,
    start: str | None = None,
    width: int = 64,
) -> dict[str, object]:
    return {
        "set": "S", "scale": scale, "bits": bits, "psnr_y": psnr_y, "file_bytes": file_bytes, "iterations": iterations,
        "started_from": start, "blocks": [2], "hidden": [width],
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


def test_only_models_from_the_same_start_are_compared() -> None:
    bare = [
        run(4, 0, 32, 1000),
        run(2, 0, 38, 4000),
        run(4, 0, 35, 1000, start="x4@1"),
        run(2, 0, 44, 2000, start="x2@1"),
    ]
    (one,) = verdicts([*bare, run(4, 1, 36, 2000, start="x4@1"), run(4, 1, 39, 2000, start="x4@2")])
    assert (one["started_from"], one["gain_db"]) == ("x4@1", 1)
    assert one["price_db_per_doubling"] == pytest.approx(9), "of models trained on, as this one is"


def test_only_models_of_one_network_are_compared() -> None:
    runs = [run(4, 0, 32, 1000), run(2, 0, 38, 4000), run(4, 1, 34, 2000, width=32)]
    assert verdicts(runs) == []
    (one,) = verdicts([*runs, run(4, 0, 33, 1000, width=32)])
    assert (one["hidden"], one["gain_db"]) == ([32], 1)


def test_models_of_unknown_training_and_perfect_scores_get_no_verdict() -> None:
    runs = [run(4, 0, 32, 1000), run(2, 0, 38, 4000), run(4, 1, 34, 2000)]
    (wanted,) = verdicts(runs)
    unknown = [run(4, 0, 30, 900, None), run(4, 1, 31, 950, None), run(2, 0, 39, 4000, None)]
    perfect = [run(4, 0, None, 900, 200), run(4, 1, 31, 950, 200), run(2, 1, None, 9000)]
    assert verdicts([*unknown, *runs, *perfect]) == [wanted]


def test_models_whose_cards_do_not_say_how_long_they_were_trained_are_measured(zoo: Path, tmp_path: Path) -> None:
    Image.fromarray(photo(32, 40, 1)).save(tmp_path / "a.png")
    runs = measure_runs([zoo / "plain@1", zoo / "bdflow-x4@99"], [tmp_path])
    assert [(one["bits"], one["iterations"]) for one in runs] == [(0, None), (1, None)]
    mixed = [{**runs[0], "iterations": 5}, *runs]
    assert verdicts(mixed) == []


@pytest.mark.parametrize("twin", [1000, 1010])
def test_a_byte_has_no_price_between_two_models_of_one_scale(twin: float) -> None:
    pair = [run(4, 0, 32, 1000), run(4, 0, 32, twin), run(4, 1, 34, 2000)]
    assert verdicts(pair) == []
    (one,) = verdicts([*pair, run(2, 0, 38, 4 * twin)])
    assert one["price_db_per_doubling"] == pytest.approx(3)
