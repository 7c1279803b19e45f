"""Quality of a model on a folder of pictures, through real files: down to a PNG on disk, and back from it."""

from __future__ import annotations

import math
import pathlib
import statistics
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bdflow_rt.bench.environment import environment
from bdflow_rt.containers.chunks import walk
from bdflow_rt.containers.image import read_picture
from bdflow_rt.containers.png import CHUNK, read_packet
from bdflow_rt.errors import MissingFileError, ShapeError
from bdflow_rt.metrics import bicubic_downscale, bicubic_resize, psnr, psnr_y, ssim_y
from bdflow_rt.metrics.ssim import WINDOW as SSIM_WINDOW
from bdflow_rt.rescaler import Rescaler

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".ppm"}


@dataclass(frozen=True)
class PictureQuality:
    """One picture. PSNR in dB; a grey picture is its own luma, as in published tables."""

    name: str
    width: int
    height: int
    psnr_y: float
    """Restored against HR, luma, border of `scale` pixels left out."""
    ssim_y: float
    """Restored against HR, luma, no border left out."""
    bicubic_psnr_y: float
    """The same measure for bicubic down and up."""
    lr_psnr: float
    """LR against MATLAB-style bicubic LR, all of RGB."""
    lr_psnr_y: float
    lr_max_difference: int
    file_bytes: int
    """The whole LR PNG."""
    chunk_bytes: int
    """Payload of the private chunk: header and boundary map."""
    chunk_limit_bytes: int
    """w*h*bits/8 + 256."""


def list_pictures(folder: pathlib.Path) -> list[pathlib.Path]:
    """The pictures of a folder by name.

    Raises:
        MissingFileError: the folder is missing or holds none.
    """
    if not folder.is_dir():
        raise MissingFileError(f"'{folder}' is not a folder; give a folder of pictures.")
    found = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    if not found:
        raise MissingFileError(f"'{folder}' holds no pictures ({', '.join(sorted(SUFFIXES))}).")
    return found


def evaluate(
    rescaler: Rescaler,
    pictures: Iterable[pathlib.Path],
    *,
    track: Callable[[Iterable[pathlib.Path]], Iterable[pathlib.Path]] = lambda items: items,
) -> dict[str, Any]:
    """Measure every picture and the means over them.

    Args:
        rescaler: with the model to measure.
        pictures: files to measure on.
        track: wraps the files, for a progress bar.

    Returns:
        Plain JSON types: the environment, the model, `means`, and `pictures`, a list of `PictureQuality`.
    """
    with tempfile.TemporaryDirectory() as folder:
        measured = [measure(rescaler, path, pathlib.Path(folder)) for path in track(pictures)]
    numbers = [name for name, value in asdict(measured[0]).items() if isinstance(value, (int, float))]
    means = {name: statistics.fmean(getattr(one, name) for one in measured) for name in numbers}
    means["lr_max_difference"] = max(one.lr_max_difference for one in measured)
    return {
        **environment(),
        "model": rescaler.card.id,
        "weights_sha256": rescaler.card.weights_sha256,
        "backend": rescaler.backend,
        "means": _finite(means),
        "pictures": [_finite(asdict(one)) for one in measured],
    }


def measure(rescaler: Rescaler, path: pathlib.Path, folder: pathlib.Path) -> PictureQuality:
    """One picture, by way of files in `folder`: nothing but the small PNG goes from one direction to the other.

    Raises:
        ShapeError: the picture is too small for SSIM's window, or for the border that PSNR leaves out.
    """
    small, restored_path = folder / "lr.png", folder / "restored.png"
    limit = rescaler.max_pixels
    hr = read_picture(path, max_pixels=limit)
    height, width = hr.pixels.shape[:2]
    least = max(SSIM_WINDOW, 2 * rescaler.card.config.scale + 1)
    if min(height, width) < least:
        raise ShapeError(
            f"'{path}' has {width} x {height} pixels; at least {least} x {least} are needed to measure it. "
            "Leave it out."
        )
    rescaler.downscale_file(path, small)
    rescaler.upscale_file(small, restored_path)
    restored, packet = read_picture(restored_path, max_pixels=limit), read_packet(small, max_pixels=limit)
    scale, bits = packet.header.scale, packet.header.bits
    reference = bicubic_downscale(hr.pixels, scale=scale)
    grey = hr.colour == "grey"
    truth = _as_scored(hr.pixels, grey)
    bicubic = bicubic_resize(reference, scale=scale)[:height, :width]
    lr_height, lr_width = packet.lr.shape[:2]
    return PictureQuality(
        name=path.name,
        width=width,
        height=height,
        psnr_y=psnr_y(_as_scored(restored.pixels, grey), truth, border=scale),
        ssim_y=ssim_y(_as_scored(restored.pixels, grey), truth, border=0),
        bicubic_psnr_y=psnr_y(_as_scored(bicubic, grey), truth, border=scale),
        lr_psnr=psnr(packet.lr, reference),
        lr_psnr_y=psnr_y(packet.lr, reference, border=0),
        lr_max_difference=int(np.abs(packet.lr.astype(np.int16) - reference).max()),
        file_bytes=small.stat().st_size,
        chunk_bytes=len(walk(memoryview(small.read_bytes())).all(CHUNK)[0]),
        chunk_limit_bytes=math.ceil(lr_height * lr_width * bits / 8) + 256,
    )


def _as_scored(pixels: NDArray[np.uint8], grey: bool) -> NDArray[np.uint8]:
    return pixels[:, :, 0] if grey else pixels


def _finite(values: dict[str, Any]) -> dict[str, Any]:
    """JSON has no infinity: a perfect score becomes null."""
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in values.items()}
