"""Packages: what is installed (metadata) against what really imports, and in which version."""

from __future__ import annotations

import importlib.metadata
import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from bdflow_rt.cli.diagnosis.probe import ask_python, guarded

REQUIRED = ("numpy", "cv2", "openvino", "PIL", "simplejpeg", "tqdm")

PROVIDERS: dict[str, str] = {
    "numpy": r"numpy",
    "cv2": r"opencv(-contrib)?-python(-headless)?",
    "openvino": r"openvino",
    "PIL": r"pillow(-simd)?",
    "simplejpeg": r"simplejpeg",
    "tqdm": r"tqdm",
    "safetensors": r"safetensors",
    "onnx": r"onnx",
    "onnxruntime": r"onnxruntime(-gpu|-openvino)?",
    "torch": r"torch",
    "cupy": r"cupy(-cuda\w+)?",
    "tensorrt": r"tensorrt(-cu\d+)?",
    "tensorrt_rtx": r"tensorrt-rtx(-cu\d+)?",
    "nvidia.dali": r"nvidia-dali(-cuda\d+|-nightly-cuda\d+|-weekly-cuda\d+)?",
    "pycuda": r"pycuda",
    "av": r"av",
}
"""Import name -> the distributions that provide it, as a pattern of normalised names."""

_IMPORT = """
from bdflow_rt.quiet import import_quietly
try:
    module = import_quietly({name!r})
except ModuleNotFoundError as error:
    if error.name not in {parts!r}:
        raise
    answer(None)
else:
    version, file = getattr(module, "__version__", None), getattr(module, "__file__", None)
    if version is None and file is None:  # a folder of that name without code, as type stubs leave
        answer(None)
    else:
        answer({{"version": None if version is None else str(version), "file": file}})
"""


def packages() -> dict[str, dict[str, Any]]:
    """For every import name: `installed` (distribution -> version), `imported` (version), `file`, `error`.

    `imported` and `error` are both None where the package is simply not there.
    """
    found = installed()
    with ThreadPoolExecutor(max_workers=4) as pool:
        answers = list(pool.map(_import, PROVIDERS))
    report = {}
    for (name, pattern), answer in zip(PROVIDERS.items(), answers, strict=True):
        matches = {dist: version for dist, version in found.items() if re.fullmatch(pattern, dist)}
        report[name] = {"required": name in REQUIRED, "installed": matches, **answer}
    return report


def installed() -> dict[str, str]:
    """Normalised distribution name -> version, of everything whose metadata can be read.

    One damaged `.dist-info` folder must not hide the others, so each is read on its own; pip ignores such folders too.
    """
    found: dict[str, str] = {}
    for distribution in importlib.metadata.distributions():
        try:
            name, version = distribution.metadata["Name"], distribution.version
        except Exception:
            continue
        if name:
            found.setdefault(re.sub(r"[-_.]+", "-", str(name)).lower(), str(version))
    return dict(sorted(found.items()))


def _import(name: str) -> dict[str, Any]:
    parts = tuple(name.rsplit(".", i)[0] for i in range(name.count(".") + 1))
    answer = guarded(lambda: ask_python(_IMPORT.format(name=name, parts=parts)))
    if answer is None:
        return {"imported": None, "file": None, "error": None}
    if "error" in answer:
        return {"imported": None, "file": None, "error": answer["error"]}
    return {"imported": answer["version"] or "unknown", "file": answer["file"], "error": None}
