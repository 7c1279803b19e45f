"""Whether every backend here computes what a model computes in PyTorch."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from bdflow_rt.engines.backends import BACKENDS
from bdflow_rt.engines.engine import Engine
from bdflow_rt.engines.select import choose_precision, open_engine, select
from bdflow_rt.errors import BackendError, BackendUnavailableError, OutsideProfileError, VerificationError
from bdflow_rt.files import finite
from bdflow_rt.metrics import psnr_y
from bdflow_rt.options import Backend, Precision
from bdflow_rt.picture import UInt8Array, sample_picture
from bdflow_rt.zoo import Direction, ModelCard

MIDDLE_SIDE = 512
"""Pixels: the reference takes seconds for such a picture, and profiles of engines begin and end beyond it."""
SIZES = ((251, 379), (384, 256))
"""(height, width) of the built-in pictures: one with prime sides, one without padding for scales to 64."""
ROUNDING_DB = 10 * math.log10(255**2)
"""PSNR of a picture that is off by 1 in every value: what is nearer to the original is not told apart."""
_FEW = 2
"""Values that may always differ: in a picture of a few pixels one is a large share."""

Arrays = dict[str, NDArray[Any]]


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
class Setup:
    """A backend on a device in a precision."""

    backend: Backend
    device: str
    precision: Precision

    def __str__(self) -> str:
        return f"{self.backend} {self.precision} on {self.device}"


REFERENCE = Setup("torch", "cpu", "fp32")
COMPARED: dict[Setup, Limits] = {
    setup: _SINGLE if precision == "fp32" else _HALF
    for info in BACKENDS.values()
    for device, precisions in info.precisions.items()
    for precision in reversed(precisions)
    if precision != "bf16" and (setup := Setup(info.name, device, precision)) != REFERENCE
}
"""All that a Rescaler can be asked for but bfloat16, whose loss is in the model's card."""


def verify_model(
    card: ModelCard,
    pictures: Mapping[str, UInt8Array],
    *,
    backends: Collection[Backend] = (),
    track: Callable[[Iterable[Any], str], Iterable[Any]] = lambda items, label: items,
) -> dict[str, Any]:
    """Compare every backend in every precision with PyTorch in float32 on the CPU.

    Args:
        card: of the model.
        pictures: name -> (H, W, 3) uint8, H and W multiples of the scale; `sample_pictures` has some.
        backends: to compare; none is all.
        track: wraps what is gone through, with a label, for a progress bar.

    Returns:
        Plain JSON types: model, reference, sizes of the pictures, and per backend its verdict "passed", "failed" or
        "not run", the reason, its errors, limits and differences. `check_report` judges it.

    Raises:
        BackendUnavailableError: PyTorch is not here.
    """
    setups = [setup for setup in COMPARED if not backends or setup.backend in backends]
    with closing(_Pair(card, REFERENCE)) as reference:
        expected = {name: reference.round_trip(picture) for name, picture in track(pictures.items(), "reference")}
    return {
        "model": card.id,
        "reference": str(REFERENCE),
        "pictures": {name: list(picture.shape[:2]) for name, picture in pictures.items()},
        "backends": [_verify(card, setup, pictures, expected) for setup in track(setups, "backends")],
    }


def check_report(report: Mapping[str, Any], *, asked: Collection[str] = ()) -> None:
    """Check that something ran, and that all that ran, and all backends asked for by name, have passed.

    Raises:
        VerificationError: what did not.
    """
    backends = report["backends"]
    errors = [f"{one['name']}: {error}" for one in backends for error in one["errors"]]
    errors += [
        f"{one['name']} did not run: {one['reason'].removesuffix('.')}"
        for one in backends
        if one["backend"] in asked and one["reason"]
    ]
    if not errors and not any(one["verdict"] == "passed" for one in backends):
        errors = ["no backend ran besides the reference; `bdflow doctor` says what is missing"]
    if errors:
        advice = ". Use a backend that passed, and report the picture if an installation that is up to date does this."
        wrong = any(one["errors"] for one in backends)
        raise VerificationError(
            f"Model {report['model']} is not verified here: {'; '.join(errors)}{advice if wrong else '.'}"
        )


class _Pair:
    """Both directions of a model on one setup."""

    def __init__(self, card: ModelCard, setup: Setup) -> None:
        selection = select(setup.backend, setup.device)
        choose_precision(selection, card, setup.precision)
        self._engines: dict[Direction, Engine] = {}
        try:
            for direction in cast(tuple[Direction, ...], ("downscale", "upscale")):
                self._engines[direction] = open_engine(
                    selection, card, direction, precision=setup.precision, threads=None
                )
        except BaseException:
            self.close()
            raise

    def run(self, direction: Direction, inputs: Arrays) -> Arrays:
        return {name: value[0] for name, value in self._engines[direction].run(_batch(inputs)).items()}

    def round_trip(self, picture: UInt8Array) -> Arrays:
        packet = self.run("downscale", {"image": picture})
        return {**packet, **self.run("upscale", packet)}

    def close(self) -> None:
        for engine in self._engines.values():
            engine.close()


def _batch(arrays: Arrays) -> Arrays:
    return {name: value[None] for name, value in arrays.items()}


def _verify(
    card: ModelCard, setup: Setup, pictures: Mapping[str, UInt8Array], expected: dict[str, Arrays]
) -> dict[str, Any]:
    """What one setup came to; `reason` is why it did not run, `errors` what is beyond its limits."""
    found: list[dict[str, Any]] = []
    reason, errors = None, []
    try:
        with closing(_Pair(card, setup)) as pair:
            found = [_measure(pair, picture, expected[name]) | {"name": name} for name, picture in pictures.items()]
    except (BackendUnavailableError, OutsideProfileError) as error:
        reason = str(error)
    except BackendError as error:
        errors = [str(error)]
    errors += [f"{one['name']}: {error}" for one in found for error in _errors(one, COMPARED[setup])]
    verdict = "failed" if errors else "not run" if reason else "passed"
    return {
        "name": str(setup),
        **dataclasses.asdict(setup),
        "verdict": verdict,
        "reason": reason,
        "errors": errors,
        "limits": dataclasses.asdict(COMPARED[setup]),
        "pictures": [] if reason else found,
    }


def _measure(pair: _Pair, picture: UInt8Array, expected: Arrays) -> dict[str, Any]:
    """Both directions on the reference's own inputs, then the whole way on the backend's own packet."""
    packet = {name: value for name, value in expected.items() if name != "image"}
    found = pair.run("downscale", {"image": picture})
    own = pair.run("upscale", found)["image"]
    restored = pair.run("upscale", packet)["image"]
    differences = {name: _difference(found[name], expected[name]) for name in packet}
    reference_db, own_db = (psnr_y(image, picture, border=0) for image in (expected["image"], own))
    return {
        "downscale": differences,
        "upscale": {"image": _difference(restored, expected["image"])},
        "psnr_to_reference_db": finite(psnr_y(restored, expected["image"], border=0)),
        "psnr_to_original_db": finite(own_db),
        "reference_psnr_to_original_db": finite(reference_db),
        "loss_db": min(reference_db, ROUNDING_DB) - min(own_db, ROUNDING_DB),
    }


def _difference(a: NDArray[Any], b: NDArray[Any]) -> dict[str, int]:
    distance = np.abs(a.astype(np.int16) - b)
    return {"largest": int(distance.max()), "differing": int(np.count_nonzero(distance)), "values": distance.size}


def share(found: Mapping[str, int]) -> float:
    """Of the values that differ."""
    return found["differing"] / found["values"]


def _errors(one: dict[str, Any], limits: Limits) -> Iterator[str]:
    for name, found in {**one["downscale"], **one["upscale"]}.items():
        if found["largest"] > limits.levels.get(name, math.inf):
            yield f"{name} differs by {found['largest']} levels, and {limits.levels[name]} is allowed"
        if limits.share is not None and found["differing"] > max(limits.share * found["values"], _FEW):
            yield f"{share(found):.2%} of {name} differs, and {limits.share:.2%} is allowed"
    if one["loss_db"] > limits.loss_db:
        yield f"the restored picture loses {one['loss_db']:.3f} dB, and {limits.loss_db} is allowed"


def sample_pictures(scale: int) -> dict[str, UInt8Array]:
    """Name -> (H, W, 3) of pictures that are drawn, H and W multiples of the scale."""
    return {
        f"sample {index}": as_verified(sample_picture(*size, seed=index), scale) for index, size in enumerate(SIZES, 1)
    }


def as_verified(pixels: UInt8Array, scale: int) -> UInt8Array:
    """The middle of a picture, at most `MIDDLE_SIDE` to each side, with its edge repeated to multiples of the scale."""
    height, width = pixels.shape[:2]
    top, left = (max(0, side - MIDDLE_SIDE) // 2 for side in (height, width))
    middle = pixels[top : top + MIDDLE_SIDE, left : left + MIDDLE_SIDE]
    height, width = middle.shape[:2]
    return np.pad(middle, ((0, -height % scale), (0, -width % scale), (0, 0)), mode="edge")
