"""Runs without curves, but where a test is about them."""

from __future__ import annotations

import pytest


@pytest.fixture
def curves() -> None:
    """The test's runs draw their curves."""


@pytest.fixture(autouse=True)
def _quick(request: pytest.FixtureRequest) -> None:
    if "curves" not in request.fixturenames:
        request.getfixturevalue("no_curves")
