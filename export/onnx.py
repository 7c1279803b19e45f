"""The inference graphs of a model, public and core.

A *public* graph has uint8 pixels in and out and everything else inside, for any runtime. A *core* graph has float16
first-level Haar planes where the public one has the HR image: on a GPU the kernels `ingest` and `egress` make and take
them.
"""

from __future__ import annotations

import dataclasses
import hashlib
import pathlib
from collections.abc import Iterable
from typing import Literal

import numpy as np
import onnx
from onnx import TensorProto

from bdflow_rt.errors import CorruptModelError, UnwritableOutputError
from bdflow_rt.export.flow import FlowGraph
from bdflow_rt.export.graph import GraphBuilder
from bdflow_rt.files import write_atomically
from bdflow_rt.zoo.card import CARD_FILE, WEIGHTS_FILE, Direction, ModelCard
from bdflow_rt.zoo.config import LR_BOUND
from bdflow_rt.zoo.weights import read_index

GraphKind = Literal["public", "core"]
DIRECTIONS: tuple[Direction, ...] = ("downscale", "upscale", "upscale_z")
_PLANES: list[str | int] = ["N", 12, "H/2", "W/2"]


def export_model(card: ModelCard, *, folder: pathlib.Path | None = None) -> ModelCard:
    """Write the three public graphs of a model and enter them into its card.

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
    # All are built before the first is written: weights that do not fit leave the folder as it was.
    models = {direction: build_graph(card, direction) for direction in DIRECTIONS}
    _check_all_used(card, models.values())
    if target.resolve() != card.folder.resolve():
        try:
            target.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UnwritableOutputError(
                f"The folder '{target}' cannot be made ({error.strerror}); choose another one."
            ) from None
        write_atomically(target / WEIGHTS_FILE, card.weights_path.read_bytes())
    hashes: dict[str, str] = {}
    for direction, model in models.items():
        graph = model.SerializeToString(deterministic=True)
        write_atomically(target / f"{direction}.onnx", graph)
        hashes[direction] = hashlib.sha256(graph).hexdigest()
        # Only now, beside the weights, can the checker follow the references.
        onnx.checker.check_model(str(target / f"{direction}.onnx"), full_check=True)
    written = dataclasses.replace(card, folder=target, graphs_sha256=hashes)
    write_atomically(target / CARD_FILE, written.to_json().encode())
    return written


def _check_all_used(card: ModelCard, models: Iterable[onnx.ModelProto]) -> None:
    """Refuse weights of which the configuration leaves some out: they are those of a larger network."""
    used = {tensor.name.partition("[")[0] for model in models for tensor in model.graph.initializer}
    if unused := sorted(read_index(card.weights_path).keys() - used):
        raise CorruptModelError(
            f"{card.weights_path} has {len(unused)} tensors, {unused[0]!r} the first, that the model's configuration "
            "has no place for: they do not belong together. Install the model again."
        )


def build_graph(card: ModelCard, direction: Direction, *, kind: GraphKind = "public") -> onnx.ModelProto:
    """One graph; letters are dynamic, H and W multiples of the scale, h = H/scale, w = W/scale.

    downscale: image (N, H, W, 3) uint8 RGB -> lr (N, h, w, 3) uint8, boundary (N, h, w) uint8 levels (not for models
    with 0 bits). upscale: lr, boundary -> image. upscale_z: lr, boundary, latent (N, Z, h, w) float32 -> image.
    Core graphs have planes (N, 12, H/2, W/2) float16 in the place of image: the Haar planes of image/255, band-major.

    Every graph has one output more, `mean` () float32, of the values before they are rounded: it is finite exactly
    where all of them are, which the rounded pixels can no longer tell.
    """
    builder = GraphBuilder(card.weights_path)
    if direction == "downscale":
        _downscale(builder, card, kind)
    else:
        _upscale(builder, card, kind, sampled=direction == "upscale_z")
    metadata = {"model": card.id, "weights_sha256": card.weights_sha256, "scale": str(card.config.scale)}
    return builder.build(f"{card.id}/{direction}", {**metadata, "bits": str(card.config.bits)})


def _downscale(b: GraphBuilder, card: ModelCard, kind: GraphKind) -> None:
    config, flow = card.config, FlowGraph(b, card.config)
    if kind == "public":
        branches = flow.analyse(_to_planes(b, b.input("image", TensorProto.UINT8, ["N", "H", "W", 3]), "image"))
    else:
        half = b.input("planes", TensorProto.FLOAT16, _PLANES)
        branches = flow.split(b.node("Cast", half, name="planes/float32", to=TensorProto.FLOAT))
    lr, boundary = flow.down(branches)
    b.output("lr", _to_pixels(b, _bound_lr(b, lr, flow.mean(branches)), "lr"), TensorProto.UINT8, ["N", "h", "w", 3])
    checked = lr  # before it is bounded, which would hide an infinity
    if boundary is not None:
        checked = b.node("Concat", lr, boundary, name="checked", axis=1)
        scaled = b.node("Div", boundary, b.weight("quantizer.gain", ()), name="boundary/scaled")
        position = b.node("Add", scaled, _float(b, "boundary/offset", config.boundary_offset), name="boundary/position")
        axis = b.constant("boundary/axis", [1], np.int64)
        levels = b.node("Squeeze", position, axis, name="boundary/plane")
        b.output("boundary", _round(b, levels, config.max_level, "boundary"), TensorProto.UINT8, ["N", "h", "w"])
    _mean(b, checked)


def _upscale(b: GraphBuilder, card: ModelCard, kind: GraphKind, *, sampled: bool) -> None:
    config = card.config
    lr = _to_planes(b, b.input("lr", TensorProto.UINT8, ["N", "h", "w", 3]), "lr")
    boundary = None
    if config.bits:
        levels = b.input("boundary", TensorProto.UINT8, ["N", "h", "w"])
        values = b.node("Cast", levels, name="boundary/float32", to=TensorProto.FLOAT)
        channel = b.node("Unsqueeze", values, b.constant("boundary/axis", [1], np.int64), name="boundary/channel")
        centred = b.node("Sub", channel, _float(b, "boundary/offset", config.boundary_offset), name="boundary/centred")
        boundary = b.node("Mul", centred, b.weight("quantizer.gain", ()), name="boundary/value")
    latent = b.input("latent", TensorProto.FLOAT, ["N", config.latent_channels, "h", "w"]) if sampled else None
    flow = FlowGraph(b, config)
    branches = flow.up(lr, boundary, latent)
    if kind == "public":
        image = flow.synthesise(branches)
        pixels = _to_pixels(b, _to_levels(b, image, "image/scaled"), "image")
        b.output("image", pixels, TensorProto.UINT8, ["N", "H", "W", 3])
        _mean(b, image)
    else:
        planes = flow.merge(branches)
        half = b.node("Cast", planes, name="planes/float16", to=TensorProto.FLOAT16)
        b.output("planes", half, TensorProto.FLOAT16, _PLANES)
        _mean(b, planes)


# TensorRT takes uint8 nowhere but at the inputs and outputs: the casts come first and last.
def _to_planes(b: GraphBuilder, pixels: str, name: str) -> str:
    values = b.node("Cast", pixels, name=f"{name}/float32", to=TensorProto.FLOAT)
    planes = b.node("Transpose", values, name=f"{name}/planes", perm=[0, 3, 1, 2])
    return b.node("Div", planes, _float(b, "255", 255), name=f"{name}/normalised")


def _to_levels(b: GraphBuilder, planes: str, name: str) -> str:
    return b.node("Mul", planes, _float(b, "255", 255), name=name)


def _to_pixels(b: GraphBuilder, levels: str, name: str) -> str:
    return _round(b, b.node("Transpose", levels, name=f"{name}/pixels", perm=[0, 2, 3, 1]), 255, name)


def _bound_lr(b: GraphBuilder, lr: str, mean: str) -> str:
    """See `models.quantize.bound_lr`; here in levels, for the bound has no exact float16 value in units of white."""
    levels, centre = _to_levels(b, lr, "lr/scaled"), _to_levels(b, mean, "lr/centre")
    bound = _float(b, "lr/bound", LR_BOUND)
    least, most = (b.node(op, centre, bound, name=f"lr/{name}") for op, name in (("Sub", "least"), ("Add", "most")))
    return b.node("Min", b.node("Max", levels, least, name="lr/at_least"), most, name="lr/bounded")


def _round(b: GraphBuilder, x: str, largest: int, name: str) -> str:
    """Clamp to 0..largest, round half to even as torch does, and make it uint8."""
    clipped = b.node("Clip", x, _float(b, "0", 0), _float(b, str(largest), largest), name=f"{name}/clipped")
    rounded = b.node("Round", clipped, name=f"{name}/rounded")
    return b.node("Cast", rounded, name=f"{name}/uint8", to=TensorProto.UINT8)


def _mean(b: GraphBuilder, x: str) -> None:
    b.output("mean", b.node("ReduceMean", x, name="mean/value", keepdims=0), TensorProto.FLOAT, [])


def _float(b: GraphBuilder, name: str, value: float) -> str:
    return b.constant(name, value, np.float32)
