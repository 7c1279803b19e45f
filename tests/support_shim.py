"""Runs the CUDA kernels' own source on the CPU: g++ compiles it behind tests/kernels/shim/cuda_shim.h.

`run(launch)` carries out a `Launch` whose arrays are NumPy's, thread by thread. This is no stand-in for the kernels,
which are the files that run on a GPU; it stands in for the GPU.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import importlib.util
import mmap
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bdflow_rt.files import write_atomically
from bdflow_rt.kernels.compile import SOURCES, Kernel
from bdflow_rt.kernels.launch import Launch
from tests.support import ROOT

SHIM = ROOT / "tests" / "kernels" / "shim" / "cuda_shim.h"
_CANARY = 0xA5
FLAGS = ("-std=c++20", "-O2", "-g0", "-fPIC", "-shared", "-ffp-contract=off", "-fno-strict-aliasing", "-w",
    # A GPU faults where an access is not aligned; the CPU does so with these.
    "-fsanitize=alignment", "-fsanitize-undefined-trap-on-error",
)  # fmt: skip


def _cuda_headers() -> Path | None:
    """The folder with cuda_fp16.h and nv/target, from the wheels that the tests install."""
    found = importlib.util.find_spec("nvidia")
    for root in found.submodule_search_locations or [] if found else []:
        folder = Path(root) / "cu13" / "include"
        if (folder / "cuda_fp16.h").is_file() and (folder / "nv" / "target").is_file():
            return folder
    return None


needs_shim = pytest.mark.skipif(
    shutil.which("g++") is None or _cuda_headers() is None,
    reason="g++ or CUDA's headers (pip install nvidia-cuda-runtime nvidia-cuda-cccl nvidia-cuda-crt) are missing",
)


def run(launch: Launch, *, kernels: Sequence[Kernel], seed: int = 0) -> None:
    """Carry out a launch on the CPU.

    Args:
        launch: its arrays are NumPy arrays.
        kernels: all instantiations of the source that any test runs; they are compiled together, once.
        seed: of the order in which the threads of a block run between barriers.
    """
    same = tuple(kernel.expression for kernel in kernels if kernel.source == launch.kernel.source)
    entry = getattr(_library(launch.kernel.source, same), f"kernel_{same.index(launch.kernel.expression)}")
    entry.restype = ctypes.c_char_p
    holders = [
        np.array([value.ctypes.data if isinstance(value, np.ndarray) else value],
                 np.uint64 if isinstance(value, np.ndarray) else value.dtype)
        for value in launch.arguments
    ]  # fmt: skip
    pointers = (ctypes.c_void_p * len(holders))(*(holder.ctypes.data for holder in holders))
    triple = ctypes.c_uint * 3
    failure = entry(triple(*launch.grid), triple(*launch.block), pointers, ctypes.c_uint(seed))
    if failure is not None:
        raise AssertionError(f"{launch.kernel.expression}: {failure.decode()}")


class Guarded:
    """An array between two pages that must not be touched: a stray read or write behind it ends the test process.

    The array ends at the second page, as near as its alignment allows; the bytes before it are checked by `check`.
    """

    def __init__(self, shape: Sequence[int], dtype: Any, *, alignment: int = 16, start: bool = False) -> None:
        page = mmap.PAGESIZE
        item = np.dtype(dtype)
        size = int(np.prod(shape)) * item.itemsize
        pages = max(-(-size // page), 1)
        self._memory = mmap.mmap(-1, (pages + 2) * page)
        base = ctypes.addressof(ctypes.c_char.from_buffer(self._memory))
        protect = ctypes.CDLL(None, use_errno=True).mprotect
        for edge in (base, base + (pages + 1) * page):
            if protect(ctypes.c_void_p(edge), ctypes.c_size_t(page), 0):
                raise OSError(ctypes.get_errno(), "mprotect")
        self._inner = np.frombuffer(self._memory, np.uint8)[page : (pages + 1) * page]
        offset = 0 if start else (pages * page - size) // alignment * alignment
        self._inside = slice(offset, offset + size)
        self._inner[:] = _CANARY
        self.array = self._inner[self._inside].view(item).reshape(shape)

    def check(self) -> None:
        """Fail if a byte around the array was written."""
        outside = np.ones(self._inner.size, bool)
        outside[self._inside] = False
        np.testing.assert_array_equal(self._inner[outside], _CANARY, "a kernel wrote outside its output")


def guarded(
    shape: Sequence[int], dtype: Any, content: Any = None, *, alignment: int = 16, start: bool = False
) -> Guarded:
    """A guarded array, filled with `content`; `start` puts it right behind the first page instead."""
    result = Guarded(shape, dtype, alignment=alignment, start=start)
    if content is not None:
        result.array[...] = content
    return result


@functools.cache
def _library(source: str, expressions: tuple[str, ...]) -> ctypes.CDLL:
    text = f'#include "{SHIM}"\n#include "{source}"\n' + "".join(
        f'extern "C" const char* kernel_{index}(const unsigned* grid, const unsigned* block, void** arguments, '
        f"unsigned seed) {{ return shim::run(&{expression}, grid, block, arguments, seed); }}\n"
        for index, expression in enumerate(expressions)
    )
    digest = hashlib.sha256(" ".join(FLAGS).encode() + text.encode() + SHIM.read_bytes())
    for path in sorted(SOURCES.glob("*.cuh")):
        digest.update(path.read_bytes())
    folder = Path(tempfile.gettempdir()) / f"bdflow-shim-{os.getuid()}-{sys.implementation.cache_tag}"
    folder.mkdir(mode=0o700, exist_ok=True)
    library = folder / f"{source.partition('.')[0]}-{digest.hexdigest()[:20]}.so"
    if not library.exists():
        with tempfile.TemporaryDirectory() as temporary:
            unit, built = Path(temporary) / "unit.cc", Path(temporary) / "unit.so"
            unit.write_text(text)
            include = [f"-I{SOURCES}", f"-I{_cuda_headers()}"]
            done = subprocess.run(
                ["g++", *FLAGS, *include, str(unit), "-o", str(built)], capture_output=True, text=True
            )
            if done.returncode:
                raise AssertionError(f"{source} does not compile with g++:\n{done.stderr[-4000:]}")
            write_atomically(library, built.read_bytes())
    return ctypes.CDLL(str(library))
