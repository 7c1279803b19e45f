"""Runs that are ended from outside: by a full disk, by Ctrl-C, by a kill. The old output survives them all."""

from __future__ import annotations

import contextlib
import functools
import os
import resource
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.cli.build import Done, contents, failed, finished, start, succeeded
from tests.support import slow

SIDE = 1801
"""Of the large picture: seconds of work, and a file of 10 MB, since noise does not compress."""
LIMIT_BYTES = 100_000


@pytest.fixture(scope="session")
def pair(tiny_zoo: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """A picture of noise and the packet made of it, as files."""
    folder = tmp_path_factory.mktemp("pair")
    noise = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    Image.fromarray(noise).save(folder / "hr.png", compress_level=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BDFLOW_ZOO", str(tiny_zoo))
        succeeded("downscale", folder / "hr.png", "-o", folder / "lr.png")
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def folder(pair: dict[str, bytes], tmp_path: Path) -> Path:
    """Picture, packet, and an older output."""
    for name, data in {**pair, "out.png": b"old"}.items():
        (tmp_path / name).write_bytes(data)
    return tmp_path


COMMANDS = pytest.mark.parametrize(("command", "source"), [slow("downscale", "hr.png"), ("upscale", "lr.png")])


@COMMANDS
def test_a_disk_that_fills_up_in_mid_write(tiny_zoo: Path, folder: Path, command: str, source: str) -> None:
    before = contents(folder)
    limit = functools.partial(resource.setrlimit, resource.RLIMIT_FSIZE, (LIMIT_BYTES, LIMIT_BYTES))
    done = finished(start(command, source, "-o", "out.png", "--overwrite", cwd=folder, zoo=tiny_zoo, preexec_fn=limit))
    failed(done, 4, "out.png", "no partial file is left")
    assert contents(folder) == before


@COMMANDS
def test_figures_of_an_input_that_is_removed_and_of_a_pipe(
    tiny_zoo: Path, folder: Path, command: str, source: str
) -> None:
    size = (folder / source).stat().st_size
    os.mkfifo(folder / "pipe.png")
    process = start(command, source, "-o", "pipe.png", "--json", cwd=folder, zoo=tiny_zoo)
    with (folder / "pipe.png").open("rb") as pipe:
        (folder / source).unlink()  # the output is larger than a pipe's buffer, so the command still runs
        output = pipe.read()
    result = finished(process).json
    assert (result["input_bytes"], result["output_bytes"]) == (size, len(output))
    assert output.endswith(b"IEND\xaeB`\x82")


def computing(process: subprocess.Popen[str], folder: Path) -> bool:
    """Whether the network runs: OpenVINO's code for this processor has been loaded."""
    try:
        return "openvino_intel_cpu_plugin" in Path(f"/proc/{process.pid}/maps").read_text()
    except OSError:
        return False


def writing(process: subprocess.Popen[str], folder: Path) -> bool:
    """Whether the output has been begun."""
    with contextlib.suppress(FileNotFoundError):  # the early check of the output makes such a file as well, and empty
        return any(part.stat().st_size for part in folder.glob(".bdflow-*.part"))
    return False


def signalled(
    zoo: Path, folder: Path, number: signal.Signals, moment: Callable[[subprocess.Popen[str], Path], bool]
) -> Done:
    """Restore the large picture, and send a signal at that moment."""
    process = start("upscale", "lr.png", "-o", "out.png", "--overwrite", "--memory-limit", "20", cwd=folder, zoo=zoo)
    deadline = time.monotonic() + 60
    while not moment(process, folder):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(number)
    return finished(process)


@pytest.mark.parametrize(
    ("moment", "number", "code", "word"),
    [
        (computing, signal.SIGINT, 130, "interrupted"),
        (computing, signal.SIGTERM, 143, "terminated"),
        (writing, signal.SIGINT, 130, "interrupted"),
        slow(writing, signal.SIGTERM, 143, "terminated"),
    ],
)
def test_an_interrupt_or_a_termination_says_so_and_leaves_nothing(
    tiny_zoo: Path,
    folder: Path,
    moment: Callable[[subprocess.Popen[str], Path], bool],
    number: signal.Signals,
    code: int,
    word: str,
) -> None:
    before = contents(folder)
    done = signalled(tiny_zoo, folder, number, moment)
    assert done == Done(code, "", f"bdflow: error: {word}\n")
    assert contents(folder) == before


@pytest.mark.parametrize("moment", [computing, writing])
def test_a_kill_leaves_the_old_output(
    tiny_zoo: Path, folder: Path, moment: Callable[[subprocess.Popen[str], Path], bool]
) -> None:
    before = contents(folder)
    assert signalled(tiny_zoo, folder, signal.SIGKILL, moment).code == -signal.SIGKILL
    after = contents(folder)
    assert {name: after[name] for name in before} == before
    # What a kill in mid-write leaves behind is never mistaken for a picture.
    assert all(name.startswith(".bdflow-") and name.endswith(".part") for name in set(after) - set(before))
