"""Builds real TensorRT-RTX engines of four scales, both directions, public and core; needs no GPU.

python -m bdflow_rt.bench.engines --output bench/results/engines.json

x2 and x4 are the models that ship; x8 and x16 have the paper's configuration and random weights, on which neither
the time nor the size depends.
"""

from __future__ import annotations

import argparse
import pathlib
import statistics
import sys
import tempfile
from typing import Any

from bdflow_rt.bench.command import run_command, write_result
from bdflow_rt.engines.tensorrt.library import load_library
from bdflow_rt.evaluate.environment import environment
from bdflow_rt.export.onnx import GraphKind
from bdflow_rt.export.profiles import Profile, parse_profile
from bdflow_rt.export.tensorrt import EngineBuild
from bdflow_rt.zoo import Direction, ModelCard, find_model
from bdflow_rt.zoo.arch.bdflow import paper_config

SHIPPED = ("bdflow-x2", "bdflow-x4")
PAPER_SCALES = (8, 16)
DIRECTIONS: tuple[Direction, ...] = ("downscale", "upscale")
KINDS: tuple[GraphKind, ...] = ("core", "public")
PROFILE = "4k"
REPEATS = 3


def paper_model(folder: pathlib.Path, scale: int) -> ModelCard:
    """A model of the paper's size for a scale with random weights, in a folder that is made."""
    import torch
    from torch import nn

    from bdflow_rt.export.onnx import export_model
    from bdflow_rt.models.bdflow import BDFlow
    from bdflow_rt.models.io import save_model

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = BDFlow(paper_config(scale))
        for parameter in model.parameters():
            if parameter.ndim > 1 and not parameter.count_nonzero():  # what training starts at zero
                nn.init.normal_(parameter, std=0.01)
    name = f"paper-x{scale}"
    return export_model(save_model(model, folder / f"{name}@1", name=name, version=1, details={}))


def measure(card: ModelCard, direction: Direction, kind: GraphKind, profile: Profile) -> dict[str, Any]:
    """Build one float16 engine several times; plain JSON types."""
    build = EngineBuild.prepare(card, direction, kind=kind, flavour="tensorrt-rtx", profile=profile)
    runs = [build.run() for _ in range(REPEATS)]
    info = runs[-1].info
    return {
        "scale": card.interface.scale,
        "direction": direction,
        "kind": kind,
        "median_s": statistics.median(run.info["seconds"] for run in runs),
        "max_s": max(run.info["seconds"] for run in runs),
        "plan_bytes": info["plan_bytes"],
        "weights_bytes": card.weights_path.stat().st_size,
        "network_layers": info["layers"],
        "precision": info["precision"],
    }


def main() -> int:
    """Build all and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=pathlib.Path, required=True, help="JSON file")
    args = parser.parse_args()
    return run_command("bench.engines", lambda: _measure_all(args.output))


def _measure_all(output: pathlib.Path) -> None:
    profile = parse_profile(PROFILE)
    with tempfile.TemporaryDirectory() as name:
        cards = [find_model(model) for model in SHIPPED]
        cards += [paper_model(pathlib.Path(name), scale) for scale in PAPER_SCALES]
        engines = [measure(card, way, kind, profile) for card in cards for way in DIRECTIONS for kind in KINDS]
    result = {
        **environment(),
        "tensorrt_rtx": load_library("tensorrt-rtx").__version__,
        "profile": str(profile),
        "repeats": REPEATS,
        "engines": engines,
    }
    write_result(output, result)


if __name__ == "__main__":
    sys.exit(main())
