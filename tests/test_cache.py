"""The cache: what comes back is what was kept, by this user, in a folder that nobody else could write to."""

from __future__ import annotations

import multiprocessing
import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bdflow_rt.cache import KINDS, Blob, cache_folder, locked
from bdflow_rt.errors import CacheTrustError, UnwritableOutputError

CONTENT = bytes(range(256)) * 40
NOBODY = 65534
only_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")


@pytest.fixture
def blob(tmp_path: Path) -> Blob:
    """One that is kept."""
    blob = Blob("kernels", "one", tmp_path)
    blob.write(CONTENT)
    return blob


@pytest.mark.parametrize("content", [b"", b"\0", CONTENT])
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_written_comes_back_under_its_kind_and_name_alone(tmp_path: Path, kind: str, content: bytes) -> None:
    blob = Blob(kind, "one", tmp_path)
    assert blob.read() is None
    blob.write(b"before")
    blob.write(content)
    assert blob.read() == content
    assert blob.path == tmp_path / kind / "one"
    assert Blob(kind, "two", tmp_path).read() is None
    assert [path.name for path in blob.path.parent.iterdir()] == ["one"], "no temporary files are left"


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: b"",
        lambda whole: whole[:31],
        lambda whole: whole[:32],
        lambda whole: whole[:-1],
        lambda whole: whole + b"\0",
        lambda whole: whole[:-100] + bytes([whole[-100] ^ 1]) + whole[-99:],
        lambda whole: bytes([whole[0] ^ 128]) + whole[1:],
        lambda whole: whole[32:],
    ],
    ids=["empty", "digest cut", "content cut", "cut by 1", "1 more", "bit", "bit of the digest", "no digest"],
)
def test_a_damaged_file_is_not_read_and_is_replaced(blob: Blob, damage: Callable[[bytes], bytes]) -> None:
    whole = blob.path.read_bytes()
    blob.path.write_bytes(damage(whole))
    assert blob.read() is None
    blob.write(CONTENT)
    assert blob.path.read_bytes() == whole


def test_a_file_beyond_the_limit_is_not_read(blob: Blob) -> None:
    os.truncate(blob.path, 1 << 40)  # a sparse one, which takes no space
    assert blob.read() is None


@pytest.mark.parametrize("kind", ["link", "dangling", "loop", "pipe"])
def test_what_is_no_regular_file_is_replaced_and_its_target_untouched(blob: Blob, tmp_path: Path, kind: str) -> None:
    target = tmp_path / "target"
    blob.path.rename(target)
    whole = target.read_bytes()
    if kind == "pipe":
        os.mkfifo(blob.path)
    else:
        leads_to = {"link": target, "dangling": tmp_path / "no", "loop": blob.path}
        blob.path.symlink_to(leads_to[kind])
    assert blob.read() is None
    blob.write(b"new")
    assert blob.read() == b"new"
    assert target.read_bytes() == whole
    assert not (tmp_path / "no").exists()


def spoil_mode(path: Path) -> None:
    path.chmod(0o666)


def spoil_owner(path: Path) -> None:
    os.chown(path, NOBODY, NOBODY)


@pytest.mark.parametrize("spoil", [spoil_mode, pytest.param(spoil_owner, marks=only_root)])
def test_a_file_that_others_could_have_written_is_not_read_and_is_replaced(
    blob: Blob, spoil: Callable[[Path], None]
) -> None:
    spoil(blob.path)
    assert blob.read() is None
    blob.write(CONTENT)
    assert blob.read() == CONTENT
    assert (stat.S_IMODE(blob.path.stat().st_mode), blob.path.stat().st_uid) == (0o600, os.geteuid())


@pytest.mark.parametrize("mask", [0o000, 0o002, 0o022, 0o077])
def test_nobody_else_can_write_whatever_the_umask(tmp_path: Path, mask: int) -> None:
    blob = Blob("kernels", "one", tmp_path / "new" / "deep")
    before = os.umask(mask)
    try:
        blob.write(CONTENT)
    finally:
        os.umask(before)
    places = (blob.path, blob.path.parent, blob.path.parent.parent)
    assert [stat.S_IMODE(path.stat().st_mode) for path in places] == [0o600, 0o700, 0o700]
    assert blob.read() == CONTENT


def refused(blob: Blob, match: str) -> None:
    """Neither read nor written."""
    before = blob.path.read_bytes()
    for call in (blob.read, lambda: blob.write(b"new")):
        with pytest.raises(CacheTrustError, match=match):
            call()
    assert blob.path.read_bytes() == before


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777, 0o1777])
def test_a_folder_that_others_can_write_to_is_refused(blob: Blob, mode: int) -> None:
    blob.path.parent.chmod(mode)
    refused(blob, r"chmod 700 .* Set BDFLOW_CACHE")


@only_root
def test_a_folder_of_another_user_is_refused(blob: Blob) -> None:
    spoil_owner(blob.path.parent)
    refused(blob, "belongs to user 65534")


def test_a_folder_that_is_a_link_is_refused(blob: Blob, tmp_path: Path) -> None:
    blob.path.parent.rename(tmp_path / "elsewhere")
    blob.path.parent.symlink_to(tmp_path / "elsewhere")
    refused(blob, "a symbolic link")


def test_a_folder_that_is_a_link_to_nothing_is_refused(tmp_path: Path) -> None:
    (tmp_path / "kernels").symlink_to(tmp_path / "nowhere")
    with pytest.raises(CacheTrustError, match="a symbolic link"):
        Blob("kernels", "one", tmp_path).write(CONTENT)
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("in_the_way", ["file", "file/kernels", "file/kernels/one"])
def test_a_cache_that_cannot_be_written_is_warned_of_and_empty(tmp_path: Path, in_the_way: str) -> None:
    path = tmp_path / in_the_way
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.name == "one":
        path.mkdir()
    else:
        path.write_bytes(b"in the way")
    blob = Blob("kernels", "one", tmp_path / "file")
    with pytest.warns(RuntimeWarning, match=r"cache of kernels cannot be written .* Set BDFLOW_CACHE to a folder"):
        blob.write(CONTENT)
    assert blob.read() is None


def test_a_user_without_a_home_is_warned(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("BDFLOW_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    with pytest.raises(UnwritableOutputError, match="BDFLOW_CACHE"):
        cache_folder()
    assert Blob("kernels", "one").read() is None
    with pytest.warns(RuntimeWarning, match="no home folder"):
        Blob("kernels", "one").write(CONTENT)


def test_the_folder_is_the_variables_or_the_users_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("BDFLOW_CACHE", str(tmp_path / "named"))
    assert cache_folder() == tmp_path / "named"
    monkeypatch.delenv("BDFLOW_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "bdflow-rt"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == tmp_path / ".cache" / "bdflow-rt"


@pytest.mark.parametrize("variable", ["BDFLOW_CACHE", "XDG_CACHE_HOME"])
def test_a_tilde_in_a_variable_is_the_home_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("BDFLOW_CACHE", raising=False)
    monkeypatch.setenv(variable, "~/kept")
    assert cache_folder().is_relative_to(tmp_path / "kept")
    monkeypatch.setenv(variable, "~no-such-user/kept")
    assert cache_folder().is_relative_to("~no-such-user/kept")


def _write_often(base: Path, number: int) -> None:
    blob = Blob("kernels", "one", base)
    for _ in range(20):
        blob.write(bytes([number]) * 200_000)
        found = blob.read()
        assert found is not None
        assert len(found) == 200_000
        assert len(set(found)) == 1


def test_concurrent_writers_leave_a_whole_file(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_write_often, args=(tmp_path, number)) for number in (1, 2)]
    threads = [threading.Thread(target=_write_often, args=(tmp_path, number)) for number in (3, 4)]
    workers: list[Any] = [*writers, *threads]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(timeout=60)
    assert [writer.exitcode for writer in writers] == [0, 0]
    assert [path.name for path in (tmp_path / "kernels").iterdir()] == ["one"], "no temporary files are left"


def test_a_lock_file_that_was_removed_is_held_by_nobody(tmp_path: Path) -> None:
    path, waiting, seen = tmp_path / "lock", threading.Event(), []

    def wait() -> None:
        with locked(path, on_wait=waiting.set) as held, locked(path, on_wait=None) as second:
            seen.append((held, second))

    thread = threading.Thread(target=wait)
    with locked(path, on_wait=None) as first:
        assert first
        thread.start()
        assert waiting.wait(30)
        path.unlink()  # as `remove` does
    thread.join(30)
    assert seen == [(True, False)]
