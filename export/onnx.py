"""The inference graphs of a model, public and core (`models.wire`): traced from its network, kept in its folder."""

from __future__ import annotations

import dataclasses
import hashlib
import pathlib
from collections.abc import Iterable
from typing import get_args

import onnx

from bdflow_rt.engines.backends import BACKENDS
from bdflow_rt.errors import CorruptModelError, UnwritableOutputError
from bdflow_rt.export.graph import GraphBuilder
from bdflow_rt.files import write_atomically
from bdflow_rt.zoo.card import CARD_FILE, WEIGHTS_FILE, ModelCard
from bdflow_rt.zoo.interface import Direction, GraphKind, graph_name
from bdflow_rt.zoo.weights import read_index


def export_model(card: ModelCard, *, folder: pathlib.Path | None = None) -> ModelCard:
    """Write the graphs of a model and enter them into its card.

    They are traced, which needs PyTorch; without it, those that the model's folder has are checked and written again.

    Args:
        card: of the model; its weights are checked first.
        folder: where to; None is the model's own folder. Elsewhere the weights and the card are copied along, since
            the graphs refer into the weights file beside them.

    Returns:
        The card of the folder written to.

    Raises:
        CorruptModelError, WeightsHashError: the weights are missing, damaged or not the card's, do not fit its
            configuration, or are a link where the graphs are to be.
        ModelExistsError: the folder holds another model, or this one with other weights.
        OutputError: the folder cannot be written.
    """
    card.check_weights()
    target = card.folder if folder is None else folder
    if (target / WEIGHTS_FILE).is_symlink():
        raise CorruptModelError(
            f"{target / WEIGHTS_FILE} is a symbolic link, which readers of ONNX refuse to follow from a graph. Replace "
            "it by the file, or choose another folder."
        )
    card.check_target(target)
    # All are there before the first is written: weights that do not fit leave the folder as it was.
    models = _graphs(card)
    if target.resolve() != card.folder.resolve():
        try:
            target.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UnwritableOutputError(
                f"The folder '{target}' cannot be made ({error.strerror}); choose another one."
            ) from None
        write_atomically(target / WEIGHTS_FILE, card.weights_path.read_bytes())
    hashes: dict[str, str] = {}
    for name, model in models.items():
        graph = model.SerializeToString(deterministic=True)
        write_atomically(target / f"{name}.onnx", graph)
        hashes[name] = hashlib.sha256(graph).hexdigest()
        # Only now, beside the weights, can the checker follow the references.
        onnx.checker.check_model(str(target / f"{name}.onnx"), full_check=True)
    written = dataclasses.replace(card, folder=target, graphs_sha256=hashes)
    write_atomically(target / CARD_FILE, written.to_json().encode())
    return written


def _graphs(card: ModelCard) -> dict[str, onnx.ModelProto]:
    """All graphs of a model by name: traced, or without PyTorch those of its folder."""
    wanted = {
        graph_name(direction, kind): (direction, kind)
        for kind in get_args(GraphKind)
        for direction in card.interface.directions
    }
    if not BACKENDS["torch"].is_installed and wanted.keys() <= card.graphs_sha256.keys():
        return {name: read_graph(card, direction, kind=kind) for name, (direction, kind) in wanted.items()}
    graphs = {name: trace_graph(card, direction, kind=kind) for name, (direction, kind) in wanted.items()}
    _check_all_used(card, graphs.values())
    return graphs


def _check_all_used(card: ModelCard, models: Iterable[onnx.ModelProto]) -> None:
    """Refuse weights of which the configuration leaves some out: they are those of a larger network."""
    used = {tensor.name.partition("[")[0] for model in models for tensor in model.graph.initializer}
    if unused := sorted(read_index(card.weights_path).keys() - used):
        raise CorruptModelError(
            f"{card.weights_path} has {len(unused)} tensors, {unused[0]!r} the first, that the model's configuration "
            "has no place for: they do not belong together. Install the model again."
        )


def read_graph(card: ModelCard, direction: Direction, *, kind: GraphKind = "public") -> onnx.ModelProto:
    """A graph of a model folder, as `export_model` wrote it; its weights stay in their file.

    Raises:
        CorruptModelError: the card has no such graph, or the file is missing or altered.
    """
    return onnx.load(str(card.check_graph(direction, kind=kind)), load_external_data=False)


def trace_graph(card: ModelCard, direction: Direction, *, kind: GraphKind = "public") -> onnx.ModelProto:
    """The graph of what `models.wire.Wire` computes; `ModelInterface.inputs` and `outputs` are its inputs and outputs.

    Needs PyTorch.

    Raises:
        CorruptModelError: the weights do not fit the configuration.
        ExportError: the network uses a function that has no graph.
        BackendUnavailableError: PyTorch is not installed.
    """
    torch = BACKENDS["torch"].load()

    from bdflow_rt.export.emit import TYPES, emit
    from bdflow_rt.models.network import build_network
    from bdflow_rt.models.trace import Trace
    from bdflow_rt.models.wire import Wire

    with torch.device("meta"):
        network = build_network(card.config)
    interface, builder = card.interface, GraphBuilder(card.weights_path)
    for name, spec in interface.inputs(direction, kind=kind).items():
        builder.input(name, TYPES[spec.dtype], spec.dims)
    values = emit(Trace(Wire(network, direction, kind=kind)), builder)
    for name, spec in interface.outputs(direction, kind=kind).items():
        builder.output(name, values[name], TYPES[spec.dtype], spec.dims)
    metadata = {"model": card.id, "weights_sha256": card.weights_sha256, "scale": str(interface.scale)}
    return builder.build(f"{card.id}/{direction}", {**metadata, "bits": str(interface.bits)})
