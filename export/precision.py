"""Float16 graphs that cannot overflow, and the proof that a parsed network computes in float16."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from bdflow_rt.errors import NonFiniteOutputError, PrecisionError
from bdflow_rt.export.calibration import calibrate, with_weights
from bdflow_rt.export.dequantize import dequantize, learned_weights
from bdflow_rt.export.half import islands, to_half
from bdflow_rt.export.onnx import read_graph
from bdflow_rt.zoo.card import ModelCard
from bdflow_rt.zoo.interface import Direction, GraphKind
from bdflow_rt.zoo.weights import read_index

HALF_LIMIT = 65504 / 8
"""Largest magnitude that float16 may hold here: 8 times below its own limit, for what no calibration picture shows."""
_VALUE_TYPES = {"FLOAT", "HALF", "BF16", "FP8", "FP4", "INT8", "INT4"}
"""What holds a network's values; integers of other types are sizes, indices and pixels."""


@dataclass(frozen=True)
class OverflowReport:
    """What calibration found in one direction of a model.

    Attributes:
        largest: value of the float32 public graph -> largest magnitude.
        widened: names of the nodes that must stay float32 beyond the islands.
    """

    largest: dict[str, float]
    widened: tuple[str, ...]


@dataclass(frozen=True)
class PrecisionReport:
    """What `check_precision` counted.

    Attributes:
        layers: type of layer -> type of its first output -> number of layers.
        learned_convolutions: all in float16.
        island_layers: all in float32.
        shape_layers: layers that compute with sizes: of type SHAPE, or element-wise on integers.
    """

    layers: dict[str, dict[str, int]]
    learned_convolutions: int
    island_layers: int
    shape_layers: int

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return dataclasses.asdict(self)


def build_half_graph(
    card: ModelCard, direction: Direction, *, kind: GraphKind = "public", say: Callable[[str], None] | None = None
) -> onnx.ModelProto:
    """`read_graph` in float16, int8 weights too, with islands as wide as calibration shows that they must be.

    Args:
        card, direction, kind: as for `read_graph`.
        say: as for `calibrate`.

    Raises:
        NonFiniteOutputError: as `measure_overflow`.
        PrecisionError: a float16 output would overflow.
        CorruptModelError, WeightsHashError: the weights are missing, or not the card's.
    """
    report = measure_overflow(card, direction, say=say)
    source = read_graph(card, direction, kind=kind)
    maker = {value: node for node in source.graph.node for value in node.output}
    for output in source.graph.output:
        # An output in float16 is a cast, of a value that the public graph has too.
        if output.type.tensor_type.elem_type == TensorProto.FLOAT16:
            size = report.largest[maker[output.name].input[0]]
            if size > HALF_LIMIT:
                raise PrecisionError(
                    f"Output {output.name!r} of {card.id} {direction} reaches {size:.3g} on the calibration pictures; "
                    f"float16 is trusted up to {HALF_LIMIT:.0f}. Use the public graph, or train the model again."
                )
    return dequantize(to_half(source, wide=islands(source).union(report.widened)), card)


def measure_overflow(
    card: ModelCard, direction: Direction, *, say: Callable[[str], None] | None = None
) -> OverflowReport:
    """Find the nodes that float16 is too narrow for, from what calibration measured in the public graph.

    A node stays float32 where a float that it reads or writes exceeds `HALF_LIMIT`. The core graph has the same nodes
    but for those that make and take pixels.

    Raises:
        NonFiniteOutputError: not even the float32 graph has finite values.
        CorruptModelError, WeightsHashError: the weights are missing, or not the card's.
    """
    source, largest = read_graph(card, direction), calibrate(card, direction, say=say)
    if broken := next((name for name, value in largest.items() if not math.isfinite(value)), None):
        raise NonFiniteOutputError(
            f"{broken!r} of {card.id} {direction} is not finite in float32 on a calibration picture; no precision "
            "will do. Train the model again."
        )
    # A weight can be too large although whatever it is multiplied with is small.
    weights = {
        tensor.name: float(np.abs(numpy_helper.to_array(tensor)).max(initial=0))
        for tensor in with_weights(source, card).graph.initializer
        if tensor.data_type == TensorProto.FLOAT
    }
    large = {name for name, value in (largest | weights).items() if value > HALF_LIMIT}
    touching = {node.name for node in source.graph.node if large.intersection((*node.input, *node.output))}
    return OverflowReport(largest, tuple(sorted(touching - islands(source))))


def check_precision(network: Any, card: ModelCard, graph: onnx.ModelProto) -> PrecisionReport:
    """Prove that a parsed network computes as `build_half_graph` says.

    A builder that is asked for float16 by a flag, or given a float32 graph, makes a float32 engine and says nothing.

    Args:
        network: INetworkDefinition of any flavour of TensorRT, parsed from a graph of this model.
        card: of the model.
        graph: what it was parsed from.

    Raises:
        PrecisionError: a learned convolution reads or writes something else than float16, a layer of an island
            something else than float32, a convolution is neither the model's nor a fixed one, or values are made
            int8 or out of int8.
    """
    if {prop.key: prop.value for prop in graph.metadata_props}.get("weights_sha256") != card.weights_sha256:
        raise PrecisionError(f"The graph is of other weights than {card.id}; parse one of build_half_graph.")
    layers = [network.get_layer(index) for index in range(network.num_layers)]
    learned = {name.removesuffix(".weight") for name in read_index(card.weights_path) if name.endswith(".weight")}
    wide, constants = islands(graph), {tensor.name for tensor in graph.graph.initializer}
    constants -= set(learned_weights(graph, card))
    fixed = {node.name for node in graph.graph.node if len(node.input) > 1 and node.input[1] in constants}
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    convolutions = island_layers = shapes = 0
    for layer in layers:
        kind, (inputs, outputs) = layer.type.name, _types(layer)
        counts[kind][outputs[0]] += 1
        shapes += kind == "SHAPE" or (kind in ("ELEMENTWISE", "UNARY") and outputs[0] in ("INT32", "INT64"))
        if kind in ("CONVOLUTION", "DECONVOLUTION"):
            if layer.name in learned:
                convolutions += 1
                _demand(layer, inputs | set(outputs), "HALF", "a learned convolution")
            elif layer.name not in fixed:
                raise PrecisionError(
                    f"Convolution {layer.name!r} is none of {card.id}'s and no Haar transform: its precision cannot "
                    "be judged. Check the graph that the network was parsed from."
                )
        elif kind in ("QUANTIZE", "DEQUANTIZE"):
            raise PrecisionError(
                f"Layer {layer.name!r} makes {outputs[0]} of {', '.join(sorted(inputs))} whenever the engine runs. "
                "Build from the graph that build_half_graph makes, which has float16 weights."
            )
        elif kind != "CAST" and layer.name in wide:
            island_layers += 1
            _demand(layer, inputs | set(outputs), "FLOAT", "part of a float32 island")
    if not convolutions:
        raise PrecisionError(
            f"The network has none of the learned convolutions of {card.id}, so it is of another model. Parse a graph "
            "that build_half_graph made of this one."
        )
    return PrecisionReport({kind: dict(types) for kind, types in counts.items()}, convolutions, island_layers, shapes)


def _types(layer: Any) -> tuple[set[str], list[str]]:
    """Types of a layer's inputs, and of its outputs in order."""
    inputs = (layer.get_input(index) for index in range(layer.num_inputs))
    outputs = [layer.get_output(index).dtype.name for index in range(layer.num_outputs)]
    return {tensor.dtype.name for tensor in inputs if tensor is not None}, outputs


def _demand(layer: Any, found: set[str], wanted: str, what: str) -> None:
    if wrong := sorted((found & _VALUE_TYPES) - {wanted}):
        raise PrecisionError(
            f"Layer {layer.name!r} is {what} and must be {wanted} throughout, but it reads or writes {wrong[0]}. "
            "Build from the graph that build_half_graph makes; if that one has it, calibration found values beyond "
            "float16's range, and the model must be trained again."
        )
