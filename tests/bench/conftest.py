"""Benchmarks are tried on tiny models."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def zoo(tiny_zoo: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Tiny models, in BDFLOW_ZOO of this process."""
    monkeypatch.setenv("BDFLOW_ZOO", str(tiny_zoo))
    return tiny_zoo
