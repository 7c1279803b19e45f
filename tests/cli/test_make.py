"""`make demo`, with names of files that mean something to a shell."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support import ROOT


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
@pytest.mark.parametrize("image", ["it's.jpg", 'a "b" c.jpg', "a$b.jpg", "; false.jpg", None, ""])
def test_make_demo_image_its_jpg(tmp_path: Path, image: str | None) -> None:
    """The real Makefile beside a Python that only prints what it is given, in an environment that is ready."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "bdflow_rt").mkdir()
    for name in ("setup.py", "pyproject.toml", "bdflow_rt/_version.py"):
        (tmp_path / name).touch()
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    python.chmod(0o755)
    for stamp in ("venv", "demo"):
        (tmp_path / ".venv" / f".stamp-{stamp}").touch()
    command = ["make", "--no-print-directory", "demo", *([] if image is None else [f"IMAGE={image}"])]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.splitlines() == ["-m", "bdflow_rt.bench.demo", *([image] if image else [])]
