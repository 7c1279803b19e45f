"""Every call to TensorRT is in typings/, against which mypy checks the code; here typings/ is checked against the real
packages: TensorRT-RTX as it is installed, the stubs of TensorRT 10.13, and the bindings of TensorRT 11."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from bdflow_rt.engines.backends import BACKENDS
from tests.support import ROOT

TYPINGS = ROOT / "typings"
READER = Path(__file__).with_name("api_reader.py")
WHEEL_VARIABLE = "BDFLOW_TENSORRT11_BINDINGS"
"""Environment variable with the path of a tensorrt_cu13_bindings 11.x wheel."""
NOT_OF_PYBIND = {"__buffer__", "__iter__", "__len__", "__int__", "__members__"}
"""Members that are no methods with named arguments there."""
CALLERS = (
    "export/flavours.py", "export/tensorrt.py", "export/timing_cache.py", "bdflow_rt/engines/tensorrt/refit.py",
    "bdflow_rt/engines/shaped.py", "bdflow_rt/engines/tensorrt/engine.py", "bdflow_rt/engines/tensorrt/library.py",
    "bdflow_rt/evaluate/inspect.py",
)  # fmt: skip
PACKAGE_NAMES = ("api", "library")
"""What the callers call the package: of the builder, and of the runtime."""

Members = dict[str, list[str] | None]
Surface = dict[str, Members]
"""Class -> member -> names of its arguments, None for an attribute."""


def surface(path: Path) -> Surface:
    """What a stub declares."""
    found: Surface = {}
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef):
            members: Members = found.setdefault(node.name, {})
            for item in node.body:
                if isinstance(item, ast.FunctionDef):
                    members[item.name] = [argument.arg for argument in item.args.args[1:]]
                elif isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
                    members[item.target.id] = None
    return found


def missing(wanted: Surface, found: dict[str, dict[str, str]]) -> list[str]:
    """What a real package lacks, or takes other arguments for."""
    faults = []
    for kind, members in wanted.items():
        if kind not in found:
            faults.append(kind)
            continue
        for name, arguments in members.items():
            if name in NOT_OF_PYBIND:
                continue
            if name not in found[kind]:
                faults.append(f"{kind}.{name}")
            elif arguments is not None and not any(
                _fits(arguments, line, by_position=name == "__init__") for line in found[kind][name].splitlines()
            ):
                faults.append(f"{kind}.{name}({', '.join(arguments)}), but: {found[kind][name]!r}")
    return faults


def _fits(arguments: list[str], signature: str, *, by_position: bool) -> bool:
    """Whether a signature as pybind11 writes it takes these, in this order, and demands no others."""
    inside = signature[signature.index("(") + 1 : signature.rindex(")")]
    # Types hold commas in brackets only.
    flat = re.sub(r"\[[^\[\]]*\]", "", re.sub(r"\[[^\[\]]*\]", "", inside))
    parts = [part.strip() for part in flat.split(",")]
    names = [part.split(":")[0].split("=")[0].strip() for part in parts if part]
    names, parts = (names[1:], parts[1:]) if names and names[0] == "self" else (names, parts)
    given = names[: len(arguments)]
    is_same = len(given) == len(arguments) if by_position else given == arguments
    return is_same and all("=" in part for part in parts[len(arguments) :])


def read(*arguments: str) -> dict[str, dict[str, str]]:
    """Signatures, from a process of its own."""
    done = subprocess.run([sys.executable, str(READER), *arguments], capture_output=True, text=True, check=True)
    result: dict[str, dict[str, str]] = json.loads(done.stdout)["classes"]
    return result


def stub_signatures(path: Path) -> dict[str, dict[str, str]]:
    """As `signatures`, of the lines of a .pyi that no Python can parse whole: arguments there are called `in`."""
    found: dict[str, dict[str, str]] = {}
    kind = ""
    for line in path.read_text(encoding="utf-8").splitlines():
        if begins := re.match(r"class (\w+)", line):
            kind = begins[1]
            found[kind] = {}
        elif method := re.match(r"    def ((\w+)\(.*\).*):", line):
            found[kind][method[2]] = "\n".join(filter(None, [found[kind].get(method[2]), method[1]]))
        elif attribute := re.match(r"    (\w+): ", line):
            found[kind].setdefault(attribute[1], "")
    return found


def test_every_enum_member_and_class_that_is_called_is_in_the_typings() -> None:
    known = surface(TYPINGS / "tensorrt.pyi")
    for kind, members in surface(TYPINGS / "tensorrt_rtx.pyi").items():
        known.setdefault(kind, {}).update(members)
    unknown = []
    for caller in CALLERS:
        for node in ast.walk(ast.parse((ROOT / caller).read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Attribute):
                continue
            package, _, kind = ast.unparse(node.value).partition(".")
            if package in PACKAGE_NAMES and (node.attr[0].isupper() or kind):
                is_known = node.attr in (known.get(kind, {}) if kind else known)
                unknown += [] if is_known else [f"{caller}: {ast.unparse(node)}"]
    assert unknown == []


@pytest.mark.skipif(not BACKENDS["tensorrt-rtx"].is_installed, reason="tensorrt-rtx is not installed")
def test_tensorrt_rtx_has_every_call() -> None:
    found = read("tensorrt_rtx")
    assert missing(surface(TYPINGS / "tensorrt.pyi"), found) == []
    assert missing(surface(TYPINGS / "tensorrt_rtx.pyi"), found) == []


def test_tensorrt_10_has_every_call() -> None:
    spec = importlib.util.find_spec("tensorrt_bindings")
    folder = Path(next(iter(spec.submodule_search_locations or []))) if spec else None
    if folder is None or not (folder / "tensorrt.pyi").is_file():
        pytest.skip("tensorrt-stubs is not installed: pip install --no-deps tensorrt-stubs")
    assert missing(surface(TYPINGS / "tensorrt.pyi"), stub_signatures(folder / "tensorrt.pyi")) == []


def test_tensorrt_11_has_every_call(tmp_path: Path) -> None:
    wheel, python = os.environ.get(WHEEL_VARIABLE, ""), f"-cp{sys.version_info.major}{sys.version_info.minor}-"
    if python not in Path(wheel).name or shutil.which("g++") is None:
        get = "pip download --no-deps 'tensorrt-cu13-bindings==11.*'"
        pytest.skip(f"needs g++, and in {WHEEL_VARIABLE} the wheel for this Python that `{get}` gets")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    assert missing(surface(TYPINGS / "tensorrt.pyi"), read("tensorrt_bindings", str(tmp_path))) == []


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (("    def set_shape(self, input: str, min", "    def set_shape(self, input: str, smallest"), "set_shape"),
        (("def add_optimization_profile(self, profile: IOptimizationProfile)", "def add_optimization_profile(self)"),
         "add_optimization_profile"),
        (("def parse_from_file(self, model: str)", "def parse_from_file(self, model: str, deep: bool)"),
         "parse_from_file"),
        (("    TF32: BuilderFlag", "    FP16: BuilderFlag"), "BuilderFlag.FP16"),
        (("class Weights", "class OnnxWeights"), "OnnxWeights"),
        (("def set_tensor_address(self, name: str, memory", "def set_tensor_address(self, name: str, address"),
         "set_tensor_address"),
        (("def __init__(self, engine: ICudaEngine, logger: ILogger)", "def __init__(self, engine: ICudaEngine)"),
         "Refitter.__init__"),
        (("def execute_async_v3(self, stream_handle: int)", "def execute_async_v3(self)"), "execute_async_v3"),
        (("def set_named_weights(self, name: str, weights: Weights)", "def set_named_weights(self, weights: Weights)"),
         "set_named_weights"),
    ],
)  # fmt: skip
@pytest.mark.skipif(not BACKENDS["tensorrt-rtx"].is_installed, reason="tensorrt-rtx is not installed")
def test_a_call_that_is_not_the_librarys_is_noticed(tmp_path: Path, change: tuple[str, str], fault: str) -> None:
    text = (TYPINGS / "tensorrt.pyi").read_text(encoding="utf-8")
    assert change[0] in text
    (tmp_path / "wrong.pyi").write_text(text.replace(*change))
    (only,) = missing(surface(tmp_path / "wrong.pyi"), read("tensorrt_rtx"))
    assert fault in only
