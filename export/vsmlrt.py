"""The upscale direction for vs-mlrt, which runs networks in VapourSynth: one file with one float input.

vs-mlrt gives a network the planes of its clips as one tensor, and takes one picture back. So the 8-bit inputs and the
8-bit output of the public graph (`models.wire`) become planes of float32, and the weights lie in the file. No value in
between is uint8, which TensorRT takes only at inputs and outputs.

There is none of the downscale direction: it has two outputs, and vs-mlrt takes one that is not smaller than its input.
"""

from __future__ import annotations

import pathlib
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from bdflow_rt.engines.weights import part_values
from bdflow_rt.errors import CorruptModelError, DirectionError, OutputExistsError
from bdflow_rt.export.onnx import read_graph, trace_graph
from bdflow_rt.files import check_output, write_atomically
from bdflow_rt.zoo.card import ModelCard
from bdflow_rt.zoo.interface import ModelInterface
from bdflow_rt.zoo.weights import index_weights, read_weights

INPUT, OUTPUT = "input", "output"
"""What vs-mlrt's own scripts call the input where a TensorRT engine is built, and its counterpart."""
BOUNDARY_KEY = "boundary_input"
"""In the metadata of such a graph: what the channel after R, G and B holds."""
Constants = dict[str, NDArray[Any]]


def export_vsmlrt(card: ModelCard, path: pathlib.Path) -> int:
    """Write `vsmlrt_graph` of a model to a file; one of an earlier run is replaced.

    Returns:
        Its size in bytes.

    Raises:
        OutputExistsError: the file exists and is something else.
        OutputError: it cannot be written.
        DirectionError, ModelError, BackendUnavailableError: as `vsmlrt_graph`.
    """
    check_output(path)
    if path.is_file() and not _is_replaceable(path):
        raise OutputExistsError(
            f"'{path}' exists and is no graph that was exported for vs-mlrt; choose another name, or remove it."
        )
    return write_atomically(path, vsmlrt_graph(card).SerializeToString(deterministic=True))


def vsmlrt_graph(card: ModelCard) -> onnx.ModelProto:
    """A model's upscale direction with Z = 0, as vs-mlrt takes it.

    The input is (N, 4, H, W) float32: R, G and B as level / 255, then the boundary map as level / (2^bits - 1). A clip
    in GRAY8 that holds the levels themselves, as a packet does, becomes that by `std.Expr(clip, "x 7 /", vs.GRAYS)`
    for 3 bits; `resize` would take its values for limited range. A model with 0 bits has no fourth channel.
    Values are clamped to [0, 1] and rounded to their levels, so those that came through half precision are exact again.

    The output is (N, 3, scale * H, scale * W) float32: R, G and B as level / 255, the public graph's pixels.

    Raises:
        DirectionError: the network cannot restore pictures.
        CorruptModelError, WeightsHashError: weights or graph are missing, damaged or not the card's.
        BackendUnavailableError: the model's folder has no graph, and PyTorch, which traces it, is not installed.
    """
    interface = card.interface
    if "upscale" not in interface.directions:
        raise DirectionError(
            f"{card.id} has no upscale, of which vs-mlrt would take the graph; it has "
            f"{', '.join(interface.directions)}. Choose another model."
        )
    source = read_graph(card, "upscale") if "upscale" in card.graphs_sha256 else trace_graph(card, "upscale")
    weights = _weights(source, card)
    head, constants = _head(interface)
    constants |= {tensor.name: numpy_helper.to_array(tensor) for tensor in _inside(source)} | weights
    body, pixels = _body(source, weights)
    nodes = [*head, *body, *_tail(pixels)]
    read = {name for node in nodes for name in node.input}
    scale, channels = interface.scale, 4 if interface.bits else 3
    graph = helper.make_graph(
        nodes,
        f"{card.id}/vsmlrt",
        [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ("N", channels, "H", "W"))],
        [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ("N", 3, f"{scale}*H", f"{scale}*W"))],
        initializer=[numpy_helper.from_array(value, name) for name, value in constants.items() if name in read],
    )
    model = helper.make_model(graph, opset_imports=source.opset_import, ir_version=source.ir_version)
    model.producer_name = source.producer_name
    boundary = f"level / {interface.max_level}" if interface.bits else "none"
    helper.set_model_props(model, {**{prop.key: prop.value for prop in source.metadata_props}, BOUNDARY_KEY: boundary})
    onnx.checker.check_model(model, full_check=True)
    return model


def _is_replaceable(path: pathlib.Path) -> bool:
    """Whether a file is a graph of an earlier run."""
    try:
        model = onnx.load(str(path), load_external_data=False)
    except (OSError, DecodeError):
        return False
    return any(prop.key == BOUNDARY_KEY for prop in model.metadata_props)


def _inside(source: onnx.ModelProto) -> list[onnx.TensorProto]:
    """The constants that a graph itself holds."""
    return [tensor for tensor in source.graph.initializer if tensor.data_location != TensorProto.EXTERNAL]


def _weights(source: onnx.ModelProto, card: ModelCard) -> Constants:
    """The values of a graph's stored weights in float32, by the names of their initialisers."""
    content = read_weights(card)
    index = index_weights(content, card.weights_path)
    inside = {tensor.name for tensor in _inside(source)}
    names = [tensor.name for tensor in source.graph.initializer if tensor.name not in inside]
    weights: Constants = {}
    for name in names:
        values = part_values(content, index, name)
        if values is None:
            raise CorruptModelError(
                f"The upscale graph of {card.folder} refers to {name!r:.200}, which {card.weights_path.name} does not "
                "hold. Export the model again."
            )
        weights[name] = values.astype(np.float32)
    return weights


def _body(source: onnx.ModelProto, weights: Constants) -> tuple[list[onnx.NodeProto], str]:
    """The nodes between levels and pixels, both float32, and the value of the pixels.

    What turns 8-bit inputs or stored weights into float32 goes: those are float32 already.
    """
    renamed = {name: f"{name}/levels" for name in ("lr", "boundary")} | {name: name for name in weights}
    nodes, pixels = [], ""
    for node in source.graph.node:
        value = node.output[0]
        if node.op_type in ("Cast", "DequantizeLinear") and node.input[0] in renamed:
            renamed[value] = renamed[node.input[0]]
        elif value == "image":
            pixels = node.input[0]
        elif value != "mean":
            nodes.append(onnx.NodeProto())
            nodes[-1].CopyFrom(node)
            nodes[-1].input[:] = [renamed.get(name, name) for name in node.input]
    return nodes, pixels


def _head(interface: ModelInterface) -> tuple[list[onnx.NodeProto], Constants]:
    """From the planes to what the public graph casts its inputs to, (N, h, w, 3) and (N, h, w) levels."""
    largest = [255, 255, 255, *([interface.max_level] if interface.bits else [])]
    constants: Constants = {
        "planes/0": np.array(0, np.float32),
        "planes/1": np.array(1, np.float32),
        "planes/255": np.array(255, np.float32),
        "planes/largest": np.array(largest, np.float32).reshape(1, -1, 1, 1),
        "planes/channels": np.array([3, 1]),
        "planes/axis": np.array([1]),
    }
    nodes = [
        _node("Clip", [INPUT, "planes/0", "planes/1"], "planes/clamp"),
        _node("Mul", ["planes/clamp", "planes/largest"], "planes/mul"),
        _node("Round", ["planes/mul"], "planes/round"),
    ]
    rgb = "planes/round"
    if interface.bits:
        rgb = "planes/rgb"
        nodes += [
            _node("Split", ["planes/round", "planes/channels"], rgb, "planes/boundary", axis=1),
            _node("Squeeze", ["planes/boundary", "planes/axis"], "boundary/levels"),
        ]
    return [*nodes, _node("Transpose", [rgb], "lr/levels", perm=[0, 2, 3, 1])], constants


def _tail(pixels: str) -> list[onnx.NodeProto]:
    """From pixels (N, H, W, 3) in levels to the output."""
    return [
        _node("Div", [pixels, "planes/255"], "planes/div"),
        _node("Transpose", ["planes/div"], OUTPUT, perm=[0, 3, 1, 2]),
    ]


def _node(op: str, inputs: list[str], *outputs: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op, inputs, outputs, name=outputs[0], **attributes)
