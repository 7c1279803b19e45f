"""spec/engine-key.md: a key has the digest that the page says, and no value can pass for two lines."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from typing import Any

import pytest

from bdflow_rt.engines.cache_entry import EngineKey
from bdflow_rt.errors import ArgumentError
from bdflow_rt.export.profiles import parse_profile
from bdflow_rt.export.tensorrt import BuildOptions
from tests.support import ROOT

PAGE = (ROOT / "spec" / "engine-key.md").read_text(encoding="utf-8")
LINES = re.findall(r"```\n(.*?)```", PAGE, re.DOTALL)[0]
(DIGEST,) = re.findall(r"digest `([0-9a-f]{64})`", PAGE)
FIELDS = [line.split("=", 1) for line in LINES.splitlines()]
FLAGS = tuple(value for name, value in FIELDS if name == "builder_flag")
KEY = EngineKey(
    **{name: value for name, value in FIELDS if name not in ("format", "builder_flag")}, builder_flags=FLAGS
)


def changed(**changes: Any) -> EngineKey:
    return dataclasses.replace(KEY, **changes)


def test_the_pages_example_has_its_digest() -> None:
    assert hashlib.sha256(LINES.encode()).hexdigest() == DIGEST == KEY.digest


def test_the_pages_table_names_every_line_in_order() -> None:
    named = re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE)
    assert named == list(dict.fromkeys(name for name, _ in FIELDS))
    assert [*named[1:-1], "builder_flags"] == [field.name for field in dataclasses.fields(EngineKey)]


def test_profile_and_flags_are_written_as_on_the_page() -> None:
    assert str(parse_profile("1080P")) == KEY.profile
    options = BuildOptions(
        workspace_mib=512, strip=True, optimization_level=3, version_compatible=True, hardware_compatible="ampere-plus"
    )
    for flag in (*options.flags, *FLAGS):
        name, _, value = flag.partition("=")
        assert f"`{name}`" in PAGE, flag
        assert name in ("optimization-level", "workspace-mib") or f"`{value}`" in PAGE, flag


def test_flags_are_sorted_by_their_bytes_and_listed_once() -> None:
    assert changed(builder_flags=(*FLAGS[::-1], FLAGS[0])).digest == DIGEST
    flags = ("\U00010000=1", "\uffff=1", "Z=1", "a=1")  # which UTF-16 would order otherwise
    text = LINES.partition("builder_flag")[0].encode() + b"".join(
        b"builder_flag=" + flag + b"\n" for flag in sorted(flag.encode() for flag in flags)
    )
    assert changed(builder_flags=flags).digest == hashlib.sha256(text).hexdigest()


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(EngineKey)])
@pytest.mark.parametrize("text", ["a\nb", "\0", "a\r", "\x1f", "\x7f", "\x85", "\x9f", "\ud800", 5, None])
def test_values_that_are_no_line_of_text_are_refused(name: str, text: Any) -> None:
    with pytest.raises(ArgumentError, match=f"The engine key's {name.removesuffix('s')} is .* control characters"):
        changed(**{name: (text,) if name == "builder_flags" else text})


@pytest.mark.parametrize("text", ["", "=", "a=b", " ", "\u00e9\u4e2d", "\u2028"])
def test_all_other_text_is_taken_and_its_bytes_decide(text: str) -> None:
    lines = LINES.replace("gpu=NVIDIA GeForce RTX 4090\n", f"gpu={text}\n")
    assert changed(gpu=text).digest == hashlib.sha256(lines.encode()).hexdigest()
