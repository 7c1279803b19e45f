"""Writes the signatures of a TensorRT package as JSON: python api_reader.py MODULE [FOLDER].

The folder is where a wheel of TensorRT's bindings was unpacked without the libraries they need: the bindings then load
over empty ones, made here, in which no function does anything. That shows signatures, and runs nothing of TensorRT.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import pathlib
import subprocess
import sys
from typing import Any

LIBRARIES = ("libnvinfer", "libnvinfer_plugin", "libnvonnxparser")
FUNCTIONS = (
    "createInferBuilder_INTERNAL", "createInferRefitter_INTERNAL", "createInferRuntime_INTERNAL",
    "createNvOnnxParserRefitter_INTERNAL", "createNvOnnxParser_INTERNAL", "getBuilderPluginRegistry",
    "getNvOnnxParserVersion", "getPluginRegistry", "initLibNvInferPlugins",
)  # fmt: skip


def load_over_empty_libraries(folder: pathlib.Path, major: int) -> None:
    """Make and load the libraries that the bindings link to."""
    source = folder / "empty.c"
    source.write_text("".join(f"void* {name}(void) {{ return 0; }}\n" for name in FUNCTIONS))
    for name in LIBRARIES:
        library = folder / f"{name}.so.{major}"
        command = ["g++", "-x", "c", "-shared", "-fPIC", str(source), f"-Wl,-soname,{library.name}", "-o", str(library)]
        subprocess.run(command, check=True)
        ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)
    sys.path.insert(0, str(folder))


def signatures(module: Any) -> dict[str, dict[str, str]]:
    """Class -> member -> the lines of its docstring that begin as a signature does; "" for what is no function."""
    found: dict[str, dict[str, str]] = {}
    for name, kind in vars(module).items():
        if isinstance(kind, type):
            members = {member: getattr(kind, member, None) for member in dir(kind)}
            found[name] = {
                member: "\n".join(
                    line for line in (getattr(value, "__doc__", "") or "").splitlines() if f"{member}(" in line
                )
                if callable(value)
                else ""
                for member, value in members.items()
            }
    return found


if __name__ == "__main__":
    if len(sys.argv) > 2:
        load_over_empty_libraries(pathlib.Path(sys.argv[2]), 11)
    package = importlib.import_module(sys.argv[1])
    json.dump({"version": package.__version__, "classes": signatures(package)}, sys.stdout)
