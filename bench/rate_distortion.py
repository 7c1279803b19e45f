"""Bytes against quality: a model's files beside JPEG, WebP and AVIF of the HR picture.

    python -m bdflow_rt.bench.rate_distortion --folder Set5 --folder Set14 --model bdflow-x2 --model bdflow-x4 \\
        --output bench/results/rate_distortion.json

Every picture goes through the bytes of the files that would be stored, and comes back from them alone:

- our packet, the LR as PNG with the boundary map in it; and the LR as lossless WebP, the boundary beside it;
- each codec at the largest quality whose file is no larger than ours, and over a range of qualities;
- both pictures without us: the bicubic LR as PNG, and each codec at the lowest quality that is as good as our HR.

PSNR is of the luma without the border that published tables leave out: `scale` pixels for a model and what it is
compared with, the largest scale for the codecs' curves. LPIPS (AlexNet) is left out where BDFLOW_DATA names no weights.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import math
import pathlib
import statistics
import sys
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bdflow_rt.bench.command import run_command, write_result
from bdflow_rt.containers.chunks import PACKET_CHUNK, walk
from bdflow_rt.containers.image import read_picture
from bdflow_rt.containers.png import decode_png, encode_png
from bdflow_rt.errors import MissingFileError
from bdflow_rt.evaluate.codecs import (
    Codec,
    decode,
    encode_png_plain,
    encode_webp_lossless,
    largest_quality,
    rivals,
    smallest_quality,
)
from bdflow_rt.evaluate.environment import environment
from bdflow_rt.evaluate.pictures import list_pictures
from bdflow_rt.metrics import bicubic_downscale, psnr_y
from bdflow_rt.picture import Picture
from bdflow_rt.rescaler import Rescaler

CURVE = (5, 10, 20, 30, 40, 50, 60, 70, 80, 85, 90, 95, 100)
"""Qualities of the codecs' curves."""
LPIPS_MIN_SIDE = 31
"""Smaller pictures have no LPIPS (AlexNet)."""

Pixels = NDArray[np.uint8]
Distance = Callable[[Pixels, Pixels], float]


class Original:
    """One HR picture, what others are scored against; a codec's file of a quality is made and scored once.

    Args:
        picture: the HR picture.
        distance: LPIPS of two pictures, or None.
    """

    def __init__(self, picture: Picture, distance: Distance | None) -> None:
        self.picture = picture
        self._distance = distance
        self.coded = functools.cache(lambda codec, quality: codec.encode(picture, quality))
        self._decoded = functools.cache(lambda codec, quality: self._compare(self.coded(codec, quality)))

    @property
    def grey(self) -> bool:
        """A grey picture is its own luma, as in published tables."""
        return self.picture.colour == "grey"

    def rate(self, size: int) -> dict[str, float]:
        """A number of bytes, also as bits per HR pixel."""
        height, width = self.picture.pixels.shape[:2]
        return {"bytes": size, "bits_per_pixel": 8 * size / (height * width)}

    def psnr_y(self, pixels: Pixels, *, border: int) -> float:
        """PSNR-Y in dB of (H, W, 3) uint8 pixels."""
        one, other = (image[:, :, 0] if self.grey else image for image in (pixels, self.picture.pixels))
        return psnr_y(one, other, border=border)

    def lpips(self, pixels: Pixels) -> float | None:
        """LPIPS of (H, W, 3) uint8 pixels; None where it is not measured."""
        if self._distance is None or min(pixels.shape[:2]) < LPIPS_MIN_SIDE:
            return None
        return self._distance(pixels, self.picture.pixels)

    def score(self, pixels: Pixels, *, border: int) -> dict[str, float | None]:
        """Both measures."""
        return {"psnr_y": self.psnr_y(pixels, border=border), "lpips": self.lpips(pixels)}

    def lossy(self, codec: Codec, quality: int, *, border: int) -> dict[str, float | None]:
        """Rate and scores of a codec at a quality."""
        pixels, lpips = self._decoded(codec, quality)
        size = len(self.coded(codec, quality))
        return {"quality": quality, **self.rate(size), "psnr_y": self.psnr_y(pixels, border=border), "lpips": lpips}

    def at_most(self, codec: Codec, limit: int, *, border: int) -> dict[str, float | None] | None:
        """`lossy` at the largest quality with at most `limit` bytes; None where there is none."""
        quality = largest_quality(lambda quality: len(self.coded(codec, quality)), limit)
        return None if quality is None else self.lossy(codec, quality, border=border)

    def at_least(self, codec: Codec, psnr_y: float, *, border: int) -> dict[str, float | None] | None:
        """`lossy` at the lowest quality with at least that PSNR-Y in dB; None where there is none."""

        def is_enough(quality: int) -> bool:
            pixels, _ = self._decoded(codec, quality)
            return self.psnr_y(pixels, border=border) >= psnr_y

        quality = smallest_quality(is_enough)
        return None if quality is None else self.lossy(codec, quality, border=border)

    def _compare(self, data: bytes) -> tuple[Pixels, float | None]:
        pixels = decode(data, grey=self.grey)
        return pixels, self.lpips(pixels)


def measure_model(original: Original, rescaler: Rescaler, codecs: Iterable[Codec]) -> dict[str, Any]:
    """A model's files of one picture, each beside every codec at the same bytes."""
    hr = original.picture
    packet = rescaler.downscale(hr.pixels[:, :, 0] if original.grey else hr.pixels)
    border = packet.header.scale
    png = encode_png(packet)
    payload = len(walk(memoryview(png)).kept[PACKET_CHUNK][0])
    restored = rescaler.upscale(decode_png(png))
    sizes = {"png": len(png), "webp_lossless": len(encode_webp_lossless(packet.lr)) + payload}
    scores = original.score(restored, border=border)
    small = bicubic_downscale(hr.pixels, scale=border)
    return {
        **scores,
        "payload_bytes": payload,
        "small_png_bytes": len(encode_png_plain(small[:, :, 0] if original.grey else small)),
        "as_good": {codec.key: _as_good(original, codec, scores["psnr_y"], border=border) for codec in codecs},
        "forms": {
            form: {
                **original.rate(size),
                "same_bytes": {codec.key: original.at_most(codec, size, border=border) for codec in codecs},
            }
            for form, size in sizes.items()
        },
    }


def _as_good(original: Original, codec: Codec, psnr_y: float | None, *, border: int) -> dict[str, float | None] | None:
    """A codec's smallest file that is as good as ours; None where ours is exact or no quality is."""
    if psnr_y is None or not math.isfinite(psnr_y):
        return None
    return original.at_least(codec, psnr_y, border=border)


def measure_folder(
    folder: pathlib.Path, rescalers: list[Rescaler], codecs: list[Codec], distance: Distance | None
) -> dict[str, Any]:
    """Means over a folder's pictures, of models and of the codecs' curves."""
    border = max(rescaler.card.interface.scale for rescaler in rescalers)
    measured = []
    paths = list_pictures(folder)
    for path in paths:
        original = Original(read_picture(path), distance)
        measured.append(
            {
                "models": {one.card.id: measure_model(original, one, codecs) for one in rescalers},
                "curves": {
                    codec.key: {str(quality): original.lossy(codec, quality, border=border) for quality in CURVE}
                    for codec in codecs
                },
            }
        )
        sys.stderr.write(f"{folder.name}: {path.name}\n")
    return {"folder": folder.name, "pictures": len(paths), **mean_of(measured)}


def mean_of(measured: list[Any]) -> Any:
    """The mean of numbers that stand at the same place in equal trees of dictionaries.

    JSON has no infinity: where a picture has no number (None), or a perfect score, the mean is None.
    """
    if all(isinstance(one, dict) for one in measured):
        return {key: mean_of([one[key] for one in measured]) for key in measured[0]}
    if not all(isinstance(one, (int, float)) and math.isfinite(one) for one in measured):
        return None
    return statistics.fmean(measured)


def lpips_distance() -> Distance | None:
    """LPIPS (AlexNet) of two (H, W, 3) uint8 pictures; None, and a line on stderr, without PyTorch or its weights."""
    try:
        import torch

        from bdflow_rt.metrics.lpips import Lpips

        network = Lpips("alex")
    except (MissingFileError, ModuleNotFoundError) as error:
        sys.stderr.write(f"LPIPS is left out: {error}\n")
        return None

    def distance(one: Pixels, other: Pixels) -> float:
        a, b = (torch.from_numpy(np.ascontiguousarray(x)).permute(2, 0, 1)[None].float() / 255 for x in (one, other))
        with torch.inference_mode():
            return float(network(a, b))

    return distance


def main() -> None:
    """Measure and write one JSON file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=pathlib.Path, action="append", required=True, help="of pictures; repeat")
    parser.add_argument("--model", action="append", required=True, help="name or folder of a model; repeat")
    parser.add_argument("--output", type=pathlib.Path, required=True)
    args = parser.parse_args()
    codecs, distance = rivals(), lpips_distance()
    with contextlib.ExitStack() as stack:
        rescalers = [stack.enter_context(Rescaler.from_pretrained(name)) for name in args.model]
        sets = [measure_folder(folder, rescalers, codecs, distance) for folder in args.folder]
        models = {
            one.card.id: {"scale": one.card.interface.scale, "weights_sha256": one.card.weights_sha256}
            for one in rescalers
        }
    result = {
        **environment(),
        "models": models,
        "codecs": {codec.key: codec.describe() for codec in codecs},
        "lpips": None if distance is None else "alex",
        "sets": sets,
    }
    write_result(args.output, result)


if __name__ == "__main__":
    sys.exit(run_command("rate_distortion", main))
