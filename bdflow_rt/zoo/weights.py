"""The weights file of a model: which tensors it has and where they lie, without the package that wrote it.

A safetensors file of F32, F16 and I8 tensors. An I8 tensor NAME is a convolution kernel (O, I, h, w) and has a tensor
NAME.scale (O,) in F16: it stands for their product, channel by channel, of which every value is an exact float16.
"""

from __future__ import annotations

import io
import json
import math
import pathlib
import re
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import BinaryIO

from bdflow_rt.errors import CorruptModelError, WeightsHashError, shorten
from bdflow_rt.zoo.card import ModelCard, readable

_ITEM_BYTES = {"F32": 4, "F16": 2, "I8": 1}
_SCALE = ".scale"
_HEADER_LIMIT = 1 << 24
_MAX_DIMENSIONS = 4
_PART = re.compile(r"(.+?)(?:\[:(\d+)\])?")
SCALE_BITS = 4
"""Significant bits of a scale: float16 holds 11, of which an int8 takes up to 7."""
FINEST_SCALE = 2.0**-24
"""The smallest positive float16, of which all others are multiples."""
LARGEST_SCALE = 480.0
"""With the next one, 512, an int8 of -128 would be beyond float16."""


@dataclass(frozen=True)
class StoredTensor:
    """Where a tensor lies in a safetensors file; `dtype` is F32, F16 or I8, little-endian, in C order."""

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


def scale_name(name: str) -> str:
    """What the scales of an int8 tensor, or of its first rows, are called."""
    tensor, bracket, rows = name.partition("[:")
    return f"{tensor}{_SCALE}{bracket}{rows}"


def are_exact(scales: Iterable[float]) -> bool:
    """Whether every product of an int8 and one of these float16 is a float16 too, and so the same in every backend."""
    units = [int(scale / FINEST_SCALE) if 0 < scale <= LARGEST_SCALE else 0 for scale in scales]
    return all(0 < unit < (unit & -unit) << SCALE_BITS for unit in units)


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
        CorruptModelError: there is no such file, its header or a scale is damaged, or a tensor lies outside of it.
    """
    with readable(path) as status, path.open("rb") as file:
        return _index(file, status.st_size, path)


def read_weights(card: ModelCard) -> bytes:
    """The weights file, of which the card's SHA-256 is: the very bytes returned were hashed.

    Raises:
        CorruptModelError: there is no such file.
        WeightsHashError: it, or what a link in its place leads to, is not the card's.
    """
    with readable(card.weights_path):
        weights = card.weights_path.read_bytes()
    card.check_content(weights, card.weights_path, card.weights_sha256, WeightsHashError)
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
    except (OverflowError, ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError) as error:
        raise CorruptModelError(f"{path} has a damaged safetensors header: {shorten(repr(error))}") from None
    for name, tensor in index.items():
        if not _is_sound(tensor, first=8 + header_length, last=size):
            raise CorruptModelError(
                f"Tensor {name} of {path} is damaged: {header[name]!r:.200}. It must be F16, F32 or I8, have at "
                f"most {_MAX_DIMENSIONS} dimensions, and lie in the file's {size} bytes, with as many as its shape "
                "needs. Install the model again."
            )
    for name, tensor in index.items():
        if problem := _scale_problem(file, index, name, tensor):
            raise CorruptModelError(f"Tensor {name} of {path} {problem}. Install the model again.")
    return index


def _scale_problem(file: BinaryIO, index: Mapping[str, StoredTensor], name: str, tensor: StoredTensor) -> str | None:
    """What is wrong with an int8 tensor and its scales, or with scales of nothing."""
    if tensor.dtype != "I8":
        owner = index.get(name.removesuffix(_SCALE)) if name.endswith(_SCALE) else tensor
        return None if owner is tensor or (owner and owner.dtype == "I8") else "is the scale of no int8 tensor"
    if len(tensor.shape) != 4:
        return f"is int8 of shape {tensor.shape}; only convolution kernels, of four dimensions, may be"
    scale = index.get(scale_name(name))
    if scale is None:
        return f"is int8 without its scales, {scale_name(name)}"
    if (scale.dtype, scale.shape) != ("F16", tensor.shape[:1]):
        return f"is int8 with scales in {scale.dtype} of shape {scale.shape}; F16 of {tensor.shape[:1]} is needed"
    file.seek(scale.offset)
    if not are_exact(struct.unpack(f"<{tensor.shape[0]}e", file.read(scale.length))):
        return (
            f"is int8 with scales that are not all positive, up to {LARGEST_SCALE:.0f}, with at most {SCALE_BITS} bits"
        )
    return None


def _is_sound(tensor: StoredTensor, *, first: int, last: int) -> bool:
    numbers = (*tensor.shape, tensor.offset, tensor.length)
    if (
        not isinstance(tensor.dtype, str)
        or tensor.dtype not in _ITEM_BYTES
        or len(tensor.shape) > _MAX_DIMENSIONS
        or not all(type(number) is int and number >= 0 for number in numbers)
    ):
        return False
    inside = first <= tensor.offset and tensor.offset + tensor.length <= last
    return inside and tensor.length == math.prod(tensor.shape) * _ITEM_BYTES[tensor.dtype]
