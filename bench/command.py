"""What the benchmarks' own command lines share: one line for what goes wrong, and results written as JSON."""

from __future__ import annotations

import json
import pathlib
import sys
from collections.abc import Callable
from typing import Any

from bdflow_rt.errors import BdflowError, UnwritableOutputError
from bdflow_rt.files import finite, standard_streams, write_atomically


def run_command(name: str, command: Callable[[], None]) -> int:
    """Run a command and return its exit code; what is wrong with its input becomes one line on stderr."""
    with standard_streams():
        try:
            command()
        except BdflowError as error:
            sys.stderr.write(f"{name}: {' '.join(str(error).split())}\n")
            return error.exit_code
    return 0


def write_result(path: pathlib.Path, result: dict[str, Any]) -> None:
    """Write a result as a JSON file, whose folder is made where it is missing; NaN and the infinities become null.

    Raises:
        OutputError: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UnwritableOutputError(f"The folder '{path.parent}' cannot be made: {error.strerror}.") from None
    write_atomically(path, (json.dumps(finite(result), indent=2, allow_nan=False) + "\n").encode())
