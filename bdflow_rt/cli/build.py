"""`bdflow build MODEL`: TensorRT engines of a model, into the cache that the GPU engines load from."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any, get_args

from bdflow_rt.cli.options import add_output_options
from bdflow_rt.cli.output import note, print_json, print_text, progress_callback
from bdflow_rt.zoo import find_model
from bdflow_rt.zoo.interface import Direction

if TYPE_CHECKING:
    from bdflow_rt.engines.cache import EngineCache
    from bdflow_rt.export.tensorrt import BuildOptions, EngineBuild

_BOTH: tuple[Direction, ...] = ("downscale", "upscale")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help="name or folder of a model")
    parser.add_argument(
        "--flavour", required=True, choices=("tensorrt", "tensorrt-rtx"), help="what builds and runs it"
    )
    parser.add_argument(
        "--profile",
        default="1080p",
        help="sizes: 360p, 720p, 1080p, 4k, WIDTHxHEIGHT, or MIN:OPT:MAX of these (default: 1080p)",
    )
    parser.add_argument("--batch", default="1", help="pictures at once: the most, or MIN,OPT,MAX (default: 1)")
    parser.add_argument(
        "--direction",
        choices=("both", *get_args(Direction)),
        default="both",
        help="upscale_z, which takes latents, is for other programs (default: both of the others)",
    )
    parser.add_argument(
        "--kind",
        choices=("core", "public"),
        default="core",
        help="of graph: core runs here, between bdflow's kernels; public, pixels to pixels, is for other programs "
        "(default: core)",
    )
    parser.add_argument(
        "--precision", choices=("fp16", "fp32"), default="fp16", help="fp32 is for other programs (default: fp16)"
    )
    parser.add_argument("--workspace-mib", type=int, metavar="MIB", help="memory that one layer may work in")
    parser.add_argument("--optimization-level", type=int, metavar="0..5", help="5 looks longest for the fastest engine")
    parser.add_argument("--version-compatible", action="store_true", help="for later versions of TensorRT too")
    parser.add_argument(
        "--hardware-compatible", choices=("ampere-plus", "same-capability"), help="for other GPUs too; may be slower"
    )
    parser.add_argument(
        "--compute-capability", default="", metavar="CC[,CC...]", help="GPUs to build for ahead of time, as 8.6,8.9"
    )
    parser.add_argument(
        "--strip", action="store_true", help="leave the weights out; they are put in from the model at every start"
    )
    parser.add_argument("--force", action="store_true", help="build anew what is in the cache")
    add_output_options(parser)


def run(args: argparse.Namespace) -> int:
    from bdflow_rt.engines.cache import EngineCache
    from bdflow_rt.export.profiles import parse_batch, parse_profile
    from bdflow_rt.export.tensorrt import EngineBuild

    say = (lambda text: None) if args.quiet else note
    cache = EngineCache(log=say)
    profile = parse_profile(args.profile, batch=parse_batch(args.batch))
    card, options = find_model(args.model), _options(args)
    records = []
    for direction in _BOTH if args.direction == "both" else (args.direction,):
        build = EngineBuild.prepare(
            card, direction, kind=args.kind, flavour=args.flavour, profile=profile, options=options, say=say
        )
        records.append(_build(build, cache, force=args.force, quiet=args.quiet))
        if not args.json:
            print_text(_line(records[-1]))
    if args.json:
        print_json({"model": card.id, "engines": records})
    return 0


def _options(args: argparse.Namespace) -> BuildOptions:
    from bdflow_rt.engines.tensorrt.library import load_library
    from bdflow_rt.export.tensorrt import BuildOptions
    from bdflow_rt.export.timing_cache import timing_cache

    version = load_library(args.flavour).__version__
    return BuildOptions(
        precision=args.precision,
        workspace_mib=args.workspace_mib,
        optimization_level=args.optimization_level,
        version_compatible=args.version_compatible,
        hardware_compatible=args.hardware_compatible,
        strip=args.strip,
        compute_capabilities=tuple(part.strip() for part in args.compute_capability.split(",") if part.strip()),
        timing_cache=timing_cache(args.flavour, version),
    )


def _build(build: EngineBuild, cache: EngineCache, *, force: bool, quiet: bool) -> dict[str, Any]:
    from bdflow_rt.engines.cache_entry import as_record

    made: dict[str, Any] = {}

    def make() -> bytes:
        built = build.run(progress_callback(label=f"{build.direction} engine", quiet=quiet))
        made.update(built.info)
        return built.plan

    key = build.key
    if force and any(entry.digest == key.digest for entry in cache.list()):
        cache.remove([key.digest])
    engine = cache.get_or_build(key, make)
    return {
        **as_record(engine.sidecar),
        "path": None if engine.path is None else str(engine.path),
        "cached": not made,
        "layers": made.get("layers"),
        "types": made.get("precision"),
    }


def _line(record: dict[str, Any]) -> str:
    size = f"{record['plan_bytes'] / 1e6:.1f} MB"
    how = "was in the cache" if record["cached"] else f"built in {record['build_seconds']:.1f} s"
    where = record["path"] or "not kept: the cache cannot be written"
    return f"{record['direction']} {record['kind']} {record['precision']}: {how}, {size}, {where}"
