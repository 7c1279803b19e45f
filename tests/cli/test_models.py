"""`bdflow models`: what can be used here, and the numbers of the paper."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from bdflow_rt.zoo import DEFAULT_MODEL, BDFlowConfig
from tests.cli.build import bdflow, failed, succeeded

PAPER = {
    2: (264_966, 1_081_810_944),
    4: (660_468, 1_485_637_632),
    8: (3_156_228, 3_439_936_512),
    16: (4_584_336, 1_911_924_864),
    32: (15_944_862, 2_093_287_968),
    64: (60_722_604, 2_272_002_696),
}
"""Scale: parameters, MACs at 128 x 128. Source: the paper's Table 2 from x8 on; x2 and x4 by the same count."""


def test_json_lists_all_presets_with_the_numbers_of_the_paper(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BDFLOW_ZOO", raising=False)
    done = succeeded("models", "--json")
    assert done.err == ""
    presets = {entry["name"].partition("@")[0]: entry for entry in done.json}
    for scale, (parameters, macs) in PAPER.items():
        entry = presets[f"bdflow-x{scale}"]
        assert (entry["scale"], entry["parameters"], entry["macs_128x128"]) == (scale, parameters, macs)
    for entry in done.json:
        assert entry["shipped"] is ("@" in entry["name"])
        assert entry["shipped"] is (entry["folder"] is not None)


def test_models_of_the_variable_are_listed_with_their_own_numbers(zoo: Path) -> None:
    found = {entry["name"]: entry for entry in succeeded("models", "--json").json}
    tiny = BDFlowConfig(scale=4, blocks=(1, 1), hidden=(8, 8))
    assert found["bdflow-x4@99"] == {
        "name": "bdflow-x4@99",
        "scale": 4,
        "parameters": tiny.parameters(),
        "macs_128x128": tiny.macs(128, 128),
        "shipped": True,
        "bits": 1,
        "folder": str(zoo / "bdflow-x4@99"),
        "status": "preview",
        "licence": "unstated",
        "commercial": "unstated",
    }
    assert {name: entry["bits"] for name, entry in found.items() if "@1" in name and "tiny" in name} == {"tiny-x2@1": 2}
    assert "bdflow-x4" not in found


def test_the_table_for_people_says_the_same(zoo: Path) -> None:
    lines = succeeded("models").out.splitlines()
    rows = {line.split()[0]: line.split()[1:] for line in lines[1:-1]}
    for entry in succeeded("models", "--json").json:
        weights = [f"{entry['status']},", entry["licence"], entry["commercial"]] if entry["shipped"] else ["none"]
        numbers = [f"{entry['parameters']:,}", f"{entry['macs_128x128']:,}", str(entry["bits"])]
        assert rows[entry["name"]] == [f"x{entry['scale']}", *numbers, *weights]
    assert DEFAULT_MODEL in lines[-1]


def test_the_first_of_equal_versions_is_the_one_listed_and_used(
    zoo: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(zoo / "plain@1", tmp_path / "first" / "plain@1")
    monkeypatch.setenv("BDFLOW_ZOO", f"{tmp_path / 'first'}:{zoo}")
    found = {entry["name"]: entry["folder"] for entry in succeeded("models", "--json").json}
    assert found["plain@1"] == str(tmp_path / "first" / "plain@1")
    (tmp_path / "first" / "plain@1" / "weights.safetensors").unlink()
    failed(bdflow("downscale", source, "-o", tmp_path / "lr.png", "-m", "plain"), 6, str(tmp_path / "first"))


@pytest.mark.parametrize("value", ["{source}", "{source}/missing", "", ":::", "~nobody-of-this-name", "a\nb", "/proc"])
def test_a_variable_that_names_no_models_adds_none(source: Path, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.delenv("BDFLOW_ZOO", raising=False)
    expected = succeeded("models", "--json")
    monkeypatch.setenv("BDFLOW_ZOO", value.format(source=source))
    done = succeeded("models", "--json")
    assert done.out == expected.out
    missing = [folder for folder in value.format(source=source).split(":") if folder and folder != "/proc"]
    assert len(done.err.splitlines()) == len(missing)
    assert all(line.startswith("bdflow: note: BDFLOW_ZOO names ") for line in done.err.splitlines())
