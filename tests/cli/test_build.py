"""`bdflow build`: real TensorRT-RTX engines into the cache."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bdflow_rt.bench.engines import paper_model
from bdflow_rt.engines.backends import BACKENDS
from bdflow_rt.zoo import ModelCard
from tests.cli.build import bdflow, failed, succeeded
from tests.support import ROOT

pytestmark = pytest.mark.skipif(not BACKENDS["tensorrt-rtx"].is_installed, reason="tensorrt-rtx is not installed")
SMALL = ("--flavour", "tensorrt-rtx", "--profile", "64x64")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache; where its engines will be."""
    monkeypatch.setenv("BDFLOW_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "engines"


def plans(cache: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in cache.glob("*.plan")}


def test_both_directions_are_built_into_the_cache_with_a_line_each(zoo: Path, cache: Path) -> None:
    done = succeeded("build", "tiny-x2", *SMALL)
    lines = done.out.splitlines()
    assert [line.split()[:4] for line in lines] == [
        ["downscale", "core", "fp16:", "built"],
        ["upscale", "core", "fp16:", "built"],
    ]
    assert {Path(line.rpartition(", ")[2]).name for line in lines} == set(plans(cache))


def test_the_second_time_nothing_is_built_unless_forced(zoo: Path, cache: Path) -> None:
    arguments = ("build", "tiny-x2", *SMALL, "--direction", "upscale", "--json")
    first, second = (succeeded(*arguments).json["engines"][0] for _ in range(2))
    assert (first["cached"], second["cached"]) == (False, True)
    assert first["plan_sha256"] == second["plan_sha256"]
    before = plans(cache)
    forced = succeeded(*arguments, "--force").json["engines"][0]
    assert not forced["cached"]
    assert forced["created"] > first["created"]
    assert list(plans(cache)) == list(before)


def test_json_says_what_was_built_and_where(zoo: Path, cache: Path) -> None:
    done = succeeded("build", "bdflow-x4", *SMALL, "--kind", "public", "--batch", "1,2,4", "--json", "-q")
    assert done.err == ""
    assert done.json["model"] == "bdflow-x4@99"
    for engine, direction in zip(done.json["engines"], ("downscale", "upscale"), strict=True):
        assert engine["direction"] == direction
        assert (engine["kind"], engine["precision"], engine["flavour"]) == ("public", "fp16", "tensorrt-rtx")
        assert engine["profile"] == "64x64: 1x64x64 to 4x64x64, best 2x64x64"
        assert hashlib.sha256(Path(engine["path"]).read_bytes()).hexdigest() == engine["plan_sha256"]
        assert engine["types"]["learned_convolutions"] == 24


def test_options_reach_the_engines_key(zoo: Path, cache: Path) -> None:
    options = ("--workspace-mib", "4096", "--optimization-level", "1", "--compute-capability", "8.6, 8.9")
    done = succeeded("build", "plain", *SMALL, *options, "--direction", "downscale", "--precision", "fp32", "--json")
    (engine,) = done.json["engines"]
    assert engine["builder_flags"] == ["workspace-mib=4096", "optimization-level=1"]
    assert (engine["gpu"], engine["compute_capability"], engine["precision"]) == ("any", "8.6,8.9", "fp32")


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (("--profile", "1081p"), 2, ("1081p", "WIDTHxHEIGHT")),
        (("--batch", "0"), 2, ("batch",)),
        (("--workspace-mib", "0"), 2, ("--workspace-mib is 0",)),
        (("--optimization-level", "9"), 2, ("--optimization-level is 9",)),
        (("--version-compatible",), 2, ("--version-compatible", "leave the option out")),
        (("--hardware-compatible", "ampere-plus"), 2, ("--hardware-compatible",)),
        (("--compute-capability", "9.0"), 7, ("9.0", "8.9")),
    ],
)
def test_what_cannot_be_built_is_said_in_one_line(
    zoo: Path, cache: Path, options: tuple[str, ...], code: int, words: tuple[str, ...]
) -> None:
    failed(bdflow("build", "tiny-x2", *SMALL, *options), code, *words)
    assert plans(cache) == {}


def test_an_unknown_model_is_named(zoo: Path, cache: Path) -> None:
    failed(bdflow("build", "nothing", *SMALL), 6, "There is no model")


@pytest.mark.skipif(BACKENDS["tensorrt"].is_installed, reason="tensorrt is installed")
def test_a_flavour_that_is_not_installed_is_named(zoo: Path, cache: Path) -> None:
    failed(bdflow("build", "tiny-x2", "--flavour", "tensorrt"), 7, "pip install", "tensorrt")


def test_calibration_is_announced_before_its_seconds_of_silence(zoo: Path, cache: Path) -> None:
    arguments = ("build", "tiny-x2", *SMALL, "--direction", "upscale")
    first, second = succeeded(*arguments), succeeded(*arguments)
    assert first.err.startswith("Calibrating upscale of tiny-x2@1")
    assert "Calibrating" not in second.err + succeeded(*arguments, "--precision", "fp32").err
    shutil.rmtree(cache.parent / "calibration")
    assert succeeded(*arguments, "-q").err == ""


def test_help_says_what_no_backend_here_opens() -> None:
    said = " ".join(succeeded("build", "--help").out.split())
    for option in ("--precision {fp16,fp32} fp32", "upscale_z, which takes latents,", "public, pixels to pixels,"):
        assert f"{option} is for other programs" in said


def started(card: ModelCard) -> subprocess.Popen[str]:
    """The build of a large engine, which takes seconds, in a process of its own that has said it is building."""
    command = [sys.executable, "-m", "bdflow_rt", "build", str(card.folder), "--flavour", "tensorrt-rtx"]
    command += ["--precision", "fp32", "--direction", "upscale", "--kind", "public"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*sys.path, str(ROOT)])}
    process = subprocess.Popen(
        command, cwd=card.folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stderr is not None
    assert "is built" in process.stderr.readline()
    return process


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_build_leaves_no_engine(tmp_path: Path, cache: Path, number: int, code: int) -> None:
    process = started(paper_model(tmp_path, 16))
    process.send_signal(number)
    out, err = process.communicate(timeout=120)
    assert (process.returncode, out) == (code, ""), err
    assert [path.name for path in cache.iterdir() if path.suffix != ".lock"] == []


def test_a_killed_build_leaves_nothing_and_the_next_one_works(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    staging = tmp_path / "staging"
    staging.mkdir()
    monkeypatch.setenv("TMPDIR", str(staging))
    card = paper_model(tmp_path, 16)
    process = started(card)
    has_begun = False
    while not has_begun or any(staging.iterdir()):  # the graph is parsed out of there, and then built
        assert process.poll() is None, "the build had ended before its staged folder was gone"
        has_begun |= any(staging.iterdir())
        time.sleep(0.001)
    time.sleep(0.1)
    assert process.poll() is None
    process.kill()
    out, err = process.communicate(timeout=120)
    assert (process.returncode, out) == (-signal.SIGKILL, ""), err
    assert [path.name for path in cache.iterdir() if path.suffix != ".lock"] == []
    assert list(staging.iterdir()) == []
    process = started(card)
    out, err = process.communicate(timeout=300)
    assert (process.returncode, "built in" in out) == (0, True), err
    succeeded("cache", "verify")
    assert list(staging.iterdir()) == []
