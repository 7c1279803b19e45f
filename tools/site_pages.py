"""The parts of the site's pages that are made from the source: commands, exit codes and errors."""

from __future__ import annotations

import argparse
import inspect
import re
from collections.abc import Iterator

from bdflow_rt import errors
from bdflow_rt.cli import parser as command_line
from bdflow_rt.cli.output import markdown
from bdflow_rt.errors import BdflowError

SIGNALS = {
    command_line.EXIT_INTERRUPTED: "Ctrl-C",
    command_line.EXIT_BROKEN_PIPE: "the reader of standard output has closed it, such as `head`",
    command_line.EXIT_TERMINATED: "SIGTERM",
}
"""Exit codes that no class of error has."""
USAGE_WIDTH = 76
_ELSEWHERE = (argparse._SubParsersAction, argparse._HelpAction)
"""Actions that have no row: those with sections of their own, and the one that all commands have."""
_DEFAULT = re.compile(r"\s*\(default: (?P<value>.*)\)$")


def command_parsers() -> dict[str, argparse.ArgumentParser]:
    """The parser of every command, and of every action of a command, by its full name."""
    parsers: dict[str, argparse.ArgumentParser] = {}
    for name, parser in _inner(command_line.build_parser(command_line.COMMANDS)).items():
        parsers[f"bdflow {name}"] = parser
        parsers |= {f"bdflow {name} {action}": inner for action, inner in _inner(parser).items()}
    return parsers


def commands() -> str:
    """Every command with its usage and options, as Markdown."""
    return "\n\n".join(section for title, parser in command_parsers().items() for section in _command(title, parser))


def exit_codes() -> str:
    """A table of the exit codes: of the errors' classes, and of signals."""
    rows = [["0", "success", ""]]
    for one in error_classes():
        if "exit_code" in vars(one):
            says = "a bug in bdflow" if one is BdflowError else _summary(one)
            rows.append([str(one.exit_code), says, _link(one)])
    rows += [[str(code), says, ""] for code, says in SIGNALS.items()]
    return "\n".join(markdown(["code", "after", "class"], rows))


def error_tree() -> str:
    """Every class of error below its base, as nested Markdown lists with an anchor each."""
    return "\n".join(_branch(BdflowError, 0))


def error_classes() -> list[type[BdflowError]]:
    """All classes of `bdflow_rt.errors`, in the order of the file."""
    return [one for one in vars(errors).values() if inspect.isclass(one) and issubclass(one, BdflowError)]


def _command(title: str, parser: argparse.ArgumentParser) -> Iterator[str]:
    yield f"{'###' if title.count(' ') > 1 else '##'} {title}"
    if parser.description:
        yield parser.description
    parser.formatter_class = _Formatter
    yield f"```text\n{parser.format_usage().strip()}\n```"
    rows = [_row(action) for action in parser._actions if not isinstance(action, _ELSEWHERE)]
    if rows:
        yield "\n".join(markdown(["option", "meaning", "default"], rows))


class _Formatter(argparse.HelpFormatter):
    """argparse's own, at one width wherever the page is built."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=USAGE_WIDTH)


def _row(action: argparse.Action) -> list[str]:
    says, default = action.help or "", ""
    if found := _DEFAULT.search(says):  # people's words for it, which say more than the value
        says, default = says[: found.start()], found["value"]
    elif action.default not in (None, False, argparse.SUPPRESS):
        default = str(action.default)
    choices = ", ".join(f"`{one}`" for one in action.choices or ())
    says = says.replace("%(default)s", str(action.default)).replace("|", "\\|")
    required = "required" if action.required and action.option_strings else default
    return [_names(action), "; ".join(filter(None, [says, choices and f"one of {choices}"])), required]


def _names(action: argparse.Action) -> str:
    """An option's names and the word for its value, or the word alone of an argument without a name."""
    words = [f"`{name}`" for name in action.option_strings]
    metavar = action.metavar or action.dest
    if action.option_strings and not action.metavar:
        metavar = "" if action.choices else action.dest.upper()
    value = metavar if isinstance(metavar, str) else " ".join(metavar)
    takes = f"`{value}`".replace("|", "\\|") if value and action.nargs != 0 else ""
    return " ".join(filter(None, [", ".join(words), takes]))


def _inner(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    found = [action.choices for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    return {name: inner for choices in found for name, inner in choices.items()}


def _branch(one: type[BdflowError], depth: int) -> Iterator[str]:
    code = f", exit code {one.exit_code}" if "exit_code" in vars(one) else ""
    yield f'{"    " * depth}- <span id="{one.__name__}"></span>**`{one.__name__}`**{code}: {_summary(one)}'
    for inner in error_classes():
        if one in inner.__bases__:
            yield from _branch(inner, depth + 1)


def _summary(one: type[BdflowError]) -> str:
    return (inspect.getdoc(one) or "").splitlines()[0]


def _link(one: type[BdflowError]) -> str:
    return f"[`{one.__name__}`](errors.md#{one.__name__})"


BLOCKS = {"commands": commands, "exit-codes": exit_codes, "errors": error_tree}
"""Block of a page, `<!-- generated: NAME -->` -> what fills it."""
