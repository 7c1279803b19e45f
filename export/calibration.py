"""How large the values of a graph become: calibration pictures, run through it in float32."""

from __future__ import annotations

import hashlib
import json
import math
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from bdflow_rt.cache import Blob
from bdflow_rt.engines.openvino import process_core
from bdflow_rt.export.half import element_types
from bdflow_rt.export.onnx import read_graph
from bdflow_rt.picture import sample_picture
from bdflow_rt.zoo.card import ModelCard
from bdflow_rt.zoo.interface import Direction

Arrays = dict[str, NDArray[Any]]
_FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16)
_SIDE = 128
_SEED = 20_260


def builtin_pictures(side: int) -> NDArray[np.uint8]:
    """Pictures with the extremes a network can meet: (13, side, side, 3) uint8, the same ones every time.

    White noise, black-and-white noise in every channel, black, white, one like a photograph, and
    checkerboards of 1, 2, side/4 and side/2 pixels in black and white and in colours.
    """
    rng = np.random.default_rng(_SEED)
    y, x = np.mgrid[0:side, 0:side]
    pictures = [
        rng.integers(0, 256, (side, side, 3)),
        255 * rng.integers(0, 2, (side, side, 3)),
        np.zeros((side, side, 3)),
        np.full((side, side, 3), 255),
        sample_picture(side, side),
    ]
    for cell in (1, 2, side // 4, side // 2):
        board, stripes = (x // cell + y // cell) % 2, x // cell % 2
        pictures += [255 * np.stack(planes, axis=-1) for planes in ((board,) * 3, (board, stripes, 1 - board))]
    return np.stack(pictures).astype(np.uint8)


def calibration_inputs(card: ModelCard, direction: Direction) -> Iterator[Arrays]:
    """Inputs of a direction's public graph, from the built-in pictures; one picture at a time, for large networks.

    In the up direction they are what the down direction makes of the pictures and, since anything can arrive in a
    packet, the pictures as LR with random boundary levels. Z is normal with a deviation of 1.
    """
    side = max(_SIDE, 2 * card.interface.scale)
    images = [{"image": picture[None]} for picture in builtin_pictures(side)]
    if direction == "downscale":
        yield from images
        return
    rng = np.random.default_rng(_SEED)
    down = _Graph(read_graph(card, "downscale"), card)
    packets = [down.run(image) for image in images]
    for picture in builtin_pictures(max(32, side // card.interface.scale)):
        levels = rng.integers(0, card.interface.max_level + 1, (1, *picture.shape[:2]), dtype=np.uint8)
        packets.append({"lr": picture[None], "boundary": levels})
    for packet in packets:
        inputs = {name: packet[name] for name in (("lr", "boundary") if card.interface.bits else ("lr",))}
        if direction == "upscale_z":
            n, h, w = inputs["lr"].shape[:3]
            inputs["latent"] = rng.normal(size=(n, card.interface.latent_channels, h, w)).astype(np.float32)
        yield inputs


def calibrate(card: ModelCard, direction: Direction, *, say: Callable[[str], None] | None = None) -> dict[str, float]:
    """`magnitudes` of a direction's public graph for its `calibration_inputs`.

    They take seconds, and minutes for large networks, and depend on nothing but the model and this code: once measured
    they stay in the folder `calibration` of the cache, where that can be written.

    Args:
        card: of the model.
        direction: of the graph.
        say: takes a sentence before they are measured; nothing is said where they were kept.

    Raises:
        CorruptModelError, WeightsHashError: the weights are missing, or not the card's.
        CacheTrustError: others could have written what is in the cache.
    """
    card.check_weights()
    graph, blob = read_graph(card, direction), Blob("calibration", _fingerprint(card, direction))
    found = _parse(blob.read() or b"", graph)
    if found is None:
        if say is not None:
            say(f"Calibrating {direction} of {card.id}: how large its values become, once per model, in seconds ...")
        found = magnitudes(graph, card, calibration_inputs(card, direction))
        if all(map(math.isfinite, found.values())):
            blob.write(json.dumps(found).encode())
    return found


def magnitudes(model: onnx.ModelProto, card: ModelCard, batches: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """The largest magnitude of every float value that a graph computes from its inputs, over all of them.

    Args:
        model: a graph of this card, float32 or float16; the arithmetic is float32 either way.
        card: of the model, whose weights the graph refers to.
        batches: inputs by name.

    Returns:
        Value -> largest magnitude, infinite or NaN where it has no finite one.

    Raises:
        CorruptModelError, WeightsHashError: the weights are missing, or not the card's.
    """
    graph = _Graph(model, card, measured=True)
    largest: dict[str, float] = {}
    for batch in batches:
        for name, value in graph.run(batch).items():
            largest[name] = float(np.maximum(largest.get(name, 0.0), value))  # which, unlike max, lets a NaN through
    return largest


class _Graph:
    """A graph in OpenVINO, in float32; its outputs are its own or, if `measured`, the magnitudes of all its floats."""

    def __init__(self, model: onnx.ModelProto, card: ModelCard, *, measured: bool = False) -> None:
        whole = with_weights(model, card)
        self._names = _measure(whole.graph, element_types(model)) if measured else {}
        core = process_core()
        options = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
        compiled = core.compile_model(core.read_model(whole.SerializeToString()), "CPU", options)
        self._request = compiled.create_infer_request()

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> Arrays:
        self._request.infer(dict(inputs))
        # The next run writes where this one's results are.
        found = {port.any_name: self._request.get_tensor(port).data.copy() for port in self._request.model_outputs}
        return {self._names.get(name, name): value for name, value in found.items()}


def with_weights(model: onnx.ModelProto, card: ModelCard) -> onnx.ModelProto:
    """A copy that holds its weights, which works wherever the folder is and whatever links lead to it."""
    card.check_weights()
    data = card.weights_path.read_bytes()
    whole = onnx.ModelProto()
    whole.CopyFrom(model)
    for tensor in whole.graph.initializer:
        if tensor.data_location == TensorProto.EXTERNAL:
            place = {entry.key: int(entry.value) for entry in tensor.external_data if entry.key != "location"}
            tensor.raw_data = data[place["offset"] : place["offset"] + place["length"]]
            tensor.ClearField("external_data")
            tensor.ClearField("data_location")
    return whole


def _measure(graph: onnx.GraphProto, types: Mapping[str, int]) -> dict[str, str]:
    """Replace a graph's outputs by the magnitudes of its floats; returns output -> value."""
    names = {f"magnitude/{index}": value for index, value in enumerate(_measured(graph, types))}
    del graph.output[:]
    for name, value in names.items():
        graph.node.append(helper.make_node("Abs", [value], [f"{name}/abs"]))
        graph.node.append(helper.make_node("ReduceMax", [f"{name}/abs"], [name], keepdims=0))
        graph.output.append(helper.make_tensor_value_info(name, types[value], []))
    return names


def _measured(graph: onnx.GraphProto, types: Mapping[str, int]) -> list[str]:
    """The float values that a graph computes from its inputs."""
    constant = {tensor.name for tensor in graph.initializer}
    found = []
    for node in graph.node:
        if constant.issuperset(node.input):
            constant.update(node.output)
        else:
            found += [value for value in node.output if types[value] in _FLOATS]
    return found


def _fingerprint(card: ModelCard, direction: Direction) -> str:
    """SHA-256 of all that decides what calibration measures."""
    parts = [pathlib.Path(__file__).read_bytes(), process_core().get_versions("CPU")["CPU"].build_number.encode()]
    # The inputs of the way up come from the way down. Graphs hold the SHA-256 of their weights.
    graphs = dict.fromkeys(("downscale", direction))
    parts += [read_graph(card, one).SerializeToString(deterministic=True) for one in graphs]
    return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()


def _parse(text: bytes, graph: onnx.ModelProto) -> dict[str, float] | None:
    """The magnitudes that were kept for a graph; None where the text is something else."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict) or found.keys() != set(_measured(graph.graph, element_types(graph))):
        return None
    sound = all(type(value) is float and value >= 0 and math.isfinite(value) for value in found.values())
    return found if sound else None
