"""`bdflow inspect MODEL|ENGINE`: what a network is made of, in which types, and what it costs."""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import re
from typing import TYPE_CHECKING, Any, get_args

from bdflow_rt.cli.options import add_output_options
from bdflow_rt.cli.output import note, print_json, print_text
from bdflow_rt.errors import ArgumentError
from bdflow_rt.zoo import find_model
from bdflow_rt.zoo.interface import Direction

if TYPE_CHECKING:
    from bdflow_rt.engines.cache import CacheEntry

_KEY = re.compile(r"[0-9a-f]{6,64}")


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
    from bdflow_rt.evaluate.inspect import inspect_engine, inspect_model

    entry = _find_engine(args.what)
    if entry is not None:
        report = inspect_engine(entry)
    else:
        report = inspect_model(
            find_model(args.what),
            directions=("downscale", "upscale") if args.direction == "both" else (args.direction,),
            kind=args.kind,
            precision=args.precision,
            profile=args.profile,
            top=args.top,
            say=None if args.quiet else note,
        )
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
