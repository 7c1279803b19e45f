"""What spec/matroska.md promises: a vector opens to what is noted beside it, or is refused with its error."""

from __future__ import annotations

import dataclasses
import json
import struct
import zlib
from typing import Any

import numpy as np
import pytest

from bdflow_rt import errors
from bdflow_rt.containers.matroska import FrameData, join_frame, split_frame
from bdflow_rt.packet import ColourInfo, StreamHeader, ZPolicy
from bdflow_rt.video.lr_file import LrFrame, LrSource
from tests.spec.make_vectors import fields_as_json
from tests.spec.make_video_vectors import FOLDER, digest

INDEX: list[dict[str, Any]] = json.loads((FOLDER / "index.json").read_text())


def named(entry: dict[str, Any]) -> str:
    return str(entry["file"])


def of_kind(kind: str, *, sound: bool = True) -> pytest.MarkDecorator:
    entries = [one for one in INDEX if one["kind"] == kind and ("error" not in one) == sound]
    return pytest.mark.parametrize("entry", entries, ids=named)


def header_of(entry: dict[str, Any]) -> StreamHeader:
    values = dict(entry["header"])
    values["identity"] = bytes.fromhex(values["identity"])
    values["time_base"] = tuple(values["time_base"])
    return StreamHeader(**{**values, "z": ZPolicy(**values["z"]), "colour": ColourInfo(**values["colour"])})


def picture_of(entry: dict[str, Any]) -> Any:
    return np.frombuffer((FOLDER / entry["file"]).read_bytes(), np.uint8).reshape(entry["size"])


def test_every_vector_is_listed() -> None:
    assert {entry["file"] for entry in INDEX} == {path.name for path in FOLDER.iterdir()} - {"index.json"}


@of_kind("frame")
def test_a_frame_splits_to_what_is_noted_and_is_still_joined_so(entry: dict[str, Any]) -> None:
    picture, header = picture_of(entry), header_of(entry)
    boundary, data = split_frame(picture, header)
    assert dataclasses.asdict(data) == entry["data"]
    assert digest(boundary) == entry["boundary_sha256"]
    assert np.array_equal(join_frame(boundary, FrameData(**entry["data"])), picture)


@of_kind("frame")
def test_a_reader_written_from_the_page_alone_finds_the_same(entry: dict[str, Any]) -> None:
    content, (rows, columns) = (FOLDER / entry["file"]).read_bytes(), entry["size"]
    head = entry["header"]
    height = -(-head["height"] // head["scale"]) if head["bits"] else 0
    extra = -(-20 // columns) if head["bits"] else 1
    assert rows == height + extra
    tail = content[height * columns :]
    assert struct.unpack(">qII", tail[:16]) == tuple(entry["data"].values())
    assert int.from_bytes(tail[16:20], "big") == zlib.crc32(tail[:16] + content[: height * columns])
    assert not any(tail[20:])


@of_kind("frame", sound=False)
def test_a_hostile_frame_is_refused_with_its_error(entry: dict[str, Any]) -> None:
    with pytest.raises(errors.BdflowError) as caught:
        split_frame(picture_of(entry), header_of(entry))
    assert type(caught.value).__name__ == entry["error"]


@of_kind("video")
def test_a_video_opens_to_what_is_noted(entry: dict[str, Any]) -> None:
    with LrSource(FOLDER / entry["file"]) as source:
        assert fields_as_json(source.header) == entry["header"]
        frames = [one for one in source if isinstance(one, LrFrame)]
    assert [
        {**dataclasses.asdict(one.data), "lr_sha256": digest(one.lr), "boundary_sha256": digest(one.boundary)}
        for one in frames
    ] == entry["frames"]
