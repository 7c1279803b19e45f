"""What the engine cache keeps beside an engine, and the key that names it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from bdflow_rt.cache import DamagedFileError, read_cached
from bdflow_rt.errors import ArgumentError

FORMAT = 1
"""Of sidecars and keys."""
MAX_SIDECAR_BYTES = 1 << 16
ANY_GPU = "any"
"""GPU name and compute capability of an engine that is finished on whatever GPU loads it."""
_NOT_IN_A_LINE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_SHA256_LETTERS = 64
_MAX_PLAN_BYTES = 1 << 40


@dataclass(frozen=True)
class EngineKey:
    """All that decides an engine's bytes; spec/engine-key.md has the digest byte by byte.

    Attributes:
        model: id, such as "bdflow-x4@1".
        graph_sha256: of the ONNX graph it was built from.
        identity: of the model, as `ModelCard.identity` has it: weights, architecture and configuration.
        direction: "downscale", "upscale" or "upscale_z".
        kind: of the graph, "public" or "core".
        flavour, flavour_version: "tensorrt" or "tensorrt-rtx", and the library's version.
        gpu: name of the one it was built for, or `ANY_GPU`.
        compute_capability: "8.9", "8.6,8.9" for several, "8.0+" for that and all later ones, or `ANY_GPU`.
        profile: name and extents, such as "1080p: 1x64x64 to 4x1088x1920, best 1x1080x1920".
        precision: of the convolutions.
        builder_flags: in any order, each once.

    Raises:
        ArgumentError: a value is no text, or has characters that no line of UTF-8 holds.
    """

    model: str
    graph_sha256: str
    identity: str
    direction: str
    kind: str
    flavour: str
    flavour_version: str
    gpu: str
    compute_capability: str
    profile: str
    precision: str
    builder_flags: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, value in self._fields():
            if not isinstance(value, str) or _NOT_IN_A_LINE.search(value):
                raise ArgumentError(
                    f"The engine key's {name} is {value!r:.100}; it must be text without control characters. Rename "
                    "what it comes from."
                )

    @property
    def digest(self) -> str:
        """SHA-256 over every field, hexadecimal: the engine's name in the cache."""
        lines = [("format", str(FORMAT)), *self._fields()]
        return hashlib.sha256("".join(f"{name}={value}\n" for name, value in lines).encode()).hexdigest()

    def _fields(self) -> list[tuple[str, str]]:
        """Name and value of every line of the digest after its first."""
        names = [field.name for field in dataclasses.fields(self) if field.name != "builder_flags"]
        flags = sorted(set(self.builder_flags))  # the order of code points is that of their bytes in UTF-8
        return [(name, getattr(self, name)) for name in names] + [("builder_flag", flag) for flag in flags]

    def runs_on(self, gpu: str, compute_capability: str) -> bool:
        """Whether it was built for a GPU."""
        return was_built_for(self.gpu, self.compute_capability, gpu=gpu, compute_capability=compute_capability)

    def differences(self, expected: Mapping[str, Any]) -> list[str]:
        """Names of the fields that are not as expected."""
        return [name for name, value in expected.items() if getattr(self, name) != value]

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
        created: ISO 8601, UTC.
    """

    key: EngineKey
    plan_sha256: str
    plan_bytes: int
    build_seconds: float
    created: str

    @classmethod
    def of(cls, key: EngineKey, plan: bytes, *, build_seconds: float) -> Sidecar:
        """Describe an engine that was just built."""
        created = datetime.now(timezone.utc).isoformat(timespec="microseconds")
        return cls(key, hashlib.sha256(plan).hexdigest(), len(plan), round(build_seconds, 3), created)

    def to_json(self) -> bytes:
        """The text of the file."""
        return (json.dumps({"format": FORMAT, **dataclasses.asdict(self)}, indent=2) + "\n").encode()

    @classmethod
    def parse(cls, text: bytes, *, digest: str) -> Sidecar:
        """Read the file named `digest`.

        Raises:
            DamagedFileError: it is not what `to_json` writes, or belongs to an engine of another name.
        """
        try:
            data = json.loads(text)
            if data.pop("format") != FORMAT:
                raise DamagedFileError(f"its sidecar is not of format {FORMAT}")
            fields = data.pop("key")
            flags = fields.pop("builder_flags")
            sidecar = cls(key=EngineKey(**fields, builder_flags=tuple(flags)), **data)
            sidecar._check()
            actual = sidecar.key.digest
        except DamagedFileError:
            raise
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError, ArgumentError) as error:
            raise DamagedFileError(f"its sidecar cannot be read ({type(error).__name__})") from None
        if actual != digest:
            raise DamagedFileError("its sidecar was edited, or belongs to another engine")
        return sidecar

    def _check(self) -> None:
        sound = (
            isinstance(self.plan_sha256, str)
            and len(self.plan_sha256) == _SHA256_LETTERS
            and type(self.plan_bytes) is int
            and 0 <= self.plan_bytes <= _MAX_PLAN_BYTES
            and type(self.build_seconds) in (int, float)
            and math.isfinite(self.build_seconds)
        )
        if not sound:
            raise DamagedFileError("its sidecar has values that are never written")
        if datetime.fromisoformat(self.created).tzinfo is None:
            raise DamagedFileError("its sidecar has a time without a time zone")


def read_plan(path: Path, sidecar: Sidecar) -> bytes:
    """An engine's bytes, which are those that were built.

    Raises:
        DamagedFileError: they are not.
    """
    plan = read_cached(path, limit=sidecar.plan_bytes, what="the engine")
    if len(plan) != sidecar.plan_bytes:
        raise DamagedFileError(f"the engine has {len(plan)} bytes instead of {sidecar.plan_bytes}")
    if hashlib.sha256(plan).hexdigest() != sidecar.plan_sha256:
        raise DamagedFileError("the engine's SHA-256 is not the one that was noted when it was built")
    return plan


def as_record(sidecar: Sidecar) -> dict[str, Any]:
    """The sidecar in one flat dictionary, for lists and JSON."""
    fields = dataclasses.asdict(sidecar)
    return {**fields.pop("key"), **fields}
