"""Training pictures: folders and tars, the cache, bad pictures, and crops as a pure function of seed and step."""

from __future__ import annotations

import io
import os
import pathlib
import resource
import struct
import tarfile
import zlib
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from bdflow_rt.errors import TrainingDataError
from bdflow_rt.training.data import CropBatches, PicturePool
from bdflow_rt.training.validate import read_folder
from tests.support import photo
from tests.training.small import run_python, write_pictures


def _tar(path: pathlib.Path, files: dict[str, bytes]) -> pathlib.Path:
    with tarfile.open(path, "w") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def _png(picture: Any) -> bytes:
    return bytes(cv2.imencode(".png", picture[..., ::-1] if picture.ndim == 3 else picture)[1])


def _huge_png() -> bytes:
    """One that says it has 60,000 x 60,000 pixels, which OpenCV refuses with an exception of its own."""
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(100))), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


_HUGE_PNG = _huge_png()


def test_graphics_are_drawn_over_their_share_of_the_same_crops(tmp_path: pathlib.Path) -> None:
    pool = PicturePool([write_pictures(tmp_path / "pictures")], cache=tmp_path / "cache")
    plain, all_of_them, half = (
        torch.cat([CropBatches(pool, crop=32, batch=1, seed=1, graphics=share)[step] for step in range(200)])
        for share in (0.0, 1.0, 0.5)
    )
    changed = (plain != all_of_them).any(dim=1).float().mean(dim=(1, 2))
    assert (changed > 0).all(), "the crops are the same, with something drawn over each"
    assert 0.4 < changed.mean() < 0.95
    assert 0.35 < (plain != half).any(dim=3).any(dim=2).any(dim=1).float().mean() < 0.65
    again = CropBatches(pool, crop=32, batch=1, seed=1, graphics=1.0)[7]
    assert torch.equal(again[0], all_of_them[7])


def test_folders_and_tars_give_the_pictures_in_order(tmp_path: pathlib.Path) -> None:
    folder = write_pictures(tmp_path / "pictures")
    (folder / "deeper").mkdir()
    cv2.imwrite(str(folder / "deeper" / "a.PNG"), photo(17, 19, 9)[:, :, ::-1])
    (folder / "notes.txt").write_text("no picture")
    tar = _tar(tmp_path / "b.tar", {"x/1.png": _png(photo(23, 29, 5)), "readme.md": b"no picture"})
    pool = PicturePool([folder, tar], cache=tmp_path / "cache")
    assert pool.names == ["pictures", "b.tar"]
    assert len(pool) == 5
    assert pool.shapes == [(53, 67), (63, 67), (73, 67), (17, 19), (23, 29)]
    for index, wanted in enumerate([photo(53, 67, 0), photo(63, 67, 1), photo(73, 67, 2), photo(17, 19, 9)]):
        np.testing.assert_array_equal(pool[index], wanted)
    np.testing.assert_array_equal(pool[4], photo(23, 29, 5))


def test_grey_pictures_become_three_equal_channels(tmp_path: pathlib.Path) -> None:
    grey = photo(21, 17, 1)[:, :, 0]
    pool = PicturePool([_tar(tmp_path / "a.tar", {"a.png": _png(grey)})], cache=tmp_path)
    np.testing.assert_array_equal(pool[0], np.dstack([grey] * 3))


def test_pictures_are_decoded_once_and_again_when_they_change(tmp_path: pathlib.Path) -> None:
    folder, cache = write_pictures(tmp_path / "pictures"), tmp_path / "cache"
    PicturePool([folder], cache=cache)
    made = {path: path.stat().st_mtime_ns for path in cache.iterdir()}
    assert len(made) == 2
    PicturePool([folder], cache=cache)
    assert {path: path.stat().st_mtime_ns for path in cache.iterdir()} == made
    (folder / "more.png").write_bytes(_png(photo(31, 37, 4)))
    assert len(PicturePool([folder], cache=cache)) == 4
    os.utime(folder / "0.png", ns=(1, 1))
    PicturePool([folder], cache=cache)
    assert len(list(cache.glob("*.raw"))) == 3


@pytest.mark.parametrize("damage", ["short raw", "zeroed raw", "one bit", "no raw", "half an index", "other index"])
def test_a_damaged_cache_is_made_again(tmp_path: pathlib.Path, damage: str) -> None:
    folder, cache = write_pictures(tmp_path / "pictures"), tmp_path / "cache"
    PicturePool([folder], cache=cache)
    (raw,), (index,) = cache.glob("*.raw"), cache.glob("*.json")
    if damage == "short raw":
        os.truncate(raw, 100)
    elif damage in ("zeroed raw", "one bit"):
        data = bytearray(raw.read_bytes())
        data[-1] ^= 16
        raw.write_bytes(data if damage == "one bit" else bytes(len(data)))
    elif damage == "no raw":
        raw.unlink()
    else:
        index.write_text('{"sha' if damage == "half an index" else "[]")
    np.testing.assert_array_equal(PicturePool([folder], cache=cache)[2], photo(73, 67, 2))


def _cut_off_jpeg(*, end: bytes = b"") -> bytes:
    done, data = cv2.imencode(".jpg", photo(211, 307, 1))
    assert done
    return data.tobytes()[: len(data) // 2] + end


_DEEP_PNG = _png(photo(31, 37, 1).astype(np.uint16) * 257)
_TRANSPARENT_PNG = _png(np.dstack([photo(31, 37, 1), np.zeros((31, 37), np.uint8)]))
_BAD = [b"", b"no picture", _png(photo(31, 37, 1))[:200], _HUGE_PNG, _cut_off_jpeg(), _cut_off_jpeg(end=b"\xff\xd9")]


@pytest.mark.parametrize("data", [*_BAD, _DEEP_PNG, _TRANSPARENT_PNG])
def test_a_picture_that_does_not_decode_is_named(tmp_path: pathlib.Path, data: bytes) -> None:
    folder = write_pictures(tmp_path / "pictures")
    (folder / "bad.png").write_bytes(data)
    with pytest.raises(TrainingDataError, match=r"bad\.png cannot be used"):
        PicturePool([folder], cache=tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.parametrize("data", [_DEEP_PNG, _TRANSPARENT_PNG])
def test_no_option_is_advised_that_training_lacks(tmp_path: pathlib.Path, data: bytes) -> None:
    folder = write_pictures(tmp_path / "pictures")
    (folder / "bad.png").write_bytes(data)
    with pytest.raises(TrainingDataError, match="an opaque picture of 8 bits in RGB, or remove it") as caught:
        PicturePool([folder], cache=tmp_path / "cache")
    assert "--" not in str(caught.value)


def test_a_folder_without_pictures_raises(tmp_path: pathlib.Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(TrainingDataError, match="No pictures to train on in"):
        PicturePool([tmp_path / "empty"], cache=tmp_path / "cache")


def test_a_missing_source_raises(tmp_path: pathlib.Path) -> None:
    with pytest.raises(TrainingDataError, match="does not exist"):
        PicturePool([tmp_path / "absent"], cache=tmp_path / "cache")


@pytest.mark.parametrize("cut", [0, 700, 3000])
def test_a_file_that_is_no_tar_or_a_piece_of_one_raises(tmp_path: pathlib.Path, cut: int) -> None:
    whole = _tar(tmp_path / "a.tar", {"a.png": _png(photo(53, 67, 1))}).read_bytes()
    (tmp_path / "a.tar").write_bytes(whole[:cut] if cut else b"no tar" * 200)
    with pytest.raises(TrainingDataError, match="nor a readable"):
        PicturePool([tmp_path / "a.tar"], cache=tmp_path / "cache")


def test_a_cache_that_cannot_be_written_raises(tmp_path: pathlib.Path) -> None:
    (tmp_path / "cache").write_bytes(b"a file")
    with pytest.raises(TrainingDataError, match="--cache"):
        PicturePool([write_pictures(tmp_path / "pictures")], cache=tmp_path / "cache")


def test_pictures_smaller_than_the_crop_are_left_out_and_alone_raise(tmp_path: pathlib.Path) -> None:
    small, large = np.zeros((40, 90, 3), np.uint8), np.full((45, 45, 3), 255, np.uint8)
    tar = _tar(tmp_path / "a.tar", {"small.png": _png(small), "large.png": _png(large)})
    pool = PicturePool([tar], cache=tmp_path)
    crops = CropBatches(pool, crop=45, batch=8, seed=1)
    assert all(bool((crops[step] == 255).all()) for step in range(10))
    with pytest.raises(TrainingDataError, match="at least 46 x 46"):
        CropBatches(pool, crop=46, batch=8, seed=1)


def test_batches_are_a_function_of_seed_rank_and_step_alone(tmp_path: pathlib.Path) -> None:
    pool = PicturePool([write_pictures(tmp_path / "pictures")], cache=tmp_path / "cache")

    def crops(seed: int, rank: int) -> CropBatches:
        return CropBatches(pool, crop=16, batch=3, seed=seed, rank=rank)

    reference = [crops(1, 0)[step] for step in range(5)]
    assert reference[0].shape == (3, 3, 16, 16)
    assert reference[0].dtype == torch.uint8
    for workers in (0, 2):
        for first in (0, 3):
            batches = crops(1, 0).batches(first, workers=workers)
            assert all(torch.equal(next(batches), reference[step]) for step in range(first, 5))
            batches.close()
    for other in (crops(2, 0)[0], crops(1, 1)[0], reference[1]):
        assert not torch.equal(other, reference[0])


def test_all_eight_flips_and_turns_occur_and_nothing_else(tmp_path: pathlib.Path) -> None:
    picture = photo(16, 16, 3)
    pool = PicturePool([_tar(tmp_path / "a.tar", {"a.png": _png(picture)})], cache=tmp_path)
    seen = {batch.permute(1, 2, 0).numpy().tobytes() for batch in CropBatches(pool, crop=16, batch=200, seed=1)[0]}
    turned = [np.rot90(picture, turns) for turns in range(4)]
    assert seen == {np.ascontiguousarray(view).tobytes() for turn in turned for view in (turn, turn[:, ::-1])}


def test_large_pictures_are_cut_in_proportion_to_their_area(tmp_path: pathlib.Path) -> None:
    files = {"dark.png": _png(np.zeros((16, 16, 3), np.uint8)), "light.png": _png(np.full((48, 16, 3), 9, np.uint8))}
    pool = PicturePool([_tar(tmp_path / "a.tar", files)], cache=tmp_path)
    light = (CropBatches(pool, crop=16, batch=4000, seed=1)[0] == 9).float().mean().item()
    assert abs(light - 0.75) < 0.03


def test_crops_touch_every_border_of_a_picture(tmp_path: pathlib.Path) -> None:
    rows, columns = np.mgrid[0:19, 0:18].astype(np.uint8)
    pool = PicturePool([_tar(tmp_path / "a.tar", {"a.png": _png(np.dstack([rows, columns, rows]))})], cache=tmp_path)
    batch = CropBatches(pool, crop=16, batch=300, seed=1)[0]
    assert (batch[:, 0].min().item(), batch[:, 0].max().item()) == (0, 18)
    assert (batch[:, 1].min().item(), batch[:, 1].max().item()) == (0, 17)


AFTER_OPENCV = """
import sys, pathlib, cv2, numpy as np
from bdflow_rt.training.data import CropBatches, PicturePool
cv2.setNumThreads(2)
cv2.GaussianBlur(np.zeros((2000, 2000, 3), np.uint8), (9, 9), 2)
pool = PicturePool([pathlib.Path(sys.argv[1])], cache=pathlib.Path(sys.argv[2]))
batches = CropBatches(pool, crop=16, batch=1, seed=1).batches(0, workers=2)
print(sum(next(batches).numel() for _ in range(4)))
batches.close()
"""


def test_workers_start_although_opencv_has_threads(tmp_path: pathlib.Path) -> None:
    """A fork copies OpenCV's pool without its threads; whatever touches it in a worker hangs."""
    write_pictures(tmp_path / "pictures")
    done = run_python(["-c", AFTER_OPENCV, str(tmp_path / "pictures"), str(tmp_path / "cache")], timeout_s=60)
    assert done.stdout == "3072\n", done.stderr


def test_closing_the_batches_ends_the_workers(tmp_path: pathlib.Path) -> None:
    pool = PicturePool([write_pictures(tmp_path / "pictures")], cache=tmp_path / "cache")
    batches = CropBatches(pool, crop=16, batch=1, seed=1).batches(0, workers=2)
    next(batches)
    children = pathlib.Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children")
    before = set(children.read_text().split())
    assert len(before) >= 2
    batches.close()
    assert len(before - set(children.read_text().split())) >= 2


def test_a_batch_needs_no_open_file_per_crop(tmp_path: pathlib.Path) -> None:
    pool = PicturePool([write_pictures(tmp_path / "pictures", count=1)], cache=tmp_path / "cache")
    crops = CropBatches(pool, crop=16, batch=200, seed=1)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(150, limits[1]), limits[1]))
    try:
        assert crops[0].shape == (200, 3, 16, 16)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_a_source_whose_name_no_file_can_have_is_missing(tmp_path: pathlib.Path) -> None:
    with pytest.raises(TrainingDataError, match="does not exist"):
        PicturePool([tmp_path / ("a" * 300)], cache=tmp_path / "cache")


@pytest.mark.parametrize("data", _BAD)
def test_a_validation_picture_that_does_not_decode_is_named(tmp_path: pathlib.Path, data: bytes) -> None:
    folder = write_pictures(tmp_path / "pictures")
    (folder / "bad.png").write_bytes(data)
    with pytest.raises(TrainingDataError, match=r"bad\.png cannot be used"):
        read_folder(folder)


def test_a_folder_that_is_called_as_a_validation_picture_is_named(tmp_path: pathlib.Path) -> None:
    folder = write_pictures(tmp_path / "pictures")
    (folder / "bad.png").mkdir()
    with pytest.raises(TrainingDataError, match=r"bad\.png cannot be read: Is a directory"):
        read_folder(folder)


@pytest.mark.parametrize("name", ["absent", "a" * 300])
def test_a_validation_folder_without_pictures_is_named(tmp_path: pathlib.Path, name: str) -> None:
    with pytest.raises(TrainingDataError, match=name):
        read_folder(tmp_path / name)
