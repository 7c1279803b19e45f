"""Models with packed weights: used like any other, left as they are, and refused where they are damaged."""

from __future__ import annotations

import dataclasses
import hashlib
import lzma
import os
import pathlib
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from bdflow_rt.errors import BackendUnavailableError, CorruptModelError, UnwritableOutputError, WeightsHashError
from bdflow_rt.zoo import find_model, find_model_by_hash, list_models, packed
from bdflow_rt.zoo.card import CARD_FILE, PACKED_FILE, WEIGHTS_FILE, ModelCard
from bdflow_rt.zoo.registry import ZOO_VARIABLE
from tests.zoo.build import make_model

WEIGHTS = bytes(range(256)) * 5
GRAPH = b"graph"


@pytest.fixture
def card(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> ModelCard:
    """Of a packed model in the zoo, beside its successor."""
    monkeypatch.setenv(ZOO_VARIABLE, str(tmp_path / "zoo"))
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    made = make_model(tmp_path / "zoo", "old", 1, weights=WEIGHTS)
    made = dataclasses.replace(made, graphs_sha256={"upscale": hashlib.sha256(GRAPH).hexdigest()})
    (made.folder / CARD_FILE).write_text(made.to_json())
    (made.folder / "upscale.onnx").write_bytes(GRAPH)
    pack(made, lzma.compress(WEIGHTS))
    make_model(tmp_path / "zoo", "old", 2)
    return made


def pack(card: ModelCard, content: bytes) -> None:
    (card.folder / PACKED_FILE).write_bytes(content)
    (card.folder / WEIGHTS_FILE).unlink(missing_ok=True)


def test_weights_and_graphs_of_a_packed_model_lie_beside_each_other(card: ModelCard) -> None:
    before = sorted(path.name for path in card.folder.iterdir())
    for found in (find_model("old@1"), find_model_by_hash("old@1", card.weights_hash), find_model(card.folder)):
        assert found == card
        found.check_weights()
        assert found.weights_path.read_bytes() == WEIGHTS
        graph = found.check_graph("upscale")
        assert graph.read_bytes() == GRAPH
        assert graph.parent == found.weights_path.parent
    assert sorted(path.name for path in card.folder.iterdir()) == before


def test_finding_and_listing_a_packed_model_unpacks_nothing(card: ModelCard, tmp_path: pathlib.Path) -> None:
    assert "old@1" in {info.name for info in list_models()}
    assert find_model("old@1").is_packed
    assert not find_model("old").is_packed
    assert not list((tmp_path / "temporary").iterdir())


def test_it_is_unpacked_once_for_all_threads_and_again_where_it_was_cleaned_away(
    card: ModelCard, tmp_path: pathlib.Path
) -> None:
    with ThreadPoolExecutor(8) as pool:
        (path,) = set(pool.map(lambda _: find_model("old@1").weights_path, range(32)))
    assert [path.parent] == list((tmp_path / "temporary").iterdir())
    path.unlink()
    path.parent.joinpath("upscale.onnx").unlink()
    path.parent.rmdir()
    assert card.weights_path.read_bytes() == WEIGHTS


def test_what_is_unpacked_is_for_this_user_alone_and_goes_with_the_process(
    card: ModelCard, tmp_path: pathlib.Path
) -> None:
    assert card.weights_path.parent.stat().st_mode & 0o077 == 0
    left = tmp_path / "left"
    left.mkdir()
    program = (
        "import os; from bdflow_rt.zoo import find_model; path = find_model('old@1').weights_path\n"
        "if not (child := os.fork()): raise SystemExit\n"
        "os.waitpid(child, 0); print(path, path.exists())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "TMPDIR": str(left)},
        capture_output=True,
        text=True,
        check=True,
    )
    # The end of a forked child takes nothing away from its parent.
    assert done.stdout.startswith(str(left))
    assert done.stdout.endswith("True\n")
    assert not list(left.iterdir())


def test_a_whole_weights_file_beside_a_packed_one_is_taken_as_it_is(card: ModelCard) -> None:
    (card.folder / WEIGHTS_FILE).write_bytes(WEIGHTS)
    assert card.weights_path == card.folder / WEIGHTS_FILE


def test_a_missing_graph_matters_only_where_it_is_wanted(card: ModelCard) -> None:
    (card.folder / "upscale.onnx").unlink()
    card.check_weights()
    with pytest.raises(CorruptModelError, match=r"upscale\.onnx"):
        card.check_graph("upscale")


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"", CorruptModelError),
        (b"not packed", CorruptModelError),
        (lzma.compress(WEIGHTS)[:-9], CorruptModelError),
        (lzma.compress(WEIGHTS[:-1]), WeightsHashError),
        (lzma.compress(WEIGHTS)[:20], CorruptModelError),
    ],
    ids=["empty", "not packed", "cut off", "other weights", "cut off early"],
)
def test_damaged_packed_weights_are_refused(card: ModelCard, content: bytes, fault: type[Exception]) -> None:
    pack(card, content)
    with pytest.raises(fault, match="Install the model again"):
        find_model("old@1").check_weights()


def test_packed_weights_that_would_fill_the_disk_are_refused(card: ModelCard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed, "MAX_UNPACKED_BYTES", len(WEIGHTS) - 1)
    with pytest.raises(CorruptModelError, match="no model has"):
        card.check_weights()


def test_no_place_to_unpack_names_the_way_out(card: ModelCard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", "/proc/nowhere")
    with pytest.raises(UnwritableOutputError, match="TMPDIR"):
        card.check_weights()


def test_a_python_without_lzma_says_so_and_uses_all_other_models(
    card: ModelCard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "lzma", None)
    find_model("old").check_weights()
    with pytest.raises(BackendUnavailableError, match="lzma"):
        card.check_weights()
