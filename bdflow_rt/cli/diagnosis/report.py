"""The doctor's whole report: all probes, side by side, then what follows from them."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from bdflow_rt._version import __version__
from bdflow_rt.cli.diagnosis import compiled, gpu, models, packages, runs, system
from bdflow_rt.cli.diagnosis.backends import explain_backends
from bdflow_rt.cli.diagnosis.probe import ask_python, guarded
from bdflow_rt.cli.diagnosis.problems import find_problems, is_usable

SCHEMA = 2

# In a child interpreter, because it loads native libraries.
_EXPLAIN = """
from bdflow_rt.engines import select
answer(select.explain())
"""


def collect() -> dict[str, Any]:
    """Everything `bdflow doctor --json` prints. Never raises: a probe that fails is `{"error": text}` in its place.

    Keys: schema, bdflow, python, system, cpu, memory, caches, environment, packages, gpu, flavours, kernels, zoo,
    backend, runs, problems (a list of `what` and `fix`) and usable.

    `backend` is what `bdflow_rt.engines.select.explain()` says, in plain JSON types: "backend" (what
    `backend="auto"` means here, or None) and "reason"; its "backends" are those of `explain_backends`.
    """
    with ThreadPoolExecutor(max_workers=4) as pool:
        answers = {name: pool.submit(guarded, probe) for name, probe in _PROBES.items()}
    report: dict[str, Any] = {"schema": SCHEMA, **{name: answer.result() for name, answer in answers.items()}}
    report["backend"]["backends"] = guarded(lambda: explain_backends(report))
    report["problems"] = find_problems(report)
    report["usable"] = guarded(lambda: is_usable(report)) is True
    # Metadata and tools may answer with anything; what cannot be printed as JSON must not stop the report.
    plain: dict[str, Any] = json.loads(json.dumps(report, default=str))
    return plain


def _bdflow() -> dict[str, Any]:
    location = Path(__file__).resolve().parents[2]
    return {
        "version": __version__,
        "location": str(location),
        "checkout": str(location.parent) if (location.parent / "setup.py").is_file() else None,
        "installed": packages.installed().get("bdflow-rt"),
    }


_PROBES: dict[str, Callable[[], Any]] = {
    "bdflow": _bdflow,
    "python": system.python,
    "system": system.system,
    "cpu": system.cpu,
    "memory": system.memory,
    "caches": compiled.caches,
    "environment": system.environment,
    "packages": packages.packages,
    "gpu": gpu.gpu,
    "flavours": compiled.flavours,
    "kernels": compiled.kernels,
    "zoo": models.zoo,
    "backend": lambda: ask_python(_EXPLAIN),
    "runs": runs.runs,
}
