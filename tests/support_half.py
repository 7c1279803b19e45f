"""An interpreter of float16 graphs that rounds where the graph says so.

On a CPU, ONNX Runtime and OpenVINO compute float16 graphs in float32 and leave the roundings out. Here every node
computes in float32, as tensor cores and element-wise kernels do, and its result is rounded once to its type.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from bdflow_rt.export.calibration import with_weights
from bdflow_rt.zoo import ModelCard

Arrays = dict[str, NDArray[Any]]
_TYPES = {
    TensorProto.FLOAT: torch.float32,
    TensorProto.FLOAT16: torch.float16,
    TensorProto.UINT8: torch.uint8,
    TensorProto.INT64: torch.int64,
}


def _conv(
    x: Any, weight: Any, bias: Any = None, *, pads: Any = (0,), strides: Any = (1,), group: int = 1, **_: Any
) -> Any:
    return F.conv2d(x, weight, bias, stride=strides[0], padding=pads[0], groups=group)


def _conv_transpose(x: Any, weight: Any, *, strides: Any, kernel_shape: Any, group: int = 1) -> Any:
    return F.conv_transpose2d(x, weight, stride=strides[0], groups=group)


_OPERATORS: dict[str, Callable[..., Any]] = {
    "Abs": torch.abs,
    "Add": torch.add,
    "AveragePool": lambda x, *, kernel_shape, strides: F.avg_pool2d(x, kernel_shape, strides),
    "Clip": torch.clamp,
    "Concat": lambda *x, axis: torch.cat(x, axis),
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "DequantizeLinear": lambda x, scales, *, axis: x * scales.reshape(-1, 1, 1, 1),
    "Div": torch.div,
    "Exp": torch.exp,
    "Gather": lambda x, which, *, axis: x.index_select(axis, which),
    "LeakyRelu": lambda x, *, alpha: F.leaky_relu(x, alpha),
    "Max": torch.maximum,
    "Min": torch.minimum,
    "Mul": torch.mul,
    "Neg": torch.neg,
    "ReduceMean": lambda x, *, keepdims: x.double().mean().float(),
    "Round": torch.round,
    "Squeeze": lambda x, axes: x.squeeze(int(axes)),
    "Sub": torch.sub,
    "Tanh": torch.tanh,
    "Transpose": lambda x, *, perm: x.permute(*perm),
    "Unsqueeze": lambda x, axes: x.unsqueeze(int(axes)),
}


def interpret(model: onnx.ModelProto, card: ModelCard | None, inputs: Mapping[str, NDArray[Any]]) -> Arrays:
    """Outputs of a graph; floats of different types at one node are an error, as in TensorRT.

    `card` is that of the model whose weights the graph refers to; None if it refers to none.
    """
    graph = (model if card is None else with_weights(model, card)).graph
    values = {tensor.name: torch.from_numpy(numpy_helper.to_array(tensor).copy()) for tensor in graph.initializer}
    for declared in graph.input:
        value = torch.from_numpy(np.ascontiguousarray(inputs[declared.name]))
        assert value.dtype == _TYPES[declared.type.tensor_type.elem_type], declared.name
        values[declared.name] = value
    last = {name: index for index, node in enumerate(graph.node) for name in node.input}
    kept = {output.name for output in graph.output}
    with torch.inference_mode():
        for index, node in enumerate(graph.node):
            values[node.output[0]] = _compute(node, [values[name] for name in node.input])
            for name in set(node.input) - kept:
                if last[name] == index:
                    del values[name]
    for output in graph.output:
        assert values[output.name].dtype == _TYPES[output.type.tensor_type.elem_type], output.name
    return {name: values[name].contiguous().numpy() for name in kept}


def _compute(node: onnx.NodeProto, inputs: list[Any]) -> Any:
    attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    if node.op_type == "Cast":
        return inputs[0].to(_TYPES[attributes["to"]])
    floats = {value.dtype for value in inputs if value.is_floating_point()}
    assert len(floats) == 1, f"{node.name} mixes {floats}"
    dtype = floats.pop()
    wide = [value.float() if value.is_floating_point() else value for value in inputs]
    return _OPERATORS[node.op_type](*wide, **attributes).to(dtype)
