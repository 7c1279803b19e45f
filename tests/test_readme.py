"""The README: every block runs as printed, and it stays short."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest
from PIL import Image

from tests.support import ROOT, photo
from tests.support_pages import Block, blocks, run_python, run_shell

README = ROOT / "README.md"
SET_UP = re.compile(r"(make|git|pip) .*")
"""What sets up a checkout; the rest is run."""
MAX_LINES = 160


def runnable(block: Block) -> Block:
    """The block without the lines that set up a checkout."""
    lines = block.code.splitlines(keepends=True)
    return dataclasses.replace(block, code="".join(line for line in lines if not SET_UP.fullmatch(line.strip())))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder that holds photo.jpg, as a reader's does."""
    folder = tmp_path / "reader"
    folder.mkdir()
    Image.fromarray(photo(203, 301, 2)).save(folder / "photo.jpg", quality=95)
    return folder


def test_every_block_of_shell_runs_and_the_picture_has_its_size_again(folder: Path) -> None:
    printed = run_shell([runnable(block) for block in blocks(README, "sh")], folder)
    assert "bdflow-x4" in printed[-1]
    with Image.open(folder / "restored.png") as image:
        assert image.size == (301, 203)
    with Image.open(folder / "small.png") as image:
        assert image.size == (76, 51)


def test_every_block_of_python_runs(folder: Path) -> None:
    assert run_python(blocks(README, "python"), folder).startswith("(203, 301, 3) openvino ")


def test_it_is_short_and_shows_one_picture_one_chart_and_one_table() -> None:
    text = README.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= MAX_LINES
    assert [path.rpartition("/")[2] for path in re.findall(r"!\[.*?\]\((.*?)\)", text)] == [
        "comparison.png",
        "models.svg",
    ]
    assert re.findall(r"<!-- table: (.*?) -->", text) == ["models"]
    assert not re.search(r"\d dB|\d ms\b|frames/s", re.sub(r"<!-- table.*?<!-- end -->", "", text, flags=re.DOTALL))
