"""The shell of the `bdflow` command: picks the command, runs it, and turns what goes wrong into one line.

Every command is a module of this folder with `add_arguments(parser)` and `run(args) -> int`, the exit code.
Only the chosen one is imported, so `bdflow --help` answers at once.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
import warnings
from collections.abc import Sequence
from types import FrameType
from typing import NoReturn, TextIO

from bdflow_rt._version import __version__
from bdflow_rt.cli.output import note, print_text
from bdflow_rt.cli.parser import EXIT_BROKEN_PIPE, EXIT_BUG, EXIT_INTERRUPTED, EXIT_TERMINATED, build_parser
from bdflow_rt.cli.words import for_command_line
from bdflow_rt.errors import BackendUnavailableError, BdflowError, OutOfMemoryError, shorten
from bdflow_rt.files import fill_descriptors, standard_streams
from bdflow_rt.install import missing_package

_received: list[int] = []
"""Signals that the command was to end by. What is raised for them while a library loads may come out as its failure."""


class _Terminated(BaseException):
    """SIGTERM, raised where the work is, so that what was begun is cleaned up as after Ctrl-C."""


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    _received.append(number)
    raise KeyboardInterrupt


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    _received.append(number)
    raise _Terminated


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code; `argv` defaults to the process's own.

    0 is success; otherwise the code of the error class (`bdflow_rt.errors`), 2 for a wrong option, 130 after
    Ctrl-C, 143 after SIGTERM, 1 for a fault in bdflow itself. With BDFLOW_DEBUG=1 in the environment the traceback is
    shown as well.
    """
    if argv is None:  # the process is ours, so its signals and descriptors are too
        signal.signal(signal.SIGTERM, _terminate)
        if signal.getsignal(signal.SIGINT) == signal.default_int_handler:  # a shell has background jobs ignore it
            signal.signal(signal.SIGINT, _interrupt)
        fill_descriptors()
    with standard_streams():
        return _run(sys.argv[1:] if argv is None else list(argv))


def _run(argv: list[str]) -> int:
    try:
        return _dispatch(argv)
    except KeyboardInterrupt:
        return _fail("interrupted", EXIT_INTERRUPTED)
    except _Terminated:
        return _fail("terminated", EXIT_TERMINATED)
    except Exception as error:
        if _received:
            is_interrupt = _received[0] == signal.SIGINT
            what = "interrupted" if is_interrupt else "terminated"
            return _fail(what, EXIT_INTERRUPTED if is_interrupt else EXIT_TERMINATED)
        if isinstance(error, BrokenPipeError) or isinstance(error.__cause__, BrokenPipeError):
            return EXIT_BROKEN_PIPE  # whoever read stdout has gone, as in `bdflow ... | head`
        return _fail(*_explain(error))


def _explain(error: Exception) -> tuple[str, int]:
    """What a person is told of an error, and the exit code."""
    if isinstance(error, BdflowError):
        return for_command_line(str(error)), error.exit_code
    if isinstance(error, MemoryError):
        return "memory ran out; close other programs, or lower --memory-limit", OutOfMemoryError.exit_code
    if isinstance(error, ImportError):
        advice = missing_package(error) or (
            "Part of the installation is missing or broken; 'bdflow doctor' says which, and how to mend it."
        )
        return f"{shorten(error)}. {advice}", BackendUnavailableError.exit_code
    what = f"{type(error).__name__}: {shorten(error)}" if str(error) else type(error).__name__
    return (
        f"{what}. This is a bug in bdflow: please report it with the traceback, which BDFLOW_DEBUG=1 shows, and with "
        "what 'bdflow --version -v' prints.",
        EXIT_BUG,
    )


def _dispatch(argv: list[str]) -> int:
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning
        _never_raise_warnings()
        # argparse offers every command's name; the arguments of the one that is asked for come from its module.
        chosen = next((word for word in argv if not word.startswith("-")), None)
        own = argv if chosen is None else argv[: argv.index(chosen)]
        try:
            if "--version" in own:
                return _print_version(own)
            parser = build_parser(() if chosen is None else (chosen,))
            args = parser.parse_args(argv)
            if args.verbose:
                parser.error("-v goes with --version; commands say all there is by themselves.")
        except SystemExit as leave:  # argparse has printed help, or what is wrong with the arguments
            return int(leave.code or 0)
        if chosen not in ("doctor", "completion") and not getattr(args, "quiet", False):
            _say_missing_folders()
        code: int = args.run(args)
    return code


def _print_version(options: list[str]) -> int:
    verbose = {"-v", "--verbose"} & set(options)
    if unknown := [option for option in options if option not in ("--version", "-v", "--verbose")]:
        build_parser(()).error(f"unrecognized arguments: {unknown[0]}")
    if verbose:
        from bdflow_rt.cli.about import about

        print_text(about())
    else:
        print_text(f"bdflow {__version__}")
    return 0


def _say_missing_folders() -> None:
    """Say what BDFLOW_ZOO names and is not there: else its models are unknown for no reason that shows."""
    if not os.environ.get("BDFLOW_ZOO"):
        return
    from bdflow_rt.zoo.registry import zoo_folders

    for folder in zoo_folders():
        if not os.path.isdir(folder):
            note(f"bdflow: note: BDFLOW_ZOO names {folder}, which is not a folder; no models are looked for there.")


def _never_raise_warnings() -> None:
    """Have warnings shown where the interpreter was told to raise them (-W error): here they are notes to a person."""
    if any(action == "error" and category is Warning for action, _, category, *_ in warnings.filters):
        warnings.simplefilter("default")
        for category in (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning):
            warnings.simplefilter("ignore", category)


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """A warning in one line, without the place in the source that Python adds."""
    # What Pillow thinks of a file's metadata is for programmers.
    if os.path.basename(os.path.dirname(filename)) == "PIL":
        return
    note(f"bdflow: warning: {for_command_line(str(message))}")


def _fail(message: str, code: int) -> int:
    if os.environ.get("BDFLOW_DEBUG", "0") not in ("", "0"):
        traceback.print_exc()
    note(f"bdflow: error: {' '.join(message.split())}")
    return code
