"""What a graph costs at one size of picture: multiply-accumulates, weights, and memory for what it computes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import onnx
from onnx import TensorProto

_BYTES = {
    TensorProto.FLOAT: 4, TensorProto.FLOAT16: 2, TensorProto.UINT8: 1, TensorProto.INT64: 8, TensorProto.INT32: 4,
    TensorProto.BOOL: 1, TensorProto.INT8: 1,
}  # fmt: skip


@dataclass(frozen=True)
class Convolution:
    """One convolution of a graph.

    Attributes:
        name: of the node.
        dtype: of its result, as ONNX has it.
        macs: multiply-accumulates.
        shape: of the result.
    """

    name: str
    dtype: str
    macs: int
    shape: tuple[int, ...]


@dataclass(frozen=True)
class GraphFigures:
    """What `measure_graph` found.

    Attributes:
        nodes: operator -> type of its first result -> number of nodes.
        convolutions: in the order of computation, the Haar transforms' fixed ones too.
        weights_bytes: of everything that is stored, in the types it is stored in.
        activation_bytes: the most that is alive at once where the nodes run in order and none are fused: an engine
            that fuses or overlaps needs less.
        largest_bytes: of the largest value.
    """

    nodes: dict[str, dict[str, int]]
    convolutions: tuple[Convolution, ...]
    weights_bytes: int
    activation_bytes: int
    largest_bytes: int

    @property
    def macs(self) -> int:
        """Of all convolutions."""
        return sum(convolution.macs for convolution in self.convolutions)


def measure_graph(model: onnx.ModelProto, shapes: Mapping[str, tuple[int, ...]]) -> GraphFigures:
    """Count what a graph does for inputs of these shapes; nothing is run.

    Args:
        model: of `read_graph` or `build_half_graph`.
        shapes: of every input, by name.
    """
    graph = _with_shapes(model, shapes)
    stored = {tensor.name: tensor for tensor in graph.initializer}
    values = {v.name: v.type.tensor_type for v in (*graph.input, *graph.value_info, *graph.output)}
    extents = {name: tuple(d.dim_value for d in kind.shape.dim) for name, kind in values.items()}
    extents |= {name: tuple(tensor.dims) for name, tensor in stored.items()}
    sizes = {name: math.prod(extents[name]) * _BYTES[kind.elem_type] for name, kind in values.items()}
    nodes: dict[str, Counter[str]] = {}
    convolutions = []
    for node in graph.node:
        result = node.output[0]
        dtype = TensorProto.DataType.Name(values[result].elem_type)
        nodes.setdefault(node.op_type, Counter())[dtype] += 1
        if node.op_type in ("Conv", "ConvTranspose"):
            # Every element of the result, or for a transposed one of the input, meets one filter.
            elements = math.prod(extents[result if node.op_type == "Conv" else node.input[0]])
            taps = math.prod(extents[node.input[1]][1:])
            convolutions.append(Convolution(node.name, dtype, elements * taps, extents[result]))
    return GraphFigures(
        nodes={kind: dict(types) for kind, types in nodes.items()},
        convolutions=tuple(convolutions),
        weights_bytes=sum(math.prod(tensor.dims) * _BYTES[tensor.data_type] for tensor in stored.values()),
        activation_bytes=_most_alive(graph, sizes),
        largest_bytes=max(sizes.values()),
    )


def _with_shapes(model: onnx.ModelProto, shapes: Mapping[str, tuple[int, ...]]) -> onnx.GraphProto:
    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    for value in fixed.graph.input:
        for dimension, size in zip(value.type.tensor_type.shape.dim, shapes[value.name], strict=True):
            dimension.dim_value = size
    for value in fixed.graph.output:
        value.type.tensor_type.ClearField("shape")  # its letters would stay
    return onnx.shape_inference.infer_shapes(fixed, check_type=True, strict_mode=True).graph


def _most_alive(graph: onnx.GraphProto, sizes: Mapping[str, int]) -> int:
    last = {name: index for index, node in enumerate(graph.node) for name in node.input}
    last |= {output.name: len(graph.node) for output in graph.output}
    alive = {value.name for value in graph.input}
    most = 0
    for index, node in enumerate(graph.node):
        alive.update(node.output)
        most = max(most, sum(sizes[name] for name in alive))
        alive = {name for name in alive if last.get(name, -1) > index}
    return most
