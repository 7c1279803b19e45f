"""Links work where a file is shown, on the site and in the repository, and no page loads from another host."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support import ROOT
from tools.site_links import LINK, homes, relink
from tools.site_loads import loaded_from_elsewhere

IN_REPOSITORY = [ROOT / "README.md", *sorted((ROOT / "spec").rglob("*.md"))]


@pytest.mark.parametrize("path", IN_REPOSITORY, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_relative_links_of_pages_outside_the_site_exist(path: Path) -> None:
    text = re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.M | re.S)
    for found in LINK.finditer(text):
        target = found["target"].partition("#")[0]
        if target and "://" not in target:
            assert (path.parent / target).exists(), found["target"]


@pytest.mark.parametrize(
    ("link", "source", "page", "expected"),
    [
        ("[a](card.md)", "spec/png.md", "reference/format/png.md", "[a](card.md)"),
        ("[a](../README.md)", "spec/vectors/README.md", "reference/format/vectors.md", "[a](index.md)"),
        ("[a](vectors/README.md)", "spec/README.md", "reference/format/index.md", "[a](vectors.md)"),
        ("[a](../../spec/card.md#it)", "docs/guides/a.md", "guides/a.md", "[a](../reference/format/card.md#it)"),
        ("![b](docs/images/b.png)", "CHANGELOG.md", "project/changelog.md", "![b](../images/b.png)"),
        ("[`a`](../reference/cli.md#x)", "docs/guides/a.md", "guides/a.md", "[`a`](../reference/cli.md#x)"),
        ("[a](#here) [b](https://b.example/c.md)", "docs/a.md", "a.md", "[a](#here) [b](https://b.example/c.md)"),
    ],
)  # fmt: skip
def test_a_link_leads_to_the_page_that_shows_its_file(link: str, source: str, page: str, expected: str) -> None:
    assert relink(link, source, page) == expected


def test_a_link_to_a_file_that_the_site_does_not_show_becomes_text() -> None:
    assert relink("see [the toy](../tests/toy.py).", "docs/a.md", "a.md") == "see the toy."


def test_a_link_to_nothing_stays_for_mkdocs_to_refuse() -> None:
    assert relink("[a](../nowhere.md)", "docs/a.md", "a.md") == "[a](../nowhere.md)"


def test_code_keeps_what_looks_like_a_link() -> None:
    text = "~~~\n[a](../../spec/card.md)\n```\n[a](../../spec/card.md)\n~~~\n"
    assert relink(text, "docs/guides/a.md", "guides/a.md") == text


def test_every_page_of_the_formats_is_shown_and_in_the_navigation() -> None:
    shown = homes()
    assert {f"spec/{path.name}" for path in (ROOT / "spec").glob("*.md")} < shown.keys()
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    assert [page for page in shown.values() if page.endswith(".md") and page not in navigation] == []


@pytest.mark.parametrize(
    ("html", "count"),
    [
        ('<script src="https://cdn.example/a.js"></script>', 1),
        ("<script src=//cdn.example/a.js></script>", 1),
        ('<link href="https://fonts.example/css" rel="stylesheet">', 1),
        ('<link rel="preconnect" href="https://fonts.example">', 1),
        ('<img alt="" src="http://other.example/a.png">', 1),
        ("<style>@import 'https://a.example/b.css'; p { background: url(//a.example/c.png) }</style>", 2),
        ('<p style="background: url(https://a.example/c.png)">', 1),
        ('<a href="https://other.example">follow</a><link rel="canonical" href="https://us.example/">', 0),
        ('<script src="../a.js"></script><p>url(https://a.example)</p>', 0),
    ],
)
def test_what_a_page_loads_from_another_host_is_found(html: str, count: int) -> None:
    assert len(loaded_from_elsewhere(html)) == count


def test_what_a_stylesheet_loads_from_another_host_is_found() -> None:
    assert loaded_from_elsewhere('@import "https://a.example/b.css"; p{a:url(data:x)}', style=True) == [
        "https://a.example/b.css"
    ]


def test_a_strict_build_refuses_broken_links_anchors_and_pages_outside_the_navigation() -> None:
    checks = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nvalidation:\n")[2].partition("\n\n")[0]
    levels = re.findall(r"^    (\w+): (\w+)$", checks, flags=re.M)
    links = {"not_found", "anchors", "absolute_links", "unrecognized_links"}
    assert {name for name, _ in levels} == links | {"omitted_files"}
    assert {level for _, level in levels} == {"warn"}
    recipe = (ROOT / "Makefile").read_text(encoding="utf-8").partition("\ndocs:")[2].partition("\n\n")[0]
    assert "build --strict" in recipe
    assert "quiet" not in recipe  # MkDocs drops warnings with it, and then counts none
