"""What the site's pages say of commands, errors and variables is complete, and is what the source says."""

from __future__ import annotations

import argparse
import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from bdflow_rt import errors
from bdflow_rt.cli.parser import COMMANDS
from bdflow_rt.containers.matroska import HEADER_TAG, TRACK_TAG
from bdflow_rt.errors import BdflowError
from tests.support import ROOT
from tools import site_pages

SOURCES = ("bdflow_rt", "kernels", "export", "bench", "tools", "Makefile", "setup.py")


def _section(title: str) -> str:
    """The reference of one command, up to the next heading."""
    found = re.search(rf"^#+ {title}\n(.*?)(?=^#|\Z)", site_pages.commands(), flags=re.M | re.S)
    assert found, title
    return found[1]


@pytest.fixture(params=sorted(site_pages.command_parsers()))
def command(request: pytest.FixtureRequest) -> tuple[str, argparse.ArgumentParser]:
    return request.param, site_pages.command_parsers()[request.param]


def test_every_command_and_action_has_a_section() -> None:
    headings = re.findall(r"^#+ (.*)$", site_pages.commands(), flags=re.M)
    assert headings == list(site_pages.command_parsers())
    assert {f"bdflow {name}" for name in COMMANDS} <= set(headings)
    assert {f"bdflow cache {action}" for action in ("ls", "rm", "verify")} <= set(headings)


def test_every_option_is_there_with_its_choices_and_its_help(
    command: tuple[str, argparse.ArgumentParser],
) -> None:
    title, parser = command
    rows = _section(title).splitlines()
    for action in parser._actions:
        if isinstance(action, argparse._HelpAction | argparse._SubParsersAction):
            continue
        name = action.option_strings[-1] if action.option_strings else action.metavar or action.dest
        shown = f"`{name}`".replace("|", "\\|")
        (row,) = [row for row in rows if shown in row.split(" | ")[0]]
        for choice in action.choices or ():
            assert f"`{choice}`" in row
        assert (action.help or "").partition("(default")[0].partition("%")[0].strip().replace("|", "\\|") in row
        if action.required and action.option_strings:
            assert row.endswith("| required |")


def test_a_default_is_shown_once_in_its_column() -> None:
    rows = _section("bdflow downscale").splitlines()
    (row,) = [row for row in rows if "`--memory-limit`" in row]
    assert row == "| `--memory-limit` `MIB` | working memory of the network in MiB | 1024 |"
    (row,) = [row for row in _section("bdflow train").splitlines() if "`--version`" in row]
    assert row.endswith("| 1 |")


def test_every_error_is_in_the_tree_below_its_base_with_its_exit_code() -> None:
    lines = {
        found["name"]: (len(found["indent"]) // 4, number, line)
        for number, line in enumerate(site_pages.error_tree().splitlines())
        if (found := re.match(r'(?P<indent> *)- <span id="(?P<name>\w+)">', line))
    }
    classes = [one for one in vars(errors).values() if inspect.isclass(one) and issubclass(one, BdflowError)]
    assert lines.keys() == {one.__name__ for one in classes}
    for one in classes:
        depth, number, line = lines[one.__name__]
        assert (inspect.getdoc(one) or "").splitlines()[0] in line
        assert (f", exit code {one.exit_code}:" in line) == ("exit_code" in vars(one))
        if one is not BdflowError:
            above, first, _ = lines[one.__bases__[0].__name__]
            assert (depth, number > first) == (above + 1, True)


def test_every_exit_code_of_an_error_is_in_the_table() -> None:
    codes = {row.split(" | ")[0].strip("| ") for row in site_pages.exit_codes().splitlines()[2:]}
    assert codes >= {"0", *(str(one.exit_code) for one in site_pages.error_classes()), "130", "141", "143"}


def _variables() -> Iterator[str]:
    for name in SOURCES:
        paths = [ROOT / name] if (ROOT / name).is_file() else (ROOT / name).rglob("*.py")
        for path in paths:
            yield from re.findall(r"\bBDFLOW_[A-Z_]+\b", path.read_text(encoding="utf-8"))


def test_every_environment_variable_is_on_its_page_and_no_other() -> None:
    page = (ROOT / "docs" / "reference" / "environment.md").read_text(encoding="utf-8")
    tags = {HEADER_TAG, TRACK_TAG}  # of files, and no variables
    assert set(re.findall(r"^\| `(BDFLOW_[A-Z_]+)`", page, flags=re.M)) == set(_variables()) - tags


def test_the_python_pages_show_every_public_name() -> None:
    pages = {"": "python.md", ".kernels": "python-kernels.md", ".metrics": "python-metrics.md"}
    for module, page in pages.items():
        package = f"bdflow_rt{module}"
        exported = importlib.import_module(package).__all__
        shown = re.findall(r"^::: (\S+)", (ROOT / "docs" / "reference" / page).read_text(encoding="utf-8"), flags=re.M)
        names = {f"{package}.{name}" for name in exported if name not in ("errors", "__version__")}
        assert names - set(shown) == set()


def test_blocks_are_filled_and_none_is_unknown() -> None:
    found = [
        name
        for path in Path(ROOT / "docs").rglob("*.md")
        for name in re.findall(r"<!-- generated: (.*?) -->", path.read_text(encoding="utf-8"))
    ]
    assert sorted(found) == sorted(site_pages.BLOCKS)
