"""What is wrong, and one command that mends it, from a report alone: no probing here."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bdflow_rt.cli.diagnosis.gpu import mend_cuda
from bdflow_rt.cli.diagnosis.packages import REQUIRED
from bdflow_rt.cli.diagnosis.probe import guarded, pip, pip_extra

Report = dict[str, Any]
Problem = dict[str, str]

MIN_FREE_BYTES = 1 << 30
"""A compiled engine of the largest model with its timing cache stays below a gigabyte."""

_CHOICE = {
    "numpy": "numpy",
    "cv2": "opencv-python-headless",
    "openvino": "openvino",
    "PIL": "pillow",
    "simplejpeg": "simplejpeg",
    "tqdm": "tqdm",
    "onnxruntime": "onnxruntime",
    "cupy": "cupy-cuda13x",
    "tensorrt": "tensorrt-cu13",
    "tensorrt_rtx": "tensorrt-rtx-cu13",
    "nvidia.dali": "nvidia-dali-cuda130",
}
"""Which distribution to install for an import name that several provide."""

_SEVERAL_IS_NORMAL = ("tensorrt", "tensorrt_rtx")
"""Their metapackage installs the one with the CUDA version in its name."""


def find_problems(report: Report) -> list[Problem]:
    """Every problem in the report: `what` is wrong and the command that is its `fix`."""
    problems: list[Problem] = []
    for check in _CHECKS:
        found = guarded(lambda check=check: list(check(report)))  # type: ignore[misc]
        if isinstance(found, list):
            problems += found
        else:
            problems.append(_problem(f"The check {check.__name__} failed: {found['error']}", "bdflow doctor --json"))
    return problems


def is_usable(report: Report) -> bool:
    """Whether pictures can be rescaled: what every backend needs imports, one was chosen and runs, and a sound model is
    here."""
    packages = report["packages"]
    if any(packages.get(name, {}).get("imported") is None for name in REQUIRED):
        return False
    sound = [model for model in report["zoo"].get("models", []) if not model["problem"]]
    chosen = report["backend"].get("backend")
    run = report["runs"].get(chosen) or {}
    runs = not (run.get("error") or (run.get("problem") and not run["of_the_model"]))
    return bool(chosen and runs and sound)


def _problem(what: str, fix: str) -> Problem:
    return {"what": what, "fix": fix}


def _reinstall(report: Report) -> str:
    checkout = report["bdflow"]["checkout"]
    return pip(f"install --force-reinstall --no-deps {f'-e {shlex.quote(checkout)}' if checkout else 'bdflow-rt'}")


def _platform(report: Report) -> Iterator[Problem]:
    system = report["system"]
    if (system.get("platform"), system.get("machine")) != ("linux", "x86_64"):
        yield _problem(
            f"This is {system.get('platform')} on {system.get('machine')}; bdflow is tested on linux on x86_64 only.",
            "docker run --rm -it --platform linux/amd64 python:3.12 bash",
        )


def _required(report: Report) -> Iterator[Problem]:
    for name in REQUIRED:
        package = report["packages"][name]
        if package["imported"] is None and package["error"] is None:
            yield _problem(
                f"{_CHOICE[name]} is not installed; nothing runs without it.", pip(f"install {_CHOICE[name]}")
            )


def _broken(report: Report) -> Iterator[Problem]:
    for name, package in report["packages"].items():
        if package["error"] is None:
            continue
        names = ", ".join(f"{dist} {version}" for dist, version in package["installed"].items()) or name
        choice = _CHOICE.get(name) or next(iter(package["installed"]), name)
        yield _problem(
            f"{names} is installed and does not import: {package['error']}",
            pip(f"install --force-reinstall {choice}"),
        )


def _clashes(report: Report) -> Iterator[Problem]:
    for name, package in report["packages"].items():
        dists = list(package["installed"])
        if len(dists) > 1 and name not in _SEVERAL_IS_NORMAL:
            yield _problem(
                f"{' and '.join(dists)} are both installed and overwrite each other's files.",
                f"{pip('uninstall -y ' + ' '.join(dists))} && {pip('install ' + _CHOICE.get(name, dists[0]))}",
            )
        elif len(dists) == 1 and package["imported"] not in (None, "unknown"):
            version = package["installed"][dists[0]]
            if _release(version) != _release(package["imported"]):
                yield _problem(
                    f"{dists[0]} {version} is installed, but {package['imported']} runs, from {package['file']}.",
                    pip(f"install --force-reinstall --no-deps {dists[0]}=={version}"),
                )


def _release(version: str) -> tuple[str, ...]:
    """The three leading numbers: packages append build numbers and hashes in their own ways."""
    numbers = re.split(r"[+-]", version)[0].split(".")
    return tuple([*numbers, "0", "0"][:3])


def _placeholder(report: Report) -> Iterator[Problem]:
    if "nvidia-dali" in report["packages"]["nvidia.dali"]["installed"]:
        yield _problem(
            "nvidia-dali is an empty placeholder on PyPI, not DALI.",
            f"{pip('uninstall -y nvidia-dali')} && {pip('install nvidia-dali-cuda130')}",
        )


def _own_version(report: Report) -> Iterator[Problem]:
    bdflow = report["bdflow"]
    if bdflow["installed"] not in (None, bdflow["version"]):
        yield _problem(
            f"bdflow-rt {bdflow['installed']} is installed, but {bdflow['version']} runs, from {bdflow['location']}.",
            _reinstall(report),
        )


def _gpu(report: Report) -> Iterator[Problem]:
    tool, library = report["gpu"]["nvidia_smi"], report["gpu"]["libcuda"]
    if "error" in tool:
        yield _problem(f"nvidia-smi fails: {tool['error']}", "sudo modprobe nvidia && nvidia-smi")
    elif tool["gpus"] and not library.get("found"):
        why = library.get("error") or library.get("reason")
        yield _problem(
            f"nvidia-smi shows {tool['gpus'][0]['name']}, but libcuda.so.1 does not load: {why}",
            "sudo ldconfig && ldconfig -p | grep libcuda.so.1",
        )
    elif tool["gpus"] and library["status"] != "ok":
        yield _problem(
            f"nvidia-smi shows {tool['gpus'][0]['name']}, but CUDA does not start: {library['status']}",
            mend_cuda(report["environment"]),
        )


def _caches(report: Report) -> Iterator[Problem]:
    caches = report["caches"]
    if "error" in caches:
        if not list(_required(report)):  # where those are missing, nothing else can be looked at
            yield _problem(
                f"The caches cannot be looked at: {caches['error']}", "export BDFLOW_CACHE=/a/writable/folder"
            )
        return
    for what, cache in caches.items():
        if cache["problem"]:
            fix = "unset BDFLOW_CACHE_MIB" if "BDFLOW_CACHE_MIB" in cache["problem"] else "export BDFLOW_CACHE=~/bdflow"
            if "chmod 700" in cache["problem"]:
                fix = f"chmod 700 {shlex.quote(cache['folder'])}"
            yield _problem(f"The cache of {what} is not used: {cache['problem']}", fix)
    others = [cache for cache in caches.values() if not cache["problem"]]
    if locked := [cache["folder"] for cache in others if not cache["writable"]]:
        yield _problem(f"The cache cannot be written: {', '.join(locked)}", "export BDFLOW_CACHE=/a/writable/folder")
    if full := [cache for cache in others if cache["writable"] and cache["free_bytes"] < MIN_FREE_BYTES]:
        yield _problem(
            f"{full[0]['free_bytes'] >> 20} MiB are free for the cache in {full[0]['folder']}; 1 GiB is needed.",
            "export BDFLOW_CACHE=/a/folder/with/space",
        )


def _flavours(report: Report) -> Iterator[Problem]:
    for name, flavour in report["flavours"].items():
        dists = report["packages"][name.replace("-", "_")]["installed"]
        if fault := flavour.get("error") or (flavour["problem"] if dists else None):
            yield _problem(f"{name} cannot be used: {fault}", pip_extra(name, "--upgrade"))
        elif flavour["version"] and flavour["library"]:
            package, library = (tuple(map(int, _release(flavour[key]))) for key in ("version", "library"))
            if package != library:
                yield _problem(
                    f"{name} {flavour['version']} is installed, but the library that loads is {flavour['library']}, "
                    f"from {flavour['library_file']}.",
                    "env -u LD_LIBRARY_PATH bdflow doctor",
                )


def _kernels(report: Report) -> Iterator[Problem]:
    # Without a GPU nobody misses the kernels; the section of the report says what is there all the same.
    kernels = report["kernels"]
    if report["gpu"]["nvidia_smi"].get("gpus") and not kernels.get("compiles"):
        why = kernels.get("error") or kernels["problem"]
        yield _problem(f"CUDA kernels cannot be compiled: {why}", pip_extra("cuda"))


def _zoo(report: Report) -> Iterator[Problem]:
    zoo = report["zoo"]
    if "error" in zoo:
        yield _problem(f"The models cannot be listed: {zoo['error']}", _reinstall(report))
        return
    for folder in zoo["folders"]:
        if not folder["exists"] and not folder["shipped"]:
            yield _problem(f"BDFLOW_ZOO names {folder['path']}, which is not a folder.", "unset BDFLOW_ZOO")
    if not zoo["models"]:
        yield _problem("No model is here, not even those that ship with bdflow-rt.", _reinstall(report))
    shipped = [folder["path"] for folder in zoo["folders"] if folder["shipped"]]
    for model in zoo["models"]:
        if model["problem"]:
            yield _problem(
                f"Model {model['name']} in {model['path']} is not usable: {model['problem']}",
                _reinstall(report) if str(Path(model["path"]).parent) in shipped else "unset BDFLOW_ZOO",
            )


def _backend(report: Report) -> Iterator[Problem]:
    backend = report["backend"]
    if not backend.get("backend") and not list(_required(report)):
        why = backend.get("error") or backend.get("reason")
        yield _problem(f"No backend can run: {why}", pip("install openvino"))


def _runs(report: Report) -> Iterator[Problem]:
    if list(_required(report)):
        return
    for name, run in report["runs"].items():
        package = report["packages"][name]
        if package["error"] is not None or not (fault := run.get("error") or run["problem"]):
            continue  # sound, or listed as a package that does not import
        if "error" not in run and run["of_the_model"]:
            if not list(_zoo(report)):
                yield _problem(f"The default model cannot be used: {fault}", _reinstall(report))
            continue
        what = f"{name} {package['imported'] or ''}".rstrip()
        yield _problem(f"{what} does not run the default model: {fault}", pip(f"install --upgrade {name}"))


_CHECKS: tuple[Callable[[Report], Iterator[Problem]], ...] = (
    _platform, _required, _broken, _clashes, _placeholder, _own_version, _gpu, _caches, _flavours, _kernels,
    _zoo, _backend, _runs,
)  # fmt: skip
