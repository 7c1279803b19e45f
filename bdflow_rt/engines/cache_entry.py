"""What the engine cache keeps beside an engine, and how its files are read without trusting them."""

from __future__ import annotations

import dataclasses
import fcntl
import hashlib
import json
import math
import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from bdflow_rt.errors import CacheTrustError

FORMAT = 2
"""Of sidecars and keys. 2: graphs hold LR pixels near the mean of their HR pixels, which engines of 1 do not."""
MAX_SIDECAR_BYTES = 1 << 16
ANY_GPU = "any"
"""GPU name and compute capability of an engine that is finished on whatever GPU loads it."""
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
_SHA256_LETTERS = 64
_MAX_PLAN_BYTES = 1 << 40


class DamagedEntryError(ValueError):
    """A file of the cache is missing or is not what was written; never leaves the cache."""


@dataclass(frozen=True)
class EngineKey:
    """All that decides an engine's bytes.

    Attributes:
        model: id, such as "bdflow-x4@1".
        graph_sha256, weights_sha256: of the ONNX graph it was built from and of the weights the graph refers to.
        direction: "downscale", "upscale" or "upscale_z".
        kind: of the graph, "public" or "core".
        flavour, flavour_version: "tensorrt" or "tensorrt-rtx", and the library's version.
        gpu: name of the one it was built for, or `ANY_GPU`.
        compute_capability: "8.9", "8.6,8.9" for several, "8.0+" for that and all later ones, or `ANY_GPU`.
        profile: name and extents, such as "1080p: 1x64x64 to 4x1088x1920, best 1x1080x1920".
        precision: of the convolutions.
        builder_flags: in any order.
    """

    model: str
    graph_sha256: str
    weights_sha256: str
    direction: str
    kind: str
    flavour: str
    flavour_version: str
    gpu: str
    compute_capability: str
    profile: str
    precision: str
    builder_flags: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """SHA-256 over every field, hexadecimal: the engine's name in the cache."""
        fields = dataclasses.asdict(self) | {"format": FORMAT, "builder_flags": sorted(self.builder_flags)}
        return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()

    def runs_on(self, gpu: str, compute_capability: str) -> bool:
        """Whether it was built for a GPU."""
        return was_built_for(self.gpu, self.compute_capability, gpu=gpu, compute_capability=compute_capability)

    def differences(self, wanted: Mapping[str, Any]) -> list[str]:
        """Names of the fields that are not as wanted."""
        return [name for name, value in wanted.items() if getattr(self, name) != value]

    def __str__(self) -> str:
        return f"{self.direction} engine of {self.model} ({self.flavour}, {self.profile})"


def was_built_for(name: str, capabilities: str, *, gpu: str, compute_capability: str) -> bool:
    """Whether an engine with this `gpu` and `compute_capability` in its key runs on a GPU."""
    if name not in (gpu, ANY_GPU):
        return False
    if capabilities.endswith("+"):
        return _version(compute_capability) >= _version(capabilities[:-1])
    return capabilities == ANY_GPU or compute_capability in capabilities.split(",")


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", text))


@dataclass(frozen=True)
class Sidecar:
    """The JSON beside an engine.

    Attributes:
        key: what was built.
        plan_sha256, plan_bytes: of the engine.
        build_seconds: how long that took.
        created, last_used: ISO 8601, UTC.
    """

    key: EngineKey
    plan_sha256: str
    plan_bytes: int
    build_seconds: float
    created: str
    last_used: str

    @classmethod
    def of(cls, key: EngineKey, plan: bytes, *, build_seconds: float) -> Sidecar:
        """Describe an engine that was just built."""
        time = now()
        return cls(key, hashlib.sha256(plan).hexdigest(), len(plan), round(build_seconds, 3), time, time)

    def to_json(self) -> bytes:
        """The text of the file."""
        return (json.dumps({"format": FORMAT, **dataclasses.asdict(self)}, indent=2) + "\n").encode()

    @classmethod
    def parse(cls, text: bytes, *, digest: str) -> Sidecar:
        """Read the file named `digest`.

        Raises:
            DamagedEntryError: it is not what `to_json` writes, or belongs to an engine of another name.
        """
        try:
            data = json.loads(text)
            if data.pop("format") != FORMAT:
                raise DamagedEntryError(f"its sidecar is not of format {FORMAT}")
            fields = data.pop("key")
            flags = fields.pop("builder_flags")
            sidecar = cls(key=EngineKey(**fields, builder_flags=tuple(flags)), **data)
            sidecar._check()
            found = sidecar.key.digest
        except DamagedEntryError:
            raise
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError) as error:
            raise DamagedEntryError(f"its sidecar cannot be read ({type(error).__name__})") from None
        if found != digest:
            raise DamagedEntryError("its sidecar was edited, or belongs to another engine")
        return sidecar

    def _check(self) -> None:
        texts = [getattr(self.key, f.name) for f in dataclasses.fields(self.key) if f.name != "builder_flags"]
        sound = (
            all(isinstance(text, str) for text in (*texts, *self.key.builder_flags, self.plan_sha256))
            and len(self.plan_sha256) == _SHA256_LETTERS
            and type(self.plan_bytes) is int
            and 0 <= self.plan_bytes <= _MAX_PLAN_BYTES
            and type(self.build_seconds) in (int, float)
            and math.isfinite(self.build_seconds)
        )
        if not sound:
            raise DamagedEntryError("its sidecar has values that are never written")
        for time in (self.created, self.last_used):
            if datetime.fromisoformat(time).tzinfo is None:
                raise DamagedEntryError("its sidecar has a time without a time zone")


def now() -> str:
    """The time as sidecars have it; later times are greater texts."""
    return datetime.now(timezone.utc).isoformat(timespec="microseconds")


def check_folder(folder: Path) -> None:
    """Refuse a folder from which somebody else could make this process run their code.

    Raises:
        CacheTrustError: it is a link or no folder, belongs to another user than this one or root, or others can write.
        OSError: it cannot be looked at.
    """
    status = os.lstat(folder)
    advice = "Set BDFLOW_CACHE to a folder of your own."
    if not stat.S_ISDIR(status.st_mode):
        kind = "a symbolic link" if stat.S_ISLNK(status.st_mode) else "no folder"
        raise CacheTrustError(f"The engine cache '{folder}' is {kind}; it must be a plain folder. {advice}")
    if status.st_uid not in (os.geteuid(), 0):
        raise CacheTrustError(
            f"The engine cache '{folder}' belongs to user {status.st_uid}, this process to user {os.geteuid()}. "
            f"Engines are programs that would run as you. {advice}"
        )
    if status.st_mode & _OTHERS_WRITE:
        raise CacheTrustError(
            f"Other users can write to the engine cache '{folder}' (mode {stat.S_IMODE(status.st_mode):o}), and "
            f"engines are programs that would run as you. If you trust what is in it: chmod 700 '{folder}'. {advice}"
        )


def read_file(path: Path, *, limit: int, what: str) -> bytes:
    """A file of the cache: a regular one that only this user or root can have written.

    Raises:
        DamagedEntryError: it is missing, no such file, or larger than `limit` bytes.
    """
    try:
        # O_NONBLOCK: a pipe in its place must not make the process wait for a writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise DamagedEntryError(f"{what} is no regular file")
            if status.st_uid not in (os.geteuid(), 0) or status.st_mode & _OTHERS_WRITE:
                raise DamagedEntryError(f"{what} can be written by others")
            if status.st_size > limit:
                raise DamagedEntryError(f"{what} has {status.st_size} bytes, more than {limit}")
            # Python sets aside at once what it is asked to read, and a sidecar may have been edited to say a terabyte.
            return file.read(min(limit, status.st_size) + 1)
    except FileNotFoundError:
        raise DamagedEntryError(f"{what} is missing") from None
    except OSError as error:
        raise DamagedEntryError(f"{what} cannot be read ({error.strerror})") from None


def read_plan(path: Path, sidecar: Sidecar) -> bytes:
    """An engine's bytes, which are those that were built.

    Raises:
        DamagedEntryError: they are not.
    """
    plan = read_file(path, limit=sidecar.plan_bytes, what="the engine")
    if len(plan) != sidecar.plan_bytes:
        raise DamagedEntryError(f"the engine has {len(plan)} bytes instead of {sidecar.plan_bytes}")
    if hashlib.sha256(plan).hexdigest() != sidecar.plan_sha256:
        raise DamagedEntryError("the engine's SHA-256 is not the one that was noted when it was built")
    return plan


@contextmanager
def locked(path: Path, *, on_wait: Callable[[], None] | None) -> Iterator[bool]:
    """Hold a lock file against other threads and processes; the system frees it when its holder dies.

    Args:
        path: of the lock file.
        on_wait: called before waiting for another holder; None does not wait.

    Yields:
        Whether nobody else holds it. A folder that cannot be written has no locks: there, nobody does.
    """
    descriptor = -1
    try:
        held = True
        with suppress(OSError):
            while True:
                descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
                held = _acquire(descriptor, on_wait)
                # Who removes an engine removes its lock file too: only the one that still has the name counts.
                if not held or _names(path, descriptor):
                    break
                os.close(descriptor)
                descriptor = -1
        yield held
    finally:
        if descriptor >= 0:
            os.close(descriptor)


def _acquire(descriptor: int, on_wait: Callable[[], None] | None) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        if on_wait is None:
            return False
        on_wait()
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    return True


def _names(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(path, follow_symlinks=False), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def as_record(sidecar: Sidecar) -> dict[str, Any]:
    """The sidecar in one flat dictionary, for lists and JSON."""
    fields = dataclasses.asdict(sidecar)
    return {**fields.pop("key"), **fields}
