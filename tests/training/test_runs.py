"""What a run says before it starts."""

from __future__ import annotations

import pathlib

import pytest

from bdflow_rt.training import runs
from bdflow_rt.training.bf16 import bf16_time
from tests.training.small import small_config, write_pictures


@pytest.mark.parametrize(
    ("precision", "time", "is_said"), [("bf16", 2.0, True), ("bf16", 0.6, False), ("fp32", 2.0, False)]
)
def test_a_precision_that_costs_time_on_this_processor_is_said_once(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, precision: str, time: float, is_said: bool
) -> None:
    monkeypatch.setattr(runs, "bf16_time", lambda width: time)
    said: list[str] = []
    runs.train_model(
        small_config(precision=precision, iterations=1),
        data=[write_pictures(tmp_path / "pictures")],
        output=tmp_path / "run",
        cache=tmp_path / "cache",
        name="tiny",
        version=1,
        device="cpu",
        say=said.append,
    )
    hints = [line for line in said if "fp32" in line]
    assert len(hints) == is_said
    assert not is_said or "2.0 times" in hints[0]


def test_the_time_of_bfloat16_is_a_ratio_of_measured_times() -> None:
    """Between a processor with matrix units and one that emulates it, whatever the load."""
    assert 0.02 < bf16_time(16) < 200
