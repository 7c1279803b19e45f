"""`bdflow cache`: one item per engine, removal by name, damage named."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from bdflow_rt.engines.cache import EngineCache
from bdflow_rt.engines.cache_entry import EngineKey
from tests.cli.build import bdflow, failed, succeeded

KEYS = [
    EngineKey(
        model=model, graph_sha256="1" * 64, identity="2" * 64, direction=direction, kind="core",
        flavour="tensorrt", flavour_version="10.13.0.35", gpu="NVIDIA H200", compute_capability="9.0",
        profile="1080p: 1x64x64 to 1x1080x1920, best 1x1080x1920", precision="fp16", builder_flags=("strip=True",),
    )
    for model in ("bdflow-x4@1", "bdflow-x8@1")
    for direction in ("downscale", "upscale")
]  # fmt: skip


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> EngineCache:
    monkeypatch.setenv("BDFLOW_CACHE", str(tmp_path / "cache"))
    cache = EngineCache(log=lambda text: None)
    for key in KEYS:
        cache.get_or_build(key, lambda: b"plan" * 1000)
    return cache


@pytest.mark.parametrize("action", ["ls", "verify"])
def test_an_empty_cache_is_an_empty_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, action: str) -> None:
    monkeypatch.setenv("BDFLOW_CACHE", str(tmp_path / "none"))
    assert succeeded("cache", action, "--json").json == []
    assert "0 engines" in succeeded("cache", action).err
    assert not (tmp_path / "none").exists()


def test_json_has_one_item_per_engine_with_every_field(cache: EngineCache) -> None:
    items = {item["key"]: item for item in succeeded("cache", "ls", "--json").json}
    assert items.keys() == {key.digest for key in KEYS}
    for key in KEYS:
        item = items[key.digest]
        wanted = dataclasses.asdict(key) | {"builder_flags": list(key.builder_flags)}
        assert {name: item[name] for name in wanted} == wanted
        assert item["plan_bytes"] == 4000 <= item["size_bytes"]
        assert item["problem"] is None
        assert Path(item["path"]).read_bytes() == b"plan" * 1000


def test_the_table_for_people_lists_the_same(cache: EngineCache) -> None:
    lines = succeeded("cache", "ls").out.splitlines()
    assert len(lines) == 1 + len(KEYS)
    for key in KEYS:
        (line,) = (line for line in lines if line.startswith(key.digest[:12]))
        assert key.model in line
        assert key.direction in line
        assert "NVIDIA H200" in line


def test_rm_takes_models_and_keys(cache: EngineCache) -> None:
    removed = succeeded("cache", "rm", KEYS[0].digest[:10], "bdflow-x8", "--json").json
    assert {item["key"] for item in removed} == {KEYS[0].digest, KEYS[2].digest, KEYS[3].digest}
    (left,) = succeeded("cache", "ls", "--json").json
    assert left["key"] == KEYS[1].digest
    assert "removed 1 engine," in succeeded("cache", "rm", "--all").err
    assert list(cache.folder.iterdir()) == []


@pytest.mark.parametrize("words", [(), ("--all", "bdflow-x4"), ("unknown",), ("abc",), ("",)])
def test_rm_of_nothing_is_an_error_and_removes_nothing(cache: EngineCache, words: tuple[str, ...]) -> None:
    failed(bdflow("cache", "rm", *words), 2, "")
    assert len(cache.list()) == len(KEYS)


def test_verify_names_the_damaged_one_and_fails(cache: EngineCache) -> None:
    assert "damaged:" not in succeeded("cache", "verify").err
    path = cache.folder / f"{KEYS[1].digest}.plan"
    path.write_bytes(b"Plan" + path.read_bytes()[4:])
    assert succeeded("cache", "ls", "--json").code == 0, "ls does not hash"
    found = bdflow("cache", "verify")
    assert found.code == 7
    assert f"damaged: {KEYS[1].digest[:12]}: the engine's SHA-256" in found.err
    as_json = bdflow("cache", "verify", "--json")
    assert as_json.code == 7
    assert [item["key"] for item in as_json.json if item["problem"]] == [KEYS[1].digest]


def test_a_cache_of_others_is_refused_with_the_fix(cache: EngineCache) -> None:
    cache.folder.chmod(0o777)
    failed(bdflow("cache", "ls"), 7, "chmod 700")
