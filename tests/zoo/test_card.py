"""Model cards: round trip, and one refusal for every way a card or its files can be wrong."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import time
from typing import Any, get_args

import pytest

from bdflow_rt.errors import CorruptModelError, ModelExistsError, ModelVersionError, WeightsHashError
from bdflow_rt.zoo.arch.bdflow import BDFlowConfig
from bdflow_rt.zoo.boundary import BoundaryConfig
from bdflow_rt.zoo.card import CARD_FILE, MAX_CARD_BYTES, Commercial, ModelCard, TrainingData
from tests import toy
from tests.zoo.build import make_model


def _edit(card: ModelCard, **changes: Any) -> None:
    path = card.folder / CARD_FILE
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_a_card_comes_back_as_it_was_written(tmp_path: pathlib.Path) -> None:
    config = BDFlowConfig(scale=8, blocks=(1, 2, 3), hidden=(4, 5, 6), coupling="additive", bits=3,
                         boundary=BoundaryConfig(threshold=20, norm=1, saturation=200, source="lr"))  # fmt: skip
    rows = (TrainingData("mine", "CC0-1.0", "yes"), TrainingData("theirs", "?", "unstated"))
    card = make_model(tmp_path, "fine-tuned_x8.b", 12, config=config)
    card = dataclasses.replace(card, training_data=rows, precisions={"bf16": 0.25}, pixels_seen=7, status="released")
    (card.folder / CARD_FILE).write_text(card.to_json())
    assert ModelCard.read(card.folder) == card
    assert card.id == "fine-tuned_x8.b@12"
    assert card.interface.scale == 8
    assert card.packet_identity.hex() == card.identity[:16]
    card.check_weights()


@pytest.mark.parametrize("changes", [{"format": 1}, {"format": 3}, {"arch": "haar-flow"}])
def test_a_card_of_another_format_or_architecture_needs_another_release(
    tmp_path: pathlib.Path, changes: dict[str, Any]
) -> None:
    card = make_model(tmp_path, "a", 1)
    _edit(card, **changes)
    with pytest.raises(ModelVersionError, match=r"needs (a newer|another) bdflow-rt"):
        ModelCard.read(card.folder)


@pytest.mark.parametrize(
    "changes",
    [
        {"weights_sha256": "0" * 64}, {"config": BDFlowConfig(coupling="additive")}, {"config": BDFlowConfig(bits=2)},
        {"config": BDFlowConfig(hidden=(64, 32))}, {"config": toy.ToyConfig()},
    ],
)  # fmt: skip
def test_identity_is_of_everything_that_decides_the_pixels(tmp_path: pathlib.Path, changes: dict[str, Any]) -> None:
    card = make_model(tmp_path, "a", 1)
    assert dataclasses.replace(card, **changes).identity != card.identity
    same = dataclasses.replace(card, name="b", version=2, details={"note": 1}, graphs_sha256={}, licence="MIT")
    assert same.identity == card.identity


def test_commercial_use_is_what_the_strictest_of_the_data_allows(tmp_path: pathlib.Path) -> None:
    card = make_model(tmp_path, "a", 1)
    yes, no, unstated = (TrainingData("a", "b", word) for word in get_args(Commercial))
    for rows, expected in (
        ((), "unstated"), ((yes,), "yes"), ((yes, unstated), "unstated"), ((yes, unstated, no), "no"),
    ):  # fmt: skip
        assert dataclasses.replace(card, training_data=rows).commercial == expected


def test_altered_weights_are_refused_with_both_hashes(tmp_path: pathlib.Path) -> None:
    card = make_model(tmp_path, "a", 1)
    card.weights_path.write_bytes(b"other")
    with pytest.raises(WeightsHashError, match=card.weights_sha256[:16]):
        card.check_weights()


def test_missing_weights_are_refused(tmp_path: pathlib.Path) -> None:
    card = make_model(tmp_path, "a", 1)
    card.weights_path.unlink()
    with pytest.raises(CorruptModelError, match="cannot be read"):
        card.check_weights()


def test_a_graph_the_card_does_not_name_is_refused_although_it_is_there(tmp_path: pathlib.Path) -> None:
    card = make_model(tmp_path, "a", 1)
    card.graph_path("upscale").write_bytes(b"graph")
    with pytest.raises(CorruptModelError, match="bdflow export"):
        card.check_graph("upscale")


def test_an_altered_graph_is_refused(tmp_path: pathlib.Path) -> None:
    card = make_model(tmp_path, "a", 1)
    _edit(card, graphs_sha256={"upscale": "0" * 64})
    card.graph_path("upscale").write_bytes(b"graph")
    with pytest.raises(CorruptModelError, match="altered or damaged"):
        ModelCard.read(card.folder).check_graph("upscale")


def test_paths_in_a_card_lead_nowhere(tmp_path: pathlib.Path) -> None:
    """File names are fixed by the code; names and graphs in a card never become part of a path."""
    secret = tmp_path / "secret.onnx"
    secret.write_bytes(b"secret")
    card = make_model(tmp_path / "zoo", "a", 1)
    _edit(card, graphs_sha256={"../../secret": "0" * 64}, folder="/etc", weights="../../secret.onnx")
    try:
        read = ModelCard.read(card.folder)
    except CorruptModelError:
        return
    assert read.folder == card.folder
    assert read.weights_path == card.folder / "weights.safetensors"
    with pytest.raises(CorruptModelError):
        read.check_graph("upscale")


@pytest.mark.parametrize(
    "changes",
    [
        {"format": None}, {"format": True}, {"arch": None}, {"arch": 5}, {"more": 1},
        {"name": "../../etc"}, {"name": "a/b"}, {"name": ""}, {"name": "A"},
        {"name": "a" * 65}, {"name": "a@1"}, {"name": "a\n"}, {"name": 7}, {"name": None}, {"version": 0},
        {"version": -3}, {"version": 10**6}, {"version": "one"}, {"version": 1.5}, {"version": None},
        {"version": True}, {"weights_sha256": "00"}, {"weights_sha256": "g" * 64}, {"weights_sha256": None},
        {"graphs_sha256": 3}, {"graphs_sha256": {"sideways": "0" * 64}}, {"graphs_sha256": {"upscale": "xyz"}},
        {"graphs_sha256": {"upscale": 5}}, {"precisions": {"bf16": {"loss_db": "little"}}},
        {"precisions": {"bf16": {"loss_db": float("nan")}}}, {"precisions": {"bf16": 0.1}}, {"precisions": []},
        {"precisions": {"bf16": {"loss_db": 0.1, "more": 1}}}, {"status": "final"}, {"status": None}, {"licence": ""},
        {"licence": None}, {"licence": "a" * 1001}, {"pixels_seen": -1}, {"pixels_seen": 1.5}, {"pixels_seen": True},
        {"training_data": None}, {"training_data": [{"name": "a"}]}, {"training_data": [3]},
        {"training_data": [{"name": "a", "licence": "b", "commercial": "perhaps"}]},
        {"training_data": [{"name": 1, "licence": "b", "commercial": "yes"}]},
        {"status": "released", "training_data": [{"name": "a", "licence": "b", "commercial": "no"}]},
        {"details": 3}, {"config": None}, {"config": {"scale": 3}}, {"config": {"scale": 4, "extra": 1}},
        {"config": {"scale": 2, "blocks": [10**9], "hidden": [10**9]}},
        {"config": {"scale": 64, "blocks": [2] * 6, "hidden": [10**12] * 6}},
    ],
)  # fmt: skip
def test_impossible_values_are_refused(tmp_path: pathlib.Path, changes: dict[str, Any]) -> None:
    card = make_model(tmp_path, "a", 1)
    _edit(card, **changes)
    with pytest.raises(CorruptModelError) as caught:
        ModelCard.read(card.folder)
    assert str(card.folder) in str(caught.value)


@pytest.mark.parametrize(
    "missing",
    [
        "format", "arch", "name", "version", "status", "licence", "pixels_seen", "config", "weights_sha256",
        "graphs_sha256", "training_data", "precisions", "details",
    ],
)  # fmt: skip
def test_a_missing_key_is_refused(tmp_path: pathlib.Path, missing: str) -> None:
    card = make_model(tmp_path, "a", 1)
    path = card.folder / CARD_FILE
    path.write_text(json.dumps({key: value for key, value in json.loads(path.read_text()).items() if key != missing}))
    with pytest.raises(CorruptModelError):
        ModelCard.read(card.folder)


@pytest.mark.parametrize(
    "text", [b"", b"{", b"[]", b"3", b"null", b"\xff\xfe\x00", b'{"format": 2}', b"[" * 100_000, b"1" * 5000]
)
def test_a_card_that_is_no_card_is_refused(tmp_path: pathlib.Path, text: bytes) -> None:
    card = make_model(tmp_path, "a", 1)
    (card.folder / CARD_FILE).write_bytes(text)
    with pytest.raises(CorruptModelError):
        ModelCard.read(card.folder)


def test_a_huge_card_is_refused_unread(tmp_path: pathlib.Path) -> None:
    card = make_model(tmp_path, "a", 1)
    with (card.folder / CARD_FILE).open("r+b") as file:
        file.truncate(MAX_CARD_BYTES + 1)
    with pytest.raises(CorruptModelError, match="more than"):
        ModelCard.read(card.folder)


def test_a_folder_without_a_card_is_refused(tmp_path: pathlib.Path) -> None:
    with pytest.raises(CorruptModelError, match="A model folder needs one"):
        ModelCard.read(tmp_path)


def test_weights_are_read_once_by_a_card(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card = make_model(tmp_path, "a", 1)
    read: list[pathlib.Path] = []
    whole = pathlib.Path.read_bytes

    def counted(path: pathlib.Path) -> bytes:
        read.append(path)
        return whole(path)

    monkeypatch.setattr(pathlib.Path, "read_bytes", counted)
    for _ in range(3):
        card.check_weights()
    assert read == [card.weights_path]
    dataclasses.replace(card).check_weights()
    assert len(read) == 2


def test_weights_altered_after_a_check_are_refused_by_the_next(tmp_path: pathlib.Path) -> None:
    card = make_model(tmp_path, "a", 1)
    card.check_weights()
    before = card.weights_path.stat()
    time.sleep(0.05)  # the clock of file times ticks more slowly than the processor
    card.weights_path.write_bytes(bytes(before.st_size))
    os.utime(card.weights_path, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(WeightsHashError):
        card.check_weights()


@pytest.mark.parametrize(
    "changes", [{"name": "b"}, {"version": 2}, {"weights_sha256": "0" * 64}, {"config": BDFlowConfig(bits=2)}]
)
def test_no_model_may_go_where_another_is(tmp_path: pathlib.Path, changes: dict[str, Any]) -> None:
    card = make_model(tmp_path, "a", 1)
    assert card.check_target(card.folder) == card
    assert card.check_target(tmp_path / "absent") is None
    other = dataclasses.replace(card, **changes)
    with pytest.raises(ModelExistsError, match=r"holds a@1 with .*Choose another folder"):
        other.check_target(card.folder)


def test_no_model_may_go_where_a_damaged_one_is(tmp_path: pathlib.Path) -> None:
    card = make_model(tmp_path, "a", 1)
    (card.folder / CARD_FILE).write_text("{")
    with pytest.raises(ModelExistsError, match="cannot be read"):
        card.check_target(card.folder)
