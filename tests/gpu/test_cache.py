"""What one process has compiled, the next one loads."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

CODE = """
import sys
import cupy
from bdflow_rt.kernels import compile, haar_forward
if sys.argv[1] == "loads":
    def refuse(*arguments):
        raise SystemExit("compiled again")
    compile.compile_kernel = refuse
print(float(haar_forward(cupy.ones((1, 1, 2, 2), "float32"))[0, 0, 0, 0]))
"""


def start(folder: Path, word: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", CODE, word], env={**os.environ, "BDFLOW_CACHE": str(folder)}, cwd=folder,
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip


def test_a_second_process_does_not_compile(tmp_path: Path) -> None:
    assert "compiled again" in start(tmp_path, "loads").stderr, "an empty cache needs the compiler"
    first = start(tmp_path, "compiles")
    assert (first.returncode, first.stdout.split()) == (0, ["1.0"]), first.stderr
    assert len(list(tmp_path.glob("kernels/*.cubin"))) == 1
    second = start(tmp_path, "loads")
    assert (second.returncode, second.stdout.split()) == (0, ["1.0"]), second.stderr


def test_a_damaged_file_is_compiled_anew(tmp_path: Path) -> None:
    assert start(tmp_path, "compiles").returncode == 0
    (path,) = tmp_path.glob("kernels/*.cubin")
    path.write_bytes(path.read_bytes()[:-100])
    assert "compiled again" in start(tmp_path, "loads").stderr, "a damaged file is not loaded"
    for word in ("compiles", "loads"):
        again = start(tmp_path, word)
        assert (again.returncode, again.stdout.split()) == (0, ["1.0"]), again.stderr
