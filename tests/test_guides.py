"""The guides: each shows one example, and the other blocks run as printed."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from PIL import Image

from tests.support import ROOT, photo
from tests.support_pages import blocks, run_python, run_shell
from tests.video.clip_writer import Video, write_video
from tests.video.numbered import draw_frame

GUIDES = sorted((ROOT / "docs" / "guides").glob("*.md"))
SNIPPET = re.compile(r'--8<-- "(examples/\d\d_\w+\.py)"\n')
every_guide = pytest.mark.parametrize("guide", GUIDES, ids=lambda path: path.stem)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the pictures and the clip that guides name."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for seed, name in enumerate(("photo.jpg", "other.jpg")):
        Image.fromarray(photo(101, 147, seed)).save(folder / name, quality=95)
    write_video(folder / "clip.mp4", Video(count=6), "a clip")
    (folder / "frames").mkdir()
    for index in range(3):
        Image.fromarray(draw_frame(index, 96, 64)).save(folder / "frames" / f"{index:05d}.png")
    return folder


@every_guide
def test_its_first_block_is_an_example_that_is_there(guide: Path) -> None:
    first, *others = blocks(guide, "python")
    snippet = SNIPPET.fullmatch(first.code)
    assert snippet is not None
    assert ast.get_docstring(ast.parse((ROOT / snippet[1]).read_text(encoding="utf-8")))
    assert not any("--8<--" in block.code for block in others)


@every_guide
def test_the_other_blocks_run_as_printed(guide: Path, folder: Path) -> None:
    run_shell(blocks(guide, "sh"), folder)
    run_python(blocks(guide, "python")[1:], folder)
