"""Int8 weights as float16 constants, for engines.

TensorRT takes int8 weights, but multiplies them by their scales again whenever the engine runs: TensorRT-RTX 1.7 wrote
28 kernels for x4 instead of 13, into a plan 45 % larger. The products are exact float16 values, so a graph that holds
them is the same function. OpenVINO and ONNX Runtime multiply once, when they compile the public graph.
"""

from __future__ import annotations

import onnx
from onnx import numpy_helper

from bdflow_rt.engines.weights import part_values
from bdflow_rt.zoo.card import ModelCard
from bdflow_rt.zoo.weights import find_part, index_weights, read_index, read_weights


def dequantize(model: onnx.ModelProto, card: ModelCard) -> onnx.ModelProto:
    """A graph with the float16 values of int8 weights in their place, under their names.

    Args:
        model: of `read_graph` or `to_half`.
        card: of the model.

    Returns:
        A new graph; it refers to all weights that are not int8, as `model` does. Or `model`, if there is no int8.

    Raises:
        CorruptModelError, WeightsHashError: the weights are missing, or not the card's.
    """
    found = [node for node in model.graph.node if node.op_type == "DequantizeLinear"]
    if not found:
        return model
    content = read_weights(card)
    index = index_weights(content, card.weights_path)
    values = {node.input[0]: part_values(content, index, node.input[0]) for node in found}
    scales = {node.input[1] for node in found}
    names = {node.output[0]: node.input[0] for node in found}
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    del graph.node[:], graph.initializer[:]
    for node in model.graph.node:
        if node.output[0] not in names:
            graph.node.add().CopyFrom(node)
            graph.node[-1].input[:] = [names.get(name, name) for name in node.input]
    for tensor in model.graph.initializer:
        array = values.get(tensor.name)
        if array is not None:
            graph.initializer.append(numpy_helper.from_array(array, tensor.name))
        elif tensor.name not in scales:
            graph.initializer.add().CopyFrom(tensor)
    return result


def learned_weights(model: onnx.ModelProto, card: ModelCard) -> list[str]:
    """Names of the initialisers whose values are in the weights file, by reference or not."""
    index = read_index(card.weights_path)
    return [tensor.name for tensor in model.graph.initializer if find_part(index, tensor.name)]
