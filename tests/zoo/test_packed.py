"""Models with packed weights: found, unpacked once, mended, and refused where they are damaged."""

from __future__ import annotations

import dataclasses
import hashlib
import lzma
import pathlib

import pytest

from bdflow_rt.errors import CorruptModelError, UnwritableOutputError, WeightsHashError
from bdflow_rt.files import CACHE_VARIABLE
from bdflow_rt.zoo import card as card_module
from bdflow_rt.zoo import find_model, find_model_by_hash, list_models
from bdflow_rt.zoo.card import CARD_FILE, PACKED_FILE, ModelCard
from bdflow_rt.zoo.registry import ZOO_VARIABLE
from tests.zoo.build import make_model

WEIGHTS = bytes(range(256)) * 5


@pytest.fixture
def card(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> ModelCard:
    """Of a packed model in the zoo, beside its successor."""
    monkeypatch.setenv(ZOO_VARIABLE, str(tmp_path / "zoo"))
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    made = make_model(tmp_path / "zoo", "old", 1, weights=WEIGHTS)
    pack(made, lzma.compress(WEIGHTS))
    make_model(tmp_path / "zoo", "old", 2)
    return made


def pack(card: ModelCard, content: bytes) -> None:
    (card.folder / PACKED_FILE).write_bytes(content)
    card.weights_path.unlink(missing_ok=True)


def test_a_packed_model_is_found_by_name_hash_and_folder_with_its_weights(
    card: ModelCard, tmp_path: pathlib.Path
) -> None:
    for found in (find_model("old@1"), find_model_by_hash("old@1", card.weights_hash), find_model(card.folder)):
        assert found.weights_path.read_bytes() == WEIGHTS
        assert found.folder.is_relative_to(tmp_path / "cache")
        assert dataclasses.replace(found, folder=card.folder) == card
        assert ModelCard.read(found.folder) == found


def test_listing_and_checking_a_packed_model_unpacks_nothing(card: ModelCard, tmp_path: pathlib.Path) -> None:
    assert "old@1" in {info.name for info in list_models()}
    card.check_weights()
    assert find_model("old").id == "old@2"
    assert not (tmp_path / "cache").exists()


def test_what_is_unpacked_is_used_again_and_mended_where_it_was_altered(card: ModelCard) -> None:
    path = find_model("old@1").weights_path
    before = path.stat()
    assert find_model("old@1").weights_path.stat().st_ino == before.st_ino
    path.write_bytes(WEIGHTS[:-1])
    assert find_model("old@1").weights_path.read_bytes() == WEIGHTS


def test_graphs_come_along_and_those_of_an_earlier_release_are_replaced(card: ModelCard) -> None:
    for content in (b"graph", b"graph of the next release"):
        (card.folder / "upscale.onnx").write_bytes(content)
        graphs = {"upscale": hashlib.sha256(content).hexdigest()}
        (card.folder / CARD_FILE).write_text(dataclasses.replace(card, graphs_sha256=graphs).to_json())
        found = find_model("old@1")
        assert found.check_graph("upscale").read_bytes() == content
        assert ModelCard.read(found.folder).graphs_sha256 == graphs


def test_a_whole_weights_file_beside_a_packed_one_is_taken_as_it_is(card: ModelCard) -> None:
    card.weights_path.write_bytes(WEIGHTS)
    assert find_model("old@1") == card


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"", CorruptModelError),
        (b"not packed", CorruptModelError),
        (lzma.compress(WEIGHTS)[:-9], CorruptModelError),
        (lzma.compress(WEIGHTS[:-1]), WeightsHashError),
    ],
    ids=["empty", "not packed", "cut off", "other weights"],
)
def test_damaged_packed_weights_are_refused_and_nothing_is_written(
    card: ModelCard, tmp_path: pathlib.Path, content: bytes, fault: type[Exception]
) -> None:
    pack(card, content)
    with pytest.raises(fault, match="Install the model again"):
        find_model("old@1")
    assert not (tmp_path / "cache").exists()


def test_packed_weights_that_would_fill_the_memory_are_refused(
    card: ModelCard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(card_module, "MAX_UNPACKED_BYTES", len(WEIGHTS) - 1)
    with pytest.raises(CorruptModelError, match="no model has"):
        find_model("old@1")


def test_a_cache_that_cannot_be_written_is_named_with_the_way_out(
    card: ModelCard, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "file"))
    with pytest.raises(UnwritableOutputError, match=CACHE_VARIABLE):
        find_model("old@1")
