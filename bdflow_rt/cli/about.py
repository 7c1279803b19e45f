"""What `bdflow --version -v` prints: all that a report of a fault should say, and nothing heavy is loaded for it."""

from __future__ import annotations

import importlib.metadata
import platform
import sys

from bdflow_rt._version import __version__
from bdflow_rt.cache import cache_folder
from bdflow_rt.errors import BdflowError
from bdflow_rt.quiet import SILENCED
from bdflow_rt.zoo import DEFAULT_MODEL, find_model
from bdflow_rt.zoo.registry import zoo_folders

_PACKAGES = (
    "numpy", "opencv-python-headless", "opencv-python", "openvino", "pillow", "simplejpeg", "tqdm", "torch",
    "safetensors", "onnx", "onnxruntime", "cupy-cuda13x", "cupy-cuda12x", "tensorrt", "tensorrt-rtx-cu13",
)  # fmt: skip


def about() -> str:
    """Versions, the default model, folders, and that no dependency calls home; a line each."""
    installed = [f"{name} {version}" for name in _PACKAGES if (version := _version(name))]
    return "\n".join(
        (
            f"bdflow {__version__}",
            f"Python {platform.python_version()} ({sys.executable or 'no executable'})",
            f"platform: {platform.platform()}",
            f"packages: {', '.join(installed) or 'none'}",
            f"default model: {_default_model()}",
            f"cache: {_cache()}",
            f"models: {', '.join(map(str, zoo_folders()))}",
            f"telemetry: off ({', '.join(SILENCED)} are loaded without theirs)",
        )
    )


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except Exception:  # not there, or a damaged record of it
        return None


def _default_model() -> str:
    try:
        card = find_model(DEFAULT_MODEL)
    except BdflowError as error:
        return f"{DEFAULT_MODEL}, which cannot be used: {error}"
    return f"{card.id}, identity {card.identity[:16]}, in {card.folder}"


def _cache() -> str:
    try:
        return str(cache_folder())
    except BdflowError as error:
        return str(error)
