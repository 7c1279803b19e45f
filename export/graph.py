"""A small builder for ONNX graphs whose weights stay in one safetensors file.

Every node keeps the name of the module it comes from (`export.emit`), and an initialiser is a reference (location,
offset, length) into the weights file, so the graphs of a model share it.
"""

from __future__ import annotations

import pathlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from bdflow_rt.errors import CorruptModelError
from bdflow_rt.zoo.weights import part_name, read_index, scale_name

OPSET = 20
IR_VERSION = 10
PRECISION_KEY = "precision"
"""In the metadata of a node that stays float32 whatever the graph is converted to."""
_ONNX_TYPES = {"F32": TensorProto.FLOAT, "F16": TensorProto.FLOAT16, "I8": TensorProto.INT8}


class GraphBuilder:
    """Collects nodes, constants and references to stored weights.

    Args:
        weights: the safetensors file; the graph must be saved beside it.
    """

    def __init__(self, weights: pathlib.Path) -> None:
        self._location = weights.name
        self._index = read_index(weights)
        self._nodes: list[onnx.NodeProto] = []
        self._initializers: dict[str, onnx.TensorProto] = {}
        self._used: dict[str, int] = {}
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []
        self._is_wide = False

    def input(self, name: str, dtype: int, shape: Sequence[str | int]) -> str:
        """Declare a graph input; letters in the shape are dynamic."""
        self._inputs.append(helper.make_tensor_value_info(name, dtype, shape))
        return name

    def output(self, name: str, value: str, dtype: int, shape: Sequence[str | int]) -> None:
        """Declare a graph output and the node that makes it, which nothing else may read; the node gets its name."""
        maker = next(node for node in reversed(self._nodes) if value in node.output)
        maker.output[list(maker.output).index(value)] = name
        self._outputs.append(helper.make_tensor_value_info(name, dtype, shape))

    @contextmanager
    def wide(self, is_wide: bool) -> Iterator[None]:
        """Inside, nodes are marked as staying float32 in every precision, or not."""
        before, self._is_wide = self._is_wide, is_wide
        yield
        self._is_wide = before

    def node(self, op: str, *inputs: str, name: str, **attributes: Any) -> str:
        """Add a node; returns the name of its output, which is the node's own."""
        unique = self._unique(name)
        self._nodes.append(helper.make_node(op, list(inputs), [unique], name=unique, **attributes))
        if self._is_wide:
            self._nodes[-1].metadata_props.add(key=PRECISION_KEY, value="float32")
        return unique

    def constant(self, name: str, value: Any, dtype: Any) -> str:
        """A small tensor kept in the graph itself; equal ones of a name are one."""
        array = np.asarray(value, dtype)
        while name in self._initializers and not np.array_equal(numpy_helper.to_array(self._initializers[name]), array):
            name += "'"
        self._initializers[name] = numpy_helper.from_array(array, name)
        return name

    def weight(self, name: str, shape: tuple[int, ...], *, rows: int | None = None) -> str:
        """A stored weight in float32.

        Args:
            name: its key in the weights file.
            shape: what the configuration asks for.
            rows: only the first so many entries of the first axis; no copy, the reference is shortened.

        Raises:
            CorruptModelError: it is missing or has another shape.
        """
        stored = self._index.get(name)
        if stored is None or stored.shape != shape:
            found = "no" if stored is None else f"a {stored.shape}"
            raise CorruptModelError(
                f"{self._location} has {found} {name!r} where the model's configuration needs {shape}: they do not "
                "belong together. Install the model again."
            )
        half = key = self._refer(name, rows)
        if stored.dtype == "F32":
            return key
        with self.wide(False):
            if stored.dtype == "I8":
                scales = self._refer(scale_name(name), rows)
                half = self.node("DequantizeLinear", key, scales, name=f"{key}/float16", axis=0)
            return self.node("Cast", half, name=f"{key}/float32", to=TensorProto.FLOAT)

    def _refer(self, name: str, rows: int | None) -> str:
        """Refer to a stored tensor, or its first so many rows; equal references are one."""
        stored, key = self._index[name], part_name(name, rows)
        if key not in self._initializers:
            part = stored if rows is None else stored.first(rows)
            tensor = TensorProto(name=key, data_type=_ONNX_TYPES[part.dtype], dims=part.shape)
            tensor.data_location = TensorProto.EXTERNAL
            for field, value in (("location", self._location), ("offset", part.offset), ("length", part.length)):
                tensor.external_data.add(key=field, value=str(value))
            self._initializers[key] = tensor
        return key

    def build(self, name: str, metadata: dict[str, str]) -> onnx.ModelProto:
        """The finished model; its weights are found when it is saved beside the weights file."""
        graph = helper.make_graph(
            self._nodes, name, self._inputs, self._outputs, initializer=list(self._initializers.values())
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
        model.producer_name = "bdflow-rt"
        helper.set_model_props(model, metadata)
        return model

    def _unique(self, name: str) -> str:
        count = self._used.get(name, 0)
        self._used[name] = count + 1
        return name if count == 0 else f"{name}.{count}"
