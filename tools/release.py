"""Turn a finished run into a released model: weights, graphs, and a card with what was measured.

    python -m tools.release RUNDIR --name bdflow-x4 --version 1 --evaluate Set5 --evaluate Set14

A version that exists is never written again.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import pathlib
import sys
import tempfile
from typing import Any, get_args

from bdflow_rt.bench.command import run_command, write_result
from bdflow_rt.errors import BackendUnavailableError, CorruptImageError, UnwritableOutputError
from bdflow_rt.evaluate.environment import environment
from bdflow_rt.evaluate.pictures import list_pictures
from bdflow_rt.evaluate.quality import evaluate
from bdflow_rt.export.onnx import export_model
from bdflow_rt.files import sync_folder, write_atomically
from bdflow_rt.models.io import Storage
from bdflow_rt.rescaler import Rescaler
from bdflow_rt.training.checkpoint import load_checkpoint
from bdflow_rt.training.publish import publish
from bdflow_rt.training.runlog import read_history
from bdflow_rt.training.trainer import CHECKPOINT_FILE, LOG_FILE
from bdflow_rt.zoo.card import CARD_FILE, ModelCard
from bdflow_rt.zoo.registry import SHIPPED
from tools.measured import RESULTS

_KEPT = ("psnr_y", "ssim_y", "lr_psnr", "file_bytes", "chunk_bytes")


def release(
    run: pathlib.Path,
    *,
    name: str,
    version: int,
    folders: list[pathlib.Path],
    note: str,
    storage: Storage = "float16",
    zoo: pathlib.Path = SHIPPED,
) -> tuple[ModelCard, list[dict[str, Any]]]:
    """Publish a run into the zoo, measure it in float32 and bfloat16, and write that into its card.

    Args:
        run: folder of the run.
        name, version: of the model.
        folders: of pictures to measure on.
        note: for the card: what a user of the weights must know.
        storage: of its weights, as for `save_model`; what is measured has them rounded already.
        zoo: folder of model folders.

    Returns:
        The card, and per folder what `evaluate` measured through files in float32.

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
        card = export_model(publish(run / CHECKPOINT_FILE, folder, name=name, version=version, storage=storage))
        results, loss_db = measure(card, folders)
        metrics = {
            one["folder"]: {key: None if (mean := one["means"][key]) is None else round(mean, 4) for key in _KEPT}
            for one in results
        }
        details = {**card.details, "note": note, "metrics": metrics}
        precisions = {} if loss_db is None else {"bf16": loss_db}
        card = dataclasses.replace(card, details=details, precisions=precisions)
        write_atomically(folder / CARD_FILE, card.to_json().encode())
        # A rename, so that there is the whole model or none; over one that came up meanwhile it fails.
        try:
            folder.rename(final)
        except OSError as error:
            raise UnwritableOutputError(
                f"'{final}' cannot be made ({error.strerror}); choose the next version."
            ) from None
        sync_folder(zoo)
    return ModelCard.read(final), results


def measure(card: ModelCard, folders: list[pathlib.Path]) -> tuple[list[dict[str, Any]], float | None]:
    """What `evaluate` finds per folder, and the largest mean PSNR in dB that bfloat16 costs on any of them.

    The loss is None where it was not measured, since this processor has no bfloat16 or OpenVINO is not here, or where
    it is infinite; the card then does not allow bfloat16.
    """
    with Rescaler(card) as exact:
        results = [{"folder": folder.name, **_evaluate(exact, folder)} for folder in folders]
    # Whether bfloat16 is allowed is what is being found out.
    allowed = dataclasses.replace(card, precisions={"bf16": 0.0})
    try:
        with Rescaler(allowed, backend="openvino", precision="bf16") as rough:
            rough_psnr = [_psnr_y(_evaluate(rough, folder)) for folder in folders]
    except BackendUnavailableError:
        return results, None
    # Equal ones, infinite or not, have no loss.
    loss_db = max(0.0 if a == b else a - b for a, b in zip(map(_psnr_y, results), rough_psnr, strict=True))
    return results, round(loss_db, 4) if math.isfinite(loss_db) else None


def _evaluate(rescaler: Rescaler, folder: pathlib.Path) -> dict[str, Any]:
    """The quality on a folder, every picture of which must be measured: a card's figures are of the whole set."""
    result = evaluate(rescaler, list_pictures(folder))
    if result["failed"]:
        first = result["failed"][0]
        raise CorruptImageError(f"Of '{folder}', '{first['name']}' was not measured: {first['reason']}")
    return result


def _psnr_y(result: dict[str, Any]) -> float:
    mean: float | None = result["means"]["psnr_y"]
    return math.inf if mean is None else mean


def learning_curve(runs: list[pathlib.Path]) -> dict[str, Any]:
    """What the validations of a model's runs measured on the way, and where the first one began; plain JSON types.

    Args:
        runs: folders of the runs that led to it, each started from the one before; steps and seconds add up.

    Raises:
        CheckpointError, UnreadableFileError: a run's checkpoint or log is missing or damaged.
    """
    curve: list[dict[str, Any]] = []
    steps, elapsed_s, started_from = 0, 0.0, None
    for run in runs:
        checkpoint = load_checkpoint(run / CHECKPOINT_FILE)
        if run is runs[0]:
            started_from = checkpoint.get("started_from") or checkpoint["config"].get("start_from")
        curve += [
            {
                "step": steps + entry["step"],
                "elapsed_s": elapsed_s + entry["elapsed_s"],
                "psnr_y": entry["psnr_y"],
                "lr_psnr": entry["lr_psnr"],
            }
            for entry in read_history(run / LOG_FILE)
            if entry["event"] == "validation"
        ]
        steps, elapsed_s = steps + checkpoint["step"], elapsed_s + checkpoint["elapsed_s"]
    return {"started_from": started_from and pathlib.PurePath(started_from).name, "validations": curve}


def main() -> None:
    """Release, then write the full result of every folder, and the learning curve, to bench/results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=pathlib.Path)
    parser.add_argument("--name", required=True)
    parser.add_argument("--version", type=int, required=True)
    parser.add_argument("--evaluate", type=pathlib.Path, action="append", required=True, metavar="DIR")
    parser.add_argument(
        "--earlier", type=pathlib.Path, action="append", default=[], metavar="RUNDIR",
        help="run that this one started from, for the learning curve; the first one first",
    )  # fmt: skip
    parser.add_argument("--note", required=True, help="for the card: what users of the weights must know")
    parser.add_argument(
        "--storage", choices=get_args(Storage), default="float16",
        help="of the weights; int8 takes about half the bytes of float16 (default: %(default)s)",
    )  # fmt: skip
    args = parser.parse_args()
    curve = learning_curve([*args.earlier, args.run])  # first: a release is not taken back where that fails
    card, results = release(
        args.run, name=args.name, version=args.version, folders=args.evaluate, note=args.note, storage=args.storage
    )
    name = f"{card.name}-{card.weights_sha256[:12]}"
    for result in results:
        write_result(RESULTS / "quality" / f"{name}-{result['folder']}.json", result)
    config = {**card.details["training"], "model": card.config.to_dict()}
    write_result(RESULTS / "training" / f"{name}.json", {**environment(card), "config": config, **curve})
    sys.stdout.write(card.to_json())


if __name__ == "__main__":
    sys.exit(run_command("release", main))
