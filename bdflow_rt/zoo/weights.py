"""The weights file of a model: which tensors it has and where they lie, without the package that wrote it."""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import pathlib
import re
import stat
import struct
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import BinaryIO

from bdflow_rt.errors import CorruptModelError, WeightsHashError
from bdflow_rt.zoo.card import ModelCard

_ITEM_BYTES = {"F32": 4, "F16": 2}
_HEADER_LIMIT = 1 << 24
_PART = re.compile(r"(.+?)(?:\[:(\d+)\])?")


@dataclass(frozen=True)
class StoredTensor:
    """Where a tensor lies in a safetensors file; `dtype` is F32 or F16, little-endian, in C order."""

    dtype: str
    shape: tuple[int, ...]
    offset: int
    length: int

    def first(self, rows: int) -> StoredTensor:
        """The first so many entries of the first axis."""
        return replace(self, shape=(rows, *self.shape[1:]), length=self.length // self.shape[0] * rows)


def part_name(name: str, rows: int | None) -> str:
    """What a graph calls a stored tensor, or its first so many rows, and what `find_part` finds."""
    return name if rows is None else f"{name}[:{rows}]"


def find_part(index: Mapping[str, StoredTensor], name: str) -> StoredTensor | None:
    """The tensor, or the rows of one, that `part_name` gave a name; None where there is nothing of that name."""
    found = _PART.fullmatch(name)
    stored = index.get(found[1]) if found else None
    if found is None or stored is None or found[2] is None:
        return stored
    rows = int(found[2])
    return stored.first(rows) if stored.shape and 0 < rows <= stored.shape[0] else None


def read_index(path: pathlib.Path) -> dict[str, StoredTensor]:
    """The tensors of a safetensors file with their absolute offsets.

    Raises:
        CorruptModelError: the header is damaged, or a tensor lies outside the file.
    """
    with path.open("rb") as file:
        return _index(file, path.stat().st_size, path)


def read_weights(card: ModelCard) -> bytes:
    """The weights file, of which the card's SHA-256 is: the very bytes returned were hashed.

    Raises:
        CorruptModelError: there is no such file.
        WeightsHashError: it, or what a link in its place leads to, is not the card's.
    """
    try:
        if not stat.S_ISREG(os.stat(card.weights_path).st_mode):
            raise CorruptModelError(f"{card.weights_path} is no regular file. Install the model again.")
        weights = card.weights_path.read_bytes()
    except OSError as error:
        raise CorruptModelError(
            f"{card.weights_path} cannot be read ({error.strerror}). Install the model again."
        ) from None
    found = hashlib.sha256(weights).hexdigest()
    if found != card.weights_sha256:
        raise WeightsHashError(
            f"{card.weights_path} has SHA-256 {found[:16]}..., the card of {card.id} {card.weights_sha256[:16]}...: "
            "they are other weights. Install the model again."
        )
    return weights


def index_weights(weights: bytes, path: pathlib.Path) -> dict[str, StoredTensor]:
    """As `read_index`, of a file's content; the path is for the message."""
    return _index(io.BytesIO(weights), len(weights), path)


def _index(file: BinaryIO, size: int, path: pathlib.Path) -> dict[str, StoredTensor]:
    prefix = file.read(8)
    header_length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else 0
    if not 0 < header_length <= min(_HEADER_LIMIT, size - 8):
        raise CorruptModelError(f"{path} is no safetensors file: its header length is {header_length}.")
    try:
        header = json.loads(file.read(header_length))
        index = {
            name: StoredTensor(
                entry["dtype"],
                tuple(entry["shape"]),
                8 + header_length + entry["data_offsets"][0],
                entry["data_offsets"][1] - entry["data_offsets"][0],
            )
            for name, entry in header.items()
            if name != "__metadata__"
        }
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError) as error:
        raise CorruptModelError(f"{path} has a damaged safetensors header: {error!r}") from None
    for name, tensor in index.items():
        if not _is_sound(tensor, first=8 + header_length, last=size):
            raise CorruptModelError(
                f"Tensor {name} of {path} is damaged: {tensor!r:.200}. It must be F16 or F32 and lie within the file's "
                f"{size} bytes, with as many as its shape needs. Install the model again."
            )
    return index


def _is_sound(tensor: StoredTensor, *, first: int, last: int) -> bool:
    numbers = (*tensor.shape, tensor.offset, tensor.length)
    if (
        not isinstance(tensor.dtype, str)
        or tensor.dtype not in _ITEM_BYTES
        or not all(type(number) is int and number >= 0 for number in numbers)
    ):
        return False
    inside = first <= tensor.offset and tensor.offset + tensor.length <= last
    return inside and tensor.length == math.prod(tensor.shape) * _ITEM_BYTES[tensor.dtype]
