"""Memory over a long run: one Rescaler that meets thousands of picture sizes."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.support import ROOT, slow

GROWTH_MIB = 16
"""What a process may take after its first hundred pictures."""

RUN = """
import ctypes, sys
import numpy as np
from bdflow_rt import Rescaler
import bdflow_rt.engines.openvino as openvino_engine

pictures, leak = int(sys.argv[1]), sys.argv[2]
if leak == "primitives":
    openvino_engine._CACHED_PRIMITIVES = "5000"  # OpenVINO's default
libc, kept, seen = ctypes.CDLL(None), [], []

def resident_mib():
    libc.malloc_trim(0)
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096 / 2**20

rescaler = Rescaler.from_pretrained("bdflow-x2-fast", backend="openvino", threads=1, memory_limit_mib=64)
rng = np.random.default_rng(0)
for number in range(1, pictures + 1):
    # Small ones are likelier, since only the number of sizes counts; the largest comes first.
    height, width = (199, 199) if number == 1 else np.exp(rng.uniform(0, np.log(200), 2)).astype(int)
    packet = rescaler.downscale(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
    restored = rescaler.upscale(packet)
    assert restored.shape == (height, width, 3)
    if leak == "arrays":
        kept.append(np.ones(2**18, np.uint8))
    if number % 100 == 0:
        seen.append(resident_mib())
print("growth", max(seen[1:]) - seen[0])
"""


def growth_mib(pictures: int, leak: str = "none") -> float:
    """How far the resident memory of a fresh process rises above what it is after 100 pictures, at its highest."""
    command = [sys.executable, "-c", RUN, str(pictures), leak]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    found = re.search(r"^growth (\S+)$", done.stdout, re.MULTILINE)
    assert found, done.stdout + done.stderr
    return float(found[1])


needs_glibc = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc and asks glibc to trim")


@needs_glibc
@pytest.mark.parametrize("pictures", [200, slow(2400)])
def test_memory_does_not_grow_with_the_number_of_picture_sizes(pictures: int) -> None:
    """OpenVINO used to keep what it had compiled for every shape: 1.2 GB after 600, 1.6 GB after 2,400."""
    assert growth_mib(pictures) < GROWTH_MIB


@needs_glibc
@pytest.mark.parametrize("leak", ["primitives", slow("arrays")])
def test_the_measurement_finds_a_leak(leak: str) -> None:
    assert growth_mib(200, leak) > GROWTH_MIB
