"""What training may see: manifests, held-out originals, and every way of pointing a run at them."""

from __future__ import annotations

import io
import json
import pathlib
import re
import tarfile
from typing import Any

import cv2
import numpy as np
import pytest

from bdflow_rt.errors import TrainingDataError
from bdflow_rt.training.config import SHIPPED, TrainConfig, shipped_configs
from bdflow_rt.training.data import PicturePool
from bdflow_rt.training.sources import Split
from bdflow_rt.training.validate import read_folder
from tests.support import ROOT, data_dir, needs_data, photo

PERMITTED, REFUSED, HELD_OUT, TWIN = "permitted.png", "refused.png", "held-out.png", "twin.png"
SEEDS = {PERMITTED: 1, REFUSED: 2, HELD_OUT: 3, TWIN: 4}


def _png(seed: int) -> bytes:
    return bytes(cv2.imencode(".png", photo(23, 29, seed)[:, :, ::-1])[1])


def _row(name: str, orig: str, use: str = "yes") -> dict[str, Any]:
    return {"file": name, "source": "s", "orig": orig, "licence": "CC0-1.0", "use": use, "pack": "a.tar"}


ROWS = [_row(PERMITTED, "1"), _row(REFUSED, "2", use="no"), _row(HELD_OUT, "3"), _row(TWIN, "3")]
SPLIT = [{"source": "s", "orig": "3", "files": [HELD_OUT], "packs": ["a.tar"]}]
"""Names one file of the original; the manifest has a second one, at another scale."""


@pytest.fixture
def packs(tmp_path: pathlib.Path) -> pathlib.Path:
    """A folder with a pack of four pictures, its manifest, and a list of one held-out original."""
    folder = tmp_path / "packs"
    folder.mkdir()
    with tarfile.open(folder / "a.tar", "w") as tar:
        for name, seed in SEEDS.items():
            data = _png(seed)
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    (folder / "manifest.json").write_text(json.dumps(ROWS))
    (folder / "structure-split.json").write_text(json.dumps(SPLIT))
    return folder


def _pool(source: pathlib.Path) -> PicturePool:
    return PicturePool([source], cache=source.parent / "cache")


def _pointed_at(packs: pathlib.Path, how: str) -> pathlib.Path:
    """A way of pointing a run at the pictures."""
    if how.startswith("unpacked"):
        source = packs / ("a" if how == "unpacked beside" else "x/y/z")
        with tarfile.open(packs / "a.tar") as tar:
            tar.extractall(source, filter="data")
        return source
    if how.startswith("linked"):
        elsewhere = packs.parent / "elsewhere"
        elsewhere.mkdir()
        if how == "linked from elsewhere":
            (elsewhere / "b.tar").symlink_to(packs / "a.tar")
            return elsewhere
        (packs / "a.tar").rename(elsewhere / "blob.tar")
        (packs / "a.tar").symlink_to(elsewhere / "blob.tar")
    return {"the pack": packs / "a.tar", "a folder above": packs.parent}.get(how, packs)


@pytest.mark.parametrize(
    "how",
    [
        "the pack", "the folder", "a folder above", "unpacked beside", "unpacked far below", "linked into the folder",
        "linked from elsewhere",
    ],
)  # fmt: skip
def test_refused_and_held_out_pictures_are_not_in_the_pool(packs: pathlib.Path, how: str) -> None:
    source = _pointed_at(packs, how)
    pool = PicturePool([source], cache=packs.parent.parent / "cache")
    assert len(pool) == 1
    np.testing.assert_array_equal(pool[0], photo(23, 29, SEEDS[PERMITTED]))
    assert pool.describe() == {
        "sources": [source.name],
        "pictures": 1,
        "licences": {"CC0-1.0": 1},
        "excluded": {"held out for validation": 2, "use: no": 1},
    }


@pytest.mark.parametrize("nested", ["another-split.json", "manifest.json"])
def test_a_list_in_a_folder_below_does_not_switch_off_those_above(packs: pathlib.Path, nested: str) -> None:
    source = _pointed_at(packs, "unpacked beside")
    other = [{"source": "t", "orig": "9", "files": ["other.png"], "packs": []}]
    (source / nested).write_text(json.dumps(other if "split" in nested else {"name": "a web page"}))
    assert len(_pool(source)) == 1


def test_originals_that_are_numbers_are_held_out_too(packs: pathlib.Path) -> None:
    (packs / "manifest.json").write_text(json.dumps([{**row, "orig": int(row["orig"])} for row in ROWS]))
    (packs / "structure-split.json").write_text(json.dumps([{**SPLIT[0], "orig": 3}]))
    assert len(_pool(packs)) == 1


def test_names_that_tar_begins_with_a_dot_are_the_same_names(packs: pathlib.Path) -> None:
    (packs / "manifest.json").unlink()
    with tarfile.open(packs / "a.tar") as tar:
        contents = {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]
    with tarfile.open(packs / "a.tar", "w") as tar:
        for name, data in contents.items():
            info = tarfile.TarInfo(f"./{name}")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    assert len(_pool(packs)) == 3
    assert len(read_folder(packs / "structure-split.json")) == 1


@pytest.mark.parametrize("entry", [{"files": HELD_OUT}, {"packs": "a.tar"}, {"files": [3]}, {"files": []}])
def test_a_split_whose_files_are_no_list_of_names_is_refused(packs: pathlib.Path, entry: dict[str, Any]) -> None:
    (packs / "structure-split.json").write_text(json.dumps([{**SPLIT[0], **entry}]))
    with pytest.raises(TrainingDataError, match="cannot be read as a list of held-out originals"):
        _pool(packs)


def test_a_pack_that_is_a_folder_is_named(packs: pathlib.Path) -> None:
    (packs / "a.tar").unlink()
    (packs / "a.tar").mkdir()
    with pytest.raises(TrainingDataError, match=r"a\.tar is neither"):
        read_folder(packs / "structure-split.json")


def test_all_files_of_a_held_out_original_are_left_out_without_a_manifest_those_listed(packs: pathlib.Path) -> None:
    (packs / "manifest.json").unlink()
    assert [pathlib.Path(name).name.rpartition(":")[2] for name in _pool(packs).pictures] == [PERMITTED, REFUSED, TWIN]


def test_a_changed_manifest_or_split_is_obeyed_at_once(packs: pathlib.Path) -> None:
    assert len(_pool(packs)) == 1
    (packs / "manifest.json").write_text(json.dumps([{**row, "use": "yes"} for row in ROWS]))
    assert len(_pool(packs)) == 2
    (packs / "structure-split.json").unlink()
    assert len(_pool(packs)) == 4


@pytest.mark.parametrize("use", ["", "Yes", "maybe", None, True])
def test_only_use_yes_permits(packs: pathlib.Path, use: Any) -> None:
    rows = [{**row, "use": use} if row["file"] == PERMITTED else row for row in ROWS]
    (packs / "manifest.json").write_text(json.dumps(rows))
    with pytest.raises(TrainingDataError, match="2 are use: no"):
        _pool(packs)


def test_a_picture_that_the_manifest_does_not_list_is_named(packs: pathlib.Path) -> None:
    (packs / "manifest.json").write_text(json.dumps(ROWS[1:]))
    with pytest.raises(TrainingDataError, match=r"permitted\.png is not in .*manifest\.json.* Add a row"):
        _pool(packs)


@pytest.mark.parametrize("name", ["manifest.json", "structure-split.json"])
@pytest.mark.parametrize("content", [b"", b"[", b"[3]", b'[{"name": "a"}]', b'"a"', b"\xff", b"7"])
def test_a_damaged_list_is_named_and_nothing_is_trained_on(packs: pathlib.Path, name: str, content: bytes) -> None:
    (packs / name).write_bytes(content)
    with pytest.raises(TrainingDataError, match=f"{re.escape(name)} cannot be read"):
        _pool(packs)


def test_a_manifest_with_a_file_twice_is_refused(packs: pathlib.Path) -> None:
    (packs / "manifest.json").write_text(json.dumps([*ROWS, _row(PERMITTED, "1", use="no")]))
    with pytest.raises(TrainingDataError, match="twice"):
        _pool(packs)


def test_the_manifest_of_a_web_page_is_not_a_manifest(tmp_path: pathlib.Path) -> None:
    pictures = tmp_path / "site" / "pictures"
    pictures.mkdir(parents=True)
    (tmp_path / "site" / "manifest.json").write_text('{"name": "site", "icons": []}')
    (pictures / "a.png").write_bytes(_png(1))
    pool = PicturePool([pictures], cache=tmp_path / "cache")
    assert pool.describe()["licences"] == {"not stated": 1}


def test_the_split_is_a_validation_set(packs: pathlib.Path) -> None:
    (picture,) = read_folder(packs / "structure-split.json")
    np.testing.assert_array_equal(picture, photo(23, 29, SEEDS[HELD_OUT]))


def test_a_split_whose_pack_is_gone_or_lacks_a_picture_says_which(packs: pathlib.Path) -> None:
    path = packs / "structure-split.json"
    path.write_text(json.dumps([{**SPLIT[0], "files": ["other.png"]}]))
    with pytest.raises(TrainingDataError, match=r"lack other\.png"):
        read_folder(path)
    (packs / "a.tar").unlink()
    with pytest.raises(TrainingDataError, match=r"a\.tar does not exist"):
        read_folder(path)


@needs_data
@pytest.mark.slow
def test_no_training_can_reach_a_held_out_original_or_a_picture_of_unfit_terms(tmp_path: pathlib.Path) -> None:
    """The real packs, as runs are pointed at them: the pool is all that a configuration's crops are cut from."""
    folder = (data_dir() or pathlib.Path()) / "train"
    rows = {row["file"]: row for row in json.loads((folder / "manifest.json").read_text())}
    split = Split.read(folder / "structure-split.json")
    assert len(split.originals) == 20
    assert len(split.files) == 24
    # Pictures need not be decoded to know which they are.
    cache = ROOT / "runs" / "cache"
    pool = PicturePool([folder], cache=cache if cache.is_dir() else tmp_path)
    names = [name.rpartition(":")[2] for name in pool.pictures]
    assert len(names) == len(set(names)) == len(pool) == 290
    assert split.files.isdisjoint(names)
    assert {rows[name]["use"] for name in names} == {"yes"}
    assert split.originals.isdisjoint((rows[name]["source"], rows[name]["orig"]) for name in names)
    assert pool.describe()["excluded"] == {"use: no": 32, "held out for validation": 24}
    assert sum(pool.describe()["licences"].values()) == 290


@pytest.mark.parametrize("name", shipped_configs())
def test_shipped_configurations_start_from_scratch_and_name_no_data(name: str) -> None:
    """Weights that saw data of unfit terms would carry them on."""
    assert TrainConfig.find(name).start_from is None
    assert not re.search("bsds|sun.?hays", (SHIPPED / f"{name}.toml").read_text(), re.IGNORECASE)
