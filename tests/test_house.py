"""The house rules of the source tree: who imports whom, what stays unloaded, what is documented, what is dead."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import ROOT

FOLDERS = {
    "bdflow_rt": "bdflow_rt",
    "kernels": "bdflow_rt.kernels",
    "export": "bdflow_rt.export",
    "bench": "bdflow_rt.bench",
    "tools": "tools",
}
MAPPED = ("kernels", "export", "bench")

EVERYONES = {"errors", "files", "install", "options", "cache", "fork", "pipes", "quiet", "_version"}
"""What every unit may import, these only one another."""
CORE = {
    "interop", "metrics", "picture", "zoo", "kernels", "models", "packet", "containers", "engines", "engines.torch",
    "runtime", "runtime.refine", "rescaler", "video", "export", "training", "evaluate",
}  # fmt: skip
MAY_IMPORT: dict[str, set[str]] = {
    **{unit: set() for unit in EVERYONES},
    "interop": set(),
    "metrics": set(),
    "picture": set(),
    "zoo": set(),
    "kernels": {"interop"},
    "models": {"zoo"},
    "packet": {"zoo", "picture"},
    "containers": {"packet", "kernels", "picture"},
    "engines": {"zoo", "kernels", "interop"},
    "engines.torch": {"zoo", "kernels", "interop", "engines", "models"},
    "runtime": {"engines", "packet", "zoo", "interop", "picture"},
    "runtime.refine": {"engines", "zoo", "picture", "runtime", "models", "metrics", "engines.torch"},
    "rescaler": {"runtime", "containers", "engines", "zoo", "packet", "picture"},
    "video": {"rescaler", "runtime", "engines", "containers", "kernels", "zoo", "packet", "picture"},
    "export": {"models", "engines", "zoo"},
    "training": {"models", "kernels", "metrics", "zoo", "interop"},
    "evaluate": {"rescaler", "metrics", "engines", "zoo", "packet", "picture", "containers", "interop", "video"},
    "bench": CORE,
    "cli": CORE | {"bench"},
    "tools": CORE | {"bench", "cli"},
    "api": {"rescaler", "packet", "picture", "containers", "zoo", "engines"},
    "__main__": {"cli"},
}
"""The table of the design: unit -> units it may import, besides itself and `EVERYONES`."""
BEYOND: dict[tuple[str, str], str] = {
    ("packet", "interop"): "a packet's arrays may be on a GPU",
    ("export", "picture"): "calibration runs the sample picture through the graph",
    ("training", "containers"): "training pictures are decoded as all others",
    ("training", "runtime"): "validation samples Z as a packet with that seed does",
    ("evaluate", "export"): "inspection reads graphs, and has TensorRT parse them",
    ("evaluate", "training"): "held-out originals are in packs of training data",
}
"""What the table allows beyond it, and why."""
for _unit_name, _target in BEYOND:
    MAY_IMPORT[_unit_name] = MAY_IMPORT[_unit_name] | {_target}

THIRD_PARTY: dict[str, set[str]] = {
    "errors": set(),
    "install": set(),
    "cache": set(),
    "pipes": set(),
    "fork": set(),
    "quiet": set(),
    "zoo": set(),
    "options": {"numpy"},
    "picture": {"numpy", "cv2"},
    "packet": {"numpy"},
    "interop": {"numpy", "cupy"},
    "kernels": {"numpy", "cv2", "cupy", "cuda"},
    "models": {"torch", "safetensors", "numpy"},
}
"""Units that are free of all other third-party packages, also inside functions."""

HOMES: dict[str, set[str]] = {
    "torch": {"models", "training", "export", "metrics", "bench", "engines.torch", "runtime.refine"},
    "cv2": {"kernels", "training", "metrics", "bench"},
    "PIL": {"training", "evaluate"},
    "onnx": {"export"},
    "scipy": {"metrics", "bench"},
    "matplotlib": {"tools"},
    "skimage": {"bench"},
    "safetensors": {"models", "training", "export"},
    "openvino": set(),
    "onnxruntime": set(),
    "cupy": set(),
    "tensorrt": set(),
    "tensorrt_rtx": set(),
    "nvidia": set(),
    "pycuda": set(),
    "av": {"video"},
    "simplejpeg": set(),
    "tqdm": set(),
}
"""Heavy package -> units that may import it at module level; everywhere else it is imported where it is used."""

NEVER_BY_IMPORT = (
    "torch", "cupy", "tensorrt", "tensorrt_rtx", "nvidia.dali", "pycuda", "cv2", "PIL", "openvino", "onnx",
    "onnxruntime", "scipy", "matplotlib", "skimage", "safetensors", "simplejpeg", "av",
)  # fmt: skip


def _modules() -> Iterator[tuple[Path, str]]:
    """Every source file with its installed name; a package's `__init__.py` has the package's name."""
    for folder, package in FOLDERS.items():
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT / folder).with_suffix("").parts
            yield path, ".".join([package, *(part for part in parts if part != "__init__")])


MODULES = list(_modules())
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for path, name in MODULES}
PACKAGES = {name for path, name in MODULES if path.name == "__init__.py"}
every_module = pytest.mark.parametrize("module", TREES)


def _unit(module: str) -> str:
    """The row of the table that a module belongs to."""
    parts = module.removeprefix("bdflow_rt").strip(".").split(".")
    return ".".join(parts[:2]) if ".".join(parts[:2]) in MAY_IMPORT else parts[0] or "api"


def _imports(module: str, tree: ast.AST) -> Iterator[str]:
    """Full dotted names of everything imported in a piece of a module, inside functions too."""
    package = module if module in PACKAGES else module.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                base = ".".join(filter(None, [*package.split(".")[: package.count(".") + 2 - node.level], base]))
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names if f"{base}.{alias.name}" in TREES)


def _module_level(tree: ast.Module) -> ast.Module:
    """The statements that run on import: no function bodies, and not what only type checkers see."""

    class Strip(ast.NodeTransformer):
        def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
            return None

        def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
            return None

        def visit_If(self, node: ast.If) -> ast.AST | None:
            return None if ast.unparse(node.test).endswith("TYPE_CHECKING") else self.generic_visit(node)

    return Strip().visit(ast.parse(ast.unparse(tree)))


def test_every_folder_is_a_package_and_every_module_has_a_row_in_the_table() -> None:
    assert {_unit(module) for module in TREES} <= set(MAY_IMPORT)
    folders = {path.parent for path, _ in MODULES}
    assert [str(folder) for folder in folders if not (folder / "__init__.py").is_file()] == []


@every_module
def test_nobody_imports_what_the_design_does_not_allow(module: str) -> None:
    unit = _unit(module)
    own = unit.partition(".")[0]
    allowed = MAY_IMPORT[unit] | EVERYONES | {unit}
    for name in _imports(module, TREES[module]):
        top = name.partition(".")[0]
        assert top not in MAPPED, f"{module} imports {name}; its installed name is bdflow_rt.{name}"
        if name.startswith(("bdflow_rt.", "tools.")):
            target = _unit(name)
            # A unit's own modules may import each other, engines.torch included: the protocol's users load it.
            assert target in allowed or target.partition(".")[0] == own, f"{module} imports {name}"
        elif name == "bdflow_rt":
            assert unit in ("bench", "cli", "api", "tools"), f"{module} imports the public API"


@every_module
def test_light_units_stay_free_of_other_packages(module: str) -> None:
    allowed = THIRD_PARTY.get(_unit(module))
    if allowed is None:
        return
    tops = {name.partition(".")[0] for name in _imports(module, TREES[module])}
    assert tops - set(sys.stdlib_module_names) - {"bdflow_rt"} <= allowed


@every_module
def test_heavy_packages_are_imported_at_module_level_only_at_home(module: str) -> None:
    unit = _unit(module)
    for name in _imports(module, _module_level(TREES[module])):
        top = name.partition(".")[0]
        if top in HOMES:
            at_home = unit in HOMES[top] and not (module in PACKAGES and unit == "metrics")
            assert at_home, f"{module} imports {name} on import; import it where it is used"


@pytest.mark.parametrize("module", sorted(PACKAGES))
def test_init_files_export_and_do_not_compute(module: str) -> None:
    for node in TREES[module].body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            ast.literal_eval(node.value)  # raises where the value is computed
        else:
            lazy = isinstance(node, ast.FunctionDef) and node.name in ("__getattr__", "__dir__")
            typing = isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
            text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
            assert lazy or typing or text or isinstance(node, ast.Import | ast.ImportFrom), ast.unparse(node)


@pytest.mark.parametrize("statement", ["import bdflow_rt", "from bdflow_rt import *", "import bdflow_rt.cli.main"])
def test_import_loads_nothing_heavy(statement: str) -> None:
    code = f"import sys\n{statement}\nprint(*[name for name in {NEVER_BY_IMPORT} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


@every_module
def test_everything_public_has_a_docstring(module: str) -> None:
    assert ast.get_docstring(TREES[module]), module
    assert list(_undocumented(TREES[module])) == []


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.py")), ids=lambda path: path.name)
def test_everything_in_an_example_has_a_docstring(path: Path) -> None:
    assert list(_undocumented(ast.parse(path.read_text(encoding="utf-8")))) == []


PROTOCOL_METHODS = {
    method.name
    for tree in TREES.values()
    for node in ast.walk(tree)
    if isinstance(node, ast.ClassDef)
    for method in node.body
    if isinstance(method, ast.FunctionDef)
    if "Protocol" in [ast.unparse(base).partition("[")[0] for base in node.bases]
    or "abstractmethod" in [ast.unparse(decorator) for decorator in method.decorator_list]
} | {"forward", "backward"}
"""Documented once, where the protocol or base is; those of the commands are in `cli/main.py`."""
COMMAND_FUNCTIONS = ("run", "add_arguments")


def _undocumented(scope: ast.Module | ast.ClassDef) -> Iterator[str]:
    definitions = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    for node in scope.body:
        if not isinstance(node, definitions) or node.name.startswith("_"):
            continue
        inherited = node.name in (PROTOCOL_METHODS if isinstance(scope, ast.ClassDef) else COMMAND_FUNCTIONS)
        overload = any(ast.unparse(decorator).endswith("overload") for decorator in node.decorator_list)
        if not ast.get_docstring(node) and not inherited and not overload:
            yield node.name
        if isinstance(node, ast.ClassDef):
            yield from _undocumented(node)


def test_every_exception_is_a_bdflow_error_and_somebody_uses_it() -> None:
    classes = {node.name: node for node in TREES["bdflow_rt.errors"].body if isinstance(node, ast.ClassDef)}
    bases = {name: [ast.unparse(base) for base in node.bases] for name, node in classes.items()}
    groups = {base for names in bases.values() for base in names}
    used = {
        node.id if isinstance(node, ast.Name) else node.attr
        for module, tree in TREES.items()
        if module != "bdflow_rt.errors"
        for node in ast.walk(tree)
        if isinstance(node, ast.Name | ast.Attribute)
    }
    for name in classes:
        root = name
        while bases.get(root):
            root = bases[root][0]
        assert root == "Exception", f"{name} does not derive from BdflowError"
        assert name == "BdflowError" or bases[name] != ["Exception"], f"{name} does not derive from BdflowError"
    assert sorted(set(classes) - groups - used) == [], "exceptions that nobody raises"


def test_what_calls_home_is_imported_by_the_one_function_that_keeps_it_quiet() -> None:
    found = [
        str(path.relative_to(ROOT))
        for folder in (*FOLDERS, "tests", "examples")
        for path in sorted((ROOT / folder).rglob("*.py"))
        if re.search("openvino|onnxruntime", path.read_text(encoding="utf-8"))
        for node in _at_run_time(ast.parse(path.read_text(encoding="utf-8")))
        if {name.partition(".")[0] for name in _names(node)} & {"openvino", "openvino_telemetry", "onnxruntime"}
    ]
    # Plain ONNX Runtime is what that example shows; it sets the variables itself.
    assert found == ["examples/06_onnx.py"], 'use bdflow_rt.quiet.import_quietly("openvino")'


def _at_run_time(node: ast.AST) -> Iterator[ast.AST]:
    """A tree's nodes, without what only type checkers see."""
    if not (isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")):
        yield node
        for child in ast.iter_child_nodes(node):
            yield from _at_run_time(child)


def _names(node: ast.AST) -> list[str]:
    """What a node imports, by statement or by function."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        return [node.module or ""] if not node.level else []
    if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "importorskip", "__import__")):
        return [str(argument.value) for argument in node.args if isinstance(argument, ast.Constant)]
    return []


def test_nobody_makes_an_openvino_core_but_the_process_one() -> None:
    """One that comes and goes frees the thread's signal stack, and the next signal crashes the process."""
    made = [
        str(path.relative_to(ROOT))
        for folder in (*FOLDERS, "tests", "examples")
        for path in sorted((ROOT / folder).rglob("*.py"))
        if "Core" in path.read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and node.attr == "Core" and ast.unparse(node.value) in ("openvino", "ov")
    ]
    # The annotation, the one call, and the test that plays a host with a core of its own.
    assert set(made) <= {"bdflow_rt/engines/openvino.py", "tests/forked.py"}


ARCHITECTURE_FREE = (
    "engines",
    "containers",
    "packet",
    "runtime",
    "rescaler",
    "options",
    "video",
    "evaluate",
    "export",
    "cli",
)
"""What reads a network's `ModelInterface` alone."""


@pytest.mark.parametrize("module", [name for name in TREES if _unit(name).partition(".")[0] in ARCHITECTURE_FREE])
def test_no_field_of_an_architecture_is_read_but_by_itself(module: str) -> None:
    """`config` is handed on, compared and printed whole; what is in it is the business of its architecture."""
    read = {
        ast.unparse(node)
        for node in ast.walk(TREES[module])
        if isinstance(node, ast.Attribute) and ast.unparse(node.value).endswith(("card.config", "network.config"))
    }
    assert not read - {"card.config.macs", "card.config.parameters"}
    assert not any("zoo.arch." in name or name.endswith("models.bdflow") for name in _imports(module, TREES[module]))


def test_the_table_knows_no_circle() -> None:
    """A unit in an earlier row may not, by way of others, import what imports it."""
    left = {unit: allowed - {unit, "engines.torch", "runtime.refine"} for unit, allowed in MAY_IMPORT.items()}
    while free := [unit for unit, allowed in left.items() if not allowed & left.keys()]:
        for unit in free:
            del left[unit]
    assert left == {}
