"""Imports of libraries that would call home: they run here without that, and the host's settings stay as they were.

On import, OpenVINO starts `openvino_telemetry` where that is installed, as pip does: it contacts Google Analytics from
a thread, writes a client's number into the home folder, and holds up the process where no network answers. ONNX Runtime
from 1.32 writes a device's number and contacts Microsoft.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from bdflow_rt.fork import fork_safe_lock

_WITHOUT_MODULE = {"openvino": "openvino_telemetry"}
"""Library -> module that it does without where it cannot be imported; it looks for it when it is imported itself."""
_WITH_ENVIRONMENT = {"onnxruntime": {"ORT_DISABLE_TELEMETRY": "1", "ORT_TELEMETRY_DISABLED": "1"}}
"""Library -> environment variables that it reads when it is imported, of one release or another."""
SILENCED = ("OpenVINO", "ONNX Runtime")
"""The libraries of these tables, as people call them."""
_lock = fork_safe_lock()


def import_quietly(name: str) -> Any:
    """Import a module by its full name; the one way here to import what is in the tables above.

    Raises:
        ImportError, OSError: it is not installed or does not load.
    """
    with _lock, _hidden(_WITHOUT_MODULE.get(name)), _environment(_WITH_ENVIRONMENT.get(name, {})):
        return importlib.import_module(name)


@contextmanager
def _hidden(module: str | None) -> Iterator[None]:
    if module is None:
        yield
        return
    entries: dict[str, Any] = dict(sys.modules)
    sys.modules[module] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        if module in entries:
            sys.modules[module] = entries[module]
        else:
            del sys.modules[module]


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
