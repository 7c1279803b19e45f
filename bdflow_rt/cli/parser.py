"""The parser of the command line: every command with its summary, exit codes in the help, errors in plain words."""

from __future__ import annotations

import argparse
import difflib
import importlib
import re
from collections.abc import Callable, Collection, Iterator
from typing import NoReturn

from bdflow_rt.errors import BdflowError

COMMANDS: dict[str, str] = {
    "downscale": "turn a picture or a video into a small one that can be restored",
    "upscale": "restore the picture or video from what downscale wrote",
    "info": "say what is inside a file that downscale wrote",
    "models": "list the models that can be used here",
    "eval": "measure a model on a folder of pictures or a video",
    "doctor": "report what is installed here and what is wrong with it",
    "export": "write a model's graphs as ONNX",
    "build": "build a model's TensorRT engines",
    "cache": "list, check and remove the engines built for this machine",
    "verify": "compare the backends with PyTorch on pictures, in both directions",
    "inspect": "show the layers of a model's network, or of an engine",
    "train": "train a model",
    "completion": "print a script that completes this command in a shell",
}
"""Every command, which is also the name of its module, and its line in `bdflow --help`."""

EXIT_BUG = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141
EXIT_TERMINATED = 143
"""128 + SIGINT, SIGPIPE and SIGTERM, as shells report them."""


def build_parser(loaded: Collection[str]) -> Parser:
    """The parser with every command's name, and the arguments of those in `loaded`, whose modules it imports."""
    parser = Parser(prog="bdflow", description="Small pictures that turn back into large ones.")
    parser.add_argument(
        "--version", action="store_true", help="print the version; with -v all that a report of a fault should say"
    )
    parser.add_argument("-v", "--verbose", action="store_true", help="with --version: packages, model and folders too")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, summary in COMMANDS.items():
        command = commands.add_parser(name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.")
        if name in loaded:
            module = importlib.import_module(f"bdflow_rt.cli.{name}")
            module.add_arguments(command)
            command.set_defaults(run=module.run)
    return parser


class Parser(argparse.ArgumentParser):
    """argparse, with the exit codes in its help, and saying what is wrong in one line of plain words."""

    def __init__(self, **settings: object) -> None:
        formatter = argparse.RawDescriptionHelpFormatter
        super().__init__(formatter_class=formatter, epilog=exit_codes(), **settings)  # type: ignore[arg-type]

    def option_strings(self) -> Iterator[str]:
        """Every option, those of its own commands too."""
        for action in self._actions:
            yield from action.option_strings
            if isinstance(action, argparse._SubParsersAction):
                for parser in action.choices.values():
                    yield from parser.option_strings()

    def error(self, message: str) -> NoReturn:
        """Say what is wrong with the arguments, and leave."""
        self.exit(
            EXIT_USAGE, f"bdflow: error: {_plain(message, set(self.option_strings()))}\nTry '{self.prog} --help'.\n"
        )


def exit_codes() -> str:
    """The exit codes of the command, from the classes of errors."""
    rows = {0: "Success.", EXIT_BUG: "A bug in bdflow."}
    rows |= {kind.exit_code: (kind.__doc__ or "").partition("\n")[0] for kind in BdflowError.__subclasses__()}
    rows |= {
        EXIT_INTERRUPTED: "Interrupted by Ctrl-C.",
        EXIT_BROKEN_PIPE: "The reader of standard output left.",
        EXIT_TERMINATED: "Terminated.",
    }
    return "\n".join(["exit codes:", *(f"  {code:<5}{what}" for code, what in sorted(rows.items()))])


_KINDS = {"int": "a whole number", "float": "a number"}


def _plain(message: str, options: set[str]) -> str:
    """What argparse says, in words for those who do not know it."""
    for pattern, words in _WORDS:
        if found := re.fullmatch(pattern, message, re.DOTALL):
            return words(found, options)
    return message


def _unknown(found: re.Match[str], options: set[str]) -> str:
    first = found[1].split(" ")[0]
    if not first.startswith("-"):
        return f"{found[1]!r} is one argument too many."
    near = difflib.get_close_matches(first.partition("=")[0], options, 1)
    return f"There is no option {first}" + (f"; did you mean {near[0]}?" if near else ".")


def _bad_choice(found: re.Match[str], options: set[str]) -> str:
    allowed = [word.strip("' ") for word in found[3].split(",")]
    near = difflib.get_close_matches(found[2], allowed, 1)
    meant = f"; did you mean {near[0]}?" if near else f"; it must be one of {', '.join(allowed)}."
    return f"{found[1]} is {found[2]!r}{meant}"


_WORDS: tuple[tuple[str, Callable[[re.Match[str], set[str]], str]], ...] = (
    (r"unrecognized arguments: (.+)", _unknown),
    (r"argument (\S+): invalid choice: '(.*)' \(choose from (.+)\)", _bad_choice),
    (
        r"argument (\S+): invalid (\w+) value: (.+)",
        lambda found, _: f"{found[1]} is {found[3]}; it must be {_KINDS.get(found[2], found[2])}.",
    ),
    (
        r"the following arguments are required: (.+)",
        lambda found, _: f"{found[1]} {'are' if ',' in found[1] else 'is'} missing.",
    ),
    (r"argument (\S+): expected (?:one argument|at least one argument)", lambda found, _: f"{found[1]} needs a value."),
    (
        r"argument (\S+): not allowed with argument (\S+)",
        lambda found, _: f"{found[1]} and {found[2]} contradict each other; give one of them.",
    ),
    (
        r"ambiguous option: (\S+) could match (.+)",
        lambda found, _: f"{found[1]} could be {found[2].replace(', ', ' or ')}; write it out.",
    ),
    (
        r"argument (\S+): ignored explicit argument (.+)",
        lambda found, _: f"{found[1]} takes no value, and got {found[2]}.",
    ),
)
