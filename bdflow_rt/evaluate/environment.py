"""What a result was measured on: date, commit, hardware and versions."""

from __future__ import annotations

import datetime
import os
import pathlib
import platform
import re
import subprocess
from importlib import metadata
from typing import Any

from bdflow_rt.zoo import ModelCard

SCHEMA = 1
_PACKAGES = ("bdflow-rt", "numpy", "opencv-python-headless", "openvino", "onnxruntime", "torch", "pillow", "av")


def environment(card: ModelCard | None = None) -> dict[str, Any]:
    """Plain JSON types; every result file starts with them. Where it is of one model, its id and weights too."""
    model = {} if card is None else {"model": card.id, "weights_sha256": card.weights_sha256}
    return {
        "schema": SCHEMA,
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "commit": _commit(),
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "versions": {name: version for name in _PACKAGES if (version := installed_version(name))},
        **model,
    }


def installed_version(name: str) -> str | None:
    """Of a distribution; None where it is not installed."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _cpu() -> str:
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", pathlib.Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return found.group(1) if found else platform.processor() or "unknown"


def _commit() -> str | None:
    """The checkout's commit, "+" where it has changes; None outside a checkout."""
    folder = pathlib.Path(__file__).resolve().parent

    def git(*words: str) -> str:
        done = subprocess.run(["git", "-C", str(folder), *words], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    try:
        return git("rev-parse", "--short=12", "HEAD") + ("+" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.CalledProcessError):
        return None
