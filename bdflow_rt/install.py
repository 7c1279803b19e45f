"""The commands that install what is missing: they work from a checkout too, while the package is on no index."""

from __future__ import annotations

import importlib.metadata
import json
import shlex
from pathlib import Path
from urllib.parse import unquote, urlsplit

_EXTRA_OF = {
    "av": "video",
    "cupy": "cuda",
    "matplotlib": "train",
    "onnx": "export",
    "safetensors": "export",
    "skimage": "demo",
    "torch": "export",
    "tomli": "train",
}
"""Package -> the extra that brings it to those who export, train or look."""


def install_extra(extra: str) -> str:
    """The command that installs an extra: of this checkout, or from where the package was installed."""
    checkout = Path(__file__).resolve().parent.parent
    if (checkout / "pyproject.toml").is_file():
        place = "." if checkout == Path.cwd() else checkout
        return "pip install -e " + shlex.quote(f"{place}[{extra}]")
    origin = _origin()
    return "pip install " + shlex.quote(f"bdflow-rt[{extra}]" + (f" @ {origin}" if origin else ""))


def missing_package(error: ImportError) -> str | None:
    """What to do about a package that is not there, where an extra brings it."""
    extra = _EXTRA_OF.get((error.name or "").partition(".")[0]) if isinstance(error, ModuleNotFoundError) else None
    return None if extra is None else f"Install it: {install_extra(extra)}"


def _origin() -> str | None:
    """Where pip installed the package from, unless that was an index (PEP 610)."""
    try:
        record = json.loads(importlib.metadata.distribution("bdflow-rt").read_text("direct_url.json") or "{}")
        url, source = record.get("url"), record.get("vcs_info")
    except (importlib.metadata.PackageNotFoundError, ValueError, AttributeError):
        return None
    if not url:
        return None
    if source:
        return f"{source['vcs']}+{url}@{source['commit_id']}"
    is_there = urlsplit(url).scheme != "file" or Path(unquote(urlsplit(url).path)).exists()
    return str(url) if is_there else None
