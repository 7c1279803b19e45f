"""The cache of compiled kernels: nothing is compiled twice, nothing damaged is loaded, nothing half is written."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bdflow_rt.kernels import compile as compiler
from bdflow_rt.kernels.cache import Compiled, KernelCache, cache_folder
from bdflow_rt.kernels.compile import Kernel, cache_key

KEY = "0" * 64
MADE = Compiled(name="_Z1k", log="ptxas info: Used 12 registers\n", cubin=bytes(range(256)) * 40)
SMALL = Kernel("haar.cuh", "bdflow::haar_forward<float, 1>")


def refuse() -> Compiled:
    raise AssertionError("compiled again")


def stored(folder: Path) -> Path:
    """The one file of a cache that holds MADE."""
    assert KernelCache(folder).get(KEY, lambda: MADE) == MADE
    (path,) = (folder / "kernels").iterdir()
    return path


def test_what_is_stored_is_not_compiled_again(tmp_path: Path) -> None:
    assert stored(tmp_path).name == f"{KEY}.cubin"
    assert KernelCache(tmp_path).get(KEY, refuse) == MADE


def test_another_key_is_another_kernel(tmp_path: Path) -> None:
    stored(tmp_path)
    other = Compiled(name="other", log="", cubin=b"")
    assert KernelCache(tmp_path).get("1" * 64, lambda: other) == other
    assert KernelCache(tmp_path).get(KEY, refuse) == MADE


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: b"",
        lambda whole: whole[:40],
        lambda whole: whole[:-1],
        lambda whole: whole + b"\0",
        lambda whole: whole[:-100] + bytes([whole[-100] ^ 1]) + whole[-99:],
        lambda whole: whole.replace(b"_Z1k", b"_Z1j"),
        lambda whole: whole.replace(b"12 registers", b"13 registers"),
        lambda whole: b"[]\n" + whole.partition(b"\n")[2],
        lambda whole: b'{"name": 1, "log": "", "sha256": ""}\n',
        lambda whole: b"\xff\xfe\n" + whole,
        lambda whole: b"{}\n",
    ],
    ids=["empty", "header cut", "cut by 1", "1 more", "bit", "name", "log", "list", "types", "not text", "no fields"],
)
def test_a_damaged_file_is_compiled_anew_and_replaced(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    path = stored(tmp_path)
    whole = path.read_bytes()
    spoilt = damage(whole)
    assert spoilt != whole
    path.write_bytes(spoilt)
    calls = []
    assert KernelCache(tmp_path).get(KEY, lambda: calls.append(1) or MADE) == MADE  # type: ignore[func-returns-value]
    assert calls == [1]
    assert path.read_bytes() == whole


def test_a_cache_that_cannot_be_written_warns_and_works(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.warns(RuntimeWarning, match=r"cannot be kept .* Set BDFLOW_CACHE to a folder that can be written"):
        assert KernelCache(tmp_path / "file").get(KEY, lambda: MADE) == MADE


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_warns_and_works(tmp_path: Path) -> None:
    (tmp_path / "kernels").mkdir(mode=0o500)
    with pytest.warns(RuntimeWarning, match="cannot be kept"):
        assert KernelCache(tmp_path).get(KEY, lambda: MADE) == MADE


def test_errors_of_the_compiler_are_not_stored(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="compiled again"):
        KernelCache(tmp_path).get(KEY, refuse)
    assert list(tmp_path.rglob("*.cubin")) == []


def _write_often(folder: Path, number: int) -> None:
    made = Compiled(name=f"k{number}", log="", cubin=bytes([number]) * 200_000)
    cache = KernelCache(folder)
    for _ in range(20):
        (cache.folder / f"{KEY}.cubin").unlink(missing_ok=True)
        cache.get(KEY, lambda: made)


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
    found = KernelCache(tmp_path).get(KEY, refuse)
    assert found.cubin == bytes([int(found.name[1:])]) * 200_000
    assert [path.name for path in (tmp_path / "kernels").iterdir()] == [f"{KEY}.cubin"], "no temporary files are left"


def test_the_folder_is_the_variables_or_the_users_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BDFLOW_CACHE", str(tmp_path / "named"))
    assert cache_folder() == tmp_path / "named"
    monkeypatch.delenv("BDFLOW_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "bdflow-rt"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "bdflow-rt"


def test_the_key_changes_with_all_that_decides_the_machine_code(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("cupy", reason="CuPy is not installed, and NVRTC's version is part of the key")
    keys = {
        cache_key(SMALL, 90),
        cache_key(SMALL, 80),
        cache_key(Kernel("haar.cuh", "bdflow::haar_forward<float, 2>"), 90),
        cache_key(Kernel("other.cuh", SMALL.expression), 90),
    }
    assert cache_key(SMALL, 90) in keys
    monkeypatch.setattr(compiler, "OPTIONS", (*compiler.OPTIONS, "--use_fast_math"))
    keys.add(cache_key(SMALL, 90))
    monkeypatch.undo()
    sources = compiler._source_bytes()
    monkeypatch.setattr(compiler, "_source_bytes", lambda: (sources[0] + b"\n", *sources[1:]))
    keys.add(cache_key(SMALL, 90))
    assert len(keys) == 6
