"""Turn a finished run into a released model: weights, graphs, and a card with what was measured.

    python -m bdflow_rt.bench.release RUNDIR --name bdflow-x4 --version 1 --evaluate Set5 --evaluate Set14

A version that exists is never written again.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import pathlib
import shutil
import sys
import tempfile
from typing import Any

from bdflow_rt.bench.quality import evaluate, list_pictures
from bdflow_rt.errors import BdflowError, UnwritableOutputError
from bdflow_rt.export.onnx import export_model
from bdflow_rt.files import write_atomically
from bdflow_rt.rescaler import Rescaler
from bdflow_rt.training.publish import publish
from bdflow_rt.training.trainer import CHECKPOINT_FILE
from bdflow_rt.zoo.card import CARD_FILE, ModelCard
from bdflow_rt.zoo.registry import SHIPPED

RESULTS = pathlib.Path(__file__).resolve().parent / "results" / "quality"
_KEPT = ("psnr_y", "ssim_y", "lr_psnr", "file_bytes", "chunk_bytes")


def release(
    run: pathlib.Path, *, name: str, version: int, folders: list[pathlib.Path], note: str, zoo: pathlib.Path = SHIPPED
) -> ModelCard:
    """Publish a run into the zoo, measure it through files in float32 and bfloat16, and write that into its card.

    Args:
        run: folder of the run.
        name, version: of the model.
        folders: of pictures to measure on.
        note: for the card: what a user of the weights must know, the licences of the training data above all.
        zoo: folder of model folders.

    Raises:
        UnwritableOutputError: that version exists already.
        CheckpointError: the run has no sound checkpoint.
    """
    final = zoo / f"{name}@{version}"
    if final.exists():
        raise UnwritableOutputError(f"'{final}' exists; released models never change, so choose the next version.")
    zoo.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=zoo, prefix=".release-") as temporary:
        folder = pathlib.Path(temporary) / "model"
        card = export_model(publish(run / CHECKPOINT_FILE, folder, name=name, version=version))
        metrics, loss_db = measure(card, folders)
        details = {**card.details, "licence": "Apache-2.0", "note": note, "metrics": metrics}
        card = dataclasses.replace(card, details=details, bf16_loss_db=loss_db)
        write_atomically(folder / CARD_FILE, card.to_json().encode())
        shutil.copytree(folder, final)
    return ModelCard.read(final)


def measure(card: ModelCard, folders: list[pathlib.Path]) -> tuple[dict[str, Any], float]:
    """Means per folder for the card, and the largest mean PSNR in dB that bfloat16 costs on any of them."""
    metrics: dict[str, Any] = {}
    losses = []
    # Whether bfloat16 is allowed is what is being found out.
    allowed = dataclasses.replace(card, bf16_loss_db=0.0)
    with Rescaler(card) as exact, Rescaler(allowed, backend="openvino", precision="bf16") as rough:
        for folder in folders:
            pictures = list_pictures(folder)
            means, rough_means = (evaluate(one, pictures)["means"] for one in (exact, rough))
            metrics[folder.name] = {key: round(means[key], 4) for key in _KEPT}
            losses.append(means["psnr_y"] - rough_means["psnr_y"])
    return metrics, round(max(losses), 4)


def main() -> int:
    """Release, then write the full result of every folder to bench/results/quality."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=pathlib.Path)
    parser.add_argument("--name", required=True)
    parser.add_argument("--version", type=int, required=True)
    parser.add_argument("--evaluate", type=pathlib.Path, action="append", required=True, metavar="DIR")
    parser.add_argument("--note", required=True, help="for the card: licences of the training data")
    args = parser.parse_args()
    try:
        card = release(args.run, name=args.name, version=args.version, folders=args.evaluate, note=args.note)
    except BdflowError as error:
        sys.stderr.write(f"release: {error}\n")
        return error.exit_code
    with Rescaler(card) as rescaler:
        for folder in args.evaluate:
            result = {"folder": folder.name, **evaluate(rescaler, list_pictures(folder))}
            RESULTS.mkdir(parents=True, exist_ok=True)
            write_atomically(RESULTS / f"{card.id}-{folder.name}.json", (json.dumps(result, indent=1) + "\n").encode())
    sys.stdout.write(card.to_json())
    return 0


if __name__ == "__main__":
    sys.exit(main())
