"""The pages of the documentation do what they say: their blocks run as printed, and print what stands below them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bdflow_rt.containers.image import write_picture
from bdflow_rt.picture import Picture
from tests.support import ROOT, photo
from tests.support_pages import Block, blocks, run_python, run_shell

SHELL = ["docs/start/cli.md"]
PYTHON = ["docs/start/python.md"]
_CHANGING = re.compile(r"\b[0-9a-f]{16}\b|\d[\d.,]*")
"""Identities, sizes and times, which change with the weights and the machine."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What the pages start from: a folder that holds photo.jpg."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    write_picture(folder / "photo.jpg", Picture(photo(150, 226, 1)))
    return folder


def stable(printed: str) -> str:
    return _CHANGING.sub("#", printed).strip()


@pytest.mark.parametrize("page", SHELL)
def test_shell_blocks_run_as_printed_and_print_what_the_page_shows(page: str, folder: Path) -> None:
    shell = blocks(ROOT / page, "sh")
    assert shell
    for block, printed in zip(shell, run_shell(shell, folder), strict=True):
        if block.output is not None:
            assert stable(printed) == stable(block.output), f"{page}:{block.line}"


@pytest.mark.parametrize("page", PYTHON)
def test_python_blocks_run_as_printed(page: str, folder: Path) -> None:
    python = blocks(ROOT / page, "python")
    assert python
    run_python(python, folder)


PAGE = """\
# Title

```sh
echo one
```

```text
one
```

=== "Tab"

    <!-- not run: needs a GPU -->

    ```sh
    echo kept
    ```

    <!-- not run: needs a GPU -->
    ```sh
    echo left out
    ```

```python
value = 1
```

Between.

```python
print(value / 0)
```
"""


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "page.md"
    path.write_text(text, encoding="utf-8")
    return path


def test_blocks_have_their_lines_and_the_output_below_them(tmp_path: Path) -> None:
    page = written(tmp_path, PAGE)
    assert blocks(page, "sh") == [Block(page, 4, "echo one\n", "one\n"), Block(page, 16, "echo kept\n")]


def test_a_fence_that_is_not_closed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"page\.md:1"):
        blocks(written(tmp_path, "```sh\necho one\n"), "sh")


def test_a_failing_python_block_is_named_by_the_line_of_its_page(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(AssertionError, match=r"line 31(?s:.*)ZeroDivisionError"):
        run_python(blocks(written(tmp_path, PAGE), "python"), folder)


@pytest.mark.parametrize("code", ["false\necho went on", "false | true", "echo $unset_name"])
def test_the_first_command_that_fails_fails_its_block(tmp_path: Path, folder: Path, code: str) -> None:
    shell = blocks(written(tmp_path, f"```sh\n{code}\n```\n"), "sh")
    with pytest.raises(AssertionError, match=r"page\.md:2: exit status [1-9]") as caught:
        run_shell(shell, folder)
    assert "It printed:\nwent on" not in str(caught.value)
