"""`bdflow inspect MODEL|ENGINE`: what a network is made of, in which types, and what it costs."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import pathlib
import re
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast, get_args

from bdflow_rt.cli.options import add_output_options
from bdflow_rt.cli.output import note, print_json, print_text
from bdflow_rt.engines.engine import Flavour
from bdflow_rt.engines.select import INSTALL, is_installed
from bdflow_rt.errors import ArgumentError, BackendError, ModelError
from bdflow_rt.zoo import find_model
from bdflow_rt.zoo.card import ModelCard
from bdflow_rt.zoo.interface import Direction

if TYPE_CHECKING:
    import onnx

    from bdflow_rt.engines.cache import CacheEntry
    from bdflow_rt.export.profiles import Profile

_KEY = re.compile(r"[0-9a-f]{6,64}")
_BOTH: tuple[Direction, ...] = ("downscale", "upscale")
_PARSERS: tuple[Flavour, ...] = ("tensorrt-rtx", "tensorrt")
"""Flavours that parse a network, the one that needs no GPU for it first."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", help="name or folder of a model; or an engine: its file in the cache, or 6 letters or"
                        " more of its key, as `bdflow cache ls` shows it")  # fmt: skip
    group = parser.add_argument_group("of a model")
    group.add_argument("--direction", choices=("both", *get_args(Direction)), default="both", help="(default: both)")
    group.add_argument("--kind", choices=("core", "public"), default="core", help="of graph (default: core)")
    group.add_argument("--precision", choices=("fp16", "fp32"), default="fp16", help="(default: fp16)")
    group.add_argument(
        "--profile", default="1080p", help="sizes, as for `bdflow build`; the best one is counted (default: 1080p)"
    )
    group.add_argument("--top", type=int, default=10, metavar="N", help="layers with the most work (default: 10)")
    add_output_options(parser)


def run(args: argparse.Namespace) -> int:
    if args.top < 0:
        raise ArgumentError(f"--top is {args.top}; it must be 0 or more.")
    entry = _find_engine(args.what)
    report = _of_model(find_model(args.what), args) if entry is None else _of_engine(entry)
    if not args.quiet and report["note"]:
        note(report["note"])
    if args.json:
        print_json(report)
    else:
        print_text("\n".join(_model_lines(report) if entry is None else _engine_lines(report)))
    return 0


def _find_engine(what: str) -> CacheEntry | None:
    """The cached engine that is meant, or None where `what` is to be a model.

    Engines are native code: only what the cache vouches for is looked into.
    """
    from bdflow_rt.engines.cache import EngineCache

    path = pathlib.Path(what)
    is_file = path.suffix == ".plan"
    prefix = path.stem if is_file else what
    if not (is_file or _KEY.fullmatch(what)) or os.path.isdir(what):
        return None
    cache = EngineCache()
    found = [entry for entry in cache.list() if entry.digest.startswith(prefix)]
    found = [entry for entry in found if not is_file or _is_same_file(entry.path, path)]
    if len(found) != 1:
        fault = "none" if not found else f"{len(found)} engines"
        raise ArgumentError(
            f"{what!r:.200} is {fault} of the cache in {cache.folder}. Engines are programs, so only those are read; "
            "`bdflow cache ls` lists them, with keys of which 6 letters or more are enough if one engine has them."
        )
    return found[0]


def _is_same_file(one: pathlib.Path, other: pathlib.Path) -> bool:
    try:
        return one.samefile(other)
    except (OSError, ValueError):  # one is missing, or no name that a file can have
        return False


def _of_model(card: ModelCard, args: argparse.Namespace) -> dict[str, Any]:
    from bdflow_rt.export.profiles import parse_profile

    profile = parse_profile(args.profile)
    flavour, api, why = _parser()
    graphs = []
    for direction in _BOTH if args.direction == "both" else (cast(Direction, args.direction),):
        graph = _graph(card, direction, args)
        graphs.append({"direction": direction, **_figures(graph, card, profile, args.top)})
        graphs[-1]["network"] = None if api is None else _network(graph, card, api, precision=args.precision)
    parser = None if api is None else f"{flavour} {api.__version__}"
    return {
        "model": card.id, "kind": args.kind, "precision": args.precision, "profile": str(profile), "parser": parser,
        "note": why, "graphs": graphs,
    }  # fmt: skip


def _graph(card: ModelCard, direction: Direction, args: argparse.Namespace) -> onnx.ModelProto:
    from bdflow_rt.export.dequantize import dequantize
    from bdflow_rt.export.onnx import read_graph
    from bdflow_rt.export.precision import build_half_graph

    card.check_weights()
    if args.precision == "fp16":
        return build_half_graph(card, direction, kind=args.kind, say=None if args.quiet else note)
    return dequantize(read_graph(card, direction, kind=args.kind), card)


def _parser() -> tuple[Flavour | None, Any, str | None]:
    """A flavour that is installed and its package; or why there is none."""
    from bdflow_rt.engines.tensorrt_library import load_library
    from bdflow_rt.interop import has_cuda

    for flavour in _PARSERS:
        if is_installed(flavour) and (flavour == "tensorrt-rtx" or has_cuda()):
            return flavour, load_library(flavour), None
    why = "This is the ONNX graph alone: no TensorRT is here to parse it, for which tensorrt-rtx needs no GPU"
    return None, None, f"{why}. {INSTALL['tensorrt-rtx']}"


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


def _of_engine(entry: CacheEntry) -> dict[str, Any]:
    """What is known of an engine; its layers where its GPU is here."""
    from bdflow_rt.engines.cache_entry import as_record

    if entry.sidecar is None or entry.problem:
        raise BackendError(
            f"Engine {entry.digest[:12]} of the cache is damaged: {entry.problem}. Remove it with `bdflow cache rm "
            f"{entry.digest[:12]}`; it is built anew when it is next asked for."
        )
    record = {"key": entry.digest, "path": str(entry.path), **as_record(entry.sidecar)}
    try:
        layers = inspect_engine(entry)
        why = None
    except (BackendError, ModelError) as error:
        layers, why = None, f"The layers are not shown, because the engine cannot be loaded here: {error}"
    return {"engine": record, "note": why, "layers": layers}


def inspect_engine(entry: CacheEntry) -> Any:
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
    from bdflow_rt.engines.tensorrt_library import LoadedEngine, load_library

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


def _model_lines(report: dict[str, Any]) -> list[str]:
    lines = [f"{report['model']}, {report['kind']} graphs in {report['precision']}, {report['profile']}"]
    for graph in report["graphs"]:
        inputs = ", ".join(f"{name} {'x'.join(map(str, shape))}" for name, shape in graph["inputs"].items())
        share = graph["learned_in_fp16"] / graph["learned_convolutions"]
        lines += [
            f"{graph['direction']}: {inputs}",
            f"  learned convolutions: {graph['learned_convolutions']}, {share:.0%} in float16",
            f"  work: {graph['macs'] / 1e9:.2f} GMAC, {graph['learned_macs'] / 1e9:.2f} of it learned",
            f"  weights: {graph['weights_bytes'] / 2**20:.2f} MiB",
            f"  activations: {graph['activation_bytes'] / 2**20:.1f} MiB at once, if nothing is fused; the largest "
            f"{graph['largest_bytes'] / 2**20:.1f} MiB",
        ]
        network = graph["network"]
        what = f"layers as {report['parser']} parses them" if network else "nodes of the ONNX graph"
        lines.append(f"  {what}:")
        counts = network["layers"] if network else graph["nodes"]
        order = sorted(counts.items(), key=lambda item: -sum(item[1].values()))
        lines += [f"    {kind:<20} {', '.join(f'{n} {t}' for t, n in types.items())}" for kind, types in order]
        if network and network["proof"]:
            proof = network["proof"]
            lines.append(
                f"  proven: {proof['learned_convolutions']} learned convolutions in float16, {proof['island_layers']} "
                f"layers of islands in float32, {proof['shape_layers']} that compute with sizes"
            )
        lines += [f"  most work, of {graph['macs'] / 1e9:.2f} GMAC:"] if graph["top"] else []
        for one in graph["top"]:
            part, size = one["macs"] / graph["macs"], "x".join(map(str, one["shape"]))
            lines.append(f"    {one['name']:<28} {one['macs'] / 1e9:>9.3f} {part:>6.1%}  {one['dtype']:<8} {size}")
    return lines


def _engine_lines(report: dict[str, Any]) -> list[str]:
    lines = [f"{name}: {value}" for name, value in report["engine"].items()]
    layers = report["layers"]
    if layers is not None:
        lines += ["layers:", *(f"  {_layer_text(layer)}" for layer in layers.get("Layers", []))]
    return lines


def _layer_text(layer: Any) -> str:
    """A name where the engine was built without details, else a dictionary of them."""
    return layer if isinstance(layer, str) else json.dumps(layer)
