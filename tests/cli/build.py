"""Running the command line: in this process for speed, in one of its own where signals, limits or the shell matter."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from bdflow_rt.cli.main import main
from tests.support import ROOT

PYTHON = re.compile(
    r"\b[a-z]+_[a-z_]+(?= is |=)|\b(?:Rescaler|ZPolicy)\b|=(?:True|False|None)\b"
    r"|\b(?:background|force|precision|backend|device)="
)
"""Names of Python, which nobody at a command line knows."""


@dataclass(frozen=True)
class Done:
    """What a command line came to."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output, which must be one JSON document and nothing else."""
        return json.loads(self.out, parse_constant=_refuse)


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def bdflow(*args: str | Path) -> Done:
    """Run a command line in this process."""
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        code = main([str(arg) for arg in args])
    return Done(code, out.getvalue(), err.getvalue())


def succeeded(*args: str | Path) -> Done:
    """Run a command line that must succeed."""
    done = bdflow(*args)
    assert (done.code, "warning" in done.err) == (0, False), done
    return done


def failed(done: Done, code: int, *words: str) -> None:
    """Check that a command line said what is wrong in one line, with the exit code of its class."""
    assert done.code == code, done
    assert done.out == ""
    assert done.err.startswith("bdflow: error: "), done.err
    assert len(done.err.splitlines()) == 1, done.err
    assert done.err.isprintable() or done.err[:-1].isprintable(), done.err
    assert "bug in bdflow" not in done.err
    assert not (named := PYTHON.search(done.err)), named
    assert not [word for word in words if word not in done.err], done.err


def start(
    *args: str | Path, cwd: Path = ROOT, zoo: Path, preexec_fn: Callable[[], None] | None = None
) -> subprocess.Popen[str]:
    """Start the command in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "bdflow_rt", *map(str, args)],
        cwd=cwd,
        env={**os.environ, "BDFLOW_ZOO": str(zoo), "PYTHONPATH": str(ROOT)},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=preexec_fn,
    )


def finished(process: subprocess.Popen[str]) -> Done:
    """Wait for a process."""
    out, err = process.communicate(timeout=120)
    return Done(process.returncode, out, err)


def contents(folder: Path) -> dict[str, bytes | None]:
    """Every name under a folder, with the bytes of what is a file."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


def pixels_of(path: Path) -> npt.NDArray[np.uint8]:
    """The pixels of a picture as Pillow, and so any viewer, sees them."""
    with Image.open(path) as image:
        return np.asarray(image)
