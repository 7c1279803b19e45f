"""The doctor's whole report: all probes, side by side, then what follows from them."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from bdflow_rt._version import __version__
from bdflow_rt.cli.diagnosis import gpu, models, packages, system
from bdflow_rt.cli.diagnosis.probe import ask_python, guarded
from bdflow_rt.cli.diagnosis.problems import find_problems, is_usable

SCHEMA = 1

# In a child interpreter, because it loads native libraries.
_EXPLAIN = """
from bdflow_rt.engines import select
answer(select.explain())
"""


def collect() -> dict[str, Any]:
    """Everything `bdflow doctor --json` prints. Never raises: a probe that fails is `{"error": text}` in its place.

    Keys: schema, bdflow, python, system, cpu, memory, disk, environment, packages, gpu, zoo, backend, problems
    (a list of `what` and `fix`) and usable.

    `backend` is what `bdflow_rt.engines.select.explain()` says, in plain JSON types: "backend" (what
    `backend="auto"` means here, or None), "reason", and whatever else it has to say.
    """
    with ThreadPoolExecutor(max_workers=4) as pool:
        slow = {
            "packages": pool.submit(guarded, packages.packages),
            "nvidia_smi": pool.submit(guarded, gpu.nvidia_smi),
            "libcuda": pool.submit(guarded, gpu.libcuda),
            "zoo": pool.submit(guarded, models.zoo),
            "backend": pool.submit(guarded, lambda: ask_python(_EXPLAIN)),
        }
        report: dict[str, Any] = {
            "schema": SCHEMA,
            "bdflow": guarded(_bdflow),
            "python": guarded(system.python),
            "system": guarded(system.system),
            "cpu": guarded(system.cpu),
            "memory": guarded(system.memory),
            "disk": guarded(system.disk),
            "environment": guarded(system.environment),
            "packages": slow["packages"].result(),
            "gpu": {"nvidia_smi": slow["nvidia_smi"].result(), "libcuda": slow["libcuda"].result()},
            "zoo": slow["zoo"].result(),
            "backend": slow["backend"].result(),
        }
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
