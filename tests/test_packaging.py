"""What people install: the sdist and wheel hold everything, and a regular install works away from the checkout."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.support import ROOT

FOLDERS = {
    "bdflow_rt": "bdflow_rt",
    "kernels": "bdflow_rt/kernels",
    "export": "bdflow_rt/export",
    "bench": "bdflow_rt/bench",
}
SUFFIXES = {".py", ".typed", ".cuh", ".json", ".safetensors", ".xz", ".onnx", ".toml"}
TOP_LEVEL = (
    "setup.py", "pyproject.toml", "MANIFEST.in", "Makefile", "README.md", "CHANGELOG.md", "CITATION.cff", "LICENSE",
)  # fmt: skip

BUILD = "import sys; from setuptools import build_meta; build_meta.{hook}(sys.argv[1])"


def _sources() -> dict[str, Path]:
    """Every file that must be installed: its path in site-packages -> its path in the checkout."""
    sources = {}
    for folder, package in FOLDERS.items():
        for path in (ROOT / folder).rglob("*"):
            kept = path.suffix in SUFFIXES and "results" not in path.relative_to(ROOT / folder).parts
            if path.is_file() and kept and "__pycache__" not in path.parts:
                sources[f"{package}/{path.relative_to(ROOT / folder).as_posix()}"] = path
    return sources


def _build(hook: str, tree: Path, out: Path) -> Path:
    done = subprocess.run(
        [sys.executable, "-c", BUILD.format(hook=hook), str(out)], cwd=tree, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return next(out.iterdir())


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, as building writes into the tree, and offline, with the setuptools that is here."""
    copy = tmp_path_factory.mktemp("copy")
    ignore = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for folder in (*FOLDERS, "tests", "examples"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=ignore)
    for name in TOP_LEVEL:
        shutil.copy(ROOT / name, copy / name)
    return _build("build_sdist", copy, tmp_path_factory.mktemp("sdist"))


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from the unpacked sdist, so what the sdist lacks is missing here too."""
    unpacked = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(sdist) as archive:
        archive.extractall(unpacked, filter="data")
    return _build("build_wheel", next(unpacked.iterdir()), tmp_path_factory.mktemp("wheel"))


def test_wheel_holds_every_source_and_nothing_loose(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert sorted(set(_sources()) - names) == []
    assert {name.split("/")[0] for name in names} == {"bdflow_rt", wheel.name.rsplit("-", 3)[0] + ".dist-info"}


def test_sdist_holds_every_source_the_tests_and_the_licence(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    wanted = [*_sources().values(), *(ROOT / name for name in TOP_LEVEL), ROOT / "tests" / "support.py"]
    wanted += (ROOT / "examples").glob("*.*")
    assert sorted({path.relative_to(ROOT).as_posix() for path in wanted} - names) == []


def test_regular_install_works_outside_the_checkout(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-index",
        "--no-deps",
        "--target",
        str(site),
        str(wheel),
    ]
    subprocess.run(pip, check=True, capture_output=True)
    code = (
        f"import sys; sys.path.insert(0, {str(site)!r})\n"
        "import bdflow_rt, bdflow_rt.kernels, bdflow_rt.export, bdflow_rt.bench\n"
        "for module in (bdflow_rt, bdflow_rt.kernels, bdflow_rt.export, bdflow_rt.bench): print(module.__file__)\n"
    )
    run = subprocess.run([sys.executable, "-I", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert [Path(line).is_relative_to(site) for line in run.stdout.split()] == [True] * 4
    command = subprocess.run(
        [str(site / "bin" / "bdflow"), "--version"], cwd=tmp_path, env={"PYTHONPATH": str(site)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert command.stdout.split() == ["bdflow", _version()]
    assert f"bdflow_rt-{_version()}-" in wheel.name


def _version() -> str:
    namespace: dict[str, str] = {}
    exec((ROOT / "bdflow_rt" / "_version.py").read_text(), namespace)
    return namespace["__version__"]
