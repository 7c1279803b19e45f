"""The stand-in for TensorRT has the calls that typings/ lists, which are compared with the real packages elsewhere."""

from __future__ import annotations

import enum
import inspect
from typing import Any

import pytest

from bdflow_rt.engines.backends import BACKENDS
from tests.engines import standin, standin_gpu, standin_refit, standin_types
from tests.export.test_api_surface import TYPINGS, surface

MODULES = (standin, standin_refit, standin_types)
KINDS: dict[str, Any] = {
    name: kind
    for module in MODULES
    for name, kind in vars(module).items()
    if isinstance(kind, type) and kind.__module__ == module.__name__ and name != "StandInLibrary"
}
LISTED = [surface(TYPINGS / f"{name}.pyi") for name in ("tensorrt", "tensorrt_rtx")]
METHODS = [
    (name, method)
    for name, kind in KINDS.items()
    for method, value in vars(kind).items()
    if inspect.isfunction(value) and not method.startswith("_")
]
OWN = {"error", "stored", "refit", "compute", "note", "numpy"}
"""Methods by which the parts of the stand-in talk to each other."""


@pytest.mark.parametrize(("kind", "method"), [pair for pair in METHODS if pair[1] not in OWN])
def test_every_method_takes_what_the_real_one_takes(kind: str, method: str) -> None:
    parameters = list(inspect.signature(getattr(KINDS[kind], method)).parameters)[1:]
    assert parameters in [listed.get(kind, {}).get(method) for listed in LISTED]


@pytest.mark.skipif(not BACKENDS["tensorrt-rtx"].is_installed, reason="tensorrt-rtx is not installed")
@pytest.mark.parametrize("name", [name for name, kind in KINDS.items() if issubclass(kind, enum.Enum)])
def test_every_member_of_an_enumeration_is_a_real_one(name: str) -> None:
    library: Any = pytest.importorskip("tensorrt_rtx")
    assert set(KINDS[name].__members__) <= set(getattr(library, name).__members__)


@pytest.mark.parametrize("kind", [standin_gpu.StandInDevice, standin_gpu.StandInStamp, standin_gpu.StandInGraph])
def test_the_stand_in_gpu_overrides_every_method_of_the_real_one(kind: type) -> None:
    """A method that it inherited would call CUDA."""
    (real,) = kind.__bases__
    methods = {name for name, value in vars(real).items() if inspect.isfunction(value) and not name.startswith("_")}
    assert methods
    for name in (*methods, "__init__"):
        assert name in vars(kind)
    for name in methods:
        parameters, expected = (list(inspect.signature(getattr(one, name)).parameters) for one in (kind, real))
        assert parameters == expected, name
