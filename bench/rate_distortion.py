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
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from bdflow_rt.bench.command import run_command, write_result
from bdflow_rt.containers.chunks import PACKET_CHUNK, walk
from bdflow_rt.containers.image import read_picture
from bdflow_rt.containers.png import decode_png, encode_png
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
from bdflow_rt.evaluate.quality import Judges
from bdflow_rt.evaluate.reference import Reference
from bdflow_rt.metrics import bicubic_downscale
from bdflow_rt.picture import Picture, UInt8Array
from bdflow_rt.rescaler import Rescaler

if TYPE_CHECKING:
    from bdflow_rt.metrics.lpips import Lpips

CURVE = (5, 10, 20, 30, 40, 50, 60, 70, 80, 85, 90, 95, 100)
"""Qualities of the codecs' curves."""


class Original(Reference):
    """One HR picture with its files by lossy codecs, each made and scored once; arguments as for `Reference`."""

    def __init__(self, picture: Picture, lpips: Lpips | None = None) -> None:
        super().__init__(picture, lpips)
        self.coded = functools.cache(lambda codec, quality: codec.encode(picture, quality))
        self._decoded = functools.cache(lambda codec, quality: self._compare(self.coded(codec, quality)))

    def rate(self, size: int) -> dict[str, float]:
        """A number of bytes, also as bits per HR pixel."""
        height, width = self.pixels.shape[:2]
        return {"bytes": size, "bits_per_pixel": 8 * size / (height * width)}

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

    def _compare(self, data: bytes) -> tuple[UInt8Array, float | None]:
        pixels = decode(data, grey=self.picture.colour == "grey")
        return pixels, self.lpips(pixels)


def measure_model(original: Original, rescaler: Rescaler, codecs: Iterable[Codec]) -> dict[str, Any]:
    """A model's files of one picture, each beside every codec at the same bytes."""
    packet = rescaler.downscale(original.picture)
    border = packet.header.scale
    png = encode_png(packet)
    payload = len(walk(memoryview(png)).kept[PACKET_CHUNK][0])
    restored = rescaler.upscale(decode_png(png))
    sizes = {"png": len(png), "webp_lossless": len(encode_webp_lossless(packet.lr)) + payload}
    psnr_y = original.psnr_y(restored, border=border)
    small = bicubic_downscale(original.pixels, scale=border)
    return {
        "psnr_y": psnr_y,
        "lpips": original.lpips(restored),
        "payload_bytes": payload,
        "small_png_bytes": len(encode_png_plain(small[:, :, 0] if original.picture.colour == "grey" else small)),
        "as_good": {codec.key: _as_good(original, codec, psnr_y, border=border) for codec in codecs},
        "forms": {
            form: {
                **original.rate(size),
                "same_bytes": {codec.key: original.at_most(codec, size, border=border) for codec in codecs},
            }
            for form, size in sizes.items()
        },
    }


def _as_good(original: Original, codec: Codec, psnr_y: float, *, border: int) -> dict[str, float | None] | None:
    """A codec's smallest file that is as good as ours; None where ours is exact or no quality is."""
    return original.at_least(codec, psnr_y, border=border) if math.isfinite(psnr_y) else None


def measure_folder(
    folder: pathlib.Path, rescalers: list[Rescaler], codecs: list[Codec], lpips: Lpips | None
) -> dict[str, Any]:
    """Means over a folder's pictures, of models and of the codecs' curves."""
    border = max(rescaler.card.interface.scale for rescaler in rescalers)
    measured = []
    paths = list_pictures(folder)
    for path in paths:
        original = Original(read_picture(path), lpips)
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


def main() -> None:
    """Measure and write one JSON file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=pathlib.Path, action="append", required=True, help="of pictures; repeat")
    parser.add_argument("--model", action="append", required=True, help="name or folder of a model; repeat")
    parser.add_argument("--output", type=pathlib.Path, required=True)
    args = parser.parse_args()
    codecs, judges = rivals(), Judges.found()
    for reason in judges.missing.values():
        sys.stderr.write(f"{reason}\n")
    with contextlib.ExitStack() as stack:
        rescalers = [stack.enter_context(Rescaler.from_pretrained(name)) for name in args.model]
        sets = [measure_folder(folder, rescalers, codecs, judges.lpips) for folder in args.folder]
        models = {
            one.card.id: {"scale": one.card.interface.scale, "weights_sha256": one.card.weights_sha256}
            for one in rescalers
        }
    result = {
        **environment(),
        "models": models,
        "codecs": {codec.key: codec.describe() for codec in codecs},
        "lpips": None if judges.lpips is None else "alex",
        "sets": sets,
    }
    write_result(args.output, result)


if __name__ == "__main__":
    sys.exit(run_command("rate_distortion", main))
