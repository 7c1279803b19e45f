"""Faults of the command line that were seen once, each by its name."""

from __future__ import annotations

import io
import os
import shutil
import signal
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bdflow_rt import Rescaler
from bdflow_rt.containers import read_packet
from bdflow_rt.evaluate.quality import evaluate
from bdflow_rt.packet import Packet
from tests.cli.build import bdflow, contents, failed, succeeded
from tests.cli.test_main import _trial
from tests.support import ROOT, photo

PHOTO = Image.fromarray(photo(63, 65, 1))


@pytest.fixture
def work(zoo: Path, tmp_path: Path) -> Path:
    """A folder with a photograph."""
    folder = tmp_path / "work"
    folder.mkdir()
    PHOTO.save(folder / "hr.png")
    return folder


def in_namespace(script: str, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """A script of a shell as root of a user namespace, as in a rootless container; $B is the command."""
    if subprocess.run(["unshare", *options, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no user namespaces here")
    script = f'B="{sys.executable} -m bdflow_rt"; {script}'
    return subprocess.run(
        ["unshare", *options, "sh", "-c", script], cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip


@pytest.mark.parametrize(("number", "word"), [(signal.SIGINT, "interrupted"), (signal.SIGTERM, "terminated")])
def test_ctrl_c_while_modules_load_is_a_broken_openvino(number: int, word: str) -> None:
    """As a module in C++ reports it, by an error of its own that swallows the interrupt."""
    code = (
        "import os, sys, time, types\n"
        "from bdflow_rt.cli import main as shell, parser\n"
        "from bdflow_rt.errors import BackendUnavailableError\n"
        "def run(args):\n"
        f"    try:\n        os.kill(os.getpid(), {int(number)}); time.sleep(5)\n"
        "    except BaseException:\n        pass\n"
        "    raise BackendUnavailableError('The openvino backend does not load (initialization failed).')\n"
        "sys.modules['bdflow_rt.cli.trial'] = types.SimpleNamespace(run=run, add_arguments=lambda parser: None)\n"
        "parser.COMMANDS['trial'] = 'do one thing'\n"
        "sys.argv = ['bdflow', 'trial']\n"
        "sys.exit(shell.main())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (128 + number, "", f"bdflow: error: {word}\n")


def test_an_interrupted_import_is_an_interrupt_for_programs_too() -> None:
    from bdflow_rt.engines.backends import _is_interrupt

    failure = ImportError("initialization failed")
    failure.__cause__ = KeyboardInterrupt()
    assert _is_interrupt(failure)
    assert not _is_interrupt(ImportError("no such module"))


def test_w_error_makes_bug_in_bdflow() -> None:
    body = "import warnings; warnings.warn('a note', UserWarning); warnings.warn('old', DeprecationWarning); return 0"
    assert _trial(body, PYTHONWARNINGS="error") == (0, "", "bdflow: warning: a note\n")


def test_rootless_containers_fchown_einval(work: Path) -> None:
    (work / "out.png").write_bytes(b"old")
    os.chmod(work / "out.png", 0o666)
    if os.geteuid():
        pytest.skip("only root makes a file of a user that the namespace does not know")
    os.chown(work / "out.png", 12345, 12345)
    done = in_namespace("$B downscale hr.png -o out.png --overwrite -q", work, "-Ur")
    assert (done.returncode, done.stderr) == (0, "")
    assert read_packet(work / "out.png").header.width == 65


def test_a_bind_mounted_output_ebusy(work: Path) -> None:
    (work / "out.png").write_bytes(bytes(100_000))
    script = "mount --bind out.png out.png && $B downscale hr.png -o out.png --overwrite -q"
    done = in_namespace(script, work, "-Urm")
    assert done.returncode == 0, done.stderr
    (line,) = done.stderr.splitlines()
    assert "mounted by itself" in line
    assert "half a file" in line
    assert read_packet(work / "out.png").header.width == 65
    assert sorted(contents(work)) == ["hr.png", "out.png"]


def test_export_inside_the_zoo_writes_into_it(zoo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    models = Path(shutil.copytree(zoo, tmp_path / "models"))
    monkeypatch.setenv("BDFLOW_ZOO", str(models))
    monkeypatch.chdir(models)
    before = contents(models)
    for name in ("plain", "plain@1"):
        failed(bdflow("export", name), 4, "plain@1", "--output", "./plain@1")
    assert contents(models) == before
    succeeded("export", "./plain@1")


def test_an_input_removed_after_it_was_read(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size = (work / "hr.png").stat().st_size
    downscale = Rescaler.downscale

    def slowly(self: Rescaler, *args: object, **options: object) -> Packet:
        (work / "hr.png").unlink()
        return downscale(self, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Rescaler, "downscale", slowly)
    assert succeeded("downscale", work / "hr.png", "-o", work / "lr.png", "--json").json["input_bytes"] == size


def test_a_picture_that_vanishes_while_a_folder_is_measured(work: Path) -> None:
    with Rescaler.from_pretrained("tiny-x2", threads=1) as rescaler:
        result = evaluate(rescaler, [work / "gone.png", work / "hr.png"])
    assert [one["name"] for one in result["pictures"]] == ["hr.png"]
    (gone,) = result["failed"]
    assert (gone["name"], "does not exist" in gone["reason"]) == ("gone.png", True)


@pytest.mark.parametrize("command", ["downscale", "upscale", "info"])
def test_a_name_that_is_a_folder(work: Path, command: str) -> None:
    (work / "folder.png").mkdir()
    output: list[str | Path] = [] if command == "info" else ["-o", work / "out.png"]
    failed(bdflow(command, work / "folder.png", *output), 3, "folder.png' is a folder")
    if output:
        source = work / "hr.png"
        if command == "upscale":
            succeeded("downscale", source, "-o", work / "lr.png")
            source = work / "lr.png"
        for option in ("--overwrite", "--no-clobber"):
            failed(bdflow(command, source, "-o", work / "folder.png", option), 4, "folder.png' is a folder")


def test_a_damaged_tar_xz_is_a_raw_lzma_error(zoo: Path, tmp_path: Path) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:xz") as archive:
        data = np.random.default_rng(0).bytes(100_000)
        entry = tarfile.TarInfo("a.png")
        entry.size = len(data)
        archive.addfile(entry, io.BytesIO(data))
    content = bytearray(packed.getvalue())
    content[2000:2100] = bytes(100)
    (tmp_path / "pictures.tar.xz").write_bytes(content)
    done = bdflow("train", "psnr-x4", "--data", tmp_path / "pictures.tar.xz", "--output", tmp_path / "run")
    assert done.code == 8, done
    assert "pictures.tar.xz" in done.err
    assert "bug in bdflow" not in done.err
