"""The log of a run: one JSON object per line, only ever added to."""

from __future__ import annotations

import json
import pathlib
from typing import Any

from bdflow_rt.errors import OutputError, UnreadableFileError
from bdflow_rt.files import finite


class RunLog:
    """Appends to a log and reads it again.

    Args:
        path: of the .jsonl file; made with the first entry. Half a line that a killed process left is removed.

    Raises:
        OutputError: there is one that cannot be added to.
    """

    def __init__(self, path: pathlib.Path) -> None:
        self._path = path
        if not path.exists():
            return
        try:
            data = path.read_bytes()
            whole = data.rfind(b"\n") + 1
            if whole < len(data):
                with path.open("r+b") as log:
                    log.truncate(whole)
        except OSError as error:
            raise OutputError(f"The log {path} cannot be added to: {error.strerror}. Move it out of the way.") from None

    def add(self, entry: dict[str, Any]) -> None:
        """Write one line; numbers that JSON does not have, NaN and the infinities, become null.

        Raises:
            OutputError: the log cannot be written.
        """
        line = json.dumps(finite(entry), allow_nan=False) + "\n"
        try:
            with self._path.open("a", encoding="utf-8") as log:
                log.write(line)
        except OSError as error:
            raise OutputError(
                f"The log {self._path} cannot be written: {error.strerror}. Make room, then go on with --resume."
            ) from None


def read_history(path: pathlib.Path) -> list[dict[str, Any]]:
    """The entries that led to where a run is, in order of their steps.

    A run that was resumed or set back says so with a "start" entry; what it had written of later steps is left out.
    Lines that are no entries are passed over: a crash of the machine can leave some, and costs no more than those.

    Raises:
        UnreadableFileError: there is no log, or it cannot be read.
    """
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    except OSError as error:
        raise UnreadableFileError(f"The log {path} cannot be read: {error.strerror}.") from None
    history: list[dict[str, Any]] = []
    for line in lines:
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if not (isinstance(entry, dict) and "event" in entry and "step" in entry):
            continue
        if entry["event"] == "start":
            history = [earlier for earlier in history if earlier["step"] <= entry["step"]]
        history.append(entry)
    return history
