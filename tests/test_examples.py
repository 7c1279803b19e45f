"""The examples, run as a user runs them: `python examples/NAME.py` in another folder."""

from __future__ import annotations

import ast
import http.client
import io
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from bdflow_rt.containers import read_packet
from bdflow_rt.metrics import psnr, psnr_y
from tests.support import ROOT, photo

EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
CPU_ALONE = {"CUDA_VISIBLE_DEVICES": ""}


@contextmanager
def started(name: str, folder: Path, *arguments: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """A running example, which does not outlive the block."""
    with subprocess.Popen(
        [sys.executable, str(ROOT / "examples" / name), *arguments], cwd=folder, env={**os.environ, **environment},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            process.kill()


def run(name: str, folder: Path, *arguments: str, **environment: str) -> str:
    """What an example prints, when it has ended well."""
    with started(name, folder, *arguments, **environment) as process:
        out, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
        assert "Traceback" not in err
        return out


def without(package: str, folder: Path) -> dict[str, str]:
    """An environment in which a package cannot be imported, as where it is not installed."""
    (folder / "hidden").mkdir()
    (folder / "hidden" / f"{package}.py").write_text(f"raise ModuleNotFoundError(name={package!r})")
    return {"PYTHONPATH": str(folder / "hidden")}


def decibels(text: str) -> list[float]:
    return [float(number) for number in re.findall(r"(\d+\.\d\d) dB", text)]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_an_example_says_how_to_run_it_and_what_it_needs_and_is_in_the_list_and_in_a_guide(path: Path) -> None:
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    assert f"python examples/{path.name}" in text
    assert "Needs" in text or "needs" in text
    assert f"[{path.name}]({path.name})" in (ROOT / "examples" / "README.md").read_text(encoding="utf-8")
    guides = [guide.read_text(encoding="utf-8") for guide in sorted((ROOT / "docs" / "guides").glob("*.md"))]
    assert sum(f'--8<-- "examples/{path.name}"' in guide for guide in guides) == 1


def test_a_photo_goes_through_files_and_comes_back_better_than_bicubic(tmp_path: Path) -> None:
    lines = run("01_photo.py", tmp_path).splitlines()
    original, small, restored, bicubic = (line.split(maxsplit=1)[1] for line in lines)
    for line, name in ((original, "photo.png"), (small, "small.png")):
        path = tmp_path / "example-out" / name
        with Image.open(path) as image:
            width, height = image.size
        assert line == f"example-out/{name}: {width} x {height}, {path.stat().st_size:,} bytes"
    hr, back = (np.asarray(Image.open(tmp_path / "example-out" / name)) for name in ("photo.png", "restored.png"))
    measured = psnr_y(back, hr, border=4)
    assert decibels(restored) == [round(measured, 2)]
    assert measured > max(30, decibels(bicubic)[0] + 2)


def test_arrays_and_bytes_of_a_picture_of_ones_own(tmp_path: Path) -> None:
    Image.fromarray(photo(101, 147, 5)).save(tmp_path / "mine.jpg", quality=95)
    out = run("02_arrays.py", tmp_path, "mine.jpg")
    assert "(101, 147, 3) -> (26, 37, 3) -> (101, 147, 3)" in out
    assert min(decibels(out.replace(", ", " dB "))) > 24
    assert "equal to the first result: True" in out


def test_device_arrays_fall_back_to_the_cpu_and_say_so(tmp_path: Path) -> None:
    out = run("03_device_arrays.py", tmp_path, **CPU_ALONE)
    assert out.startswith("No GPU here: PyTorch tensors of the CPU")
    assert "torch.Tensor (240, 320, 3)" in out
    assert decibels(out)[0] > 28


@pytest.mark.slow
def test_device_arrays_run_without_pytorch(tmp_path: Path) -> None:
    out = run("03_device_arrays.py", tmp_path, **CPU_ALONE, **without("torch", tmp_path))
    assert out.startswith("No PyTorch here: NumPy arrays")
    assert decibels(out)[0] > 28


def test_the_server_answers_its_own_clients_and_stops(tmp_path: Path) -> None:
    out = run("04_server.py", tmp_path)
    found = re.search(r"^(\d+) requests in (\d+\.\d\d) s: (\d+\.\d) requests/s; \d+ times 503$", out, re.MULTILINE)
    assert found is not None, out
    assert int(found[1]) / float(found[2]) == pytest.approx(float(found[3]), rel=0.02)
    assert out.endswith("closed\n")


def ask(port: int, path: str, body: bytes) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
    connection.request("POST", path, body)
    response = connection.getresponse()
    return response.status, response.read()


@pytest.mark.slow
def test_the_server_refuses_what_it_cannot_take_and_ends_a_request_before_it_ends(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    file = io.BytesIO()
    Image.fromarray(photo(800, 1200, 3)).save(file, "PNG")
    with started("04_server.py", tmp_path, str(port)) as server, ThreadPoolExecutor(24) as clients:
        assert server.stdout is not None
        assert f":{port}" in server.stdout.readline()
        assert ask(port, "/downscale", b"no picture")[0] == 400
        assert ask(port, "/upscale", file.getvalue())[0] == 400
        answers = list(clients.map(lambda _: ask(port, "/downscale", file.getvalue()), range(24)))
        assert {status for status, _ in answers} == {200, 503}
        small = {body for status, body in answers if status == 200}
        assert len(small) == 1
        pending = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
        pending.request("POST", "/upscale", small.pop())
        ask(port, "/downscale", b"no picture")  # connections are taken in their order: the one before has its thread
        server.send_signal(signal.SIGTERM)
        response = pending.getresponse()
        assert response.status == 200
        body = response.read()
        with Image.open(io.BytesIO(body)) as image:
            assert image.size == (1200, 800)
        out, err = server.communicate(timeout=300)
    assert (server.returncode, out) == (0, "closed\n"), err


def test_tensorrt_engines_are_built_without_a_gpu_and_kept(tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed")
    out = run("05_tensorrt.py", tmp_path, **CPU_ALONE, BDFLOW_CACHE=str(tmp_path / "cache"))
    plans = [Path(path) for path in re.findall(r"\S+\.plan", out)]
    assert [f"{path.stat().st_size:,}" for path in plans] == re.findall(r"([\d,]+) bytes", out)
    counts = re.findall(r"(\d+) convolutions float16, (\d+) layers float32", out)
    assert len(plans) == len(counts) == 2
    assert min(int(number) for pair in counts for number in pair) > 0


def test_without_tensorrt_the_example_says_what_to_install(tmp_path: Path) -> None:
    hidden = without("tensorrt_rtx", tmp_path)
    assert "pip install -e '.[tensorrt-rtx,export]'" in run("05_tensorrt.py", tmp_path, **hidden)


def test_onnx_runtime_gives_the_pixels_of_rescaler(tmp_path: Path) -> None:
    out = run("06_onnx.py", tmp_path)
    levels = [int(number) for number in re.findall(r"at most (\d+) levels", out)]
    assert len(levels) == 2
    assert max(levels) <= 1


def test_a_video_file_comes_back_at_its_times(tmp_path: Path) -> None:
    out = run("09_video_files.py", tmp_path)
    assert "320 x 180" in out
    assert "160 x 90, 12 frames" in out
    assert decibels(out)[0] > 36
    assert "timestamps differ by at most 0.000000 s" in out


def test_a_video_comes_back_from_the_files_of_its_frames(tmp_path: Path) -> None:
    out = run("08_opencv_video.py", tmp_path)
    assert "240 x 180 -> 120 x 90" in out
    assert "12 frames" in out
    assert decibels(out)[0] > 38
    first = read_packet(tmp_path / "example-out" / "first.png")
    lr, boundary = (video(tmp_path / "example-out" / name) for name in ("lr.mkv", "boundary.mkv"))
    assert np.array_equal(lr[0][:, :, ::-1], first.lr)
    assert np.array_equal(boundary[0][:, :, 0], np.asarray(first.boundary))
    originals, restored = (video(tmp_path / "example-out" / name) for name in ("clip.mkv", "restored.mkv"))
    assert len(lr) == len(boundary) == len(originals) == len(restored) == 12
    psnrs = [psnr(back, hr) for back, hr in zip(restored, originals, strict=True)]
    assert decibels(out) == [round(float(np.mean(psnrs)), 2)]


def video(path: Path) -> list[npt.NDArray[np.uint8]]:
    """The frames of a file as OpenCV reads them, BGR."""
    capture, frames = cv2.VideoCapture(str(path)), []
    while (read := capture.read())[0]:
        frames.append(np.asarray(read[1], np.uint8))
    return frames


@pytest.mark.slow
def test_a_network_is_trained_exported_and_used(tmp_path: Path) -> None:
    model, bicubic = decibels(run("07_train.py", tmp_path))
    assert model > bicubic > 30
    assert list(tmp_path.iterdir()) == []
