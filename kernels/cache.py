"""Compiled kernels on disk, one file each, so that a process compiles only what none has before."""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bdflow_rt.errors import OutputError, UnwritableOutputError
from bdflow_rt.files import write_atomically

CACHE_VARIABLE = "BDFLOW_CACHE"
"""Environment variable with the folder of everything that is compiled for a machine."""


@dataclass(frozen=True)
class Compiled:
    """A kernel as machine code.

    Attributes:
        name: of the function inside the cubin.
        log: what the compiler said.
        cubin: the ELF image for one architecture.
    """

    name: str
    log: str
    cubin: bytes


def cache_folder() -> Path:
    """The folder that BDFLOW_CACHE names; else bdflow-rt in XDG_CACHE_HOME, else in ~/.cache.

    Raises:
        UnwritableOutputError: none is named, and the user has no home.
    """
    if named := os.environ.get(CACHE_VARIABLE):
        return Path(named)
    if base := os.environ.get("XDG_CACHE_HOME"):
        return Path(base) / "bdflow-rt"
    try:
        return Path.home() / ".cache" / "bdflow-rt"
    except RuntimeError as error:
        raise UnwritableOutputError(f"This user has no home folder. Name a cache in {CACHE_VARIABLE}.") from error


class KernelCache:
    """Files `kernels/KEY.cubin` under the cache folder: a line of JSON with a checksum, then the machine code.

    Args:
        folder: None is the one of `cache_folder`.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = None if folder is None else folder / "kernels"

    def get(self, key: str, make: Callable[[], Compiled]) -> Compiled:
        """What is stored under the key; where that is missing or damaged, what `make` returns, stored for next time.

        A cache that cannot be written costs time in the next process and nothing else, and is warned of.
        """
        made: Compiled | None = None
        try:
            folder = cache_folder() / "kernels" if self.folder is None else self.folder
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            path = folder / f"{key}.cubin"
            if (found := _read(path)) is not None:
                return found
            made = make()
            write_atomically(path, _encode(made))
        except (OSError, OutputError) as error:
            warnings.warn(
                f"Compiled kernels cannot be kept ({error}), so every process compiles them anew. "
                f"Set {CACHE_VARIABLE} to a folder that can be written.",
                RuntimeWarning,
                stacklevel=2,
            )
        return made or make()


def _encode(compiled: Compiled) -> bytes:
    header = {"name": compiled.name, "log": compiled.log, "sha256": _checksum(compiled)}
    return json.dumps(header).encode() + b"\n" + compiled.cubin


def _read(path: Path) -> Compiled | None:
    """None where the file is missing, unreadable or not what was written."""
    try:
        header, _, cubin = path.read_bytes().partition(b"\n")
        fields = json.loads(header)
        compiled = Compiled(name=fields["name"], log=fields["log"], cubin=cubin)
        return compiled if fields["sha256"] == _checksum(compiled) else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _checksum(compiled: Compiled) -> str:
    digest = hashlib.sha256()
    for part in (compiled.name.encode(), compiled.log.encode(), compiled.cubin):
        digest.update(len(part).to_bytes(8, "little") + part)
    return digest.hexdigest()
