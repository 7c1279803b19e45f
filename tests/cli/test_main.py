"""The shell of the command line, in real processes: exit codes, one line per error, nothing else on stdout."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bdflow_rt._version import __version__
from bdflow_rt.cli.main import main
from bdflow_rt.cli.output import progress_callback
from bdflow_rt.cli.parser import COMMANDS
from bdflow_rt.containers import decode_png
from tests.cli.build import bdflow as bdflow_in_process
from tests.support import ROOT


def bdflow(*args: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "bdflow_rt", *map(str, args)], cwd=ROOT, env=_environment(**environment),
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip


def _environment(**changes: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("BDFLOW_")}
    return {**kept, **changes}


def _shell_running(body: str, **environment: str) -> subprocess.Popen[str]:
    """The shell with one real extra command, `trial`, in a fresh process; `body` is what its `run(args)` does."""
    code = (
        "import sys, types\n"
        "from bdflow_rt.cli import main as shell, parser\n"
        "trial = types.ModuleType('bdflow_rt.cli.trial')\n"
        f"def run(args):\n    {body}\n"
        "trial.run, trial.add_arguments = run, lambda parser: None\n"
        "sys.modules['bdflow_rt.cli.trial'] = trial\n"
        "parser.COMMANDS['trial'] = 'do one thing'\n"
        "sys.exit(shell.main(['trial']))\n"
    )
    return subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, env=_environment(**environment), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def _trial(body: str, **environment: str) -> tuple[int, str, str]:
    process = _shell_running(body, **environment)
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def test_version_is_the_packages() -> None:
    done = bdflow("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"bdflow {__version__}\n", "")


def test_help_lists_every_command_and_imports_none() -> None:
    code = (
        "import sys; from bdflow_rt.cli.main import main; code = main(['--help'])\n"
        "print(*[name for name in sys.modules if name.startswith('bdflow_rt.cli.')], file=sys.stderr)\n"
        "sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    shown = " ".join(done.stdout.split())
    assert [name for name, summary in COMMANDS.items() if f" {name} {summary}" not in shown] == []
    assert set(done.stderr.split()) == {f"bdflow_rt.cli.{name}" for name in ("main", "output", "parser", "words")}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_listed_command_has_a_module_and_help(name: str) -> None:
    done = bdflow(name, "--help")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"usage: bdflow {name}")


@pytest.mark.parametrize(
    ("args", "word"), [((), "COMMAND"), (("rescale",), "'rescale'"), (("doctor", "--jason"), "--jason")]
)
def test_wrong_usage_exits_2_and_says_where_help_is(args: tuple[str, ...], word: str) -> None:
    done = bdflow(*args)
    assert (done.returncode, done.stdout) == (2, "")
    first, second = done.stderr.splitlines()
    assert first.startswith("bdflow: error: ")
    assert word in first
    assert second.startswith("Try 'bdflow")


def test_missing_input_is_one_line_and_the_codes_of_its_class(tmp_path: Path) -> None:
    done = bdflow("info", tmp_path / "missing.png")
    assert (done.returncode, done.stdout) == (3, "")
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("bdflow: error: ")
    assert "missing.png" in done.stderr


@pytest.mark.parametrize(("name", "code"), [("ArgumentError", 2), ("NotAPacketError", 5), ("DivergedError", 8)])
def test_error_class_decides_the_exit_code(name: str, code: int) -> None:
    body = f"from bdflow_rt import errors; raise errors.{name}('First line,\\nsecond line.')"
    assert _trial(body) == (code, "", "bdflow: error: First line, second line.\n")


def test_bug_is_called_a_bug_without_traceback() -> None:
    code, out, err = _trial("{}['key']")
    assert (code, out, len(err.splitlines())) == (1, "", 1)
    assert err.startswith("bdflow: error: KeyError: 'key'. This is a bug")
    assert "BDFLOW_DEBUG=1" in err


@pytest.mark.parametrize("body", ["{}['key']", "from bdflow_rt import errors; raise errors.InputError('text')"])
def test_debug_variable_shows_the_traceback(body: str) -> None:
    _, out, err = _trial(body, BDFLOW_DEBUG="1")
    assert out == ""
    assert "Traceback (most recent call last)" in err
    assert err.splitlines()[-1].startswith("bdflow: error: ")


def test_missing_dependency_points_to_the_doctor() -> None:
    code, _, err = _trial("import a_package_that_is_not_here")
    assert code == 7
    assert len(err.splitlines()) == 1
    assert "a_package_that_is_not_here" in err
    assert "bdflow doctor" in err


def test_interrupt_exits_130_with_one_line() -> None:
    process = _shell_running("print('ready', flush=True); import time; time.sleep(60)")
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (130, "bdflow: error: interrupted\n")


def test_reader_that_leaves_early_is_no_error() -> None:
    body = "from bdflow_rt.cli.output import print_text; [print_text('x' * 4096) for _ in range(1000)]; return 0"
    process = _shell_running(body)
    assert process.stdout is not None
    assert process.stdout.read(10) == "x" * 10
    process.stdout.close()
    assert process.stderr is not None
    assert (process.stderr.read(), process.wait(timeout=30)) == ("", 141)
    process.stderr.close()


def test_full_disk_behind_stdout_is_an_output_error() -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "bdflow_rt", "models", "--json"], cwd=ROOT, env=_environment(), stdout=full,
            stderr=subprocess.PIPE, text=True, check=False, timeout=60,
        )  # fmt: skip
    assert done.returncode == 4
    assert len(done.stderr.splitlines()) == 1
    assert "No space left" in done.stderr


def test_undecodable_file_name_is_shown_escaped() -> None:
    body = "from bdflow_rt.cli.output import print_text; print_text('caf\\udce9.png'); return 0"
    assert _trial(body) == (0, "caf\\udce9.png\n", "")


def test_json_with_nan_is_refused_not_printed() -> None:
    code, out, err = _trial("from bdflow_rt.cli.output import print_json; print_json([float('nan')])")
    assert (code, out) == (1, "")
    assert "ValueError" in err


def test_progress_passes_everything_and_stays_silent_without_a_terminal() -> None:
    body = "from bdflow_rt.cli import output; output.print_json(list(output.progress(range(5), label='x'))); return 0"
    code, out, err = _trial(body)
    assert (code, json.loads(out), err) == (0, [0, 1, 2, 3, 4], "")


def test_a_bar_is_drawn_for_each_of_two_stages(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    drawn = Terminal()
    monkeypatch.setattr(sys, "stderr", drawn)
    show = progress_callback(label="downscale")
    for total in (2, 3):
        for done in range(1, total + 1):
            show(done, total)
    assert [bar in drawn.getvalue() for bar in ("0/2", "0/3", "0/4")] == [True, True, False]


@pytest.mark.parametrize("closed", ["2>&-", "<&- 2>&-", "2>/dev/full"])
def test_a_closed_or_full_stderr_leaves_the_output_whole(closed: str, zoo: Path, source: Path) -> None:
    command = ["sh", "-c", f'"$@" {closed}', "sh", sys.executable, "-m", "bdflow_rt", "downscale", str(source)]
    command += ["-o", "/dev/stdout"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, b"")
    assert decode_png(done.stdout).header.width == 65
    assert done.stdout.endswith(b"IEND\xaeB`\x82")


@pytest.mark.parametrize(
    "args",
    [
        "downscale SOURCE -o OUT --overwrite",
        "downscale SOURCE -o OUT --overwrite --refine 1",
        "eval SOURCE/..",
        "models --json",
        "train psnr-x4 --data nowhere",
        "no-such-command",
    ],
)
@pytest.mark.parametrize("stream", [None, io.StringIO()], ids=["none", "closed"])
def test_commands_run_in_a_host_without_streams(
    args: str, stream: io.StringIO | None, zoo: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if stream is not None:
        stream.close()
    argv = args.replace("SOURCE", str(source)).replace("OUT", str(tmp_path / "out.png")).split()
    expected = bdflow_in_process(*argv).code
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setattr(sys, "stderr", stream)
    code = main(argv)
    assert (code, sys.stdout, sys.stderr) == (expected, stream, stream)


def test_files_never_get_the_numbers_of_closed_streams(tmp_path: Path) -> None:
    code = "from bdflow_rt.files import fill_descriptors as fill; fill(); print(open('x', 'w').fileno(), flush=True)"
    command = ["sh", "-c", '"$@" <&- 2>&-', "sh", sys.executable, "-c", code]
    environment = _environment(PYTHONPATH=str(ROOT))
    done = subprocess.run(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, check=True, timeout=60)
    assert int(done.stdout) > 2
