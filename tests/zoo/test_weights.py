"""The weights file's index: what is where, and what a damaged file gets."""

from __future__ import annotations

import json
import os
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from bdflow_rt.engines.weights import part_values
from bdflow_rt.errors import CorruptModelError
from bdflow_rt.zoo.weights import (
    StoredTensor,
    are_exact,
    find_part,
    index_weights,
    part_name,
    read_index,
    scale_name,
)

SOUND = {"w": {"dtype": "F16", "shape": [4, 3], "data_offsets": [0, 24]}}


def safetensors(folder: Path, header: Any, *, data: bytes = bytes(24), length: int | None = None) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path = folder / "weights.safetensors"
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)
    return path


def changed(**values: Any) -> dict[str, Any]:
    return {"w": {**SOUND["w"], **values}}


def test_index_gives_offsets_from_the_start_of_the_file(tmp_path: Path) -> None:
    data = bytes(range(24))
    path = safetensors(tmp_path, {"__metadata__": {"a": "b"}, **SOUND}, data=data)
    stored = read_index(path)["w"]
    assert path.read_bytes()[stored.offset : stored.offset + stored.length] == data
    assert stored.shape == (4, 3)
    assert index_weights(path.read_bytes(), path) == read_index(path)


def test_parts_are_found_by_the_names_they_were_given(tmp_path: Path) -> None:
    header = {"w": SOUND["w"], "one": {"dtype": "F32", "shape": [], "data_offsets": [0, 4]}}
    index = read_index(safetensors(tmp_path, header))
    whole = index["w"]
    assert find_part(index, part_name("w", None)) == whole
    assert find_part(index, part_name("w", 4)) == whole
    assert find_part(index, part_name("w", 3)) == StoredTensor("F16", (3, 3), whole.offset, 18)
    assert find_part(index, "one") == index["one"]
    for name in ("", "v", "w[:0]", "w[:5]", "w[:-1]", "w[:1", "w[1:]", "one[:1]"):
        assert find_part(index, name) is None


@pytest.mark.parametrize(
    "header",
    [
        b"{", b"\xff\xfe", b"[" * 5000, [], "w", {"w": []}, {"w": {}}, {"w": None},
        changed(dtype="I8"), changed(dtype="I16"), changed(dtype=["F16"]), changed(dtype=None),
        changed(shape=None), changed(shape=[4, 4]), changed(shape=[-4, -3]), changed(shape=["4", 3]),
        changed(shape=[4.0, 3]), changed(shape=[True, 12]), changed(shape=[]), changed(shape=[4, 3, 1, 1, 1]),
        changed(data_offsets=[]), changed(data_offsets=["0", "24"]), changed(data_offsets=[24, 0]),
        changed(data_offsets=[-2, 22]), changed(data_offsets=[2, 26]), changed(data_offsets=[0, 10**30]),
        changed(data_offsets=[0.0, 24.0]), changed(data_offsets=[0.5, 10**400]), changed(data_offsets={"0": 0}),
        changed(data_offsets=[10**4300 - 1, 10**4300 - 1]),
    ],
    ids=lambda header: str(header)[:50],
)  # fmt: skip
def test_damaged_headers_are_refused(tmp_path: Path, header: Any) -> None:
    with pytest.raises(CorruptModelError):
        read_index(safetensors(tmp_path, header))


def test_a_shape_without_end_is_refused_at_once(tmp_path: Path) -> None:
    path = safetensors(tmp_path, changed(shape=[9] * 200_000))
    begin = time.process_time()
    with pytest.raises(CorruptModelError, match="at most 4 dimensions"):
        read_index(path)
    assert time.process_time() - begin < 1  # their product takes seconds, and hours for as many as a header holds


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo, None])
def test_what_is_no_file_is_refused_before_it_is_opened(tmp_path: Path, make: Callable[[Path], None] | None) -> None:
    path = tmp_path / "weights.safetensors"
    if make is not None:
        make(path)
    with pytest.raises(CorruptModelError, match="no regular file" if make else "cannot be read"):
        read_index(path)


@pytest.mark.parametrize("length", [0, 10**6, 2**63, 2**64 - 1])
def test_impossible_header_lengths_are_refused_before_reading(tmp_path: Path, length: int) -> None:
    with pytest.raises(CorruptModelError, match="header length"):
        read_index(safetensors(tmp_path, SOUND, length=length))


@pytest.mark.parametrize("size", [0, 1, 8, 9])
def test_cut_off_files_are_refused(tmp_path: Path, size: int) -> None:
    path = safetensors(tmp_path, SOUND)
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(CorruptModelError):
        read_index(path)


def int8_file(folder: Path, **changes: Any) -> Path:
    """An int8 kernel with its scales and a float32 number, with tensors changed; None leaves one out."""
    tensors: dict[str, Any] = {
        "w": np.arange(-36, 36, dtype=np.int8).reshape(4, 2, 3, 3),
        "w.scale": np.array([0.5, 0.0625, 3, 15], np.float16),
        "one": np.ones(1, np.float32),
    }
    tensors |= {name.replace("_", "."): value for name, value in changes.items()}
    path = folder / "weights.safetensors"
    path.write_bytes(save({name: np.asarray(value) for name, value in tensors.items() if value is not None}))
    return path


def test_the_first_rows_of_an_int8_tensor_are_those_of_its_values(tmp_path: Path) -> None:
    content = int8_file(tmp_path).read_bytes()
    index = index_weights(content, tmp_path)
    wanted = np.arange(-36, 36).reshape(4, 2, 3, 3) * np.array([0.5, 0.0625, 3, 15]).reshape(4, 1, 1, 1)
    for rows in (None, 1, 3, 4):
        name = part_name("w", rows)
        assert scale_name(name) == part_name("w.scale", rows)
        values, scales = (part_values(content, index, one) for one in (name, scale_name(name)))
        assert values is not None
        assert scales is not None
        assert values.dtype == scales.dtype == np.float16
        assert np.array_equal(values, wanted[:rows])
        assert np.array_equal(scales, [0.5, 0.0625, 3, 15][:rows])
    for name in ("v", "w[:5]", "w.scale[:5]"):
        assert part_values(content, index, name) is None


SCALES = np.array([0.5, 0.0625, 3, 15], np.float16)
HOSTILE: dict[str, tuple[dict[str, Any], str]] = {
    "no scales": ({"w_scale": None}, "w of .*without its scales, w.scale"),
    "no int8": ({"w": None}, "w.scale of .*scale of no int8 tensor"),
    "scales of a float tensor": ({"one_scale": SCALES}, "one.scale of .*scale of no int8 tensor"),
    "zero": ({"w_scale": np.array([0.5, 0, 3, 15], np.float16)}, "not all positive"),
    "minus zero": ({"w_scale": np.array([0.5, -0.0, 3, 15], np.float16)}, "not all positive"),
    "negative": ({"w_scale": -SCALES}, "not all positive"),
    "not a number": ({"w_scale": np.array([0.5, np.nan, 3, 15], np.float16)}, "not all positive"),
    "infinite": ({"w_scale": np.array([0.5, np.inf, 3, 15], np.float16)}, "not all positive"),
    "products beyond float16": ({"w_scale": np.array([0.5, 512, 3, 15], np.float16)}, "up to 480"),
    "five significant bits": ({"w_scale": np.array([0.5, 17 / 32, 3, 15], np.float16)}, "at most 4 bits"),
    "too few": ({"w_scale": SCALES[:3]}, r"shape \(3,\); F16 of \(4,\)"),
    "of one more dimension": ({"w_scale": SCALES[:, None]}, r"shape \(4, 1\); F16 of \(4,\)"),
    "one for all": ({"w_scale": np.float16(1)}, r"shape \(\); F16 of \(4,\)"),
    "in float32": ({"w_scale": SCALES.astype(np.float32)}, "in F32"),
    "in int8": ({"w_scale": np.ones(4, np.int8)}, "w of .*in I8|w.scale of .*four dimensions"),
    "an int8 bias": ({"one": np.ones(4, np.int8), "one_scale": SCALES}, "one of .*int8 of shape .*four dimensions"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_int8_without_sound_scales_is_refused(tmp_path: Path, name: str) -> None:
    changes, said = HOSTILE[name]
    read_index(int8_file(tmp_path))
    with pytest.raises(CorruptModelError, match=said):
        read_index(int8_file(tmp_path, **changes))


def test_scales_are_exact_just_where_every_product_is_a_float16() -> None:
    every = np.arange(1, 0x7C00, dtype=np.uint16).view(np.float16)  # all that are positive and finite
    products = every.astype(np.float32) * np.arange(-128, 128, dtype=np.float32)[:, None]
    with np.errstate(over="ignore"):
        wanted = (products.astype(np.float16) == products).all(axis=0)
    assert [are_exact([scale]) for scale in every.tolist()] == wanted.tolist()
    assert are_exact(every[wanted].tolist())
    assert every[wanted].max() == 480
