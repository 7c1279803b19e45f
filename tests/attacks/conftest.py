"""The commands under attack see tiny models."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest


@pytest.fixture
def open_folder(tmp_path: Path, tiny_zoo: Path) -> Path:
    """A folder that everybody may use, like the models; pytest's own are for their owner alone."""
    for place in (tmp_path, *tmp_path.parents, tiny_zoo):
        if place.is_relative_to(tempfile.gettempdir()) and place.stat().st_uid == os.geteuid():
            place.chmod(0o755)
    folder = tmp_path / "open"
    folder.mkdir()
    folder.chmod(0o777)
    return folder
