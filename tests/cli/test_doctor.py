"""The doctor answers whatever is broken: missing packages, hostile metadata, no tools, broken driver, wrong hashes."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import bdflow_rt
from bdflow_rt._version import __version__
from bdflow_rt.cli.diagnosis import compiled, gpu, models
from bdflow_rt.cli.diagnosis.backends import explain_backends, supports
from bdflow_rt.cli.diagnosis.compiled import library_version, mapped_libraries
from bdflow_rt.cli.diagnosis.probe import ProbeError, ask_python, guarded, pip, pip_extra, run_tool
from bdflow_rt.cli.diagnosis.problems import find_problems, is_usable
from bdflow_rt.cli.doctor import _lines
from bdflow_rt.engines.cache import EngineCache
from bdflow_rt.engines.select import explain
from bdflow_rt.install import install_extra
from tests.support_models import make_model, tiny_config
from tests.support_plans import needs_rtx, real_plan

PACKAGE = Path(bdflow_rt.__file__).parent.parent
KEYS = [
    "schema", "bdflow", "python", "system", "cpu", "memory", "caches", "environment", "packages", "gpu",
    "flavours", "kernels", "zoo", "backend", "runs", "problems", "usable",
]  # fmt: skip
MAIN = "import sys; sys.path[:0] = {path!r}; from bdflow_rt.cli.main import main; sys.exit(main(['doctor', '--json']))"


def _doctor(*flags: str, path: tuple[Path, ...] = (PACKAGE,), **environment: str) -> tuple[int, dict[str, Any]]:
    code = MAIN.format(path=[str(entry) for entry in path])
    done = subprocess.run(
        [sys.executable, *flags, "-c", code], cwd="/", env={**os.environ, **environment}, capture_output=True,
        text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.stderr == ""
    report: dict[str, Any] = json.loads(done.stdout)
    assert list(report) == KEYS
    for problem in report["problems"]:
        assert problem["what"]
        assert "\n" not in problem["fix"].strip()
    return done.returncode, report


@pytest.fixture(scope="module")
def here() -> dict[str, Any]:
    """The report of this machine, which every test may change to its liking."""
    return _doctor()[1]


@pytest.fixture
def report(here: dict[str, Any]) -> dict[str, Any]:
    return copy.deepcopy(here)


def _fixes(report: dict[str, Any], words: str) -> list[str]:
    return [problem["fix"] for problem in find_problems(report) if words in problem["what"]]


def test_report_agrees_with_the_packages_that_import(report: dict[str, Any]) -> None:
    import numpy as np

    assert report["bdflow"]["version"] == __version__
    assert report["python"]["executable"] == sys.executable
    assert report["packages"]["numpy"]["imported"] == np.__version__
    assert report["packages"]["numpy"]["installed"] == {"numpy": np.__version__}
    assert report["memory"]["total_bytes"] == os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert report["cpu"]["usable_cores"] == len(os.sched_getaffinity(0))


@pytest.mark.parametrize("usable", [True, False])
def test_text_report_ends_with_the_verdict(report: dict[str, Any], usable: bool) -> None:
    report["usable"] = usable
    assert _lines(report)[-1] == ("bdflow can run here." if usable else "bdflow cannot run here.")


def test_text_of_a_bare_python_with_a_variable_that_is_no_text() -> None:
    code = MAIN.format(path=[str(PACKAGE)]).replace(", '--json'", "")
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], capture_output=True, env={**os.environb, b"BDFLOW_ODD": b"\xff\xfe"}
    )
    lines = done.stdout.decode().splitlines()
    assert (done.returncode, lines[-1]) == (7, "bdflow cannot run here.")
    assert "  BDFLOW_ODD: \\udcff\\udcfe" in lines


def test_text_report_sets_records_apart_and_lists_values_in_a_line(report: dict[str, Any]) -> None:
    report["zoo"]["models"] = [{"name": "a@1", "problem": None}, {"name": "b@1", "problem": "gone"}]
    report["kernels"]["compute_capabilities"] = ["7.5", "9.0"]
    shown = "\n".join(_lines(report))
    assert "  models:\n    - name: a@1\n      problem: -\n    - name: b@1\n      problem: gone\n" in shown
    assert "  compute_capabilities: 7.5, 9.0\n" in shown


def test_bare_python_gets_a_report_and_exit_code_7() -> None:
    code, report = _doctor("-I", "-S")
    assert code == 7
    assert {name for name, package in report["packages"].items() if package["imported"]} == set()
    for name in ("numpy", "opencv-python-headless", "openvino", "pillow"):
        assert [p["fix"] for p in report["problems"] if p["what"].startswith(f"{name} is not installed")] != []


@pytest.fixture(scope="module")
def battered(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The report with damaged metadata and broken packages first in the path, no tools and no home."""
    folder = tmp_path_factory.mktemp("packages")
    (folder / "junk-1.0.dist-info").mkdir()
    (folder / "junk-1.0.dist-info" / "METADATA").write_bytes(bytes(range(256)) * 9)
    (folder / "empty-1.0.dist-info").mkdir()
    (folder / "folder-1.0.dist-info" / "METADATA").mkdir(parents=True)
    (folder / "nameless-1.0.dist-info").mkdir()
    (folder / "nameless-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\n\n")
    (folder / "onnx-1.17.0.dist-info").mkdir()
    (folder / "onnx-1.17.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: onnx\nVersion: 1.17.0\n")
    (folder / "onnx.py").write_text("raise RuntimeError('first line\\nbuilt for another Python')\n")
    (folder / "pycuda.py").write_text("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)\n")
    (folder / "av.py").write_text("import sys; print('noise on stdout'); sys.exit('gives up')\n")
    (folder / "tensorrt.py").write_text("print('noise on stdout'); __version__ = 11\n")
    return _doctor(path=(folder, PACKAGE), PATH="", HOME="", XDG_CACHE_HOME="")[1]


def test_hostile_metadata_is_survived_and_the_rest_still_read(battered: dict[str, Any]) -> None:
    packages = battered["packages"]
    assert packages["onnx"]["installed"] == {"onnx": "1.17.0"}
    assert packages["onnx"]["error"] == "built for another Python"
    assert packages["pycuda"]["error"] == "crashed with SIGSEGV"
    assert packages["av"]["error"] == "gives up"
    assert packages["tensorrt"]["imported"] == "11"
    assert packages["numpy"]["imported"] is not None


def test_empty_path_and_no_home_do_not_matter(battered: dict[str, Any]) -> None:
    assert battered["gpu"]["nvidia_smi"] == {"found": False, "gpus": []}
    assert battered["packages"]["numpy"]["imported"] is not None


@pytest.mark.parametrize(
    ("script", "error"),
    [
        ("echo 'NVIDIA-SMI has failed' ; exit 9", "NVIDIA-SMI has failed"),
        ("echo one,two", "nvidia-smi answered 'one,two'"),
    ],
)
def test_failing_nvidia_smi_is_a_problem_with_its_own_words(
    report: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, error: str
) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\n{script}\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    report["gpu"]["nvidia_smi"] = guarded(gpu.nvidia_smi)
    assert report["gpu"]["nvidia_smi"] == {"error": error}
    assert len(_fixes(report, f"nvidia-smi fails: {error}")) == 1


def test_gpu_without_a_loadable_libcuda_is_a_problem(report: dict[str, Any]) -> None:
    card = {"name": "NVIDIA H200", "driver_version": "580.65", "memory.total": "143771 MiB", "compute_cap": "9.0"}
    report["gpu"] = {"nvidia_smi": {"found": True, "gpus": [card]}, "libcuda": {"found": False, "reason": "no file"}}
    assert len(_fixes(report, "libcuda.so.1 does not load: no file")) == 1
    report["gpu"]["libcuda"] = {"found": True, "cuda_version": "13.0", "status": "CUDA_ERROR_NO_DEVICE", "devices": 0}
    report["environment"] = {}
    (fix,) = _fixes(report, "CUDA does not start: CUDA_ERROR_NO_DEVICE")
    assert fix.startswith("sudo nvidia-modprobe ")
    report["environment"] = {"CUDA_VISIBLE_DEVICES": "-1"}
    assert _fixes(report, "CUDA does not start") == ["env -u CUDA_VISIBLE_DEVICES bdflow doctor"]


def test_several_opencv_distributions_clash(report: dict[str, Any]) -> None:
    report["packages"]["cv2"]["installed"] = {"opencv-python": "4.10.0", "opencv-python-headless": "4.12.0"}
    (fix,) = _fixes(report, "opencv-python and opencv-python-headless are both installed")
    assert fix.endswith("-m pip install opencv-python-headless")
    assert "uninstall -y opencv-python opencv-python-headless" in fix


def test_dali_placeholder_is_recognised(report: dict[str, Any]) -> None:
    report["packages"]["nvidia.dali"]["installed"] = {"nvidia-dali": "0.0.1.dev5"}
    (fix,) = _fixes(report, "empty placeholder")
    assert fix.endswith("install nvidia-dali-cuda130")


def test_loaded_version_that_is_not_the_installed_one_is_a_problem(report: dict[str, Any]) -> None:
    package = report["packages"]["torch"]
    package.update(
        installed={"torch": "2.13.0+cpu"}, imported="2.12.1", file="/elsewhere/torch/__init__.py", error=None
    )
    assert len(_fixes(report, "torch 2.13.0+cpu is installed, but 2.12.1 runs, from /elsewhere")) == 1
    package["imported"] = "2.13.0"
    assert _fixes(report, "torch") == []


def test_altered_weights_are_a_problem_and_name_the_model(
    report: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "odd-x4@1"
    folder.mkdir()
    (folder / "model.json").write_text("{}")
    monkeypatch.setenv("BDFLOW_ZOO", f"{tmp_path}:{tmp_path / 'missing'}")
    report["zoo"] = models.zoo()
    (model,) = [model for model in report["zoo"]["models"] if model["path"] == str(folder)]
    assert "model.json" in model["problem"]
    assert len(_fixes(report, f"Model odd-x4@1 in {folder} is not usable")) == 1
    assert len(_fixes(report, f"BDFLOW_ZOO names {tmp_path / 'missing'}, which is not a folder.")) == 1


def test_no_backend_means_unusable(report: dict[str, Any]) -> None:
    report["backend"] = {"backend": None, "reason": "openvino is too old"}
    assert not is_usable(report)
    assert len(_fixes(report, "No backend can run: openvino is too old")) == 1


def test_without_a_sound_model_nothing_is_usable(report: dict[str, Any]) -> None:
    sound = {"name": "a@1", "path": "/zoo/a@1", "problem": None}
    damaged = {**sound, "problem": "its weights are missing"}
    for listed, usable in (([], False), ([damaged], False), ([damaged, sound], True)):
        report["zoo"]["models"] = listed
        assert is_usable(report) is usable
    report["zoo"] = {"error": "OSError: the disk is gone"}
    assert not is_usable(report)


def test_a_model_folder_itself_in_the_variable_is_found(
    report: dict[str, Any], tiny_zoo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BDFLOW_ZOO", str(tiny_zoo / "plain@1"))
    report["zoo"] = models.zoo()
    found = [model for model in report["zoo"]["models"] if model["path"] == str(tiny_zoo / "plain@1")]
    assert found == [{"name": "plain@1", "path": str(tiny_zoo / "plain@1"), "problem": None}]
    report["zoo"]["models"] = found
    assert is_usable(report)


def test_check_that_meets_a_failed_probe_says_so_and_the_others_go_on(report: dict[str, Any]) -> None:
    report["packages"] = {"error": "OSError: too many open files"}
    report["backend"] = {"backend": None, "reason": "nothing"}
    whats = [problem["what"] for problem in find_problems(report)]
    assert [what for what in whats if what.startswith("The check _required failed")] != []
    assert not is_usable(report)


@pytest.mark.parametrize(
    ("code", "error"),
    [("raise SystemExit(3)", "exit code 3"), ("1 / 0", "ZeroDivisionError"), ("pass", "without an answer")],
)
def test_child_without_an_answer_is_a_probe_error(code: str, error: str) -> None:
    with pytest.raises(ProbeError, match=error):
        ask_python(code)


def test_tool_that_hangs_is_given_up() -> None:
    with pytest.raises(ProbeError, match=r"no answer in 0\.2 s"):
        run_tool(["sleep", "30"], timeout_s=0.2)


def _with_gpu(report: dict[str, Any], name: str = "NVIDIA L4", capability: str = "8.9") -> None:
    """Make the report one of a machine with a GPU and with both flavours, as far as the doctor knows."""
    card = {"name": name, "driver_version": "580.65", "memory.total": "23034 MiB", "compute_cap": capability}
    report["gpu"] = {
        "nvidia_smi": {"found": True, "gpus": [card]},
        "libcuda": {"found": True, "cuda_version": "13.0", "status": "ok", "devices": 1},
    }
    for flavour, version in (("tensorrt", "10.13.3.9"), ("tensorrt-rtx", "1.7.1.116")):
        report["flavours"][flavour] = {
            "version": version, "problem": None, "library": version.rpartition(".")[0], "library_file": "/lib/it.so",
            "compute_capabilities": [],
        }  # fmt: skip
        report["backend"]["backends"][flavour] = {"available": True, "install": install_extra(flavour)}
    for name in ("tensorrt", "tensorrt_rtx", "cupy"):
        report["packages"][name].update(imported="1", error=None)
    for backend in ("openvino", "torch"):
        report["backend"]["backends"][backend] = {"available": True, "install": "pip install it"}
    report["caches"]["engines"]["built"] = []


def _engine(flavour: str, version: str, *, gpu: str = "NVIDIA L4", capability: str = "8.9") -> dict[str, str]:
    return {
        "model": "bdflow-x4@1", "direction": "upscale", "flavour": flavour, "flavour_version": version, "gpu": gpu,
        "compute_capability": capability,
    }  # fmt: skip


def test_every_backend_is_explained_and_what_is_missing_has_one_command(here: dict[str, Any]) -> None:
    backends = here["backend"]["backends"]
    assert set(backends) == {"openvino", "torch", "tensorrt", "tensorrt-rtx"}
    assert [name for name, backend in backends.items() if backend["state"] == "chosen"] == [here["backend"]["backend"]]
    for backend in backends.values():
        assert backend["why"]
        assert bool(backend["fix"]) == (backend["state"] == "missing")


@needs_rtx
def test_the_loaded_library_says_the_version_that_is_installed(here: dict[str, Any]) -> None:
    flavour = here["flavours"]["tensorrt-rtx"]
    assert flavour["version"].startswith(f"{flavour['library']}.")
    assert "8.9" in flavour["compute_capabilities"]
    assert "9.0" not in flavour["compute_capabilities"]


def test_another_library_than_the_package_is_a_problem(report: dict[str, Any]) -> None:
    _with_gpu(report)
    assert _fixes(report, "but the library that loads is") == []
    report["flavours"]["tensorrt-rtx"]["library"] = library_version(10602)
    (fix,) = _fixes(report, "tensorrt-rtx 1.7.1.116 is installed, but the library that loads is 1.6.2, from /lib/it.so")
    assert "LD_LIBRARY_PATH" in fix


@pytest.mark.parametrize(
    ("number", "version"), [(None, None), (10701, "1.7.1"), (101303, "10.13.3"), (110400, "11.4.0")]
)
def test_numbers_of_libraries_are_read(number: int | None, version: str | None) -> None:
    assert library_version(number) == version


@pytest.mark.parametrize(
    ("capability", "rtx", "tensorrt"),
    [("7.0", False, False), ("7.5", True, True), ("8.0", True, True), ("8.9", True, True), ("9.0", False, True),
     ("10.0", False, True), ("12.0", True, True)],
)  # fmt: skip
def test_flavours_support_the_gpus_they_say(report: dict[str, Any], capability: str, rtx: bool, tensorrt: bool) -> None:
    assert (supports(report, "tensorrt-rtx", capability), supports(report, "tensorrt", capability)) == (rtx, tensorrt)


def test_hopper_is_sent_from_rtx_to_tensorrt(report: dict[str, Any]) -> None:
    _with_gpu(report, "NVIDIA H200", "9.0")
    found = explain_backends(report)["tensorrt-rtx"]
    assert (found["state"], found["fix"]) == ("missing", pip_extra("tensorrt"))
    assert "NVIDIA H200 has compute capability 9.0, which tensorrt-rtx does not support" in found["why"]


def test_a_flavour_is_ready_only_with_an_engine_of_its_version(report: dict[str, Any]) -> None:
    _with_gpu(report)
    found = explain_backends(report)["tensorrt"]
    assert (found["state"], found["fix"]) == ("missing", "bdflow build bdflow-x4 --flavour tensorrt --profile 1080p")
    built = report["caches"]["engines"]["built"]
    built += [_engine("tensorrt-rtx", "1.7.1.116"), _engine("tensorrt", "10.12.0.36")]
    found = explain_backends(report)["tensorrt"]
    assert (found["state"], "only for version 10.12.0.36" in found["why"]) == ("missing", True)
    built.append(_engine("tensorrt", "10.13.3.9", gpu="NVIDIA H200", capability="9.0"))
    found = explain_backends(report)["tensorrt"]
    assert (found["state"], "no engine is cached for NVIDIA L4, only for NVIDIA H200" in found["why"]) == (
        "missing", True,
    )  # fmt: skip
    built.append(_engine("tensorrt", "10.13.3.9", gpu="any", capability="8.0+"))
    found = explain_backends(report)["tensorrt"]
    assert (found["state"], found["why"].endswith("Engines: upscale of bdflow-x4@1")) == ("ready", True)
    report["packages"]["cupy"]["imported"] = None
    assert explain_backends(report)["tensorrt"]["fix"] == pip_extra("cuda")


def test_every_command_with_pip_is_for_the_interpreter_that_asks(report: dict[str, Any]) -> None:
    backends = report["backend"]["backends"] = explain()["backends"]
    for one in backends.values():
        one["available"] = False
    report["backend"]["backend"] = None
    fixes = {name: one["fix"] for name, one in explain_backends(report).items()}
    backends["torch"]["available"] = True
    report["packages"]["torch"] = {"error": "built for another Python"}
    fixes["broken"] = explain_backends(report)["torch"]["fix"]
    assert fixes == {
        "openvino": pip("install openvino"),
        "torch": pip_extra("train"),
        "tensorrt": pip_extra("tensorrt"),
        "tensorrt-rtx": pip_extra("tensorrt-rtx"),
        "broken": pip_extra("train", "--force-reinstall"),
    }
    assert all(fix.startswith(f"{sys.executable} -m pip install ") for fix in fixes.values())


def test_a_missing_driver_is_installed_and_not_worked_around(report: dict[str, Any]) -> None:
    _with_gpu(report)
    report["gpu"] = {"nvidia_smi": {"found": False, "gpus": []}, "libcuda": {"found": False, "reason": "no file"}}
    for flavour in compiled.MODULES:
        found = explain_backends(report)[flavour]
        assert (found["state"], found["why"]) == ("missing", "no NVIDIA driver: no file")
        assert found["fix"].startswith("sudo ubuntu-drivers install ")


@pytest.mark.parametrize(("version", "said"), [("2.13.0+cpu", "knows no GPU"), ("2.13.0+cu130", "--device cuda")])
def test_torch_is_not_said_to_take_a_gpu_that_it_was_built_without(
    report: dict[str, Any], version: str, said: str
) -> None:
    _with_gpu(report)
    report["packages"]["torch"].update(imported=version, error=None)
    assert said in explain_backends(report)["torch"]["why"]


def test_libraries_in_folders_with_spaces_are_found() -> None:
    maps = """7f0000-7f1000 r-xp 00000000 fe:01 12345   /opt/a b/lib/libtensorrt_rtx.so.1
7f1000-7f2000 r--p 00000000 fe:01 12345   /opt/a b/lib/libtensorrt_rtx.so.1
7f2000-7f3000 r-xp 00000000 fe:01 12346   /usr/lib/libnvinfer_plugin.so.10
7f3000-7f4000 rw-p 00000000 00:00 0 
7ffe00-7fff00 rw-p 00000000 00:00 0   [stack]"""  # noqa: W291
    assert mapped_libraries(maps) == ["/opt/a b/lib/libtensorrt_rtx.so.1"]


def test_driver_without_a_gpu_is_why_a_flavour_cannot_run(report: dict[str, Any]) -> None:
    _with_gpu(report)
    report["gpu"]["libcuda"].update(status="CUDA_ERROR_NO_DEVICE", devices=0)
    found = explain_backends(report)["tensorrt"]
    assert (found["state"], "CUDA_ERROR_NO_DEVICE" in found["why"]) == ("missing", True)


def test_kernels_are_missed_only_where_there_is_a_gpu(report: dict[str, Any]) -> None:
    report["kernels"] = {"compiles": False, "problem": "cuda_fp16.h is missing", "compute_capabilities": []}
    report["gpu"]["nvidia_smi"] = {"found": False, "gpus": []}
    assert _fixes(report, "cannot be compiled") == []
    _with_gpu(report)
    (fix,) = _fixes(report, "CUDA kernels cannot be compiled: cuda_fp16.h is missing")
    assert fix == pip_extra("cuda")


def test_caches_are_those_that_the_environment_names_and_their_faults_have_fixes(
    report: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engines = tmp_path / "cache" / "engines"
    engines.mkdir(parents=True, mode=0o700)
    (engines / "something").write_bytes(bytes(1234))
    monkeypatch.setenv("BDFLOW_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("BDFLOW_CACHE_MIB", "much")
    report["caches"] = compiled.caches()
    found = report["caches"]["engines"]
    assert (found["folder"], found["size_bytes"], found["files"]) == (str(engines), 1234, 1)
    assert _fixes(report, "'much'") == ["unset BDFLOW_CACHE_MIB"]
    monkeypatch.delenv("BDFLOW_CACHE_MIB")
    kernels = engines.with_name("kernels")
    kernels.mkdir(mode=0o700)
    for folder in (engines, kernels):
        folder.chmod(0o777)
    report["caches"] = compiled.caches()
    assert _fixes(report, "Other users can write") == [f"chmod 700 {folder}" for folder in (kernels, engines)]


@needs_rtx
def test_engines_that_are_cached_are_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BDFLOW_CACHE", str(tmp_path))
    key, plan = real_plan()
    EngineCache(log=lambda text: None).get_or_build(key, lambda: plan)
    (built,) = compiled.caches()["engines"]["built"]
    assert built == {name: getattr(key, name) for name in built}
    assert built["flavour"] == "tensorrt-rtx"


def test_caches_without_space_or_permission_are_problems(report: dict[str, Any]) -> None:
    report["caches"]["kernels"].update(free_bytes=1 << 20)
    assert len(_fixes(report, "1 MiB are free for the cache in")) == 1
    for cache in report["caches"].values():
        cache.update(writable=False)
    assert len(_fixes(report, "The cache cannot be written: ")) == 1, "one problem, whatever the number of folders"


def test_caches_that_cannot_be_looked_at_are_a_problem(report: dict[str, Any]) -> None:
    report["caches"] = {"error": "UnwritableOutputError: This user has no home folder."}
    (fix,) = _fixes(report, "The caches cannot be looked at: UnwritableOutputError")
    assert fix.startswith("export BDFLOW_CACHE=")


def test_each_cpu_backend_really_runs_the_default_model(here: dict[str, Any]) -> None:
    assert set(here["runs"]) == {"openvino", "torch"}
    for run in here["runs"].values():
        assert run["model"].startswith("bdflow-x4@")
        assert run["problem"] is None
        assert run["seconds"] > 0
        assert run["telemetry"] == "off"


@pytest.mark.parametrize("backend", ["openvino", "torch"])
def test_a_backend_that_does_not_run_the_default_model_is_a_problem(report: dict[str, Any], backend: str) -> None:
    fault = "OpenVINO cannot read downscale.onnx: While validating DequantizeLinear"
    report["packages"][backend].update(imported="2025.0.0", error=None)
    report["runs"][backend].update(problem=fault, of_the_model=False)
    (fix,) = _fixes(report, f"{backend} 2025.0.0 does not run the default model: {fault}")
    assert fix == pip(f"install --upgrade {backend}")
    assert is_usable(report) is (backend != "openvino")
    _with_gpu(report)
    state = explain_backends(report)[backend]
    assert state["state"] == ("chosen" if backend == "openvino" else "missing")
    report["runs"][backend] = {"error": "crashed with SIGILL"}
    assert len(_fixes(report, "does not run the default model: crashed with SIGILL")) == 1
    assert is_usable(report) is (backend != "openvino")


def test_a_damaged_default_model_is_one_problem_and_not_the_backends(report: dict[str, Any]) -> None:
    for run in report["runs"].values():
        run.update(problem="its weights are altered", of_the_model=True)
    assert _fixes(report, "does not run") == []
    assert len(_fixes(report, "The default model cannot be used: its weights are altered")) == 2
    report["zoo"]["models"][0]["problem"] = "its weights are altered"
    assert _fixes(report, "The default model cannot be used") == []


def test_a_graph_that_openvino_does_not_take_is_found_and_its_message_is_short(
    tmp_path: Path, narrow_int8: None
) -> None:
    """What a graph newer than the installed OpenVINO looks like: one with operators that it does not know."""
    folder = make_model(tmp_path, tiny_config(4), name="bdflow-x4", version=99).folder
    card = json.loads((folder / "model.json").read_text())
    for direction in card["graphs_sha256"]:
        path = folder / f"{direction}.onnx"
        graph = path.read_bytes().replace(b"LeakyRelu", b"LeakyFoo!")
        path.write_bytes(graph)
        card["graphs_sha256"][direction] = hashlib.sha256(graph).hexdigest()
    (folder / "model.json").write_text(json.dumps(card))
    code, report = _doctor(BDFLOW_ZOO=str(tmp_path))
    assert code == 7
    assert not report["usable"]
    (problem,) = report["problems"]
    assert "does not run the default model" in problem["what"]
    assert "LeakyFoo!" in problem["what"]
    assert len(problem["what"]) < 900
