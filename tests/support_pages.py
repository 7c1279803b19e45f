"""Fenced blocks of the documentation's pages: taken out of a page, and run as printed, in order, in a folder.

    run_shell(blocks(ROOT / "docs/start/cli.md", "sh"), folder)
    run_python(blocks(ROOT / "docs/start/python.md", "python"), folder)

A block that cannot run everywhere has a comment with the reason on the line above its fence:
`<!-- not run: needs a GPU -->`.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

_FENCE = re.compile(r"(?P<indent>[ \t]*)(?P<fence>`{3,}|~{3,})[ \t]*\{?\.?(?P<language>[\w+-]*)[^`]*")
_NOT_RUN = re.compile(r"\s*<!-- not run: .+ -->\s*")
_LIMIT_S = 300


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        path: of the page.
        line: number of the first line of `code` in it, from 1.
        code: the text between the fences, without their indentation.
        output: of a block of shell: the `text` block right below it, which says what it prints; None where none does.
    """

    path: Path
    line: int
    code: str
    output: str | None = None


def blocks(path: Path, language: str) -> list[Block]:
    """The blocks of a page in a language, such as "sh" or "python", in order, but those marked as not run.

    Raises:
        ValueError: the last fence of the page is not closed.
    """
    fenced = _fenced(path)
    return [
        Block(path, line, code, following[1] if following and following[0] == "text" else None)
        for (name, code, line, run), following in zip(fenced, _next_adjacent(fenced), strict=True)
        if name == language and run
    ]


def _fenced(path: Path) -> list[tuple[str, str, int, bool]]:
    """(language, code, first line, whether it is to run) of all blocks."""
    fenced = []
    lines = path.read_text(encoding="utf-8").splitlines()
    start, language, fence, run = 0, "", "", True
    for number, line in enumerate(lines, start=1):
        if fence:
            if line.strip() == fence:
                code = textwrap.dedent("\n".join([*lines[start : number - 1], ""]))
                fenced.append((language, code, start + 1, run))
                fence = ""
        elif opened := _FENCE.fullmatch(line):
            start, language, fence = number, opened["language"], opened["fence"]
            run = number < 2 or not _NOT_RUN.fullmatch(lines[number - 2])
    if fence:
        raise ValueError(f"{path}:{start}: this fence is not closed.")
    return fenced


def _next_adjacent(fenced: list[tuple[str, str, int, bool]]) -> list[tuple[str, str] | None]:
    """For each block the one that begins at most one empty line below it, as (language, code)."""
    adjacent: list[tuple[str, str] | None] = []
    for (_, code, line, _), (name, following, start, _) in pairwise(fenced):
        # The closing fence, one empty line and the opening fence are between them.
        adjacent.append((name, following) if start - (line + code.count("\n")) <= 3 else None)
    return [*adjacent, None] if fenced else []


def run_shell(shell: Sequence[Block], folder: Path) -> list[str]:
    """Run blocks of shell, each in a bash of its own, in a folder; the first command that fails ends it.

    `bdflow` and `python` are those of the interpreter that runs this, whatever is on the PATH.

    Returns:
        What each block printed, standard output and standard error as they came.

    Raises:
        AssertionError: a block failed; the message has its page, line and output.
    """
    tools = folder.parent / f"{folder.name}-tools"
    tools.mkdir(exist_ok=True)
    for name, arguments in (("bdflow", "-m bdflow_rt"), ("python", ""), ("python3", "")):
        script = tools / name
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}" {arguments} "$@"\n', encoding="utf-8")
        script.chmod(0o755)
    environment = os.environ | {"PATH": f"{tools}{os.pathsep}{os.environ['PATH']}"}
    return [
        _run(["bash", "-e", "-u", "-o", "pipefail", "-c", block.code], block, folder, environment) for block in shell
    ]


def run_python(python: Sequence[Block], folder: Path) -> str:
    """Run the blocks of one page in one process, in a folder: later blocks see what earlier ones defined.

    Returns:
        What they printed.

    Raises:
        AssertionError: they failed; a traceback has the page's line numbers.
    """
    if not python:
        return ""
    # Each block stands on the lines that it has in the page, and everything else is empty.
    text = ""
    for block in python:
        text += "\n" * (block.line - 1 - text.count("\n")) + block.code
    script = folder.parent / f"{folder.name}-{python[0].path.stem}.py"
    script.write_text(text, encoding="utf-8")
    return _run([sys.executable, str(script)], python[0], folder, dict(os.environ))


def _run(command: list[str], block: Block, folder: Path, environment: dict[str, str]) -> str:
    done = subprocess.run(
        command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, timeout=_LIMIT_S,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, encoding="utf-8", errors="replace",
    )  # fmt: skip
    if done.returncode != 0:
        where = f"{block.path}:{block.line}"
        raise AssertionError(f"{where}: exit status {done.returncode} of\n{block.code}\nIt printed:\n{done.stdout}")
    return done.stdout
