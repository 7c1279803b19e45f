"""Finding models: by name, version, folder and identity, and the order of the folders in BDFLOW_ZOO."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib

import pytest

from bdflow_rt.errors import CorruptModelError, ModelConflictError, UnknownModelError, WeightsHashError
from bdflow_rt.zoo import find_model, find_model_by_identity, list_models, list_problems
from bdflow_rt.zoo.arch.bdflow import BDFlowConfig, paper_config
from bdflow_rt.zoo.card import CARD_FILE
from bdflow_rt.zoo.interface import SCALES
from bdflow_rt.zoo.registry import ZOO_VARIABLE
from tests.zoo.build import make_model


@pytest.fixture
def zoo(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    folder = tmp_path / "zoo"
    folder.mkdir()
    monkeypatch.setenv(ZOO_VARIABLE, str(folder))
    return folder


def test_a_bare_name_is_the_newest_version_by_number_not_by_letter(zoo: pathlib.Path) -> None:
    for version in (2, 10, 9):
        make_model(zoo, "mine", version)
    assert find_model("mine").id == "mine@10"
    assert find_model("mine@2").version == 2


@pytest.mark.parametrize("name", ["mine@3", "mine@", "mine@1@1", "mine@01", "min", "Mine", "", "mine@latest"])
def test_unknown_names_and_versions_raise_and_the_known_are_listed(zoo: pathlib.Path, name: str) -> None:
    make_model(zoo, "mine", 1)
    make_model(zoo, "mine", 2)
    with pytest.raises(UnknownModelError) as caught:
        find_model(name)
    assert "mine@1, mine@2" in str(caught.value)
    assert ZOO_VARIABLE in str(caught.value)


def test_earlier_folders_of_the_variable_win(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = make_model(tmp_path / "first", "mine", 1)
    second = make_model(tmp_path / "second", "mine", 1)
    newer = make_model(tmp_path / "second", "mine", 2)
    monkeypatch.setenv(ZOO_VARIABLE, os.pathsep.join([str(tmp_path / "first"), "", str(tmp_path / "second")]))
    assert find_model("mine@1") == first
    assert find_model("mine") == newer
    monkeypatch.setenv(ZOO_VARIABLE, os.pathsep.join([str(tmp_path / "second"), str(tmp_path / "first")]))
    assert find_model("mine@1") == second


def test_one_id_with_different_weights_is_refused_when_it_is_opened_and_listed_as_a_problem(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (make_model(tmp_path / name, "mine", 1, weights=name.encode()) for name in ("first", "second"))
    newer = make_model(tmp_path / "second", "mine", 2)
    monkeypatch.setenv(ZOO_VARIABLE, os.pathsep.join([str(tmp_path / "first"), str(tmp_path / "second")]))
    with pytest.raises(ModelConflictError, match=r"first.*second"):
        find_model("mine@1")
    assert find_model("mine") == newer
    assert find_model(first.folder) == first
    assert [find_model_by_identity("mine@1", card.packet_identity) for card in (first, second)] == [first, second]
    assert [type(problem) for problem in list_problems()] == [ModelConflictError]
    make_model(tmp_path / "first", "mine", 2, weights=b"other")
    with pytest.raises(ModelConflictError):
        find_model("mine")


def test_a_model_of_another_configuration_is_not_taken_for_a_packet(zoo: pathlib.Path) -> None:
    card = make_model(zoo, "mine", 1, config=BDFlowConfig(coupling="scaled"))
    made_with = dataclasses.replace(card, config=BDFlowConfig(coupling="additive"))
    with pytest.raises(WeightsHashError, match="another configuration"):
        find_model_by_identity("mine@1", made_with.packet_identity)


def test_a_folder_is_accepted_for_a_name(tmp_path: pathlib.Path) -> None:
    card = make_model(tmp_path, "apart", 1)
    assert find_model(card.folder) == card
    assert find_model(str(card.folder)) == card


def test_a_folder_that_is_no_model_raises(tmp_path: pathlib.Path) -> None:
    with pytest.raises(CorruptModelError, match="no model"):
        find_model(tmp_path)


def test_a_zoo_folder_that_does_not_exist_holds_nothing(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ZOO_VARIABLE, str(tmp_path / "absent"))
    with pytest.raises(UnknownModelError):
        find_model("mine")


def test_a_zoo_folder_of_an_impossible_name_holds_nothing(zoo: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card = make_model(zoo, "mine", 1)
    monkeypatch.setenv(ZOO_VARIABLE, os.pathsep.join(["n" * 5000, "n/" * 5000, str(zoo)]))
    assert find_model("mine") == card
    assert list_problems() == []


def test_packets_find_the_very_weights_under_whatever_name(zoo: pathlib.Path) -> None:
    make_model(zoo, "mine", 1, weights=b"old")
    wanted = make_model(zoo, "renamed", 5, weights=b"new")
    assert find_model_by_identity("mine@1", wanted.packet_identity) == wanted


def test_of_models_with_the_same_weights_that_of_the_packet_s_name_is_taken(zoo: pathlib.Path) -> None:
    cards = [make_model(zoo, name, 1, weights=b"same") for name in ("first", "mine", "third")]
    hashed = cards[0].packet_identity
    assert [find_model_by_identity(f"{name}@1", hashed) for name in ("first", "mine", "third")] == cards
    assert find_model_by_identity("gone@1", hashed) == cards[0]


def test_other_weights_of_the_same_name_are_not_taken_for_them(zoo: pathlib.Path) -> None:
    make_model(zoo, "mine", 1)
    with pytest.raises(WeightsHashError, match="0102030405060708"):
        find_model_by_identity("mine@1", bytes(range(1, 9)))


def test_weights_of_a_model_that_is_not_here_raise(zoo: pathlib.Path) -> None:
    make_model(zoo, "mine", 1)
    with pytest.raises(UnknownModelError, match="other@1"):
        find_model_by_identity("other@1", bytes(8))


def test_a_damaged_card_in_the_zoo_is_named(zoo: pathlib.Path) -> None:
    card = make_model(zoo, "mine", 1)
    (card.folder / CARD_FILE).write_text("{")
    with pytest.raises(CorruptModelError, match=CARD_FILE):
        find_model("mine")


def test_the_list_has_every_model_and_every_preset_of_the_paper(zoo: pathlib.Path) -> None:
    make_model(zoo, "bdflow-x8", 1, config=paper_config(8, bits=3))
    make_model(zoo, "aaa", 2, config=paper_config(64))
    models = {info.name: info for info in list_models()}
    assert models["bdflow-x8@1"].shipped
    assert models["bdflow-x8@1"].bits == 3
    assert "bdflow-x8" not in models
    assert models["aaa@2"].folder == str(zoo / "aaa@2")
    for scale in SCALES:
        info = next(info for info in models.values() if info.name.partition("@")[0] == f"bdflow-x{scale}")
        assert info.parameters == paper_config(scale).parameters()
        assert info.macs_128x128 == paper_config(scale).macs(128, 128)
    assert not models["bdflow-x64"].shipped
    assert models["bdflow-x64"].folder is None
    assert [(info.scale, info.name) for info in list_models()] == sorted((m.scale, m.name) for m in models.values())


def test_a_number_beyond_every_float_stops_its_own_model_and_no_other(zoo: pathlib.Path) -> None:
    make_model(zoo, "mine", 1)
    hostile = make_model(zoo, "hostile", 1).folder
    card = json.loads((hostile / CARD_FILE).read_text())
    (hostile / CARD_FILE).write_text(json.dumps(card | {"precisions": {"bf16": {"loss_db": 10**400}}}))
    assert "hostile@1" not in {info.name for info in list_models()}
    assert [str(hostile) in str(problem) for problem in list_problems()] == [True]
    assert find_model("mine@1").id == "mine@1"
    with pytest.raises(CorruptModelError, match="OverflowError"):
        find_model("hostile@1")


def test_a_model_folder_itself_may_be_named_in_the_variable(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = make_model(tmp_path, "mine", 1)
    inside = make_model(card.folder, "inner", 1)
    monkeypatch.setenv(ZOO_VARIABLE, str(card.folder))
    assert find_model("mine") == card
    assert find_model_by_identity("mine@1", card.packet_identity) == card
    assert find_model("inner") == inside
    assert {"mine@1", "inner@1"} <= {info.name for info in list_models()}


def test_a_damaged_model_folder_in_the_variable_is_listed(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = make_model(tmp_path, "mine", 1)
    (card.folder / CARD_FILE).write_text("{")
    monkeypatch.setenv(ZOO_VARIABLE, str(card.folder))
    assert [str(card.folder) in str(fault) for fault in list_problems()] == [True]
    with pytest.raises(CorruptModelError, match=CARD_FILE):
        find_model("mine")


def test_a_preset_without_weights_says_that_it_has_none() -> None:
    with pytest.raises(UnknownModelError, match=r"'bdflow-x32' has no weights here; .* 'bdflow train paper-x32'"):
        find_model("bdflow-x32")
