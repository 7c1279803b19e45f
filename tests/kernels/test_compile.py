"""NVRTC compiles every kernel for every architecture without spills; what is missing or wrong is a typed error."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bdflow_rt.bench.kernel_resources import all_kernels
from bdflow_rt.errors import KernelCompileError, UnsupportedArchitectureError
from bdflow_rt.kernels.compile import (
    ARCHITECTURES,
    Compiled,
    Kernel,
    compile_kernel,
    resources,
    supported_architectures,
)
from tests.support import ROOT, slow

pytest.importorskip("cupy", reason="CuPy is not installed, and NVRTC is reached through it")

SMALL = Kernel("haar.cuh", "bdflow::haar_forward<float, 1>")


# The first and the last architecture stand for the others; the mask's source tells these two apart.
BUILDS = [
    (architecture, source) if architecture in (75, 120) else slow(architecture, source)
    for architecture in ARCHITECTURES
    for source in sorted({kernel.source for kernel in all_kernels()})
]


@pytest.mark.parametrize(("architecture", "source"), BUILDS)
def test_every_kernel_compiles_without_spills_or_stack(architecture: int, source: str) -> None:
    for kernel in (kernel for kernel in all_kernels() if kernel.source == source):
        used = resources(compile_kernel(kernel, architecture))
        assert (used.spill_bytes, used.stack_bytes) == (0, 0), kernel
        assert 0 < used.registers < 255, kernel
        assert used.shared_bytes <= 48 << 10, f"{kernel} has more shared memory than a launch grants unasked"
        if source == "boundary_mask.cuh":  # as many blocks as its source counts on are resident
            assert used.registers <= (72 if architecture >= 120 else 64), kernel
            assert used.shared_bytes <= 12 << 10, kernel


def test_every_source_file_with_kernels_is_compiled() -> None:
    folder = ROOT / "kernels" / "cuda"
    with_kernels = {path.name for path in folder.glob("*.cuh") if "__global__" in path.read_text(encoding="utf-8")}
    assert {kernel.source for kernel in all_kernels()} == with_kernels


@pytest.mark.parametrize("architecture", [70, 0, 999])
def test_an_architecture_that_nvrtc_does_not_know_raises_and_lists_those_it_does(architecture: int) -> None:
    assert architecture not in supported_architectures()
    with pytest.raises(UnsupportedArchitectureError, match=rf"{architecture / 10}; it knows 7\.5, 8\.0"):
        compile_kernel(SMALL, architecture)


@pytest.mark.parametrize(
    ("kernel", "said"),
    [
        (Kernel("haar.cuh", "bdflow::absent<float>"), "absent"),
        (Kernel("haar.cuh", "bdflow::haar_forward<int, 1>"), "from_float"),
        (Kernel("absent.cuh", "bdflow::haar_forward<float, 1>"), "absent.cuh"),
    ],
)
def test_source_that_does_not_compile_raises_with_what_the_compiler_said(kernel: Kernel, said: str) -> None:
    with pytest.raises(KernelCompileError, match=r"does not compile \(NVRTC_ERROR") as caught:
        compile_kernel(kernel, 90)
    assert said in str(caught.value).partition("\n")[2]


def test_a_compilation_leaves_nothing_that_the_next_one_sees() -> None:
    with pytest.raises(KernelCompileError):
        compile_kernel(Kernel("haar.cuh", "bdflow::absent<float>"), 90)
    first, second = compile_kernel(SMALL, 90), compile_kernel(SMALL, 90)
    assert (first.name, first.cubin) == (second.name, second.cubin)


def test_a_log_without_a_report_is_no_proof_of_anything() -> None:
    with pytest.raises(KernelCompileError, match="reported no registers"):
        resources(Compiled(name="k", log="ptxas info", cubin=b""))


def test_spills_are_seen_where_there_are_some() -> None:
    log = (
        "ptxas info    : Function properties for k\n"
        "    64 bytes stack frame, 48 bytes spill stores, 40 bytes spill loads\n"
        "ptxas info    : Used 255 registers, used 1 barriers, 9216 bytes smem, 420 bytes cmem[0]\n"
    )
    used = resources(Compiled(name="k", log=log, cubin=b""))
    assert (used.registers, used.shared_bytes, used.stack_bytes, used.spill_bytes) == (255, 9216, 64, 88)


def _bare_python(folder: Path, *, without: str) -> tuple[Path, dict[str, str]]:
    """An interpreter of its own that sees this checkout and all that is installed here, but some of CUDA's files."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True, timeout=120)
    (packages,) = folder.glob("lib/python*/site-packages")
    import numpy

    for path in Path(numpy.__file__).parent.parent.iterdir():
        if path.name != "nvidia" and path.suffix != ".pth" and "editable" not in path.name:
            (packages / path.name).symlink_to(path)
    tree = folder / "tree" / "bdflow_rt"
    tree.mkdir(parents=True)
    for path in (ROOT / "bdflow_rt").iterdir():
        (tree / path.name).symlink_to(path)
    (tree / "kernels").symlink_to(ROOT / "kernels")
    nvidia = packages / "nvidia" / "cu13"
    for name in ("lib", "include"):
        (nvidia / name).mkdir(parents=True)
        for path in (Path(numpy.__file__).parent.parent / "nvidia" / "cu13" / name).iterdir():
            if not path.name.startswith(without):
                (nvidia / name / path.name).symlink_to(path)
    hidden = ("CUDA_HOME", "CUDA_PATH", "CONDA_PREFIX", "LD_LIBRARY_PATH", "PYTHONHOME")
    kept = {name: value for name, value in os.environ.items() if name not in hidden}
    return folder / "bin" / "python", {**kept, "PYTHONPATH": str(tree.parent), "BDFLOW_CACHE": str(folder / "cache")}


CODE = """
from bdflow_rt.kernels.compile import Kernel, compile_kernel
try:
    compile_kernel(Kernel("haar.cuh", "bdflow::haar_forward<float, 1>"), 90)
    print("compiled")
except Exception as error:
    print(type(error).__name__, error)
"""


def _has_system_cuda() -> bool:
    """Asked in a process of its own: in this one, CuPy may have loaded the library from its wheel."""
    code = "import ctypes; ctypes.CDLL('libnvrtc.so.13')"
    return subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


@pytest.mark.skipif(_has_system_cuda(), reason="NVRTC is installed outside Python, and would be found")
@pytest.mark.parametrize(
    ("without", "said"),
    [
        ("nothing", "compiled"),
        ("libnvrtc", "CompilerMissingError CUDA kernels are compiled by NVRTC through CuPy, and one of them"),
        # The folder, which is found, is incomplete: an installed toolkit's would be found in place of an absent one.
        ("cuda_fp16.h", "CompilerMissingError CUDA's header cuda_fp16.h is missing"),
    ],
)
def test_a_missing_compiler_or_header_is_named_with_what_to_install(tmp_path: Path, without: str, said: str) -> None:
    python, environment = _bare_python(tmp_path, without=without)
    done = subprocess.run(
        [str(python), "-c", CODE], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.stdout.startswith(said), done
    assert without == "nothing" or "pip install" in done.stdout
