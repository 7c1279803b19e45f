"""The lower bounds of pyproject.toml are true: installed as they stand, on the oldest Python, they run.

The core's are installed together; each extra's own alone, with whatever pip resolves for the core. The environments are
made in temporary folders, from the index that pip is configured with, and removed.
"""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from packaging.requirements import Requirement
from packaging.version import Version
from PIL import Image

from bdflow_rt import Rescaler
from bdflow_rt.containers import read_picture
from tests.support import ROOT, photo
from tests.support_bounds import CHECKS

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
OLDEST_PYTHON = "3.10"
NOT_RUN = {
    "tensorrt": "tensorrt-cu13 takes its libraries from an index of NVIDIA's own, and engines run on a GPU alone",
    "docs": "they build the documentation's site in a checkout, for which any version that works will do",
    "dev": "what it has of its own are tools, of which any version that works will do",
}
"""Extras whose bounds nothing here tests, and why."""
NEEDS_TORCH = ("train", "export", "bench")
WITH_TORCH = os.environ.get("BDFLOW_TEST_TORCH_BOUNDS") == "1"


def requirements(extra: str | None) -> list[Requirement]:
    """Those of the core, or of an extra and the extras that it names."""
    listed = PROJECT["dependencies"] if extra is None else PROJECT["optional-dependencies"][extra]
    found: list[Requirement] = []
    for text in listed:
        requirement = Requirement(text)
        if requirement.name == PROJECT["name"]:
            found += [inner for name in sorted(requirement.extras) for inner in requirements(name)]
        else:
            found.append(requirement)
    return found


def lower_bound(requirement: Requirement) -> Version:
    (specifier,) = requirement.specifier
    assert specifier.operator == ">=", str(requirement)
    return Version(specifier.version)


def lowest(extra: str | None) -> list[str]:
    """`NAME==BOUND` for each requirement that holds for the oldest Python; the highest bound of one named twice."""
    bounds: dict[str, Version] = {}
    for requirement in requirements(extra):
        if requirement.marker is None or requirement.marker.evaluate({"python_version": OLDEST_PYTHON}):
            bounds[requirement.name] = max(lower_bound(requirement), bounds.get(requirement.name, Version("0")))
    return [f"{name}=={version}" for name, version in bounds.items()]


def test_every_extra_has_a_check_or_a_reason() -> None:
    assert set(CHECKS) | set(NOT_RUN) == {"core", *PROJECT["optional-dependencies"]}
    assert PROJECT["requires-python"] == f">={OLDEST_PYTHON}"


@pytest.mark.parametrize("extra", [None, *CHECKS])
def test_every_bound_is_a_whole_release_number_that_can_be_installed(extra: str | None) -> None:
    """ "4.9" is no release of OpenCV, so nobody could have run it."""
    for requirement in requirements(None if extra == "core" else extra):
        assert len(lower_bound(requirement).release) >= 3, str(requirement)


@pytest.fixture(scope="module")
def oldest_python() -> str:
    """The interpreter; skips where there is none that runs."""
    of_pyenv = sorted(map(str, pathlib.Path.home().glob(f".pyenv/versions/{OLDEST_PYTHON}.*/bin/python")))
    for candidate in (f"python{OLDEST_PYTHON}", *of_pyenv):
        path = shutil.which(candidate)
        if path and subprocess.run([path, "-c", "import venv, ensurepip"], capture_output=True).returncode == 0:
            return path
    pytest.skip(f"there is no Python {OLDEST_PYTHON} here")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Of this checkout, built from a copy with the setuptools that is here."""
    copy, out = tmp_path_factory.mktemp("copy"), tmp_path_factory.mktemp("wheel")
    for folder in ("bdflow_rt", "kernels", "export", "bench"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__", "results"))
    for name in ("setup.py", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy / name)
    code = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"
    subprocess.run([sys.executable, "-c", code, str(out)], cwd=copy, check=True, capture_output=True)
    return next(out.iterdir())


class Environment:
    """A virtual environment of the oldest Python."""

    def __init__(self, python: str, folder: pathlib.Path) -> None:
        subprocess.run([python, "-m", "venv", str(folder)], check=True, capture_output=True)
        self.python = str(folder / "bin" / "python")

    def install(self, *arguments: str) -> None:
        """Install with pip; skips where the index does not answer."""
        done = self.run("-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-cache-dir", *arguments)
        if "Could not fetch URL" in done.stderr or "NewConnectionError" in done.stderr:
            pytest.skip("no package index answers here")
        assert done.returncode == 0, done.stderr[-3000:]

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run its Python away from the checkout."""
        variables = {name: value for name, value in os.environ.items() if not name.startswith(("BDFLOW_", "PYTHON"))}
        return subprocess.run(
            [self.python, *arguments], cwd=pathlib.Path(self.python).parents[1], env=variables, capture_output=True,
            text=True, check=False,
        )  # fmt: skip


@pytest.fixture
def environment(oldest_python: str, tmp_path: pathlib.Path) -> Iterator[Environment]:
    yield Environment(oldest_python, tmp_path / "venv")
    shutil.rmtree(tmp_path / "venv")  # gigabytes, which pytest would keep for three runs


@pytest.mark.slow
@pytest.mark.parametrize("extra", CHECKS)
def test_the_lower_bounds_run(
    extra: str, environment: Environment, wheel: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    if extra in NEEDS_TORCH and not WITH_TORCH:
        pytest.skip("PyTorch from an index takes 7 GB with CUDA's libraries; BDFLOW_TEST_TORCH_BOUNDS=1 has it run")
    rest = [] if extra == "core" else [str(requirement) for requirement in requirements(None)]
    environment.install(*lowest(None if extra == "core" else extra), *rest)
    environment.install("--no-deps", str(wheel))
    image = photo(75, 101, 3)
    Image.fromarray(image).save(tmp_path / "photo.png")
    done = environment.run(str(ROOT / "tests" / "support_bounds.py"), extra, str(tmp_path))
    assert done.returncode == 0, done.stderr[-3000:]
    if (tmp_path / "restored.png").exists():
        with Rescaler.from_pretrained() as rescaler:
            packet = rescaler.downscale(image)
            for name, expected in (("small", packet.lr), ("restored", rescaler.upscale(packet))):
                actual = read_picture(tmp_path / f"{name}.png").pixels
                assert np.abs(actual.astype(int) - expected).max() <= 1, name
