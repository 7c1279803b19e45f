"""Writing whole files: the old file or the new one, never something between."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pytest

from bdflow_rt.containers import read_picture
from bdflow_rt.errors import ArgumentError, DiskFullError, OutputExistsAsInputError, UnwritableOutputError
from bdflow_rt.files import PathLike, check_output, write_atomically
from tests.containers.build import ordinary_user, refused
from tests.support import ROOT

Act = Callable[[PathLike], None]


def write_half(file: BinaryIO) -> None:
    """A writer that fails in the middle for a reason that has nothing to do with the disk."""
    file.write(b"half")
    raise KeyboardInterrupt


def test_bytes_and_writers_give_the_same_file(tmp_path: Path) -> None:
    write_atomically(tmp_path / "a", b"content")
    write_atomically(str(tmp_path / "b"), lambda file: file.writelines([b"con", b"tent"]))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes() == b"content"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_an_interrupted_writer_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, write_half)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_killed_process_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    code = (
        "import os, signal, sys\nfrom bdflow_rt.files import write_atomically\n"
        "def write(file):\n    file.write(bytes(1 << 20)); file.flush(); os.kill(os.getpid(), signal.SIGKILL)\n"
        "write_atomically(sys.argv[1], write)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], cwd=ROOT, check=False)
    assert done.returncode == -signal.SIGKILL
    assert path.read_bytes() == b"old"


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o755])
def test_an_existing_file_keeps_its_permissions(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    path.chmod(mode)
    write_atomically(path, b"new")
    assert stat.S_IMODE(path.stat().st_mode) == mode
    assert path.read_bytes() == b"new"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a file of somebody else")
def test_an_existing_file_keeps_its_owner(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    os.chown(path, 12345, 23456)
    write_atomically(path, b"new")
    assert (path.stat().st_uid, path.stat().st_gid) == (12345, 23456)


@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_a_new_file_gets_the_permissions_of_the_umask(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        write_atomically(tmp_path / "file", b"new")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o666 & ~mask


def test_a_symbolic_link_stays_and_its_target_is_written(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    target, link, dangling = tmp_path / "there" / "target", tmp_path / "link", tmp_path / "dangling"
    target.write_bytes(b"old")
    link.symlink_to(target)
    dangling.symlink_to(tmp_path / "there" / "new")
    write_atomically(link, b"new")
    write_atomically(dangling, b"fresh")
    assert link.is_symlink()
    assert dangling.is_symlink()
    assert (target.read_bytes(), dangling.read_bytes()) == (b"new", b"fresh")


def test_the_longest_possible_name_works(tmp_path: Path) -> None:
    path = tmp_path / ("n" * 255)
    write_atomically(path, b"content")
    assert path.read_bytes() == b"content"


def test_names_relative_to_the_current_folder_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    check_output("file")
    write_atomically("file", b"content")
    assert (tmp_path / "file").read_bytes() == b"content"


def test_standard_output_that_is_a_pipe_is_written_straight() -> None:
    code = "from bdflow_rt.files import *\ncheck_output('/dev/stdout'); write_atomically('/dev/stdout', b'content')"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True)
    assert done.stdout == b"content"


def test_a_pipe_that_does_not_wait_is_cut_at_64_kib(tmp_path: Path) -> None:
    read, write = os.pipe()
    os.set_blocking(write, False)
    content = os.urandom(1 << 20)
    with (tmp_path / "out").open("wb") as out, subprocess.Popen(["sh", "-c", "sleep 0.3; cat"], stdin=read, stdout=out):
        os.close(read)
        assert write_atomically(f"/dev/fd/{write}", content) == len(content)
        os.close(write)
    assert (tmp_path / "out").read_bytes() == content


def test_an_empty_name_is_no_folder() -> None:
    for write in (lambda: write_atomically("", b""), lambda: check_output(""), lambda: read_picture("")):
        with refused(ArgumentError, "name of a file is empty"):
            write()


def test_a_full_device_is_named_and_stays_a_device() -> None:
    with refused(DiskFullError, "/dev/full", "No space"):
        write_atomically("/dev/full", b"content")
    assert stat.S_ISCHR(os.stat("/dev/full").st_mode)


def test_a_file_size_limit_in_mid_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    code = (
        "import resource, sys\nfrom bdflow_rt.files import write_atomically\n"
        "from bdflow_rt.errors import DiskFullError\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "try:\n    write_atomically(sys.argv[1], bytes(100000))\n"
        "except DiskFullError as error:\n    print('refused:', error)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("refused: ")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("act", [check_output, lambda path: write_atomically(path, b"content")])
class TestUnwritable:
    """Each place that cannot be written, for the early check and for the write itself."""

    def test_missing_folder(self, tmp_path: Path, act: Act) -> None:
        with refused(UnwritableOutputError, "missing", "Create the folder"):
            act(tmp_path / "missing" / "file")

    def test_file_as_folder(self, tmp_path: Path, act: Act) -> None:
        (tmp_path / "file").write_bytes(b"")
        with refused(UnwritableOutputError, "Create the folder"):
            act(tmp_path / "file" / "inside")

    def test_folder_as_file(self, tmp_path: Path, act: Act) -> None:
        with refused(UnwritableOutputError, "is a folder"):
            act(tmp_path)

    def test_folder_where_nobody_can_make_files(self, tmp_path: Path, act: Act) -> None:
        with refused(UnwritableOutputError, "/proc/file"):
            act("/proc/file")

    def test_read_only_folder(self, tmp_path: Path, act: Act) -> None:
        (tmp_path / "folder").mkdir(mode=0o555)
        with ordinary_user(), refused(UnwritableOutputError, "Permission denied"):
            act(tmp_path / "folder" / "file")
        assert list((tmp_path / "folder").iterdir()) == []

    def test_read_only_file(self, tmp_path: Path, act: Act) -> None:
        for folder in (tmp_path, *tmp_path.parents[:3]):
            folder.chmod(0o777)
        path = tmp_path / "file"
        path.write_bytes(b"old")
        path.chmod(0o444)
        with ordinary_user(), refused(UnwritableOutputError, "read-only"):
            act(path)
        assert path.read_bytes() == b"old"

    def test_loop_of_links(self, tmp_path: Path, act: Act) -> None:
        (tmp_path / "link").symlink_to(tmp_path / "link")
        with refused(UnwritableOutputError, "link"):
            act(tmp_path / "link")

    def test_name_that_is_too_long(self, tmp_path: Path, act: Act) -> None:
        with refused(UnwritableOutputError, "too long"):
            act(tmp_path / ("n" * 256))

    def test_name_with_a_null_byte(self, tmp_path: Path, act: Act) -> None:
        with refused(UnwritableOutputError, "null"):
            act(str(tmp_path / "a\0b"))


def test_the_early_check_leaves_no_trace(tmp_path: Path) -> None:
    (tmp_path / "old").write_bytes(b"old")
    check_output(tmp_path / "new", inputs=[tmp_path / "old", tmp_path / "missing"])
    check_output(tmp_path / "old", inputs=[tmp_path / "new"])
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("old", b"old")]


@pytest.mark.parametrize("way", ["same name", "other spelling", "symbolic link", "hard link"])
def test_an_output_that_is_the_input_is_refused(tmp_path: Path, way: str) -> None:
    source, link = tmp_path / "in.png", tmp_path / "link.png"
    source.write_bytes(b"input")
    if way == "symbolic link":
        link.symlink_to(source)
    elif way == "hard link":
        link.hardlink_to(source)
    output = {"same name": source, "other spelling": tmp_path / "x" / ".." / "in.png"}.get(way, link)
    (tmp_path / "x").mkdir()
    with refused(OutputExistsAsInputError, "in.png", "another name"):
        check_output(output, inputs=["unrelated", source])
    assert source.read_bytes() == b"input"
