"""What a JPEG of the LR picture costs networks that were trained with and without one, bytes beside quality.

    python -m bdflow_rt.bench.search bench/robustness.toml --data photos/ --validation Set14 --runs runs/robustness \\
        --output bench/results/robustness_training.json
    python -m bdflow_rt.bench.robustness bench/robustness.toml --runs runs/robustness --folder Set14 \\
        --output bench/results/robustness.json

Every trial's averaged weights, as they would be published, take each picture down; its LR picture becomes a JPEG file
(4:2:0) of each quality, and comes back with the exact boundary map. Bytes are those of the JPEG file and of the
packet's chunk. "At equal bytes", of both or of the JPEG file alone, is interpolated along the trial's own curve,
linearly in the logarithm of the mean bytes.
"""

from __future__ import annotations

import argparse
import pathlib
import sys
import tempfile
from typing import Any

import numpy as np

from bdflow_rt.bench.command import run_command, write_result
from bdflow_rt.bench.rate_distortion import mean_of
from bdflow_rt.bench.search import Trial, read_trials, run_folder
from bdflow_rt.containers.chunks import PACKET_CHUNK, walk
from bdflow_rt.containers.image import read_picture
from bdflow_rt.containers.png import encode_png
from bdflow_rt.errors import ArgumentError
from bdflow_rt.evaluate.codecs import JPEG, decode, through
from bdflow_rt.evaluate.environment import environment
from bdflow_rt.evaluate.pictures import list_pictures
from bdflow_rt.evaluate.reference import Reference
from bdflow_rt.metrics import bicubic_downscale, bicubic_resize, psnr
from bdflow_rt.picture import Picture
from bdflow_rt.rescaler import Rescaler
from bdflow_rt.training.publish import publish
from bdflow_rt.training.trainer import CHECKPOINT_FILE

QUALITIES = (10, 20, 30, 40, 50, 60, 70, 75, 80, 85, 90, 95)
EQUAL_QUALITY = 75
"""The bytes at which all are compared: those of the bicubic LR picture at this quality."""

Curve = dict[int, dict[str, float]]
"""By quality: mean bytes and PSNR-Y in dB."""


def at_bytes(curve: Curve, size: float, *, besides: float = 0.0) -> float | None:
    """PSNR-Y where a curve has that many bytes, without those of something `besides`; None outside of it."""
    points = sorted((point["bytes"] - besides, point["psnr_y"]) for point in curve.values())
    sizes, values = zip(*points, strict=True)
    if not sizes[0] <= size <= sizes[-1]:
        return None
    return float(np.interp(np.log(size), np.log(sizes), values))


def measure_trial(trial: Trial, runs: pathlib.Path, pictures: list[Picture]) -> dict[str, Any]:
    """The weights of a finished trial: lossless, and along `QUALITIES`.

    Raises:
        CheckpointError: the trial has not been trained.
    """
    with tempfile.TemporaryDirectory() as folder:
        card = publish(run_folder(trial, runs) / CHECKPOINT_FILE, pathlib.Path(folder, "m"), name="trial", version=1)
        with Rescaler(card, backend="torch") as rescaler:
            measured = [_measure(rescaler, picture) for picture in pictures]
    return {
        "name": trial.name,
        "group": trial.group,
        "bits": trial.config.model.bits,
        "iterations": card.details["iterations"],
        "pixels_seen": card.pixels_seen,
        **mean_of(measured),
    }


def _measure(rescaler: Rescaler, picture: Picture) -> dict[str, Any]:
    """One picture: figures by their name, and those of the curve by quality."""
    reference, scale = Reference(picture), rescaler.card.interface.scale
    packet = rescaler.downscale(picture)
    chunk_bytes = len(walk(memoryview(encode_png(packet))).kept[PACKET_CHUNK][0])
    curve = {}
    for quality in QUALITIES:
        lossy, lr_bytes = through(packet, JPEG, quality)
        restored = rescaler.upscale(lossy, force=True)
        curve[quality] = {"bytes": lr_bytes + chunk_bytes, "psnr_y": reference.psnr_y(restored, border=scale)}
    return {
        "psnr_y": reference.psnr_y(rescaler.upscale(packet), border=scale),
        "lr_psnr": psnr(packet.lr, bicubic_downscale(picture.pixels, scale=scale)),
        "chunk_bytes": chunk_bytes,
        "jpeg": curve,
    }


def measure_rivals(pictures: list[Picture], *, scale: int) -> dict[str, Any]:
    """Without a network: bicubic down and up with the LR as JPEG, and the HR picture as JPEG."""
    small, whole = [], []
    for picture in pictures:
        (height, width), reference = picture.pixels.shape[:2], Reference(picture)
        lr = Picture(bicubic_downscale(picture.pixels, scale=scale))
        small_curve, whole_curve = {}, {}
        for quality in QUALITIES:
            data = JPEG.encode(lr, quality)
            enlarged = bicubic_resize(decode(data), scale=scale)[:height, :width]
            small_curve[quality] = {"bytes": len(data), "psnr_y": reference.psnr_y(enlarged, border=scale)}
            data = JPEG.encode(picture, quality)
            whole_curve[quality] = {"bytes": len(data), "psnr_y": reference.psnr_y(decode(data), border=scale)}
        small.append({"jpeg": small_curve})
        whole.append({"jpeg": whole_curve})
    return {"bicubic": mean_of(small), "hr": mean_of(whole)}


def main() -> None:
    """Measure all trials and write one JSON file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trials", type=pathlib.Path, help="TOML file, as for bench.search")
    parser.add_argument("--runs", type=pathlib.Path, required=True, help="folder of the trials' runs")
    parser.add_argument("--folder", type=pathlib.Path, required=True, help="of pictures")
    parser.add_argument("--output", type=pathlib.Path, required=True)
    args = parser.parse_args()
    trials = read_trials(args.trials)
    if len(scales := {trial.config.model.scale for trial in trials}) > 1:
        raise ArgumentError(f"{args.trials} has trials of the scales {sorted(scales)}; they are compared at one scale.")
    pictures = [read_picture(path) for path in list_pictures(args.folder)]
    rivals = measure_rivals(pictures, scale=scales.pop())
    size = rivals["bicubic"]["jpeg"][EQUAL_QUALITY]["bytes"]
    rows = [measure_trial(trial, args.runs, pictures) for trial in trials]
    for row in (*rows, *rivals.values()):
        row["psnr_y_at_equal_bytes"] = at_bytes(row["jpeg"], size)
        row["psnr_y_at_equal_lr_bytes"] = at_bytes(row["jpeg"], size, besides=row.get("chunk_bytes", 0.0))
    base = trials[0].config
    result = {
        **environment(),
        "folder": args.folder.name,
        "crop": base.crop,
        "batch": base.batch,
        "equal_bytes": size,
        "rivals": rivals,
        "trials": rows,
    }
    write_result(args.output, result)


if __name__ == "__main__":
    sys.exit(run_command("robustness", main))
