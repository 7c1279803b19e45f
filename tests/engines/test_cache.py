"""The cache of engines: built once, handed out only as built, with real TensorRT-RTX plans."""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from bdflow_rt.engines.cache import EngineCache, limit_bytes
from bdflow_rt.engines.cache_entry import ANY_GPU, FORMAT, EngineKey
from bdflow_rt.errors import ArgumentError
from tests.support import ROOT
from tests.support_plans import needs_rtx, real_plan, shared_plan

KEY = EngineKey(
    model="tiny@1", graph_sha256="1" * 64, identity="2" * 64, direction="downscale", kind="core",
    flavour="tensorrt-rtx", flavour_version="1.7.1.116", gpu="NVIDIA GeForce RTX 4090", compute_capability="8.9",
    profile="1080p: 1x64x64 to 1x1080x1920, best 1x1080x1920", precision="fp16", builder_flags=("workspace-mib=512",),
)  # fmt: skip
PLAN = shared_plan()


def refuse() -> bytes:
    raise AssertionError("built again")


def other(**changes: Any) -> EngineKey:
    return dataclasses.replace(KEY, **changes)


def files(cache: EngineCache) -> set[str]:
    return {path.suffix for path in cache.folder.iterdir()}


@needs_rtx
def test_a_real_plan_is_built_once_and_comes_back_as_it_was(tmp_path: Path) -> None:
    key, plan = real_plan()
    built = EngineCache(tmp_path).get_or_build(key, lambda: plan)
    again = EngineCache(tmp_path).get_or_build(key, refuse)
    assert built.plan == again.plan == plan
    assert again.path is not None
    assert again.path.read_bytes() == plan
    assert (again.sidecar.key, again.sidecar.plan_bytes) == (key, len(plan))


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(EngineKey)])
def test_every_field_of_the_key_makes_another_engine(tmp_path: Path, field: str) -> None:
    cache = EngineCache(tmp_path)
    cache.get_or_build(KEY, lambda: PLAN)
    changed = other(**{field: ("x",) if field == "builder_flags" else "x"})
    assert cache.get_or_build(changed, lambda: b"other").plan == b"other"
    assert cache.get_or_build(KEY, refuse).plan == PLAN


def test_the_order_of_flags_does_not_matter(tmp_path: Path) -> None:
    cache = EngineCache(tmp_path)
    cache.get_or_build(other(builder_flags=("a=1", "b=2")), lambda: PLAN)
    assert cache.get_or_build(other(builder_flags=("b=2", "a=1")), refuse).plan == PLAN


def test_people_can_read_the_sidecar(tmp_path: Path) -> None:
    cached = EngineCache(tmp_path).get_or_build(KEY, lambda: time.sleep(0.05) or PLAN)  # type: ignore[func-returns-value]
    assert cached.path is not None
    data = json.loads(cached.path.with_suffix(".json").read_text())
    assert data["format"] == FORMAT
    assert data["key"]["gpu"] == "NVIDIA GeForce RTX 4090"
    assert set(data["key"]) == {field.name for field in dataclasses.fields(EngineKey)}
    assert data["build_seconds"] >= 0.05
    assert abs(datetime.fromisoformat(data["created"]).timestamp() - time.time()) < 60


@pytest.mark.parametrize("mask", [0o000, 0o002, 0o022, 0o077])
def test_nobody_else_can_write_whatever_the_umask(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        cache = EngineCache(tmp_path / "new" / "deep")
        cache.get_or_build(KEY, lambda: PLAN)
        cache.write_runtime_data(KEY.digest, b"compiled")
    finally:
        os.umask(before)
    assert stat.S_IMODE(cache.folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(cache.folder.parent.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in cache.folder.iterdir()} == {0o600}
    assert cache.get_or_build(KEY, refuse).plan == PLAN


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"gpu": "NVIDIA GeForce RTX 5090", "compute_capability": "12.0"},
         "gpu 'NVIDIA GeForce RTX 4090', not 'NVIDIA GeForce RTX 5090'; compute_capability '8.9', not '12.0'"),
        ({"flavour_version": "1.8.0.1"}, "flavour_version '1.7.1.116', not '1.8.0.1'"),
        ({"identity": "3" * 64}, "identity"),
    ],
)  # fmt: skip
def test_a_cache_that_moved_is_rebuilt_with_the_reason(tmp_path: Path, changes: dict[str, str], said: str) -> None:
    heard: list[str] = []
    cache = EngineCache(tmp_path, log=heard.append)
    cache.get_or_build(KEY, lambda: PLAN)
    cache.get_or_build(other(direction="upscale"), lambda: PLAN)
    cached = cache.get_or_build(other(**changes), lambda: b"new")
    assert cached.plan == b"new"
    assert said in heard[-1]
    assert cached.reason == heard[-1]


def test_the_first_engine_says_that_none_is_cached_and_a_cached_one_nothing(tmp_path: Path) -> None:
    heard: list[str] = []
    cache = EngineCache(tmp_path, log=heard.append)
    cache.get_or_build(KEY, lambda: PLAN)
    assert len(heard) == 1
    assert "none is cached" in heard[0]
    cache.get_or_build(KEY, refuse)
    assert len(heard) == 1


def test_what_the_builder_raises_leaves_nothing(tmp_path: Path) -> None:
    cache = EngineCache(tmp_path)
    with pytest.raises(AssertionError, match="built again"):
        cache.get_or_build(KEY, refuse)
    assert files(cache) <= {".lock"}
    assert cache.list() == cache.remove_all() == []
    assert list(cache.folder.iterdir()) == []
    assert cache.get_or_build(KEY, lambda: PLAN).plan == PLAN


def test_there_is_nothing_to_remove_where_there_is_no_folder(tmp_path: Path) -> None:
    assert EngineCache(tmp_path / "none").remove_all() == []
    assert not (tmp_path / "none").exists()


def test_the_lock_of_a_running_build_is_left_alone(tmp_path: Path) -> None:
    cache = EngineCache(tmp_path)

    def build() -> bytes:
        assert cache.remove_all() == []
        assert files(cache) == {".lock"}
        return PLAN

    assert cache.get_or_build(KEY, build).path is not None


def test_the_least_recently_used_goes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BDFLOW_CACHE_MIB", "3")
    cache, size = EngineCache(tmp_path), 900_000
    keys = [other(model=f"m{index}@1") for index in range(4)]
    for key in keys[:3]:
        cache.get_or_build(key, lambda: bytes(size))
    cache.get_or_build(keys[0], refuse)
    cache.get_or_build(keys[3], lambda: bytes(size))
    assert [entry.sidecar.key.model for entry in cache.list() if entry.sidecar] == ["m3@1", "m0@1", "m2@1"]
    assert not list(cache.folder.glob(f"{keys[1].digest}*")), "its sidecar and lock are gone too"


def test_a_clock_that_was_set_back_does_not_evict_the_engine_used_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BDFLOW_CACHE_MIB", "2")
    cache = EngineCache(tmp_path)
    keys = [other(model=f"m{index}@1") for index in range(4)]
    for key in keys[:2]:
        cache.get_or_build(key, lambda: bytes(900_000))
    ahead = time.time() + 1e6  # when those two were used, by a clock that was wrong
    for path in cache.folder.iterdir():
        os.utime(path, (ahead, ahead))
    cache.get_or_build(keys[2], lambda: bytes(900_000))
    cache.get_or_build(keys[3], lambda: bytes(900_000))
    assert [entry.sidecar.key.model for entry in cache.list() if entry.sidecar] == ["m3@1", "m2@1"]


def test_an_engine_above_the_limit_is_kept_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BDFLOW_CACHE_MIB", "0")
    heard: list[str] = []
    cache = EngineCache(tmp_path, log=heard.append)
    for name in ("a@1", "b@1"):
        cache.get_or_build(other(model=name), lambda: PLAN)
    assert [entry.sidecar.key.model for entry in cache.list() if entry.sidecar] == ["b@1"]
    assert "engine of a@1" in heard[-1], "it is said which one went, and why"
    assert "0 MiB (BDFLOW_CACHE_MIB)" in heard[-1]


@pytest.mark.parametrize("value", ["-1", "4 GB", "1e3", "nan"])
def test_a_limit_that_is_no_number_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("BDFLOW_CACHE_MIB", value)
    with pytest.raises(ArgumentError, match="BDFLOW_CACHE_MIB"):
        EngineCache(tmp_path).get_or_build(KEY, refuse)
    monkeypatch.delenv("BDFLOW_CACHE_MIB")
    assert limit_bytes() == 4 << 30


def test_find_takes_engines_for_this_gpu_and_the_one_used_last(tmp_path: Path) -> None:
    cache = EngineCache(tmp_path)
    wanted = {"model": "tiny@1", "direction": "downscale", "gpu": KEY.gpu, "compute_capability": "8.9"}
    assert cache.find(wanted) is None
    cache.get_or_build(other(gpu="Old GPU"), lambda: b"1")
    cache.get_or_build(other(compute_capability="9.0"), lambda: b"2")
    cache.get_or_build(other(model="other@1"), lambda: b"3")
    assert cache.find(wanted) is None
    cache.get_or_build(KEY, lambda: b"4")
    cache.get_or_build(other(gpu=ANY_GPU, compute_capability="8.0+"), lambda: b"5")
    assert getattr(cache.find(wanted), "plan", None) == b"5"
    cache.get_or_build(KEY, refuse)
    assert getattr(cache.find(wanted), "plan", None) == b"4"
    (cache.folder / f"{KEY.digest}.plan").write_bytes(b"6")
    assert getattr(cache.find(wanted), "plan", None) == b"5", "a damaged one is passed over"


def test_remove_by_key_and_model(tmp_path: Path) -> None:
    cache = EngineCache(tmp_path)
    keys = [other(model=name) for name in ("a@1", "a@2", "b@1")]
    for key in keys:
        cache.get_or_build(key, lambda: PLAN)
        cache.write_runtime_data(key.digest, b"compiled")
    with pytest.raises(ArgumentError, match="'c'"):
        cache.remove(["a", "c"])
    assert len(cache.list()) == 3, "nothing is removed when one of the names is wrong"
    with pytest.raises(ArgumentError):
        cache.remove([""])
    assert len(cache.remove([keys[1].digest[:8]])) == 1
    assert [entry.digest for entry in cache.remove(["a"])] == [keys[0].digest]
    assert {path.name[:64] for path in cache.folder.iterdir()} == {keys[2].digest}
    assert len(cache.remove_all()) == 1
    assert list(cache.folder.iterdir()) == []


def test_runtime_data_is_kept_checked_and_removed_with_its_engine(tmp_path: Path) -> None:
    cache = EngineCache(tmp_path)
    cache.write_runtime_data(KEY.digest, b"of no engine")
    assert cache.read_runtime_data(KEY.digest) is None
    cache.get_or_build(KEY, lambda: PLAN)
    cache.write_runtime_data(KEY.digest, b"compiled")
    assert cache.read_runtime_data(KEY.digest) == b"compiled"
    path = cache.folder / f"{KEY.digest}.runtime"
    path.write_bytes(path.read_bytes().replace(b"compiled", b"Compiled"))
    assert cache.read_runtime_data(KEY.digest) is None
    (cache.folder / f"{KEY.digest}.plan").write_bytes(b"damaged")
    cache.get_or_build(KEY, lambda: PLAN)
    assert not path.exists(), "it was compiled from another engine"


BUILDER = """
import sys
from pathlib import Path
from bdflow_rt.engines.cache import EngineCache
from tests.engines.test_cache import KEY, PLAN
def build():
    print("building", flush=True)
    sys.stdin.readline()
    return PLAN
EngineCache(Path(sys.argv[1]), log=lambda text: print(text, flush=True)).get_or_build(KEY, build)
print("done", flush=True)
"""


def start_builder(folder: Path) -> subprocess.Popen[str]:
    """A process that builds the engine of KEY and holds the build until it is sent a line."""
    path = os.pathsep.join([*filter(None, sys.path), str(ROOT)])
    return subprocess.Popen(
        [sys.executable, "-c", BUILDER, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        cwd=folder, env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip


def wait_for(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdout is not None
    for found in process.stdout:
        if line in found:
            return
    raise AssertionError(f"the builder ended before it said {line!r}")


def test_two_processes_build_the_same_engine_once(tmp_path: Path) -> None:
    first = start_builder(tmp_path)
    wait_for(first, "building")
    second = start_builder(tmp_path)
    wait_for(second, "Another process is building the downscale engine of tiny@1")
    first.communicate("\n", timeout=60)
    out, _ = second.communicate(timeout=60)
    assert first.returncode == second.returncode == 0
    assert out.splitlines() == ["done"]


def test_a_killed_builder_leaves_nothing_and_blocks_nobody(tmp_path: Path) -> None:
    process = start_builder(tmp_path)
    wait_for(process, "building")
    process.send_signal(signal.SIGKILL)
    process.wait(60)
    heard: list[str] = []
    cache = EngineCache(tmp_path, log=heard.append)
    assert cache.get_or_build(KEY, lambda: PLAN).plan == PLAN
    assert not any("waiting" in text for text in heard)
    assert files(cache) == {".plan", ".json", ".lock"}


def test_a_waiter_goes_on_when_the_builder_is_killed(tmp_path: Path) -> None:
    process = start_builder(tmp_path)
    wait_for(process, "building")
    heard: list[str] = []

    def kill(text: str) -> None:
        heard.append(text)
        process.kill()

    assert EngineCache(tmp_path, log=kill).get_or_build(KEY, lambda: PLAN).plan == PLAN
    assert "waiting for it" in heard[0]
    process.wait(60)


def _build_often(folder: Path, number: int) -> None:
    cache = EngineCache(folder, log=lambda text: None)
    for _ in range(15):
        with_plan = cache.get_or_build(KEY, lambda: bytes([number]) * 100_000)
        assert len(set(with_plan.plan)) == 1
        assert len(with_plan.plan) == 100_000
        if number % 2:
            cache.remove_all()


def test_builders_and_removers_at_once_never_see_half_an_engine(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_build_often, args=(tmp_path, number)) for number in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(timeout=120)
    assert [worker.exitcode for worker in workers] == [0] * 4
    assert not list((tmp_path / "engines").glob("*.part"))
    assert [entry.problem for entry in EngineCache(tmp_path).verify()] in ([], [None])


def test_threads_build_once(tmp_path: Path) -> None:
    calls: list[int] = []

    def build() -> bytes:
        calls.append(1)
        time.sleep(0.3)
        return PLAN

    build_once: Callable[[], Any] = lambda: EngineCache(tmp_path).get_or_build(KEY, build)  # noqa: E731
    threads = [threading.Thread(target=build_once) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert calls == [1]
