"""From a float32 graph to a strongly typed float16 one, with named islands that stay float32."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from bdflow_rt.errors import PrecisionError
from bdflow_rt.export.graph import PRECISION_KEY

_FLOATS: dict[int, str] = {TensorProto.FLOAT: "float32", TensorProto.FLOAT16: "float16"}


def islands(model: onnx.ModelProto) -> set[str]:
    """Names of the nodes that stay float32 in every precision, as the network's layers say (`Network.float32`).

    Of BDFlow: the factors of couplings, the sums that make Y and B or the planes of the picture, and whatever
    normalises, centres and rounds 8-bit values. Haar transforms are half: convolutions of +-1/4 or +-1, exact in
    float16, of which only the result is rounded where sums are float32.
    """
    return {node.name for node in model.graph.node if any(prop.key == PRECISION_KEY for prop in node.metadata_props)}


def to_half(model: onnx.ModelProto, *, wide: Iterable[str] | None = None) -> onnx.ModelProto:
    """The graph in float16, with casts where islands begin and end.

    Inputs and outputs keep their types. All floats that a node reads and writes have one type. A value is cast at most
    once to each type; 8-bit input goes straight to the type wanted, and weights stored in float16 are not cast at all.

    Args:
        model: as `trace_graph` makes it, float32 but for inputs, outputs and stored weights.
        wide: names of the nodes that stay float32; None is the model's `islands`.

    Returns:
        A new model; its weights are where those of `model` are.

    Raises:
        PrecisionError: a constant of the graph has no exact float16 value.
    """
    return _HalfPass(model, islands(model) if wide is None else set(wide)).run()


def element_types(model: onnx.ModelProto) -> dict[str, int]:
    """Value -> element type, of all inputs, initialisers and results of nodes."""
    graph = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True).graph
    types = {tensor.name: tensor.data_type for tensor in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        types[value.name] = value.type.tensor_type.elem_type
    return types


class _HalfPass:
    """One run of `to_half`: `wide` holds the names of the nodes that stay float32."""

    def __init__(self, model: onnx.ModelProto, wide: set[str]) -> None:
        self._source, self._wide = model, wide
        self._seen = element_types(model)
        self._initializers = {tensor.name: tensor for tensor in model.graph.initializer}
        self._nodes: list[onnx.NodeProto] = []
        # Element type of every value of the new graph.
        self._made = {value.name: value.type.tensor_type.elem_type for value in model.graph.input}
        self._made |= {name: tensor.data_type for name, tensor in self._initializers.items()}
        # Result of a cast to float -> what it was made of: the new graph casts as it needs.
        self._roots: dict[str, str] = {}

    def run(self) -> onnx.ModelProto:
        for node in self._source.graph.node:
            if node.op_type == "Cast" and self._seen[node.output[0]] in _FLOATS:
                self._roots[node.output[0]] = self._root(node.input[0])
            else:
                self._add(node)
        renamed = self._outputs()
        result = onnx.ModelProto()
        result.CopyFrom(self._source)
        graph = result.graph
        for field in (graph.node, graph.initializer, graph.value_info):
            del field[:]
        for node in self._nodes:
            for values in (node.input, node.output):
                values[:] = [renamed.get(value, value) for value in values]
        graph.node.extend(self._nodes)
        used = {value for node in self._nodes for value in node.input}
        graph.initializer.extend(tensor for name, tensor in self._initializers.items() if name in used)
        return result

    def _root(self, value: str) -> str:
        return self._roots.get(value, value)

    def _add(self, source: onnx.NodeProto) -> None:
        wanted = TensorProto.FLOAT if source.name in self._wide else TensorProto.FLOAT16
        node = onnx.NodeProto()
        node.CopyFrom(source)
        # A cast to integers takes any float as it is.
        if source.op_type == "Cast":
            node.input[:] = [self._root(source.input[0])]
        else:
            node.input[:] = [
                self._typed(self._root(value), wanted) if self._seen.get(value) in _FLOATS else value
                for value in source.input
            ]
        for value in source.output:
            self._made[value] = wanted if self._seen[value] in _FLOATS else self._seen[value]
        self._nodes.append(node)

    def _typed(self, root: str, wanted: int) -> str:
        """The value in the type wanted: itself, or the one cast of it to that type."""
        if self._made[root] == wanted:
            return root
        name = f"{root}/{_FLOATS[wanted]}"
        if name not in self._made:
            self._made[name] = wanted
            tensor = self._initializers.get(root)
            if tensor is not None and tensor.data_location != TensorProto.EXTERNAL:
                self._initializers[name] = _exact_half(tensor, name)
            else:
                self._nodes.append(helper.make_node("Cast", [root], [name], name=name, to=wanted))
        return name

    def _outputs(self) -> dict[str, str]:
        """Make the graph's outputs in their declared types; returns the values that must be renamed for it."""
        renamed: dict[str, str] = {}
        for output in self._source.graph.output:
            root, declared = self._root(output.name), output.type.tensor_type.elem_type
            value = self._typed(root, declared) if declared in _FLOATS else root
            if value != output.name:
                if root == output.name:
                    renamed[root] = f"{root}/{_FLOATS[self._made[root]]}"
                renamed[value] = output.name
        return renamed


def _exact_half(tensor: onnx.TensorProto, name: str) -> onnx.TensorProto:
    values = numpy_helper.to_array(tensor)
    half = values.astype(np.float16)
    if not np.array_equal(half.astype(values.dtype), values):
        raise PrecisionError(
            f"The graph's constant {tensor.name!r} has no exact float16 value, so the float16 graph would compute "
            "another function. Keep the nodes that read it in an island."
        )
    return numpy_helper.from_array(half, name)
