"""The shell of the `bdflow` command: picks the command, runs it, and turns what goes wrong into one line.

Every command is a module of this folder with `add_arguments(parser)` and `run(args) -> int`, the exit code.
Only the chosen one is imported, so `bdflow --help` answers at once.
"""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Sequence
from types import FrameType
from typing import NoReturn, TextIO

from bdflow_rt._version import __version__
from bdflow_rt.cli.output import note
from bdflow_rt.errors import BackendUnavailableError, BdflowError, OutOfMemoryError, shorten
from bdflow_rt.files import fill_descriptors, standard_streams

COMMANDS: dict[str, str] = {
    "downscale": "turn a picture into a small one that can be restored",
    "upscale": "restore the large picture from what downscale wrote",
    "info": "say what is inside a file that downscale wrote",
    "models": "list the models that can be used here",
    "eval": "measure a model on a folder of pictures",
    "doctor": "report what is installed here and what is wrong with it",
    "export": "write a model's graphs as ONNX",
    "build": "build a model's TensorRT engines",
    "cache": "list, check and remove the engines built for this machine",
    "verify": "compare the backends with PyTorch on pictures, in both directions",
    "inspect": "show the layers of a model's network, or of an engine",
    "train": "train a model",
}
"""Every command, which is also the name of its module, and its line in `bdflow --help`."""

EXIT_BUG = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141
EXIT_TERMINATED = 143
"""128 + SIGINT, SIGPIPE and SIGTERM, as shells report them."""


class _Terminated(BaseException):
    """SIGTERM, raised where the work is, so that what was begun is cleaned up as after Ctrl-C."""


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    raise _Terminated


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code; `argv` defaults to the process's own.

    0 is success; otherwise the code of the error class (`bdflow_rt.errors`), 2 for a wrong option, 130 after
    Ctrl-C, 143 after SIGTERM, 1 for a fault in bdflow itself. With BDFLOW_DEBUG=1 in the environment the traceback is
    shown as well.
    """
    if argv is None:  # the process is ours, so its signals and descriptors are too
        signal.signal(signal.SIGTERM, _terminate)
        fill_descriptors()
    with standard_streams():
        return _run(sys.argv[1:] if argv is None else list(argv))


def _run(argv: list[str]) -> int:
    try:
        return _dispatch(argv)
    except BdflowError as error:
        return _fail(str(error), error.exit_code)
    except KeyboardInterrupt:
        return _fail("interrupted", EXIT_INTERRUPTED)
    except _Terminated:
        return _fail("terminated", EXIT_TERMINATED)
    except BrokenPipeError:  # whoever read stdout has gone, as in `bdflow ... | head`
        return EXIT_BROKEN_PIPE
    except MemoryError:
        return _fail("memory ran out; close other programs, or lower --memory-limit", OutOfMemoryError.exit_code)
    except ImportError as error:
        return _fail(
            f"{shorten(error)}. Part of the installation is missing or broken; 'bdflow doctor' says which, and how to "
            "mend it.",
            BackendUnavailableError.exit_code,
        )
    except Exception as error:
        what = f"{type(error).__name__}: {shorten(error)}" if str(error) else type(error).__name__
        return _fail(
            f"{what}. This is a bug in bdflow: please report it with the traceback, which BDFLOW_DEBUG=1 shows.",
            EXIT_BUG,
        )


def _dispatch(argv: list[str]) -> int:
    # argparse offers every command's name; the arguments of the one that is asked for come from its module.
    chosen = next((word for word in argv if not word.startswith("-")), None)
    parser = _Parser(prog="bdflow", description="Small pictures that turn back into large ones.")
    parser.add_argument("--version", action="version", version=f"bdflow {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, summary in COMMANDS.items():
        command = commands.add_parser(name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.")
        if name == chosen:
            module = importlib.import_module(f"bdflow_rt.cli.{name}")
            module.add_arguments(command)
            command.set_defaults(run=module.run)
    try:
        args = parser.parse_args(argv)
    except SystemExit as leave:  # argparse has printed help, the version or what is wrong with the arguments
        return int(leave.code or 0)
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning
        code: int = args.run(args)
    return code


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """A warning in one line, without the place in the source that Python adds."""
    note(f"bdflow: warning: {' '.join(str(message).split())}")


def _fail(message: str, code: int) -> int:
    if os.environ.get("BDFLOW_DEBUG", "0") not in ("", "0"):
        traceback.print_exc()
    note(f"bdflow: error: {' '.join(message.split())}")
    return code


class _Parser(argparse.ArgumentParser):
    """argparse, saying what is wrong in one line instead of three."""

    def error(self, message: str) -> NoReturn:
        self.exit(EXIT_USAGE, f"bdflow: error: {message}\nTry '{self.prog} --help'.\n")
