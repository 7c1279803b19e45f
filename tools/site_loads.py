"""What a page of the site would make a browser load from another host."""

from __future__ import annotations

import re
from html.parser import HTMLParser

_ADDRESSES = {"src", "srcset", "data", "poster", "background"}
"""Attributes whose address is loaded at once; `href` is followed by a click, but in `<link>`."""
_NOT_LOADED = {"canonical", "next", "prev", "alternate", "author", "license", "help"}
"""What a `<link>` may be without anything being loaded."""
_ELSEWHERE = re.compile(r"\s*(?:https?:)?//", re.IGNORECASE)
_IN_STYLE = re.compile(r"""(?:@import\s+|url\(\s*)["']?\s*((?:https?:)?//[^"')\s]+)""", re.IGNORECASE)


def loaded_from_elsewhere(text: str, *, style: bool = False) -> list[str]:
    """Addresses on other hosts that an HTML page, or a stylesheet, makes a browser load; links to follow are none."""
    if style:
        return _IN_STYLE.findall(text)
    loads = _Loads()
    loads.feed(text)
    loads.close()
    return loads.addresses


class _Loads(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self._in_style = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._in_style = tag == "style"
        values = {name: value or "" for name, value in attrs}
        loaded = {name: values[name] for name in _ADDRESSES & values.keys()}
        if tag == "link" and not _NOT_LOADED & set(values.get("rel", "").lower().split()):
            loaded["href"] = values.get("href", "")
        self.addresses += [address for address in loaded.values() if _ELSEWHERE.match(address)]
        self.addresses += _IN_STYLE.findall(values.get("style", ""))

    def handle_data(self, data: str) -> None:
        if self._in_style:
            self.addresses += _IN_STYLE.findall(data)

    def handle_endtag(self, tag: str) -> None:
        self._in_style = False
