"""Memory over many frames."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.video.clip_writer import make_long

MEASURED = """
import os, sys, threading
from bdflow_rt.rescaler import Rescaler
from bdflow_rt.video import downscale_video, upscale_video
from bdflow_rt.video import rescale
from bdflow_rt.zoo import find_model

model, source, folder, warm, leaks = sys.argv[1:]
kept, sizes, seen = [], [], set()

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096

def handles():
    return threading.active_count(), len(os.listdir("/proc/self/fd"))

def progress(stats):
    if leaks == "1":
        kept.append(bytearray(4096))
    if stats.frames >= int(warm):
        seen.add(handles())
    if stats.frames == int(warm):
        sizes.append(resident())

with Rescaler(find_model(model), threads=1) as rescaler:
    for run in (lambda: downscale_video(source, folder + "/lr.mkv", rescaler, progress=progress),
                lambda: upscale_video(folder + "/lr.mkv", folder + "/hr.mp4", rescaler, progress=progress)):
        seen.clear()
        result = run()
        sizes.append(resident())
        assert len({threads for threads, _ in seen}) <= 3, seen  # at the end reader and worker go
        assert len({descriptors for _, descriptors in seen}) == 1, seen
print(result.frames, (sizes[1] - sizes[0]) / 2**20, (sizes[3] - sizes[2]) / 2**20)
"""


def growth(model: Path, source: Path, folder: Path, warm: int, *, leaks: bool) -> tuple[int, float, float]:
    """Frames, and MiB from frame `warm` to the end, down and up."""
    folder.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, str(model), str(source), str(folder), str(warm), str(int(leaks))],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    frames, down, up = done.stdout.split()
    return int(frames), float(down), float(up)


@pytest.mark.slow
def test_ten_thousand_frames_take_no_more_memory_than_a_thousand(tiny_zoo: Path, tmp_path: Path) -> None:
    source = tmp_path / "long.mkv"
    facts = make_long(source, seconds=1200)
    assert facts.frames >= 10_000
    model = tiny_zoo / "tiny-x2@1"
    frames, down, up = growth(model, source, tmp_path / "sound", 1000, leaks=False)
    assert frames == facts.frames
    assert (down < 16, up < 16) == (True, True), (down, up)
    _, down, up = growth(model, source, tmp_path / "leaking", 1000, leaks=True)
    assert down > 16
    assert up > 16
