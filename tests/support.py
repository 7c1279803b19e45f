"""What several tests share: where the data is, and a picture made from a seed."""

from __future__ import annotations

import os
from pathlib import Path

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
