"""Is a boundary map worth its bytes? Models that differ in nothing but their bits, on the same pictures.

    python -m bdflow_rt.bench.bits --model RUN/model --model RUN/model ... --folder Set5 --folder Set14 \\
        --output bench/results/bits.json

Bytes have a price: what a byte buys elsewhere. Here that is the other scale, at 0 bits: from x4 to x2 bytes and PSNR
both rise, and the dB per doubling of bytes is what a boundary map has to beat.
"""

from __future__ import annotations

import argparse
import json
import math
import pathlib
import sys
from typing import Any

from bdflow_rt.bench.command import run_command, write_result
from bdflow_rt.bench.environment import environment
from bdflow_rt.bench.quality import evaluate, list_pictures
from bdflow_rt.rescaler import Rescaler

NETWORK = ("blocks", "hidden")
"""Of a run: what its network is made of, level by level."""


def measure_runs(models: list[pathlib.Path], folders: list[pathlib.Path]) -> list[dict[str, Any]]:
    """One entry per model and folder: bits, scale, network, PSNR, bytes, and how long it was trained."""
    runs = []
    for model in models:
        with Rescaler.from_pretrained(model) as rescaler:
            config = rescaler.card.config
            for folder in folders:
                means = evaluate(rescaler, list_pictures(folder))["means"]
                runs.append(
                    {
                        "scale": config.scale,
                        "bits": config.bits,
                        "blocks": list(config.blocks),
                        "hidden": list(config.hidden),
                        "set": folder.name,
                        "iterations": rescaler.card.details.get("iterations"),
                        "started_from": rescaler.card.details.get("training", {}).get("start_from"),
                        **{name: means[name] for name in ("psnr_y", "lr_psnr", "file_bytes", "chunk_bytes")},
                    }
                )
    # A card need not say for how many iterations its model was trained.
    return sorted(runs, key=lambda run: (run["set"], run["scale"], run["iterations"] or 0, run["bits"]))


def verdicts(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What each boundary gains over the 0-bit model of equal training, what its bytes would buy, and who wins.

    Equal is: the same network, as many iterations, from the same start.

    Left out are models of unknown training, which equals no other, and perfect scores (None), which have no gain.
    """
    runs = [run for run in runs if run["iterations"] is not None and run["psnr_y"] is not None]
    bare = {(run["set"], run["scale"], *_training(run)): run for run in runs if run["bits"] == 0}
    prices = _prices(runs)
    found = []
    for run in runs:
        name, scale, bits = run["set"], run["scale"], run["bits"]
        iterations, start, *network = _training(run)
        without = bare.get((name, scale, iterations, start, *network))
        if bits == 0 or without is None or name not in prices:
            continue
        # Of other trainings the dearest price: a map wins only if it beats that.
        price = prices[name].get((iterations, start is None), max(prices[name].values()))
        doublings = math.log2(run["file_bytes"] / without["file_bytes"])
        gain = run["psnr_y"] - without["psnr_y"]
        found.append(
            {
                "set": name,
                "scale": scale,
                "bits": bits,
                "iterations": iterations,
                "started_from": start,
                **{key: run.get(key) for key in NETWORK},
                "gain_db": gain,
                "bytes_ratio": run["file_bytes"] / without["file_bytes"],
                "price_db_per_doubling": price,
                "bytes_worth_db": price * doublings,
                "wins_per_byte": gain > price * doublings,
            }
        )
    return found


def _training(run: dict[str, Any]) -> tuple[Any, ...]:
    """Iterations, start, and what the network is made of."""
    return run["iterations"], run.get("started_from"), *(tuple(run.get(key, ())) for key in NETWORK)


def _prices(runs: list[dict[str, Any]]) -> dict[str, dict[tuple[int, bool], float]]:
    """dB per doubling of bytes from the largest scale to the next at 0 bits, by set, iterations and if from nothing."""
    # One model per scale: between two of the same scale bytes have no price.
    bare: dict[tuple[str, int, bool], dict[int, dict[str, Any]]] = {}
    for run in runs:
        if run["bits"] == 0:
            iterations, start, *_ = _training(run)
            bare.setdefault((run["set"], iterations, start is None), {})[run["scale"]] = run
    prices: dict[str, dict[tuple[int, bool], float]] = {}
    for (name, iterations, from_nothing), by_scale in bare.items():
        if len(by_scale) > 1:
            small, large = (by_scale[scale] for scale in sorted(by_scale, reverse=True)[:2])
            doublings = math.log2(large["file_bytes"] / small["file_bytes"])
            prices.setdefault(name, {})[iterations, from_nothing] = (large["psnr_y"] - small["psnr_y"]) / doublings
    return prices


def main() -> None:
    """Measure and write one JSON file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=pathlib.Path, action="append", required=True, help="model folder; repeat")
    parser.add_argument("--folder", type=pathlib.Path, action="append", required=True, help="of pictures; repeat")
    parser.add_argument("--output", type=pathlib.Path, required=True)
    args = parser.parse_args()
    runs = measure_runs(args.model, args.folder)
    result = {**environment(), "runs": runs, "verdicts": verdicts(runs)}
    write_result(args.output, result)
    sys.stdout.write(json.dumps(result["verdicts"], indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(run_command("bits", main))
