"""Built engines on disk: built once per machine, checked against their SHA-256 before they are handed out.

Deserialising an engine runs native code that it contains. So an engine is read only from a folder that nobody else can
write to, and only if its bytes are those that were built. Each is three files in `engines` under the cache folder,
named by the digest of its key: `.plan`, a `.json` that people can read, and an empty `.lock`; TensorRT-RTX adds
`.runtime`, what it compiled when the engine ran.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import re
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bdflow_rt.cache import (
    CACHE_VARIABLE,
    Blob,
    DamagedFileError,
    cache_folder,
    check_folder,
    locked,
    make_folder,
    read_cached,
)
from bdflow_rt.engines.cache_entry import MAX_SIDECAR_BYTES, EngineKey, Sidecar, read_plan
from bdflow_rt.errors import ArgumentError, OutputError, UnreadableFileError
from bdflow_rt.files import write_private

LIMIT_VARIABLE = "BDFLOW_CACHE_MIB"
"""Environment variable with the size that the engines may take together, in MiB."""
DEFAULT_LIMIT_MIB = 4096
_LEFTOVER_SECONDS, _IDLE_SECONDS = 3600, 60
"""No write rests as long, surely and most likely: what is older is of a process that was killed."""
_TICK_NS = 1000
"""How much later than the last use the next one counts at least, which also coarse file systems can tell apart."""
_SUFFIXES = (".json", ".plan", ".runtime", ".lock")
"""The sidecar first: without it, the rest of a half-removed engine is never loaded."""
_MIN_PREFIX = 6
_GPU = {"gpu", "compute_capability"}


@dataclass(frozen=True)
class CachedEngine:
    """An engine, ready to be deserialised.

    Attributes:
        path: of the plan; None where it could not be stored.
        plan: the bytes that were built.
        sidecar: what they are.
        reason: a sentence on where they come from.
    """

    path: Path | None
    plan: bytes
    sidecar: Sidecar
    reason: str


@dataclass(frozen=True)
class CacheEntry:
    """One engine of the cache, sound or not.

    Attributes:
        digest: its name.
        path: of the plan.
        size_bytes: of all its files.
        last_used_ns: nanoseconds since 1970 of its last use, 0 where that is not known.
        sidecar: None where it cannot be read.
        problem: what is wrong with it, or None.
    """

    digest: str
    path: Path
    size_bytes: int
    last_used_ns: int
    sidecar: Sidecar | None
    problem: str | None


Entries = list[CacheEntry]


class EngineCache:
    """The engines of this user on this machine.

    Args:
        folder: None is the one of `cache_folder`; engines are in `engines` beneath it.
        log: takes the sentences that a person who waits wants to read; None is this module's logger.
    """

    def __init__(self, folder: Path | None = None, *, log: Callable[[str], None] | None = None) -> None:
        self.folder = (cache_folder() if folder is None else folder) / "engines"
        self._log = log or logging.getLogger(__name__).warning

    def get_or_build(self, key: EngineKey, build: Callable[[], bytes]) -> CachedEngine:
        """The engine of a key; where there is none, or its files are damaged, what `build` returns, stored.

        Another process or thread that builds the same engine is waited for. A cache that cannot be written costs
        time, and is logged; nothing that `build` raises leaves anything behind.

        Raises:
            CacheTrustError: others could have written what is in the cache.
            ArgumentError: BDFLOW_CACHE_MIB is no number.
        """
        limit_bytes()
        with suppress(OSError):  # where it cannot be made, `_store` finds out
            make_folder(self.folder)
        with suppress(DamagedFileError):
            return self._load(key.digest)
        waiting = f"Another process is building the {key}; waiting for it."
        with locked(self._file(key.digest, ".lock"), on_wait=lambda: self._log(waiting)):
            try:
                return self._load(key.digest)
            except DamagedFileError as error:
                is_new = not os.path.lexists(self._file(key.digest, ".json"))
                reason = self._why_new(key) if is_new else f"The cached {key} is built anew: {error}."
            self._log(reason)
            start = time.perf_counter()
            plan = bytes(build())
            sidecar = Sidecar.of(key, plan, build_seconds=time.perf_counter() - start)
            stored = self._store(sidecar, plan)
        if stored:
            self._evict(keep=key.digest)
        return CachedEngine(self._file(key.digest, ".plan") if stored else None, plan, sidecar, reason)

    def find(self, expected: Mapping[str, Any]) -> CachedEngine | None:
        """The engine used last among those with these fields of `EngineKey`, or None.

        Args:
            expected: `gpu` and `compute_capability` are those of the GPU that is to run it; both are needed.

        Raises:
            CacheTrustError: as `get_or_build`.
        """
        for entry in self.list():
            if entry.sidecar is None:
                continue
            key = entry.sidecar.key
            same = set(key.differences(expected)) <= _GPU
            if same and key.runs_on(expected["gpu"], expected["compute_capability"]):
                try:
                    return self._load(key.digest)
                except DamagedFileError as error:
                    self._log(f"The cached {key} is passed over: {error}.")
        return None

    def nearest(self, expected: Mapping[str, Any]) -> str:
        """What sets the engine with the most of these fields apart, as half a sentence for people.

        Raises:
            CacheTrustError: as `get_or_build`.
        """
        keys = [entry.sidecar.key for entry in self.list() if entry.sidecar is not None]
        same = [key for key in keys if all(getattr(key, name) == expected[name] for name in ("model", "direction"))]
        if not same:
            return "none is cached"
        near = min(same, key=lambda key: len(key.differences(expected)))
        changes = [f"{name} {getattr(near, name)!r}, not {expected[name]!r}" for name in near.differences(expected)]
        return f"the nearest cached one is for {'; '.join(changes)}"

    def list(self) -> Entries:
        """Every engine, the one used last first; engines are not hashed.

        Raises:
            CacheTrustError: as `get_or_build`.
            UnreadableFileError: the folder cannot be listed.
        """
        try:
            check_folder(self.folder)
            entries = [self._entry(digest) for digest in self._digests()]
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise UnreadableFileError(
                f"The engine cache '{self.folder}' cannot be read ({error.strerror}). Set {CACHE_VARIABLE} to another "
                "folder, or change its permissions."
            ) from error
        return sorted(entries, key=lambda entry: entry.last_used_ns, reverse=True)

    def verify(self) -> Entries:
        """As `list`, with every engine hashed."""
        return [dataclasses.replace(entry, problem=entry.problem or self._problem(entry)) for entry in self.list()]

    def remove(self, selectors: Iterable[str]) -> Entries:
        """Remove engines and return what was removed.

        Args:
            selectors: first letters of digests, six at least, or models: "bdflow-x4@1", "bdflow-x4".

        Raises:
            ArgumentError: one of them selects nothing; then nothing is removed.
            CacheTrustError: as `get_or_build`.
            OutputError: a file cannot be removed.
        """
        entries = self.list()
        chosen: dict[str, CacheEntry] = {}
        for selector in selectors:
            matching = [entry for entry in entries if _selects(selector, entry)]
            if not matching:
                raise ArgumentError(
                    f"No cached engine matches {selector!r}; give a model, or {_MIN_PREFIX} letters or more of a key, "
                    "as `bdflow cache ls` shows them."
                )
            chosen |= {entry.digest: entry for entry in matching}
        for entry in chosen.values():
            self._remove(entry.digest)
        return list(chosen.values())

    def remove_all(self) -> Entries:
        """Remove every engine and what killed processes left, and return the engines.

        Raises:
            CacheTrustError, OutputError: as `remove`.
        """
        entries = self.list()
        for entry in entries:
            self._remove(entry.digest)
        self._sweep(older_than=_IDLE_SECONDS)
        for path in self.folder.glob("*.lock"):  # of builds that failed
            self._remove(path.stem, wait=False)
        return entries

    def read_runtime_data(self, digest: str) -> bytes | None:
        """What `write_runtime_data` stored for an engine, as `Blob.read` does."""
        return self._runtime_data(digest).read()

    def write_runtime_data(self, digest: str, data: bytes) -> None:
        """Keep what a library compiled when an engine of the cache ran, as `Blob.write` does."""
        if os.path.lexists(self._file(digest, ".json")):
            self._runtime_data(digest).write(data)

    def _runtime_data(self, digest: str) -> Blob:
        return Blob("engines", f"{digest}.runtime", self.folder.parent)

    def _file(self, digest: str, suffix: str) -> Path:
        return self.folder / f"{digest}{suffix}"

    def _digests(self) -> set[str]:
        names = (path.name for path in self.folder.iterdir())
        return {name[:64] for name in names if re.fullmatch(r"[0-9a-f]{64}\.(json|plan|runtime)", name)}

    def _sidecar(self, digest: str) -> Sidecar:
        text = read_cached(self._file(digest, ".json"), limit=MAX_SIDECAR_BYTES, what="its sidecar")
        return Sidecar.parse(text, digest=digest)

    def _load(self, digest: str) -> CachedEngine:
        sidecar = self._sidecar(digest)
        plan = read_plan(self._file(digest, ".plan"), sidecar)
        self._note_use(digest)
        return CachedEngine(self._file(digest, ".plan"), plan, sidecar, f"The {sidecar.key} is cached.")

    def _note_use(self, digest: str) -> None:
        """Make the sidecar's time the latest of all, also after the clock was set back."""
        with suppress(OSError, OverflowError):  # a cache that is only read does without
            latest = max((self._status(other, ".json")[1] for other in self._digests()), default=0)
            used = max(time.time_ns(), latest + _TICK_NS)
            os.utime(self._file(digest, ".json"), ns=(used, used), follow_symlinks=False)

    def _store(self, sidecar: Sidecar, plan: bytes) -> bool:
        digest = sidecar.key.digest
        try:
            make_folder(self.folder)  # somebody may have deleted the folder while the engine was built
            for suffix in _SUFFIXES[:-1]:
                self._file(digest, suffix).unlink(missing_ok=True)
            write_private(self._file(digest, ".plan"), plan)
            write_private(self._file(digest, ".json"), sidecar.to_json())
            self._note_use(digest)
        except (OSError, OutputError) as error:
            with suppress(OSError):  # without its sidecar it is never loaded, and takes the space that is missing
                self._file(digest, ".plan").unlink(missing_ok=True)
            self._log(
                f"The {sidecar.key} cannot be kept in '{self.folder}' ({error}), so the next process builds it again. "
                f"Set {CACHE_VARIABLE} to a folder with space that can be written."
            )
            return False
        return True

    def _entry(self, digest: str) -> CacheEntry:
        sidecar, problem = None, None
        size = self._status(digest, ".plan")[0]
        try:
            sidecar = self._sidecar(digest)
            if not os.path.lexists(self._file(digest, ".plan")):
                problem = "the engine is missing"
            elif size != sidecar.plan_bytes:
                problem = f"the engine has {size} bytes instead of {sidecar.plan_bytes}"
        except DamagedFileError as error:
            problem = str(error)
        size_bytes = sum(self._status(digest, suffix)[0] for suffix in _SUFFIXES)
        last_used_ns = self._status(digest, ".json")[1]
        return CacheEntry(digest, self._file(digest, ".plan"), size_bytes, last_used_ns, sidecar, problem)

    def _status(self, digest: str, suffix: str) -> tuple[int, int]:
        """Size in bytes and time in nanoseconds of a file; zeros where it is missing."""
        try:
            status = os.lstat(self._file(digest, suffix))
            return status.st_size, status.st_mtime_ns
        except OSError:
            return 0, 0

    def _problem(self, entry: CacheEntry) -> str | None:
        if entry.sidecar is None:
            return entry.problem
        try:
            read_plan(entry.path, entry.sidecar)
        except DamagedFileError as error:
            return str(error)
        return None

    def _why_new(self, key: EngineKey) -> str:
        fields = {field.name: getattr(key, field.name) for field in dataclasses.fields(key)}
        near = "the cache cannot be read"
        with suppress(UnreadableFileError):
            near = self.nearest(fields)
        return f"The {key} is built: {near}."

    def _evict(self, *, keep: str) -> None:
        """Remove what was used longest ago until the rest fits the limit, and what killed processes left."""
        with suppress(OSError, OutputError):
            self._sweep(older_than=_LEFTOVER_SECONDS)
            entries, limit = self.list(), limit_bytes()
            total = sum(entry.size_bytes for entry in entries)
            for entry in reversed(entries):
                if total <= limit:
                    break
                if entry.digest != keep and self._remove(entry.digest, wait=False):
                    total -= entry.size_bytes
                    what = entry.sidecar.key if entry.sidecar else f"damaged engine {entry.digest[:12]}"
                    self._log(f"The {what} left the cache, which may take {limit >> 20} MiB ({LIMIT_VARIABLE}).")

    def _sweep(self, *, older_than: float) -> None:
        for path in self.folder.glob(".bdflow-*.part"):
            with suppress(OSError):
                if time.time() - path.lstat().st_mtime >= older_than:
                    path.unlink()

    def _remove(self, digest: str, *, wait: bool = True) -> bool:
        def notify() -> None:
            self._log(f"Another process is building {digest[:12]}; waiting until it can be removed.")

        with locked(self._file(digest, ".lock"), on_wait=notify if wait else None) as free:
            if not free:
                return False
            try:
                for suffix in _SUFFIXES:
                    self._file(digest, suffix).unlink(missing_ok=True)
            except OSError as error:
                raise OutputError(
                    f"Engine {digest[:12]} cannot be removed from '{self.folder}' ({error.strerror}). Check the "
                    "permissions of the folder."
                ) from error
        return True


def limit_bytes() -> int:
    """The size that BDFLOW_CACHE_MIB allows.

    Raises:
        ArgumentError: it is no whole number of MiB.
    """
    text = os.environ.get(LIMIT_VARIABLE) or str(DEFAULT_LIMIT_MIB)
    if not re.fullmatch(r"\d{1,9}", text):
        raise ArgumentError(f"{LIMIT_VARIABLE} is {text!r}; it must be a whole number of MiB, such as 4096.")
    return int(text) << 20


def _selects(selector: str, entry: CacheEntry) -> bool:
    if entry.sidecar is not None and selector in (entry.sidecar.key.model, entry.sidecar.key.model.partition("@")[0]):
        return True
    return len(selector) >= _MIN_PREFIX and entry.digest.startswith(selector)
