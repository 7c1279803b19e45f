"""Architectures by name: the base of their configurations, and the registry they enter themselves into.

An architecture is a frozen dataclass in `zoo/arch/NAME.py`, named by the decorator `architecture`, and the
`models.network.Network` that the decorator names. Other packages add theirs by an entry point of the group
`bdflow_rt.arch`, NAME = "package.module:Class".
"""

from __future__ import annotations

import dataclasses
import importlib
import importlib.metadata
import json
import pkgutil
import re
import types
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, TypeVar, get_origin, get_type_hints

from bdflow_rt.errors import ModelConfigError, ModelVersionError
from bdflow_rt.zoo.boundary import BoundaryConfig
from bdflow_rt.zoo.interface import ModelInterface

ENTRY_POINTS = "bdflow_rt.arch"
_BUILT_IN = "bdflow_rt.zoo.arch"
_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")
A = TypeVar("A", bound="Architecture")


class Architecture(ABC):
    """Base of the configurations: everything that changes an output pixel is a field; cards keep it beside the weights.

    Fields are whole numbers, text, tuples of these, or dataclasses of these; a value that no network can have raises
    `ModelConfigError` when it is made.
    """

    arch: ClassVar[str]
    """The architecture's name."""
    module: ClassVar[str]
    """Where its `Network` is, "package.module:Class"."""

    @abstractmethod
    def interface(self) -> ModelInterface:
        """What its users have to know."""

    @abstractmethod
    def parameters(self) -> int:
        """Trainable parameters."""

    @abstractmethod
    def macs(self, height: int, width: int) -> int:
        """Multiply-accumulates of the convolution weights, one direction, for a height x width HR picture."""

    @abstractmethod
    def receptive_field(self) -> int | None:
        """LR pixels that an output pixel can depend on, to each side, in either direction; None where it is all."""

    def mask(self) -> BoundaryConfig:
        """How its boundary-aware mask is made."""
        return BoundaryConfig()

    def extends(self, smaller: Architecture) -> str | None:
        """Why this network cannot start from the weights of a smaller one; None where it can."""
        return None if smaller == self else "another configuration"

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types; `from_dict` reads it back."""
        return json.loads(json.dumps(dataclasses.asdict(self)))  # type: ignore[call-overload]

    @classmethod
    def from_dict(cls: type[A], data: Mapping[str, Any]) -> A:
        """Read what `to_dict` wrote.

        Raises:
            ModelConfigError: an unknown key or an impossible value.
        """
        return _from_table(cls, data, "the model's config")


def architecture(name: str, *, module: str) -> Callable[[type[A]], type[A]]:
    """Enter a configuration class into the registry.

    Args:
        name: of the architecture, which cards state: a letter, then up to 31 of a-z, 0-9 and "_".
        module: where its `Network` is, "package.module:Class"; imported when a network is made.

    Raises:
        ModelConfigError: the name is not allowed, or another class has it.
    """

    def register(cls: type[A]) -> type[A]:
        if not _NAME.fullmatch(name):
            raise ModelConfigError(f"The architecture's name is {name!r}; a letter and up to 31 of a-z, 0-9 and '_'.")
        if (other := _REGISTRY.get(name)) is not None and other.__qualname__ != cls.__qualname__:
            raise ModelConfigError(f"{other.__qualname__} is the architecture {name!r} already; choose another name.")
        cls.arch, cls.module = name, module
        _REGISTRY[name] = cls
        return cls

    return register


def find_architecture(name: str) -> type[Architecture]:
    """The configuration class of an architecture.

    Raises:
        ModelVersionError: neither this release nor an installed package has it.
    """
    if name not in _REGISTRY and _NAME.fullmatch(name):
        if name in _built_in():
            importlib.import_module(f"{_BUILT_IN}.{name}")
        elif found := [point for point in _entry_points() if point.name == name]:
            found[0].load()
    if name in _REGISTRY:
        return _REGISTRY[name]
    known = sorted({*_REGISTRY, *_built_in(), *(point.name for point in _entry_points())})
    raise ModelVersionError(
        f"The architecture {name!r:.100} is none of those that are here: {', '.join(known)}. The model needs a newer "
        "bdflow-rt, or the package that has its architecture."
    )


def _built_in() -> list[str]:
    return [found.name for found in pkgutil.iter_modules(importlib.import_module(_BUILT_IN).__path__)]


def _entry_points() -> list[importlib.metadata.EntryPoint]:
    return list(importlib.metadata.entry_points(group=ENTRY_POINTS))


def _from_table(kind: type[Any], data: Any, place: str) -> Any:
    """A dataclass from a parsed JSON or TOML table: lists become tuples, tables dataclasses."""
    if not isinstance(data, Mapping):
        raise ModelConfigError(f"{place} is {data!r:.200}; it must be a table.")
    fields = {field.name: field for field in dataclasses.fields(kind)}
    if unknown := sorted(map(str, set(data) - set(fields))):
        raise ModelConfigError(f"Unknown key {unknown[0]!r} in {place}; known: {sorted(fields)}.")
    if missing := [name for name, field in fields.items() if name not in data and _is_required(field)]:
        raise ModelConfigError(f"{place} lacks the key {missing[0]!r}.")
    hints, values = get_type_hints(kind), dict(data)
    for name, value in values.items():
        if dataclasses.is_dataclass(hints[name]):
            values[name] = _from_table(hints[name], value, f"{name} in {place}")
        elif isinstance(value, list) and get_origin(hints[name]) in (tuple, types.UnionType):
            values[name] = tuple(value)
    return kind(**values)


def _is_required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


_REGISTRY: dict[str, type[Architecture]] = {}
