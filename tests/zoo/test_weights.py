"""The weights file's index: what is where, and what a damaged file gets."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest

from bdflow_rt.errors import CorruptModelError
from bdflow_rt.zoo.weights import StoredTensor, find_part, index_weights, part_name, read_index

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
        changed(dtype="I8"), changed(dtype=["F16"]), changed(dtype=None),
        changed(shape=None), changed(shape=[4, 4]), changed(shape=[-4, -3]), changed(shape=["4", 3]),
        changed(shape=[4.0, 3]), changed(shape=[True, 12]), changed(shape=[]),
        changed(data_offsets=[]), changed(data_offsets=["0", "24"]), changed(data_offsets=[24, 0]),
        changed(data_offsets=[-2, 22]), changed(data_offsets=[2, 26]), changed(data_offsets=[0, 10**30]),
        changed(data_offsets=[0.0, 24.0]), changed(data_offsets={"0": 0}),
    ],
    ids=lambda header: str(header)[:50],
)  # fmt: skip
def test_damaged_headers_are_refused(tmp_path: Path, header: Any) -> None:
    with pytest.raises(CorruptModelError):
        read_index(safetensors(tmp_path, header))


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
