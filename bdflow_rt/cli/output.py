"""What the commands print: results on stdout, everything said to a person on stderr."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TextIO, TypeVar

from bdflow_rt.errors import UnwritableOutputError

if TYPE_CHECKING:
    from bdflow_rt.rescaler import Rescaler
    from bdflow_rt.video import StreamStats

T = TypeVar("T")


def print_json(value: Any) -> None:
    """Print one JSON document on stdout, where nothing else goes when `--json` is given.

    Raises:
        UnwritableOutputError: stdout cannot be written, a full disk behind it for example.
        ValueError: a NaN or infinity, which JSON does not have.
    """
    print_text(json.dumps(value, indent=2, allow_nan=False))


def print_text(text: str) -> None:
    """Print a result meant for people on stdout, at once.

    Raises:
        UnwritableOutputError: stdout cannot be written, a full disk behind it for example.
        BrokenPipeError: whoever read stdout has gone.
    """
    # A file name need not be text in the terminal's encoding; what is not is shown escaped.
    encoding = sys.stdout.encoding or "utf-8"
    try:
        print(one_line(text, "\n\t").encode(encoding, "backslashreplace").decode(encoding), flush=True)
    except BrokenPipeError:
        abandon(sys.stdout)
        raise
    except OSError as error:
        abandon(sys.stdout)
        raise UnwritableOutputError(
            f"Standard output cannot be written: {error.strerror}. Send it to a file on a disk with space."
        ) from error


def table(rows: Sequence[Sequence[str]], *, numbers: bool = False) -> str:
    """Rows in columns, the first row their heads; with `numbers` all columns but the first are aligned to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    align = [str.ljust, *[str.rjust if numbers else str.ljust] * (len(widths) - 1)]
    return "\n".join("  ".join(f(c, w) for f, c, w in zip(align, row, widths, strict=True)).rstrip() for row in rows)


def markdown(heads: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: bool = False) -> list[str]:
    """The lines of a Markdown table; with `numbers` all columns but the first are aligned to the right."""
    rule = "|---" + ("|---:" if numbers else "|---") * (len(heads) - 1) + "|"
    return [f"| {' | '.join(heads)} |", rule, *(f"| {' | '.join(cells)} |" for cells in rows)]


def describe_run(rescaler: Rescaler, started: float) -> dict[str, Any]:
    """What ran, and the seconds since `time.monotonic()` was `started`, for a result in JSON."""
    return {
        "model": rescaler.card.id,
        "backend": rescaler.backend,
        "precision": rescaler.precision,
        "seconds": round(time.monotonic() - started, 3),
    }


def print_result(args: argparse.Namespace, result: dict[str, Any], what: str, rescaler: Rescaler) -> None:
    """Print a result with `--json`, else a note of what was written, and of a precision that is not float32."""
    if args.json:
        print_json(result)
    elif not args.quiet:
        output = "standard output" if args.output == "-" else args.output
        note(f"{output}: {what}, {result['seconds']} s ({result['model']}, {result['backend']})")
        if rescaler.precision != "fp32":
            note(f"precision {rescaler.precision}: {rescaler.precision_reason}")


def print_left(args: argparse.Namespace) -> int:
    """Say that an output was left as it is, in a note or with `--json` in the result, and return the exit code."""
    if args.json:
        print_json({"input": args.input, "output": args.output, "skipped": True})
    elif not args.quiet:
        note(f"bdflow: note: {args.output} exists and was left as it is.")
    return 0


def abandon(stream: TextIO) -> None:
    """Let what is still buffered for a stream go nowhere: the interpreter flushes it at exit, and would fail again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def note(text: str) -> None:
    """Say something to the person at the terminal, on stderr, in one line; what cannot be written is not said."""
    try:
        print(one_line(text), file=sys.stderr, flush=True)
    except OSError:
        abandon(sys.stderr)


def one_line(text: str, kept: str = "") -> str:
    """The text with what is not printable escaped: file names may hold line ends and commands to the terminal."""
    return "".join(c if c.isprintable() or c in kept else c.encode("unicode_escape").decode() for c in text)


def progress(items: Iterable[T], *, label: str, total: int | None = None, quiet: bool = False) -> Iterator[T]:
    """Yield `items` behind a progress bar on stderr.

    There is no bar with `quiet`, nor where stderr is not a terminal: log files keep only what is said to people.
    `total` is needed where `items` has no length.
    """
    if quiet or not sys.stderr.isatty():
        yield from items
        return
    from tqdm import tqdm

    yield from tqdm(items, desc=label, total=total, file=sys.stderr, leave=False)


def video_progress(*, label: str, quiet: bool = False) -> Callable[[StreamStats | None], None]:
    """A function that takes the stats of a stream and draws a bar on stderr; None is the end."""
    bar: Any = None

    def show(stats: StreamStats | None) -> None:
        nonlocal bar
        if stats is None:
            if bar is not None:
                bar.close()
            return
        if quiet or not sys.stderr.isatty():
            return
        if bar is None:
            from tqdm import tqdm

            bar = tqdm(desc=label, total=stats.total, file=sys.stderr, leave=False, unit="frame", initial=stats.kept)
        dropped = f", {stats.dropped} left out" if stats.dropped else ""
        bar.set_postfix_str(f"latency {stats.latency_p50_ms:.0f} ms, limited by {stats.limit}{dropped}", refresh=False)
        bar.update(stats.kept + stats.frames - bar.n)

    return show


def progress_callback(*, label: str, quiet: bool = False) -> Callable[[int, int | None], None]:
    """A function that takes (done, total) and draws a bar on stderr, anew after all was done; None is not known."""
    bar: Any = None

    def show(done: int, total: int | None) -> None:
        nonlocal bar
        if quiet or (total is not None and total < 2) or not sys.stderr.isatty():
            return
        if bar is None:
            from tqdm import tqdm

            bar = tqdm(desc=label, total=total, file=sys.stderr, leave=False)
        bar.update(done - bar.n)
        if done == total:
            bar.close()
            bar = None

    return show
