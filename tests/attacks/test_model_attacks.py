"""Model folders that are damaged, altered or hostile, among good ones."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.cli.build import bdflow, contents, failed, succeeded
from tests.support import photo, slow_but

CARD, WEIGHTS = "model.json", "weights.safetensors"
NAME = "bdflow-x4@99"


@pytest.fixture(scope="module")
def made(tiny_zoo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A picture, and packets of the model under attack and of another one."""
    folder = tmp_path_factory.mktemp("made")
    Image.fromarray(photo(37, 41, 1)).save(folder / "hr.png")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BDFLOW_ZOO", str(tiny_zoo))
        for name, model in (("lr.png", "bdflow-x4"), ("other.png", "plain")):
            succeeded("downscale", folder / "hr.png", "-o", folder / name, "-m", model)
    return folder


@pytest.fixture
def work(zoo: Path, made: Path, tmp_path: Path) -> Path:
    """A copy of those for one test."""
    return Path(shutil.copytree(made, tmp_path / "work"))


@pytest.fixture
def target(zoo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the default model in a copy of the zoo, which is now the one in BDFLOW_ZOO."""
    copy = Path(shutil.copytree(zoo, tmp_path / "zoo"))
    monkeypatch.setenv("BDFLOW_ZOO", str(copy))
    return copy / NAME


def card(**changes: Any) -> Callable[[Path], None]:
    """Changes fields of the card; those of `config` one by one."""

    def attack(folder: Path) -> None:
        data = json.loads((folder / CARD).read_text())
        config = {**data["config"], **changes.get("config", {})}
        (folder / CARD).write_text(json.dumps({**data, **changes, "config": config}))

    return attack


def text(data: bytes) -> Callable[[Path], None]:
    """Replaces the card."""

    def attack(folder: Path) -> None:
        (folder / CARD).write_bytes(data)

    return attack


def replaced(name: str, make: Callable[[Path], object]) -> Callable[[Path], None]:
    """Replaces a file by what `make` puts in its place."""

    def attack(folder: Path) -> None:
        (folder / name).unlink()
        make(folder / name)

    return attack


def altered(name: str) -> Callable[[Path], None]:
    """Flips a bit of a file's last byte."""

    def attack(folder: Path) -> None:
        data = bytearray((folder / name).read_bytes())
        data[-1] ^= 1
        (folder / name).write_bytes(data)

    return attack


DAMAGED_CARDS: dict[str, Callable[[Path], None]] = {
    "no json": text(b"{nope"),
    "no text": text(b"\xff\xfe{}"),
    "a list": text(b"[]"),
    "endless nesting": text(b"[" * 100_000),
    "endless number": text(b"1" * 5000),
    "huge": text(b" " * (1 << 20) + b"{}"),
    "another format": card(format=3),
    "another architecture": card(arch="later"),
    "version that is no number": card(version=float("nan")),
    "endless version": card(version=float("inf")),
    "version of zero": card(version=0),
    "name that is a path": card(name="../../etc/passwd"),
    "hash that is none": card(weights_sha256="0"),
    "unknown key": card(config={"layers": 3}),
    "scale of three": card(config={"scale": 3}),
    "a billion channels": card(config={"hidden": [10**9, 10**9]}),
    "bits that are infinite": card(config={"bits": float("inf")}),
    "a loss beyond every float": card(precisions={"bf16": {"loss_db": 10**400}}),
    "a folder": replaced(CARD, Path.mkdir),
    "a pipe": replaced(CARD, os.mkfifo),
    "an endless device": replaced(CARD, lambda path: path.symlink_to("/dev/zero")),
}


QUICK = ["no json", "endless nesting", "another format", "another architecture", "endless version",
         "a billion channels", "a pipe", "an endless device"]  # fmt: skip


@pytest.mark.parametrize("name", slow_but(QUICK, DAMAGED_CARDS))
def test_a_damaged_card_stops_its_own_model_and_no_other(work: Path, target: Path, name: str) -> None:
    DAMAGED_CARDS[name](target)
    before = contents(work)
    for model in ("bdflow-x4", NAME):
        failed(bdflow("downscale", work / "hr.png", "-o", work / "out.png", "-m", model), 6, str(target / CARD))
    failed(bdflow("upscale", work / "lr.png", "-o", work / "out.png", "--overwrite"), 6, str(target / CARD))
    assert contents(work) == before
    succeeded("upscale", work / "other.png", "-o", work / "out.png", "--overwrite")
    succeeded("downscale", work / "hr.png", "-o", work / "out.png", "--overwrite", "-m", "plain")
    done = bdflow("models", "--json")
    assert done.code == 0
    assert {entry["name"] for entry in done.json} >= {"plain@1", "tiny-x2@1"}
    assert NAME not in {entry["name"] for entry in done.json}
    assert (len(done.err.splitlines()), str(target / CARD) in done.err) == (1, True)
    assert succeeded("info", work / "lr.png", "--json").json["model_available"] is False


def test_a_damaged_newest_version_is_not_passed_over_for_an_older_one(work: Path, target: Path) -> None:
    shutil.copytree(target, target.with_name("bdflow-x4@100"))
    text(b"{")(target.with_name("bdflow-x4@100"))
    failed(bdflow("downscale", work / "hr.png", "-o", work / "out.png"), 6, "bdflow-x4@100")
    succeeded("downscale", work / "hr.png", "-o", work / "out.png", "-m", NAME)


DAMAGED_FILES: dict[str, tuple[Callable[[Path], None], str]] = {
    "weights altered": (altered(WEIGHTS), "altered or damaged"),
    "weights gone": (replaced(WEIGHTS, lambda path: None), "cannot be read"),
    "weights a folder": (replaced(WEIGHTS, Path.mkdir), "no regular file"),
    "weights an endless device": (replaced(WEIGHTS, lambda path: path.symlink_to("/dev/zero")), "no regular file"),
    "weights a pipe": (replaced(WEIGHTS, os.mkfifo), "no regular file"),
    "weights of another hash": (card(weights_sha256="0" * 64), "other weights, or another configuration"),
    "graph altered": (altered("upscale.onnx"), "altered or damaged"),
    "graph gone": (replaced("upscale.onnx", lambda path: None), "cannot be read"),
    "graph not in the card": (card(graphs_sha256={}), "bdflow export"),
}


@pytest.mark.parametrize("name", DAMAGED_FILES)
def test_weights_and_graphs_that_are_not_the_cards_are_refused(work: Path, target: Path, name: str) -> None:
    attack, word = DAMAGED_FILES[name]
    attack(target)
    before = contents(work)
    failed(bdflow("upscale", work / "lr.png", "-o", work / "out.png", "--overwrite"), 6, "bdflow-x4", word)
    assert contents(work) == before


@pytest.mark.parametrize("command", [["downscale", "{}/hr.png", "-o", "{}/out.png"], ["export", NAME, "-o", "{}/out"]])
def test_altered_weights_are_refused_by_torch_and_by_export(work: Path, target: Path, command: list[str]) -> None:
    altered(WEIGHTS)(target)
    words = [word.format(work) for word in command] + (["--backend", "torch"] if command[0] == "downscale" else [])
    before = contents(work)
    failed(bdflow(*words), 6, "altered or damaged")
    assert contents(work) == before


@pytest.mark.parametrize("way", ["every file", "the folder"])
def test_a_model_of_symbolic_links_works(work: Path, target: Path, zoo: Path, way: str) -> None:
    if way == "the folder":
        shutil.rmtree(target)
        target.symlink_to(zoo / NAME)
    else:
        for path in target.iterdir():
            path.unlink()
            path.symlink_to(zoo / NAME / path.name)
    for backend in ("openvino", "torch"):
        succeeded("upscale", work / "lr.png", "-o", work / f"{backend}.png", "--backend", backend)


@pytest.mark.parametrize(
    "name", ["nothing", "bdflow-x4@98", "bdflow-x4@", "@99", "BDFLOW-X4", "n" * 5000, "a\0b", "\x1b[31m", "~nobody/x"]
)
def test_an_unknown_model_is_named_and_the_known_are_listed(work: Path, name: str) -> None:
    before = contents(work)
    done = bdflow("downscale", work / "hr.png", "-o", work / "out.png", "-m", name)
    failed(done, 6, "There is no model", "plain@1", NAME, "BDFLOW_ZOO")
    assert contents(work) == before


@pytest.mark.parametrize("name", ["/", ".", "..", "{}"])
def test_a_folder_that_is_no_model_is_said_to_be_none(work: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(work)
    done = bdflow("downscale", "hr.png", "-o", "out.png", "-m", name.format(work))
    failed(done, 6, "is a folder, but no model", CARD)
