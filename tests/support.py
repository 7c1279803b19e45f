"""What several tests share: where the data is, and a picture made from a seed."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

import pytest

from bdflow_rt.picture import sample_picture

ROOT = Path(__file__).resolve().parent.parent


def data_dir() -> Path | None:
    """The folder of shared data: `BDFLOW_DATA`, or ../shared/data beside the checkout; None where it is absent."""
    folder = Path(os.environ.get("BDFLOW_DATA") or ROOT.parent / "shared" / "data")
    return folder if folder.is_dir() else None


needs_data = pytest.mark.skipif(
    data_dir() is None, reason="the shared data is absent; set BDFLOW_DATA to the folder that holds it"
)

photo = sample_picture


def slow(*values: Any) -> Any:
    """A case of a parametrised test, with the mark `slow`."""
    return pytest.param(*values, marks=pytest.mark.slow)


def slow_but(quick: Collection[Any], values: Iterable[Any]) -> list[Any]:
    """Cases of a test with one parameter: those of `quick` run every time, the others have the mark `slow`."""
    cases = list(values)
    assert all(one in cases for one in quick), "a case that runs every time is none of the test's"
    return [value if value in quick else slow(value) for value in cases]
