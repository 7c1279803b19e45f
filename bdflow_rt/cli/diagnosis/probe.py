"""How the doctor asks: guarded calls, child interpreters, tools."""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from bdflow_rt.errors import shorten
from bdflow_rt.install import install_extra

CHILD_TIMEOUT_S = 120.0
"""Importing torch from a cold network disk has been seen to take a minute."""
TOOL_TIMEOUT_S = 20.0

_RESULT = "bdflow-doctor-result:"
_PROLOGUE = """\
import json, sys
sys.path[:] = {path!r}
def answer(value):
    print("\\n{marker}" + json.dumps(value), flush=True)
"""


class ProbeError(Exception):
    """A probe got no answer; the text says why. Never leaves the doctor."""


def pip(arguments: str) -> str:
    """The command that runs pip for the interpreter that asks; the first pip in PATH may be another one's."""
    return f"{shlex.quote(sys.executable or 'python3')} -m pip {arguments}"


def pip_extra(extra: str, *options: str) -> str:
    """The command that installs an extra for the interpreter that asks."""
    return pip(" ".join([install_extra(extra).removeprefix("pip "), *options]))


def guarded(probe: Callable[[], Any]) -> Any:
    """The probe's answer, or `{"error": text}` if it raises anything at all."""
    try:
        return probe()
    except Exception as error:
        return {"error": str(error) if isinstance(error, ProbeError) else f"{type(error).__name__}: {shorten(error)}"}


def ask_python(code: str) -> Any:
    """Run `code` in a child interpreter that sees the packages this one sees; return what it gives to `answer()`.

    Raises:
        ProbeError: the child raised, crashed, hung or gave no answer.
    """
    prologue = _PROLOGUE.format(path=sys.path, marker=_RESULT)
    flags = [flag for flag, given in (("-I", sys.flags.isolated), ("-S", sys.flags.no_site)) if given]
    output = run_tool([sys.executable, *flags, "-c", prologue + code], timeout_s=CHILD_TIMEOUT_S)
    results = [line for line in output.splitlines() if line.startswith(_RESULT)]
    if not results:
        raise ProbeError("the interpreter ended without an answer")
    return json.loads(results[-1][len(_RESULT) :])


def run_tool(command: list[str], *, timeout_s: float = TOOL_TIMEOUT_S) -> str:
    """Standard output of a command.

    Raises:
        ProbeError: it cannot be started, takes longer than `timeout_s` seconds, or fails; the text is the last line
            of what it wrote to stderr.
    """
    try:
        done = subprocess.run(
            command, capture_output=True, timeout=timeout_s, stdin=subprocess.DEVNULL, check=False, errors="replace"
        )
    except subprocess.TimeoutExpired:
        raise ProbeError(f"no answer in {timeout_s:g} s") from None
    except (OSError, ValueError) as error:
        raise ProbeError(f"{command[0] or 'the Python interpreter'} cannot be started: {error}") from None
    if done.returncode < 0:
        raise ProbeError(f"crashed with {signal.Signals(-done.returncode).name}")
    if done.returncode:
        lines = done.stderr.strip().splitlines() or done.stdout.strip().splitlines()
        raise ProbeError(shorten(lines[-1]) if lines else f"failed with exit code {done.returncode}")
    return done.stdout
