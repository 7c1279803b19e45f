"""`bdflow train` from the command line to the model folder, its end by a signal, and wrong input."""

from __future__ import annotations

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest
import torch

from bdflow_rt.cli.main import main
from bdflow_rt.models.io import load_model
from bdflow_rt.training.checkpoint import load_checkpoint
from bdflow_rt.zoo import find_model
from tests.support import data_dir, needs_data, slow
from tests.training.small import assert_same_run, child_environment, run_python, write_pictures

CONFIG = """
crop = {crop}
batch = 4
iterations = {iterations}
workers = {workers}
warmup = 2
learning_rate = 1e-3
checkpoint_every = 1000
validate_every = 1000
log_every = 1
[model]
scale = 2
blocks = [1]
hidden = [8]
[loss]
lpips = {lpips}
"""


@pytest.fixture
def place(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """A folder with pictures and the configuration tiny.toml, and the tests run in it."""
    write_pictures(tmp_path / "pictures")
    _configure(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("BDFLOW_DATA", raising=False)
    return tmp_path


def _configure(folder: pathlib.Path, name: str = "tiny.toml", **changes: int) -> None:
    settings = {"crop": 16, "iterations": 8, "workers": 0, "lpips": 0, **changes}
    (folder / name).write_text(CONFIG.format(**settings))


def _start(folder: pathlib.Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "bdflow_rt", "train", "tiny.toml", "--data", "pictures", "--threads", "1"]
    return subprocess.Popen(
        [*command, *arguments], cwd=folder, env=child_environment(), stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip


def test_a_model_is_trained_and_found_and_loaded(place: pathlib.Path) -> None:
    done = run_python(
        ["-m", "bdflow_rt", "train", "tiny.toml", "--data", "pictures", "--validation", "pictures", "--threads", "1",
         "--version", "3"], cwd=place,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert "step 8 (100.0%" in done.stderr
    assert sorted(os.listdir(place / "runs" / "tiny")) == ["checkpoint.pt", "curves.png", "log.jsonl", "model"]
    card = find_model(place / "runs" / "tiny" / "model")
    assert card.id == "tiny@3"
    state = load_checkpoint(place / "runs" / "tiny" / "checkpoint.pt")
    for name, value in load_model(card).state_dict().items():
        wanted = state["averaged"][name]
        assert torch.equal(value, wanted if name == "quantizer.gain" else wanted.half().float()), name
    assert card.details["iterations"] == 8
    assert card.details["seed"] == 1
    assert card.pixels_seen == 8 * 16 * 16 * card.details["training"]["batch"]
    assert card.details["data"] == {
        "sources": ["pictures"], "pictures": 3, "licences": {"not stated": 3}, "excluded": {},
    }  # fmt: skip
    assert card.details["validation"]["psnr_y"] == pytest.approx(state["validation"]["psnr_y"], abs=1e-3)
    assert card.details["training"]["crop"] == 16
    assert str(place) not in (card.folder / "model.json").read_text()


@pytest.mark.parametrize(("number", "workers"), [(signal.SIGTERM, 0), slow(signal.SIGINT, 2)])
def test_a_signal_ends_the_run_with_a_checkpoint_to_resume(place: pathlib.Path, number: int, workers: int) -> None:
    """Ctrl-C reaches every process of the group, the workers too."""
    _configure(place, iterations=100_000, workers=workers)
    run = _start(place)
    log = place / "runs" / "tiny" / "log.jsonl"
    deadline = time.monotonic() + 90
    while not (log.exists() and '"step": 3,' in log.read_text()):
        assert time.monotonic() < deadline
        assert run.poll() is None, run.stderr and run.stderr.read()
        time.sleep(0.02)
    os.killpg(run.pid, number)
    _, said = run.communicate(timeout=60)
    assert run.returncode == 128 + number, said
    assert said.splitlines()[-1] == f"stopped by signal {number}; go on with the same command and --resume"
    assert "Traceback" not in said
    stopped = load_checkpoint(place / "runs" / "tiny" / "checkpoint.pt")["step"]
    steps = [json.loads(line)["step"] for line in log.read_text().splitlines()]
    assert stopped == max(steps) >= 3
    assert not (place / "runs" / "tiny" / "model").exists()

    _configure(place, iterations=stopped + 2)
    assert main(["train", "tiny.toml", "--data", "pictures", "--resume"]) == 0
    assert find_model(place / "runs" / "tiny" / "model").details["iterations"] == stopped + 2


def test_the_command_resumes_bit_for_bit(place: pathlib.Path) -> None:
    assert main(["train", "tiny.toml", "--data", "pictures", "--output", "whole"]) == 0
    assert main(["train", "tiny.toml", "--data", "pictures", "--output", "again", "--cache", "elsewhere"]) == 0
    assert_same_run(place / "whole" / "checkpoint.pt", place / "again" / "checkpoint.pt")
    assert len(list((place / "elsewhere").glob("*.raw"))) == 1


def test_minutes_replace_the_number_of_steps(place: pathlib.Path) -> None:
    assert main(["train", "tiny.toml", "--data", "pictures", "--minutes", "0.02"]) == 0
    assert load_checkpoint(place / "runs" / "tiny" / "checkpoint.pt")["elapsed_s"] >= 1.2


@pytest.mark.slow
def test_two_processes_train_one_model(place: pathlib.Path) -> None:
    # Threads that live on when training has ended may abort the process, but only now and then: so they are counted.
    script = place / "worker.py"
    script.write_text(
        "import os, sys\nfrom bdflow_rt.cli.main import main\nassert main(sys.argv[1:]) == 0\n"
        "names = [open(f'/proc/self/task/{number}/comm').read() for number in os.listdir('/proc/self/task')]\n"
        "assert not [name for name in names if 'gloo' in name], names\n"
    )
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = run_python([*launcher, str(script), "train", "tiny.toml", "--data", "pictures"], cwd=place)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("wrote tiny@1") == 1
    assert find_model(place / "runs" / "tiny" / "model").details["iterations"] == 8


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["absent.toml", "--data", "pictures"], 8, "There is no training configuration 'absent.toml'"),
        (["tiny.toml", "--data", "absent"], 8, "Training data absent does not exist"),
        (["tiny.toml", "--data", "tiny.toml"], 8, "neither a folder nor a readable .tar"),
        (["large.toml", "--data", "pictures"], 8, "at least 192 x 192"),
        (["tiny.toml", "--data", "pictures", "--output", "tiny.toml"], 4, "folder tiny.toml cannot be made"),
        (["tiny.toml", "--data", "pictures", "--output", "tiny.toml/run", "--cache", "cache"], 4, "run cannot be made"),
        (["tiny.toml", "--data", "pictures", "--resume"], 8, "start the run without --resume"),
        (["tiny.toml", "--data", "pictures", "--validation", "absent"], 8, "absent holds no pictures"),
        (["tiny.toml", "--data", "pictures", "--minutes", "0"], 2, "--minutes is 0.0"),
        (["tiny.toml", "--data", "pictures", "--minutes", "nan"], 2, "--minutes is nan"),
        (["tiny.toml", "--data", "pictures", "--threads", "0"], 2, "--threads is 0"),
        (["tiny.toml", "--data", "pictures", "--device", "tpu"], 2, "device is 'tpu'"),
        (["tiny.toml", "--data", "pictures", "--device", "cuda:99"], 2, "device is 'cuda:99'"),
        (["tiny.toml", "--data", "pictures", "--name", "../x"], 2, "name is '../x'"),
        (["tiny.toml", "--data", "pictures", "--version", "0"], 2, "version is 0"),
        (["tiny.toml"], 2, "--data"),
    ],
)
def test_wrong_input_is_one_line_and_an_exit_code(
    place: pathlib.Path, capfd: pytest.CaptureFixture[str], arguments: list[str], code: int, said: str
) -> None:
    _configure(place, "large.toml", crop=192)
    assert main(["train", *arguments]) == code
    captured = capfd.readouterr()
    assert captured.out == ""
    errors = [line for line in captured.err.splitlines() if line.startswith("bdflow: error:")]
    assert len(errors) == 1
    assert said in errors[0]
    assert "Traceback" not in captured.err
    assert not (place / "runs" / "tiny" / "model").exists()


def test_lpips_without_its_weights_says_what_to_do(place: pathlib.Path, capfd: pytest.CaptureFixture[str]) -> None:
    _configure(place, lpips=1)
    assert main(["train", "tiny.toml", "--data", "pictures"]) == 8
    said = capfd.readouterr().err
    assert "BDFLOW_DATA" in said
    assert "lpips = 0 trains without" in said


@needs_data
def test_the_papers_five_losses_train_with_lpips_from_a_file(place: pathlib.Path) -> None:
    data = data_dir()
    assert data is not None
    _configure(place, lpips=1, crop=32, iterations=2)
    with (place / "tiny.toml").open("a") as file:
        file.write(f'lpips_weights = "{data / "metrics" / "lpips_alex_v0.1.npz"}"\n')
    assert main(["train", "tiny.toml", "--data", "pictures"]) == 0
    entries = [json.loads(line) for line in (place / "runs" / "tiny" / "log.jsonl").read_text().splitlines()]
    assert set(entries[-1]["parts"]) == {"lr", "reconstruction", "lpips", "boundary", "latent"}
    card = find_model(place / "runs" / "tiny" / "model")
    assert card.details["training"]["loss"]["lpips_weights"] == "lpips_alex_v0.1.npz"
    assert str(data) not in (card.folder / "model.json").read_text()


def test_a_second_run_in_the_same_folder_is_refused(place: pathlib.Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "tiny.toml", "--data", "pictures"]) == 0
    weights = (place / "runs" / "tiny" / "model" / "weights.safetensors").read_bytes()
    assert main(["train", "tiny.toml", "--data", "pictures"]) == 8
    assert "pass --resume to go on" in capfd.readouterr().err
    assert (place / "runs" / "tiny" / "model" / "weights.safetensors").read_bytes() == weights


def test_a_resumed_run_keeps_the_model_it_wrote_before(place: pathlib.Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = place / "runs" / "tiny"
    first = ["train", "tiny.toml", "--data", "pictures"]
    assert main(first) == 0
    cards = [find_model(folder / "model")]
    capfd.readouterr()
    assert main([*first, "--resume"]) == 0
    assert "kept the model" not in capfd.readouterr().err
    for iterations in (10, 12):
        _configure(place, iterations=iterations)
        assert main([*first, "--resume"]) == 0
        kept = f"kept the model of an earlier part of this run as runs/tiny/model-{len(cards)}; packets made with it"
        assert kept in capfd.readouterr().err
        cards.append(find_model(folder / "model"))
    assert len({card.weights_sha256 for card in cards}) == 3
    for name, card in zip(("model-1", "model-2", "model"), cards, strict=True):
        found = find_model(folder / name)
        found.check_weights()
        assert found.weights_sha256 == card.weights_sha256
