"""Packed weights: how large ones, and those of versions with a successor, ship, in an eighth fewer bytes.

Runtimes read weights in place, from a graph beside them, so the first use of a packed model makes both in a temporary
folder, which goes when the process ends.
"""

from __future__ import annotations

import atexit
import os
import pathlib
import shutil
import tempfile

from bdflow_rt.errors import BackendUnavailableError, CorruptModelError, UnwritableOutputError, shorten
from bdflow_rt.fork import fork_safe_lock

PACKED_SUFFIX = ".xz"
MAX_UNPACKED_BYTES = 1 << 30
"""Far above the weights of any model; a file of some kilobytes could fill any disk."""
_MAX_MEMORY_BYTES = 256 << 20
"""For the decompressor's dictionary, of which xz -9 takes 64 MiB."""
_CHUNK = 1 << 20
_unpacked: dict[pathlib.Path, pathlib.Path] = {}
"""Packed file -> temporary folder with its content."""
_lock = fork_safe_lock()


def unpacked_folder(packed: pathlib.Path) -> pathlib.Path:
    """A temporary folder with a packed file's content under its name without ".xz", and with the graphs beside it.

    Nothing here vouches for the content: whoever reads it compares it with the card.

    Raises:
        CorruptModelError: it cannot be read or unpacked, or holds more than `MAX_UNPACKED_BYTES`.
        UnwritableOutputError: there is no room for it.
        BackendUnavailableError: this Python has no lzma.
    """
    key = packed.resolve()
    with _lock:
        folder = _unpacked.get(key)
        if folder is None or not folder.exists():
            folder = _unpacked[key] = _unpack(packed)
        return folder


def _unpack(packed: pathlib.Path) -> pathlib.Path:
    try:
        folder = pathlib.Path(tempfile.mkdtemp(prefix="bdflow-model-"))
        # A forked child that ends must not take its parent's files along.
        atexit.register(_remove, folder, os.getpid())
        for graph in packed.parent.glob("*.onnx"):
            shutil.copyfile(graph, folder / graph.name)
        _decompress(packed, folder / packed.name.removesuffix(PACKED_SUFFIX))
    except OSError as error:
        raise UnwritableOutputError(
            f"{packed} cannot be unpacked into a temporary folder ({error.strerror}). Free some space, or name another "
            "folder in TMPDIR."
        ) from None
    return folder


def _decompress(packed: pathlib.Path, whole: pathlib.Path) -> None:
    try:
        import lzma
    except ImportError:
        raise BackendUnavailableError(
            f"{packed} is packed with xz, which this Python was built without. Install a Python with the module lzma."
        ) from None
    decompressor, written = lzma.LZMADecompressor(memlimit=_MAX_MEMORY_BYTES), 0
    try:
        source = packed.open("rb")
    except OSError as error:
        raise CorruptModelError(f"{packed} cannot be read ({error.strerror}). Install the model again.") from None
    with source, whole.open("wb") as target:
        while not decompressor.eof:
            data = source.read(_CHUNK) if decompressor.needs_input else b""
            if decompressor.needs_input and not data:
                raise CorruptModelError(f"{packed} is cut off. Install the model again.")
            try:
                part = decompressor.decompress(data, _CHUNK)
            except lzma.LZMAError as error:
                raise CorruptModelError(
                    f"{packed} cannot be unpacked: {shorten(error)}. Install the model again."
                ) from None
            written += len(part)
            if written > MAX_UNPACKED_BYTES:
                raise CorruptModelError(
                    f"{packed} holds more than {MAX_UNPACKED_BYTES} bytes, which no model has. Install the model again."
                )
            target.write(part)


def _remove(folder: pathlib.Path, process: int) -> None:
    if os.getpid() == process:
        shutil.rmtree(folder, ignore_errors=True)
