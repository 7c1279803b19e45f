"""What a network is made of, in which types, and what it costs; and what is known of an engine."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal, cast

from bdflow_rt.engines.backends import BACKENDS
from bdflow_rt.errors import ArgumentError, BackendError, ModelError
from bdflow_rt.options import Flavour
from bdflow_rt.zoo import find_model
from bdflow_rt.zoo.card import ModelCard
from bdflow_rt.zoo.interface import Direction, GraphKind

if TYPE_CHECKING:
    import onnx

    from bdflow_rt.engines.cache import CacheEntry
    from bdflow_rt.export.profiles import Profile

_PARSERS: tuple[Flavour, ...] = ("tensorrt-rtx", "tensorrt")
"""Flavours that parse a network, the one that needs no GPU for it first."""


def inspect_model(
    card: ModelCard,
    *,
    directions: Iterable[Direction] = ("downscale", "upscale"),
    kind: GraphKind = "core",
    precision: Literal["fp16", "fp32"] = "fp16",
    profile: str = "1080p",
    top: int = 10,
    say: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """A model's graphs: operators and types, work, memory, and the network as TensorRT parses it, where one is here.

    Args:
        card: of the model.
        directions, kind, precision: of the graphs.
        profile: sizes, as for `bdflow build`; the best one is counted.
        top: how many of the layers with the most work to name.
        say: called with what is done meanwhile, a line at a time.

    Returns:
        Plain JSON types. `note` says what is left out, and why.

    Raises:
        ArgumentError: `top` or the profile is not allowed.
        PrecisionError: the parsed network does not compute in float16 where it should.
        CorruptModelError, WeightsHashError: the model's files are not those of its card.
    """
    from bdflow_rt.export.profiles import parse_profile

    if top < 0:
        raise ArgumentError(f"top is {top}; it must be 0 or more.")
    sizes = parse_profile(profile)
    flavour, api, why = _parser()
    graphs = []
    for direction in directions:
        graph = _graph(card, direction, kind=kind, precision=precision, say=say)
        network = None if api is None else _network(graph, card, api, precision=precision)
        graphs.append({"direction": direction, **_figures(graph, card, sizes, top), "network": network})
    parser = None if api is None else f"{flavour} {api.__version__}"
    return {
        "model": card.id, "kind": kind, "precision": precision, "profile": str(sizes), "parser": parser, "note": why,
        "graphs": graphs,
    }  # fmt: skip


def inspect_engine(entry: CacheEntry) -> dict[str, Any]:
    """What is known of a cached engine; its layers where its GPU is here.

    Returns:
        Plain JSON types; `layers` is what TensorRT's engine inspector says, or None, for the reason in `note`.

    Raises:
        BackendError: the engine is damaged.
    """
    from bdflow_rt.engines.cache_entry import as_record

    if entry.sidecar is None or entry.problem:
        raise BackendError(
            f"Engine {entry.digest[:12]} of the cache is damaged: {entry.problem}. Remove it with `bdflow cache rm "
            f"{entry.digest[:12]}`; it is built anew when it is next asked for."
        )
    record = {"key": entry.digest, "path": str(entry.path), **as_record(entry.sidecar)}
    try:
        layers = _engine_layers(entry)
        why = None
    except (BackendError, ModelError) as error:
        layers, why = None, f"The layers are not shown, because the engine cannot be loaded here: {error}"
    return {"engine": record, "note": why, "layers": layers}


def _graph(
    card: ModelCard, direction: Direction, *, kind: GraphKind, precision: str, say: Callable[[str], None] | None
) -> onnx.ModelProto:
    from bdflow_rt.export.dequantize import dequantize
    from bdflow_rt.export.onnx import read_graph
    from bdflow_rt.export.precision import build_half_graph

    card.check_weights()
    if precision == "fp16":
        return build_half_graph(card, direction, kind=kind, say=say)
    return dequantize(read_graph(card, direction, kind=kind), card)


def _parser() -> tuple[Flavour | None, Any, str | None]:
    """A flavour that is installed and its package; or why there is none."""
    from bdflow_rt.engines.tensorrt.library import load_library
    from bdflow_rt.interop import has_cuda

    for flavour in _PARSERS:
        if BACKENDS[flavour].is_installed and (flavour == "tensorrt-rtx" or has_cuda()):
            return flavour, load_library(flavour), None
    why = "This is the ONNX graph alone: no TensorRT is here to parse it, for which tensorrt-rtx needs no GPU"
    return None, None, f"{why}. {BACKENDS['tensorrt-rtx'].install}"


def _figures(graph: onnx.ModelProto, card: ModelCard, profile: Profile, top: int) -> dict[str, Any]:
    from bdflow_rt.export.figures import measure_graph
    from bdflow_rt.zoo.weights import read_index

    names = [value.name for value in graph.graph.input]
    best = {name: shapes[1] for name, shapes in profile.shapes(card, names).items()}
    figures = measure_graph(graph, best)
    learned = {name.removesuffix(".weight") for name in read_index(card.weights_path)}
    work = sorted(figures.convolutions, key=lambda convolution: -convolution.macs)
    is_learned = [convolution for convolution in work if convolution.name in learned]
    return {
        "inputs": {name: list(shape) for name, shape in best.items()},
        "nodes": figures.nodes,
        "learned_convolutions": len(is_learned),
        "learned_in_fp16": sum(convolution.dtype == "FLOAT16" for convolution in is_learned),
        "macs": figures.macs,
        "learned_macs": sum(convolution.macs for convolution in is_learned),
        "weights_bytes": figures.weights_bytes,
        "activation_bytes": figures.activation_bytes,
        "largest_bytes": figures.largest_bytes,
        "top": [dataclasses.asdict(convolution) for convolution in work[:top]],
    }


def _network(graph: onnx.ModelProto, card: ModelCard, api: Any, *, precision: str) -> dict[str, Any]:
    """The network as TensorRT parses it; in float16 it is proven to be that, or PrecisionError says where it is not."""
    from bdflow_rt.export.precision import check_precision
    from bdflow_rt.export.tensorrt import parsed_network

    with parsed_network(graph, card, api) as network:
        report = check_precision(network, card, graph).to_dict() if precision == "fp16" else None
        layers = [network.get_layer(index) for index in range(network.num_layers)]
        counts: dict[str, dict[str, int]] = {}
        for layer in layers:
            types = counts.setdefault(layer.type.name, {})
            dtype = layer.get_output(0).dtype.name
            types[dtype] = types.get(dtype, 0) + 1
    return {"layers": counts, "count": len(layers), "proof": report}


def _engine_layers(entry: CacheEntry) -> Any:
    """The engine inspector's JSON, with one item per layer: names alone, where the engine was built without details.

    Untested but for the names of its calls: it runs on the GPU that the engine was built for, and there alone.

    Raises:
        BackendUnavailableError: no CUDA, driver, CuPy or library.
        EngineMismatchError, EngineLoadError, BackendError: the engine is not for this machine, or was altered; or it
            was stripped of its weights, and its model is not installed.
        CorruptModelError, WeightsHashError: it was stripped, and the model's weights are missing or damaged.
    """
    from bdflow_rt.engines.cache import EngineCache
    from bdflow_rt.engines.gpu import CudaDevice
    from bdflow_rt.engines.tensorrt.library import LoadedEngine, load_library

    if entry.sidecar is None:
        raise BackendError(f"Engine {entry.digest[:12]} is damaged: {entry.problem}.")
    key = entry.sidecar.key
    library, device = load_library(cast(Flavour, key.flavour)), CudaDevice()
    fields = {field.name: getattr(key, field.name) for field in dataclasses.fields(key)}
    here = {"gpu": device.name, "compute_capability": device.compute_capability}
    cached = EngineCache().find(fields | here)
    if cached is None:
        raise BackendError(
            f"The {key} was built for GPU {key.gpu!r} and compute capability {key.compute_capability}, and this is "
            f"{device.name!r} with {device.compute_capability}; or its bytes are not those that were built, which "
            "`bdflow cache verify` tells."
        )
    card = None
    with suppress(ModelError):  # only a stripped engine needs its model, and says so where it has none
        card = find_model(key.model)
    with device.active():
        loaded = LoadedEngine(cached, device=device, library=library, card=card)
        loaded.acquire()
        context = loaded.new_context()
        inspector = context.engine.create_engine_inspector()
        inspector.execution_context = context
        text = inspector.get_engine_information(library.LayerInformationFormat.JSON)
        del inspector, context  # before the engine, which they hold on to
        loaded.let_go()
    return json.loads(text)
