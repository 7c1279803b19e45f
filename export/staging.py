"""A graph and its weights in a folder of their own, where a parser of native code may read them."""

from __future__ import annotations

import pathlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import onnx
from onnx import TensorProto
from onnx.external_data_helper import ExternalDataInfo

from bdflow_rt.errors import CorruptModelError, DiskFullError
from bdflow_rt.zoo.card import WEIGHTS_FILE, ModelCard
from bdflow_rt.zoo.weights import read_weights

GRAPH_FILE = "graph.onnx"


@contextmanager
def staged_graph(graph: onnx.ModelProto, card: ModelCard) -> Iterator[pathlib.Path]:
    """Yield the path of the graph in a temporary folder that holds nothing else but a copy of its weights.

    External data in ONNX names a file by itself: a parser would follow absolute paths, "..", and links. So nothing
    but the model's weights may be named, and what is copied are the bytes that the card's SHA-256 is of.

    Args:
        graph: with references into the weights file.
        card: of the model that the graph belongs to.

    Raises:
        CorruptModelError: a reference leaves the folder, or the weights; or there is no weights file.
        WeightsHashError: the weights, or what a link in their place leads to, are not those of the card.
        DiskFullError: there is no place for the copy.
    """
    weights = read_weights(card)
    _check_references(graph, len(weights), origin=str(card.folder))
    with tempfile.TemporaryDirectory(prefix="bdflow-build-") as name:
        folder = pathlib.Path(name)
        try:
            (folder / WEIGHTS_FILE).write_bytes(weights)
            (folder / GRAPH_FILE).write_bytes(graph.SerializeToString(deterministic=True))
        except OSError as error:
            raise DiskFullError(
                f"The graph and its weights, {len(weights):,} bytes, cannot be copied to {folder.parent} "
                f"({error.strerror}). Free some space, or set TMPDIR to another folder."
            ) from error
        yield folder / GRAPH_FILE


def _check_references(graph: onnx.ModelProto, size: int, *, origin: str) -> None:
    """Refuse external data that is not in the weights file, `size` bytes, in any tensor of a graph from `origin`."""
    for tensor in _tensors(graph):
        if tensor.data_location != TensorProto.EXTERNAL:
            continue
        try:
            info = ExternalDataInfo(tensor)
            location, first, length = info.location, int(info.offset or 0), int(info.length or 0)
        except ValueError:
            location, first, length = "", -1, -1
        if location != WEIGHTS_FILE:
            raise CorruptModelError(
                f"Tensor {tensor.name!r} of a graph of {origin} lies in {location!r:.200}; a graph may only refer to "
                f"{WEIGHTS_FILE} beside it, by no path. Export the model again."
            )
        if first < 0 or not 0 < length <= size - first:
            raise CorruptModelError(
                f"Tensor {tensor.name!r} of a graph of {origin} takes {length} bytes at {first} of {WEIGHTS_FILE}, "
                f"which has {size}. Export the model again."
            )


def _tensors(message: Any) -> Iterator[TensorProto]:
    """Every tensor of a model, wherever it is: initialisers, attributes of nodes, subgraphs, functions."""
    if isinstance(message, TensorProto):
        yield message
        return
    for field, value in message.ListFields():
        if field.message_type is not None:
            for part in (value,) if hasattr(value, "ListFields") else value:
                yield from _tensors(part)
