"""What a run leaves on the machine and in the host program: nothing that nobody asked for."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from bdflow_rt.containers.image import write_picture
from bdflow_rt.picture import Picture
from tests.support import ROOT, photo

AUDIT = """
import json, logging, os, sys, threading, warnings
calls = []
sys.addaudithook(lambda event, arguments: calls.append(event) if event.startswith("socket.") else None)
environment, modules = dict(os.environ), set(sys.modules)
"""
REPORT = """
print("\\nleft:" + json.dumps({
    "calls": calls,
    "handlers": [str(handler) for handler in logging.root.handlers],
    "threads": [thread.name for thread in threading.enumerate() if thread is not threading.main_thread()],
    "telemetry": sorted(name for name in sys.modules if "telemetry" in name and name.startswith("openvino_tel")),
    "environment": sorted(name for name in os.environ if environment.get(name) != os.environ[name]),
}))
"""
LIBRARY = """
from bdflow_rt import Rescaler
with Rescaler.from_pretrained("bdflow-x2-fast", backend="openvino") as rescaler:
    rescaler.downscale_file("photo.png", "small.png")
    rescaler.upscale_file("small.png", "restored.png")
"""
COMMANDS = """
from bdflow_rt.cli.main import main
assert main(["downscale", "photo.png", "-o", "small.png"]) == 0  # the default model
assert main(["upscale", "small.png", "-o", "restored.png"]) == 0
"""
ONNX_RUNTIME = """
from bdflow_rt.quiet import import_quietly
onnxruntime = import_quietly("onnxruntime")
from bdflow_rt.zoo import find_model
card = find_model("bdflow-x2-fast")
onnxruntime.InferenceSession(str(card.check_graph("downscale")))
for name in ("photo.png", "small.png"):
    open(name if name == "small.png" else "restored.png", "w").close()
"""
NOTHING: dict[str, list[str]] = {"calls": [], "handlers": [], "threads": [], "telemetry": [], "environment": []}


STRACE = ("strace", "--seccomp-bpf", "-f", "-qq")
"""Follows children; with the filter only the calls that are traced stop a process."""


def traceable() -> bool:
    if shutil.which("strace") is None:
        return False
    return subprocess.run([*STRACE, "-e", "trace=connect", "true"], capture_output=True, check=False).returncode == 0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With an empty home folder, and a picture to work on."""
    for name in ("home", "tmp", "work"):
        (tmp_path / name).mkdir()
    write_picture(tmp_path / "work" / "photo.png", Picture(photo(70, 90, seed=1)))
    return tmp_path


def run(folder: Path, code: str, *, before: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """Run Python code as a user who has nothing yet."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("BDFLOW_", "XDG_", "CI"))}
    environment = {**kept, "HOME": str(folder / "home"), "TMPDIR": str(folder / "tmp"), "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [*before, sys.executable, "-B", "-c", code],
        cwd=folder / "work",
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )


def left(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("left:"))
    return dict(json.loads(line.removeprefix("left:")))


def files(folder: Path) -> list[str]:
    """All below a folder but our cache, folders too: an empty one is litter as well."""
    cache = folder / "home" / ".cache" / "bdflow-rt"
    ours = {cache, cache.parent, *cache.rglob("*")} if cache.exists() else set()
    return sorted(str(path.relative_to(folder)) for path in set(folder.rglob("*")) - ours)


EXPECTED_FILES = ["home", "tmp", "work", "work/photo.png", "work/restored.png", "work/small.png"]

every_way = pytest.mark.parametrize(
    "code", [LIBRARY, COMMANDS, ONNX_RUNTIME], ids=["library", "commands", "onnxruntime"]
)
needs_strace = pytest.mark.skipif(not traceable(), reason="there is no strace, or it may not trace")


@every_way
def test_a_run_leaves_no_file_socket_thread_log_handler_or_setting(folder: Path, code: str) -> None:
    """Importing OpenVINO used to contact Google Analytics and to write a client's number into the home folder."""
    assert left(run(folder, AUDIT + code + REPORT)) == NOTHING
    assert files(folder) == EXPECTED_FILES


@needs_strace
@every_way
def test_no_native_library_opens_a_socket(folder: Path, code: str) -> None:
    run(folder, code, before=(*STRACE, "-e", "trace=socket,connect", "-o", str(folder / "trace")))
    assert (folder / "trace").read_text() == ""


@needs_strace
@pytest.mark.slow
def test_the_doctor_contacts_nobody_and_leaves_nothing(folder: Path) -> None:
    """It imports every package that is there, in processes of their own. CuPy makes its cache's folder on import."""
    code = "from bdflow_rt.cli.main import main\nmain(['doctor'])"
    trace = folder / "trace"
    done = run(folder, code, before=(*STRACE, "-e", "trace=connect,sendto", "-o", str(trace)))
    # Drivers and the C library may ask local services, by socket files.
    calls = [line for line in trace.read_text().splitlines() if "AF_INET" in line]
    trace.unlink()
    assert calls == []
    shutil.rmtree(folder / "home" / ".cupy", ignore_errors=True)
    assert files(folder) == ["home", "tmp", "work", "work/photo.png"]
    assert "telemetry: off" in done.stdout


@pytest.mark.skipif(find_spec("openvino_telemetry") is None, reason="OpenVINO's telemetry is not installed")
def test_the_measurement_finds_a_plain_import_of_openvino(folder: Path) -> None:
    found = left(run(folder, AUDIT + "import openvino\n" + REPORT))
    assert "openvino_telemetry" in found["telemetry"]
    assert set(files(folder)) > {"home", "tmp", "work", "work/photo.png"}


def test_the_hosts_own_telemetry_module_is_there_again_afterwards(folder: Path) -> None:
    code = """
import importlib.util, json, sys
class Module: pass
own = sys.modules["openvino_telemetry"] = Module()
from bdflow_rt.quiet import import_quietly
openvino = import_quietly("openvino")
assert sys.modules["openvino_telemetry"] is own
assert openvino.tools.ovc.telemetry_utils.tm.__name__ == "openvino.tools.ovc.telemetry_stub"
assert import_quietly("openvino") is openvino
"""
    run(folder, code)
