"""Where files of the repository are on the site, and their links there."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import PurePosixPath

from tools.measured import ROOT

FORMAT = "reference/format"
"""Folder of the site that shows spec/."""
ROOT_PAGES = {
    "CONTRIBUTING.md": "project/contributing.md",
    "SECURITY.md": "project/security.md",
    "RELEASING.md": "project/releasing.md",
    "CHANGELOG.md": "project/changelog.md",
}
"""Files at the root of the repository that are pages of the site."""
LINK = re.compile(r"(?P<image>!?)\[(?P<text>[^\]\[]*(?:\[[^\]]*\][^\]\[]*)*)\]\((?P<target>[^)\s]+)\)")
_FENCE = re.compile(r"\s*(```|~~~)")


def homes() -> dict[str, str]:
    """Every file outside docs/ that the site shows: path in the repository -> path on the site, before it is built."""
    pages = {f"spec/{path.name}": f"{FORMAT}/{path.name}" for path in sorted((ROOT / "spec").glob("*.md"))}
    pages["spec/README.md"] = f"{FORMAT}/index.md"
    pages["spec/vectors/README.md"] = f"{FORMAT}/vectors.md"
    pages["spec/card.schema.json"] = f"{FORMAT}/card.schema.json"
    return pages | {name: page for name, page in ROOT_PAGES.items() if (ROOT / name).is_file()}


def relink(markdown: str, source: str, page: str) -> str:
    """Make the relative links of a file of the repository work on a page of the site.

    Args:
        source: the file's path in the repository, from which its links count.
        page: where it is on the site.

    Returns:
        The Markdown, with links to what the site shows, and the text alone of links to what it does not show.
    """
    shown = homes()

    def moved(match: re.Match[str]) -> str:
        target, hash_sign, anchor = match["target"].partition("#")
        if not target or re.match(r"[a-z][a-z0-9+.-]*:", target):
            return match[0]
        path = os.path.normpath(PurePosixPath(source).parent / target)
        goal = shown.get(path) or (path.removeprefix("docs/") if path.startswith("docs/") else None)
        if goal is None:
            return match["text"] if (ROOT / path).exists() else match[0]
        new = os.path.relpath(goal, PurePosixPath(page).parent)
        return f"{match['image']}[{match['text']}]({new}{hash_sign}{anchor})"

    return _outside_code(markdown, lambda text: LINK.sub(moved, text))


def _outside_code(markdown: str, change: Callable[[str], str]) -> str:
    """Markdown with a change made to the lines outside fenced blocks."""
    lines, fence = [], ""
    for line in markdown.splitlines(keepends=True):
        marker = _FENCE.match(line)
        if marker and fence in ("", marker[1]):
            fence = "" if fence else marker[1]
        lines.append(line if fence or marker else change(line))
    return "".join(lines)
