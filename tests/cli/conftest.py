"""The commands see tiny models."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageCms

from tests.cli.build import succeeded
from tests.support import photo


@pytest.fixture
def hr() -> npt.NDArray[np.uint8]:
    """(63, 65, 3) uint8: no side is a multiple of anything."""
    return photo(63, 65, 1)


@pytest.fixture
def source(tmp_path: Path, hr: npt.NDArray[np.uint8]) -> Path:
    """`hr` as a file, alone in a folder."""
    folder = tmp_path / "in"
    folder.mkdir()
    Image.fromarray(hr).save(folder / "photo.png")
    return folder / "photo.png"


@pytest.fixture(scope="session")
def profile() -> bytes:
    """An ICC profile that Pillow makes; its time stamp changes from run to run."""
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@pytest.fixture(scope="session")
def packet_bytes(tiny_zoo: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """What downscale makes of `source`, made once."""
    folder = tmp_path_factory.mktemp("packet")
    Image.fromarray(photo(63, 65, 1)).save(folder / "photo.png")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BDFLOW_ZOO", str(tiny_zoo))
        succeeded("downscale", folder / "photo.png", "-o", folder / "lr.png")
    return (folder / "lr.png").read_bytes()
