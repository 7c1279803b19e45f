"""A graph and its weights in a folder of their own, where a parser of native code may read them."""

from __future__ import annotations

import pathlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

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
    check_references(graph, len(weights), origin=str(card.folder))
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


def check_references(graph: onnx.ModelProto, size: int, *, origin: str) -> None:
    """Refuse external data that is not in the weights file, in any tensor of the graph.

    Args:
        graph: to check.
        size: of the weights file in bytes.
        origin: where the graph comes from, for the message.

    Raises:
        CorruptModelError: there is some.
    """
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


def _tensors(graph: onnx.ModelProto) -> Iterator[TensorProto]:
    """Every tensor of a model: initialisers, attributes of nodes, subgraphs and functions."""
    pending = [graph.graph]
    nodes = [node for function in graph.functions for node in function.node]
    while pending or nodes:
        if pending:
            part = pending.pop()
            yield from part.initializer
            for sparse in part.sparse_initializer:
                yield from (sparse.values, sparse.indices)
            nodes.extend(part.node)
            continue
        for attribute in nodes.pop().attribute:
            yield from (attribute.t, *attribute.tensors)
            for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
                yield from (sparse.values, sparse.indices)
            pending.extend([attribute.g, *attribute.graphs])
