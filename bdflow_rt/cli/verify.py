"""`bdflow verify MODEL`: whether every backend here computes what the model computes in PyTorch."""

from __future__ import annotations

import argparse
import dataclasses
import math
import pathlib
from collections.abc import Collection, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any, cast, get_args

import numpy as np
from numpy.typing import NDArray

from bdflow_rt.cli.options import add_max_pixels, add_output_options, max_pixels_option
from bdflow_rt.cli.output import print_json, print_text, progress
from bdflow_rt.containers.image import read_picture
from bdflow_rt.engines.engine import Backend, Engine, Flavour, Precision
from bdflow_rt.engines.select import choose_precision, open_engine, select
from bdflow_rt.errors import BackendError, BackendUnavailableError, OutsideProfileError, VerificationError
from bdflow_rt.metrics import psnr_y
from bdflow_rt.zoo import Direction, ModelCard, find_model

MAX_SIDE = 512
"""Pixels: the reference takes seconds for such a picture, and profiles of engines begin and end beyond it."""
SIZES = ((251, 379), (384, 256))
"""(height, width) of the built-in pictures: one with prime sides, one without padding for scales to 64."""
ROUNDING_DB = 10 * math.log10(255**2)
"""PSNR of a picture that is off by 1 in every value: what is nearer to the original is not told apart."""
_FEW = 2
"""Values that may always differ: in a picture of a few pixels one is a large share."""

Arrays = dict[str, NDArray[Any]]
Picture = NDArray[np.uint8]


@dataclass(frozen=True)
class Limits:
    """How far a backend may be from the reference.

    Attributes:
        levels: output -> largest difference allowed in 8-bit levels, or levels of the boundary.
        share: of the values that may differ at all; None does not count.
        loss_db: PSNR that the restored picture may lose against the original.
    """

    levels: dict[str, int]
    share: float | None
    loss_db: float


_SINGLE = Limits({"lr": 1, "boundary": 1, "image": 1}, 0.01, 0.03)
# A boundary level flips where it lies on the edge between two, and the picture follows: the loss judges that.
_HALF = Limits({"lr": 1, "boundary": 1}, None, 0.03)


@dataclass(frozen=True)
class Runner:
    """A backend on a device in a precision."""

    backend: Backend
    device: str
    precision: Precision

    def __str__(self) -> str:
        return f"{self.backend} {self.precision} on {self.device}"


REFERENCE = Runner("torch", "cpu", "fp32")
COMPARED: dict[Runner, Limits] = {
    Runner("openvino", "cpu", "fp32"): _SINGLE,
    Runner("torch", "cuda", "fp32"): _SINGLE,
    Runner("torch", "cuda", "fp16"): _HALF,
    **{Runner(flavour, "cuda", "fp16"): _HALF for flavour in cast(tuple[Flavour, ...], get_args(Flavour))},
}
"""All that a Rescaler can be asked for but bfloat16, whose loss is in the model's card."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help="name or folder of a model")
    parser.add_argument(
        "pictures",
        nargs="*",
        type=pathlib.Path,
        help=f"HR pictures; at most their middle {MAX_SIDE} x {MAX_SIDE} pixels are used (default: two built-in ones)",
    )
    parser.add_argument(
        "--backend",
        action="append",
        choices=tuple(dict.fromkeys(runner.backend for runner in COMPARED)),
        help="to compare with PyTorch on the CPU; may be repeated (default: all)",
    )
    add_max_pixels(parser)
    add_output_options(parser)


def run(args: argparse.Namespace) -> int:
    runners = [runner for runner in COMPARED if not args.backend or runner.backend in args.backend]
    card = find_model(args.model)
    pictures = dict(_pictures(args.pictures, card.interface.scale, **max_pixels_option(args)))
    with closing(_Pair(card, REFERENCE)) as reference:
        wanted = {
            name: reference.round_trip(picture)
            for name, picture in progress(pictures.items(), label="reference", quiet=args.quiet)
        }
    backends = [
        _verify(card, runner, pictures, wanted) for runner in progress(runners, label="backends", quiet=args.quiet)
    ]
    sizes = {name: list(picture.shape[:2]) for name, picture in pictures.items()}
    report = {"model": card.id, "reference": str(REFERENCE), "pictures": sizes, "backends": backends}
    if args.json:
        print_json(report)
    else:
        print_text("\n".join(_lines(report)))
    _judge(card, backends, asked=args.backend or ())
    return 0


def _judge(card: ModelCard, backends: list[dict[str, Any]], *, asked: Collection[str]) -> None:
    """Raise VerificationError unless all that ran, and all of the backends asked for by name, have passed."""
    faults = [f"{one['name']}: {fault}" for one in backends for fault in one["faults"]]
    faults += [
        f"{one['name']} did not run: {one['reason'].removesuffix('.')}"
        for one in backends
        if one["backend"] in asked and one["reason"]
    ]
    if not faults and not any(one["verdict"] == "passed" for one in backends):
        faults = ["no backend ran besides the reference; `bdflow doctor` says what is missing"]
    if faults:
        advice = ". Use a backend that passed, and report the picture if an installation that is up to date does this."
        wrong = any(one["faults"] for one in backends)
        raise VerificationError(f"Model {card.id} is not verified here: {'; '.join(faults)}{advice if wrong else '.'}")


class _Pair:
    """Both directions of a model on one runner."""

    def __init__(self, card: ModelCard, runner: Runner) -> None:
        selection = select(runner.backend, runner.device)
        choose_precision(selection, card, runner.precision)
        self._engines: dict[Direction, Engine] = {}
        try:
            for direction in cast(tuple[Direction, ...], ("downscale", "upscale")):
                self._engines[direction] = open_engine(
                    selection, card, direction, precision=runner.precision, threads=None
                )
        except BaseException:
            self.close()
            raise

    def run(self, direction: Direction, inputs: Arrays) -> Arrays:
        return {name: value[0] for name, value in self._engines[direction].run(_batch(inputs)).items()}

    def round_trip(self, picture: Picture) -> Arrays:
        packet = self.run("downscale", {"image": picture})
        return {**packet, **self.run("upscale", packet)}

    def close(self) -> None:
        for engine in self._engines.values():
            engine.close()


def _batch(arrays: Arrays) -> Arrays:
    return {name: value[None] for name, value in arrays.items()}


def _verify(card: ModelCard, runner: Runner, pictures: dict[str, Picture], wanted: dict[str, Arrays]) -> dict[str, Any]:
    """What one runner came to; `reason` is why it did not run, `faults` what is beyond its limits."""
    found: list[dict[str, Any]] = []
    reason, faults = None, []
    try:
        with closing(_Pair(card, runner)) as pair:
            found = [_measure(pair, picture, wanted[name]) | {"name": name} for name, picture in pictures.items()]
    except (BackendUnavailableError, OutsideProfileError) as error:
        reason = str(error)
    except BackendError as error:
        faults = [str(error)]
    faults += [f"{one['name']}: {fault}" for one in found for fault in _faults(one, COMPARED[runner])]
    verdict = "failed" if faults else "not run" if reason else "passed"
    return {
        "name": str(runner),
        **dataclasses.asdict(runner),
        "verdict": verdict,
        "reason": reason,
        "faults": faults,
        "limits": dataclasses.asdict(COMPARED[runner]),
        "pictures": [] if reason else found,
    }


def _measure(pair: _Pair, picture: Picture, wanted: Arrays) -> dict[str, Any]:
    """Both directions on the reference's own inputs, then the whole way on the backend's own packet."""
    packet = {name: value for name, value in wanted.items() if name != "image"}
    found = pair.run("downscale", {"image": picture})
    own = pair.run("upscale", found)["image"]
    restored = pair.run("upscale", packet)["image"]
    differences = {name: _difference(found[name], wanted[name]) for name in packet}
    reference_db, own_db = (psnr_y(image, picture, border=0) for image in (wanted["image"], own))
    return {
        "downscale": differences,
        "upscale": {"image": _difference(restored, wanted["image"])},
        "psnr_to_reference_db": _finite(psnr_y(restored, wanted["image"], border=0)),
        "psnr_to_original_db": _finite(own_db),
        "reference_psnr_to_original_db": _finite(reference_db),
        "loss_db": min(reference_db, ROUNDING_DB) - min(own_db, ROUNDING_DB),
    }


def _difference(a: NDArray[Any], b: NDArray[Any]) -> dict[str, int]:
    distance = np.abs(a.astype(np.int16) - b)
    return {"largest": int(distance.max()), "differing": int(np.count_nonzero(distance)), "values": distance.size}


def _share(found: dict[str, int]) -> float:
    return found["differing"] / found["values"]


def _finite(decibels: float) -> float | None:
    """JSON has no infinity: None is for equal pictures."""
    return decibels if math.isfinite(decibels) else None


def _faults(one: dict[str, Any], limits: Limits) -> Iterator[str]:
    for name, found in {**one["downscale"], **one["upscale"]}.items():
        if found["largest"] > limits.levels.get(name, math.inf):
            yield f"{name} differs by {found['largest']} levels, and {limits.levels[name]} is allowed"
        if limits.share is not None and found["differing"] > max(limits.share * found["values"], _FEW):
            yield f"{_share(found):.2%} of {name} differs, and {limits.share:.2%} is allowed"
    if one["loss_db"] > limits.loss_db:
        yield f"the restored picture loses {one['loss_db']:.3f} dB, and {limits.loss_db} is allowed"


def _pictures(paths: list[pathlib.Path], scale: int, **options: Any) -> Iterator[tuple[str, Picture]]:
    """Name -> (H, W, 3), H and W multiples of the scale."""
    for index, (height, width) in enumerate(() if paths else SIZES):
        yield f"built-in {index + 1}", _padded(builtin_picture(height, width, seed=index), scale)
    for path in paths:
        yield str(path), _padded(_middle(read_picture(path, **options).pixels), scale)


def _middle(pixels: Picture) -> Picture:
    rows, columns = (
        slice(max(0, side - MAX_SIDE) // 2, max(0, side - MAX_SIDE) // 2 + MAX_SIDE) for side in pixels.shape[:2]
    )
    return pixels[rows, columns]


def _padded(pixels: Picture, scale: int) -> Picture:
    height, width = pixels.shape[:2]
    return np.pad(pixels, ((0, -height % scale), (0, -width % scale), (0, 0)), mode="edge")


def builtin_picture(height: int, width: int, *, seed: int) -> Picture:
    """A picture with what photographs have: a 1/f spectrum, and flat and striped shapes with sharp edges.

    Args:
        height, width: in pixels.
        seed: the same one gives the same picture.

    Returns:
        (height, width, 3) uint8.
    """
    rng = np.random.default_rng(seed)
    falling = 1 / np.maximum(np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)), 1 / max(height, width))
    noise = np.fft.irfft2(np.fft.rfft2(rng.normal(size=(3, height, width))) * falling, s=(height, width))
    picture = np.moveaxis(128 + 40 * noise / noise.std(), 0, -1)
    y, x = np.mgrid[0:height, 0:width]
    for _ in range(12):
        (top, left), radius = rng.uniform(0, 1, 2) * (height, width), rng.uniform(0.05, 0.25) * min(height, width)
        waves = rng.uniform(0, 40) * np.sin(x / rng.uniform(1, 9) + y / rng.uniform(1, 9))
        shape = np.hypot(y - top, x - left) < radius if rng.random() < 0.5 else abs(y - top) + abs(x - left) < radius
        picture[shape] = (rng.uniform(20, 235, 3) + waves[..., None])[shape]
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8)


def _lines(report: dict[str, Any]) -> Iterator[str]:
    count = len(report["pictures"])
    yield f"{report['model']} on {count} picture{'s' * (count != 1)}, against {report['reference']}"
    rows: list[tuple[str, ...]] = [
        ("backend", "direction", "output", "largest", "differing", "PSNR to it", "restored", "loss dB")
    ]
    for one in report["backends"]:
        rows += _rows(one)
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    if len(rows) > 1:
        yield from ("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows)
    for one in report["backends"]:
        why = "; ".join([one["reason"]] if one["reason"] else one["faults"])
        yield f"{one['name']}: {one['verdict']}" + (f": {why}" if why else "")


def _rows(one: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    """One row per direction and output: the worst of all pictures."""
    pictures = one["pictures"]
    for direction in ("downscale", "upscale"):
        for name in pictures[0][direction] if pictures else ():
            found = [picture[direction][name] for picture in pictures]
            cells = [str(max(f["largest"] for f in found)), f"{max(map(_share, found)):.3%}"]
            if direction == "upscale":
                cells += [_worst(pictures, key) for key in ("psnr_to_reference_db", "psnr_to_original_db")]
                cells.append(f"{max(picture['loss_db'] for picture in pictures):.3f}")
            cells += ["-"] * (5 - len(cells))
            yield (one["name"], direction, name, *cells)


def _worst(pictures: list[dict[str, Any]], key: str) -> str:
    values = [picture[key] for picture in pictures if picture[key] is not None]
    return f"{min(values):.2f}" if values else "exact"
