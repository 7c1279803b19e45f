"""Whatever happens to the engine cache's files, an engine is the one that was built, or is built anew."""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from bdflow_rt.engines.cache import EngineCache
from bdflow_rt.engines.cache_entry import MAX_SIDECAR_BYTES
from bdflow_rt.errors import BdflowError, CacheTrustError, OutputError
from tests.engines.test_cache import KEY, PLAN, other, refuse
from tests.support_plans import needs_rtx, real_plan

NOBODY = 65534


@pytest.fixture
def heard() -> list[str]:
    return []


@pytest.fixture
def cache(tmp_path: Path, heard: list[str]) -> EngineCache:
    """A cache with one sound engine."""
    cache = EngineCache(tmp_path, log=heard.append)
    cache.get_or_build(KEY, lambda: PLAN)
    heard.clear()
    return cache


def plan_of(cache: EngineCache) -> Path:
    return cache.folder / f"{KEY.digest}.plan"


def sidecar_of(cache: EngineCache) -> Path:
    return cache.folder / f"{KEY.digest}.json"


def rebuilt(cache: EngineCache, heard: list[str], why: str) -> None:
    """The damage is named, the engine built anew, and the cache sound again."""
    (entry,) = cache.verify()
    assert entry.problem is not None
    assert why in entry.problem
    assert cache.get_or_build(KEY, lambda: PLAN).plan == PLAN
    assert len(heard) == 1
    assert why in heard[0] or "none is cached" in heard[0]
    assert cache.get_or_build(KEY, refuse).plan == PLAN
    assert [entry.problem for entry in cache.verify()] == [None]


@needs_rtx
def test_every_997th_byte_of_a_real_plan_flipped(tmp_path: Path) -> None:
    key, plan = real_plan()
    cache = EngineCache(tmp_path, log=lambda text: None)
    path = cache.get_or_build(key, lambda: plan).path
    assert path is not None
    for number, offset in enumerate(range(0, len(plan), 997)):
        spoilt = bytearray(plan)
        spoilt[offset] ^= 1 << number % 8
        path.write_bytes(spoilt)
        (entry,) = cache.verify()
        assert entry.problem == "the engine's SHA-256 is not the one that was noted when it was built"
        if number % 50 == 0:
            assert cache.get_or_build(key, lambda: plan).plan == plan
            assert cache.get_or_build(key, refuse).plan == plan


@needs_rtx
def test_a_real_plan_cut_at_50_lengths(tmp_path: Path) -> None:
    key, plan = real_plan()
    cache = EngineCache(tmp_path, log=lambda text: None)
    path = cache.get_or_build(key, lambda: plan).path
    assert path is not None
    for number in range(50):
        path.write_bytes(plan[: len(plan) * number // 50])
        (entry,) = cache.list()
        assert entry.problem is not None, "a wrong size shows without hashing"
        assert cache.get_or_build(key, lambda: plan).plan == plan
    path.write_bytes(plan + b"\0")
    assert cache.verify()[0].problem is not None


@pytest.mark.parametrize("length", [0, 1, 10, 100, 300, -1])
def test_a_sidecar_that_was_cut(cache: EngineCache, heard: list[str], length: int) -> None:
    path = sidecar_of(cache)
    path.write_bytes(path.read_bytes().rstrip()[:length])
    rebuilt(cache, heard, "its sidecar")


@pytest.mark.parametrize(
    "content",
    [b"\xff\xfe\x00", b"null", b"[]", b"{}", b'{"format": 2}', b"[" * 50_000, b"1" * 5000, b'{"format": 1, "key": 5}',
     b" " * (MAX_SIDECAR_BYTES + 1)],
    ids=["binary", "null", "list", "empty", "later format", "deep", "long number", "key is a number", "huge"],
)  # fmt: skip
def test_a_sidecar_of_garbage(cache: EngineCache, heard: list[str], content: bytes) -> None:
    sidecar_of(cache).write_bytes(content)
    rebuilt(cache, heard, "its sidecar")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("key", "model"), "bdflow-x4@1"), (("key", "gpu"), "Other"), (("key", "builder_flags"), []),
        (("key", "builder_flags"), "abc"), (("key", "builder_flags"), [1]), (("key", "profile"), None),
        (("key", "extra"), 1), (("plan_sha256",), "0" * 64), (("plan_sha256",), 5), (("plan_bytes",), -1),
        (("plan_bytes",), True), (("plan_bytes",), 10**30), (("plan_bytes",), 1 << 40), (("plan_bytes",), "10240"),
        (("build_seconds",), "1"), (("build_seconds",), float("nan")), (("build_seconds",), 10**400),
        (("created",), "yesterday"), (("created",), 7), (("created",), "2026-01-01"), (("more",), 1),
    ],
)  # fmt: skip
def test_an_edited_sidecar(cache: EngineCache, heard: list[str], path: tuple[str, ...], value: Any) -> None:
    data = json.loads(sidecar_of(cache).read_text())
    target = data
    for name in path[:-1]:
        target = target[name]
    target[path[-1]] = value
    sidecar_of(cache).write_text(json.dumps(data))
    rebuilt(cache, heard, "")


def test_the_sidecar_of_another_engine(cache: EngineCache, heard: list[str]) -> None:
    key = other(gpu="Other")
    cache.get_or_build(key, lambda: b"for another GPU")
    for suffix in (".json", ".plan"):
        shutil.copy(cache.folder / f"{key.digest}{suffix}", cache.folder / f"{KEY.digest}{suffix}")
    cache.remove([key.digest])
    heard.clear()
    rebuilt(cache, heard, "edited, or belongs to another engine")


@pytest.mark.parametrize("suffix", [".json", ".plan"])
def test_a_missing_file(cache: EngineCache, heard: list[str], suffix: str) -> None:
    plan_of(cache).with_suffix(suffix).unlink()
    rebuilt(cache, heard, "missing")


@pytest.mark.parametrize("suffix", [".json", ".plan"])
@pytest.mark.parametrize("kind", ["link", "dangling", "loop", "pipe", "device"])
def test_what_is_no_regular_file_is_replaced_and_its_target_untouched(
    cache: EngineCache, heard: list[str], tmp_path: Path, suffix: str, kind: str
) -> None:
    path, target = plan_of(cache).with_suffix(suffix), tmp_path / "target"
    content = path.read_bytes()
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "link":
        target.write_bytes(content)
        path.symlink_to(target)
    else:
        path.symlink_to({"dangling": tmp_path / "nowhere", "loop": path, "device": Path("/dev/zero")}[kind])
    rebuilt(cache, heard, "")
    assert path.is_file()
    assert not path.is_symlink()
    assert not (tmp_path / "nowhere").exists()
    assert kind != "link" or target.read_bytes() == content


@pytest.mark.parametrize("suffix", [".json", ".plan", ".lock"])
def test_a_folder_in_the_place_of_a_file_costs_the_cache_and_no_more(
    cache: EngineCache, heard: list[str], suffix: str
) -> None:
    path = plan_of(cache).with_suffix(suffix)
    path.unlink()
    path.mkdir()
    found = cache.get_or_build(KEY, lambda: PLAN)
    assert found.plan == PLAN
    assert suffix == ".lock" or (found.path is None and "cannot be kept" in heard[-1])
    with pytest.raises(OutputError, match="cannot be removed"):
        cache.remove_all()


def test_a_lock_that_is_a_link_is_not_followed(cache: EngineCache, tmp_path: Path) -> None:
    lock = plan_of(cache).with_suffix(".lock")
    lock.unlink()
    lock.symlink_to(tmp_path / "made")
    plan_of(cache).unlink()
    assert cache.get_or_build(KEY, lambda: PLAN).plan == PLAN
    assert not (tmp_path / "made").exists()


def test_a_folder_that_others_can_write_to_is_refused(cache: EngineCache) -> None:
    cache.folder.chmod(0o770)
    for call in (lambda: cache.get_or_build(KEY, lambda: PLAN), cache.list, cache.verify, cache.remove_all):
        with pytest.raises(CacheTrustError, match=r"chmod 700 .* Set BDFLOW_CACHE"):
            call()
    assert plan_of(cache).exists()


@pytest.mark.parametrize("suffix", [".json", ".plan"])
def test_a_file_that_others_can_write_to_is_built_anew(cache: EngineCache, heard: list[str], suffix: str) -> None:
    plan_of(cache).with_suffix(suffix).chmod(0o666)
    rebuilt(cache, heard, "can be written by others")


def test_the_folder_is_deleted_while_an_engine_is_built(cache: EngineCache) -> None:
    key = other(model="late@1")

    def build() -> bytes:
        shutil.rmtree(cache.folder.parent)
        return PLAN

    found = cache.get_or_build(key, build)
    assert found.path is not None
    assert cache.get_or_build(key, refuse).plan == PLAN


@pytest.mark.parametrize("in_the_way", ["file", "file/engines"])
def test_a_file_in_the_place_of_the_folder(tmp_path: Path, heard: list[str], in_the_way: str) -> None:
    (tmp_path / in_the_way).parent.mkdir(exist_ok=True)
    (tmp_path / in_the_way).write_text("in the way")
    cache = EngineCache(tmp_path / "file", log=heard.append)
    found = cache.get_or_build(KEY, lambda: PLAN)
    assert (found.plan, found.path) == (PLAN, None)
    assert "BDFLOW_CACHE" in heard[-1]
    assert cache.list() == []


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """Writes beyond `size` fail as on a full disk."""
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize("size", [0, 100, len(PLAN) - 1])
def test_a_full_disk_hands_the_engine_out_and_leaves_no_part(tmp_path: Path, heard: list[str], size: int) -> None:
    cache = EngineCache(tmp_path, log=heard.append)
    with file_size_limit(size):
        found = cache.get_or_build(KEY, lambda: PLAN)
    assert (found.plan, found.path) == (PLAN, None)
    assert "cannot be kept" in heard[-1]
    assert {path.suffix for path in cache.folder.iterdir()} <= {".lock"}
    assert cache.get_or_build(KEY, lambda: PLAN).path is not None


def test_a_disk_that_fills_up_between_plan_and_sidecar(tmp_path: Path, heard: list[str]) -> None:
    cache = EngineCache(tmp_path, log=heard.append)
    with file_size_limit(200):
        assert cache.get_or_build(KEY, lambda: b"tiny").path is None
    assert cache.list() == [], "nothing takes the space that is missing"
    assert cache.get_or_build(KEY, lambda: b"tiny").path is not None


def as_user(user: int, work: Callable[[], None]) -> None:
    """Run in a process without root's rights over other people's files."""

    def run() -> None:
        if os.geteuid() == 0:
            os.setgroups([])
            os.setgid(user)
            os.setuid(user)
        work()

    process = multiprocessing.get_context("fork").Process(target=run)
    process.start()
    process.join(60)
    assert process.exitcode == 0


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder that every user can reach; those of pytest are the user's own."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def test_a_read_only_folder_is_read_and_never_written(shared: Path) -> None:
    EngineCache(shared).get_or_build(KEY, lambda: PLAN)
    for path in (shared / "engines").iterdir():
        path.chmod(0o444)
    (shared / "engines").chmod(0o555)
    before = {path: (path.read_bytes(), path.stat().st_ino) for path in (shared / "engines").iterdir()}

    def work() -> None:
        cache = EngineCache(shared, log=lambda text: None)
        assert cache.get_or_build(KEY, refuse).plan == PLAN
        found = cache.get_or_build(other(model="new@1"), lambda: b"built")
        assert (found.plan, found.path) == (b"built", None)
        with pytest.raises(OutputError):
            cache.remove_all()

    as_user(NOBODY, work)
    assert {path: (path.read_bytes(), path.stat().st_ino) for path in before} == before
    (shared / "engines").chmod(0o755)


def test_a_folder_that_cannot_be_read_is_a_typed_error(shared: Path) -> None:
    EngineCache(shared).get_or_build(KEY, lambda: PLAN)
    (shared / "engines").chmod(0o000)

    def work() -> None:
        cache = EngineCache(shared, log=lambda text: None)
        with pytest.raises(BdflowError, match="cannot be read"):
            cache.list()
        assert cache.get_or_build(KEY, lambda: b"built").path is None

    as_user(NOBODY, work)
    (shared / "engines").chmod(0o700)


def test_what_killed_writers_left_is_swept_and_foreign_files_are_not(cache: EngineCache) -> None:
    old, fresh, foreign = (cache.folder / name for name in (".bdflow-00.part", ".bdflow-11.part", "notes.txt"))
    for path in (old, fresh, foreign):
        path.write_text("half")
    os.utime(old, (0, 0))
    os.utime(foreign, (0, 0))
    cache.get_or_build(other(model="b@1"), lambda: PLAN)
    assert not old.exists()
    assert fresh.exists(), "somebody may be writing it"
    assert len(cache.remove_all()) == 2
    assert fresh.exists(), "still"
    os.utime(fresh, (time.time() - 100,) * 2)
    assert cache.remove_all() == []
    assert [path.name for path in cache.folder.iterdir()] == ["notes.txt"]
