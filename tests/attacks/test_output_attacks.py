"""Outputs that cannot be written: one typed error, the old file untouched, no partial file."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bdflow_rt.containers import write_packet, write_picture
from bdflow_rt.errors import DiskFullError, UnwritableOutputError
from bdflow_rt.picture import Picture
from tests.containers.build import make_packet, refused
from tests.support import ROOT

NOISE = Picture(np.random.default_rng(0).integers(0, 256, (301, 307, 3), np.uint8))
SUFFIXES = [".png", ".jpg", ".webp", ".tiff", ".bmp", ".ppm"]
LIMITED = """
import resource, sys
import numpy as np
from PIL import Image
from bdflow_rt.containers import write_picture
from bdflow_rt.picture import Picture
from bdflow_rt.errors import DiskFullError
Image.init()
resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))
try:
    write_picture(sys.argv[1], Picture(np.random.default_rng(0).integers(0, 256, (301, 307, 3), np.uint8)))
except DiskFullError as error:
    print("refused:", error)
"""


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_full_disk_while_a_picture_is_written(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"out{suffix}"
    path.symlink_to("/dev/full")
    with refused(DiskFullError, path.name, "No space", "another output"):
        write_picture(path, NOISE)


def test_a_full_disk_while_a_packet_is_written(tmp_path: Path) -> None:
    path = tmp_path / "out.png"
    path.symlink_to("/dev/full")
    with refused(DiskFullError, "out.png", "No space"):
        write_packet(path, make_packet())


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_limit_reached_in_mid_write_leaves_the_old_file_and_nothing_else(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"out{suffix}"
    path.write_bytes(b"old")
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(path)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("refused: "), done.stderr
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("place", ["missing/out.png", "file/out.png", "folder.png"])
def test_places_that_cannot_be_written(place: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "folder.png").mkdir()
    before = sorted(tmp_path.rglob("*"))
    with refused(UnwritableOutputError, "folder"):
        write_picture(tmp_path / place, NOISE)
    with refused(UnwritableOutputError, "folder"):
        write_packet(tmp_path / place, make_packet())
    assert sorted(tmp_path.rglob("*")) == before
