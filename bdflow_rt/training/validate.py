"""Validation: both directions on whole pictures, quantised as on the wire."""

from __future__ import annotations

import pathlib
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from bdflow_rt.errors import TrainingDataError
from bdflow_rt.metrics.bicubic import bicubic_downscale
from bdflow_rt.metrics.psnr import psnr, psnr_y
from bdflow_rt.models.network import Network
from bdflow_rt.training.codec import straight_through_jpeg
from bdflow_rt.training.data import decode
from bdflow_rt.training.jpeg import Jpeg
from bdflow_rt.training.sources import PICTURE_SUFFIXES, Split


@dataclass(frozen=True)
class Validation:
    """Means over a folder, in dB: PSNR of the luma of the restored HR, and RGB PSNR of the LR to bicubic."""

    step: int
    """Steps the weights had been trained for."""
    psnr_y: float
    lr_psnr: float
    through: str | None = None
    """The lossy codec and its quality, "jpeg:75", through which the LR went on its way back."""


def read_folder(folder: pathlib.Path) -> list[NDArray[np.uint8]]:
    """All pictures of a folder, or of a list of held-out originals (.json), as (H, W, 3) uint8 RGB.

    Raises:
        TrainingDataError: the folder or list is missing or holds no picture, or one cannot be read, which is named.
    """
    try:
        if folder.suffix.lower() == ".json":
            return [decode(name, data) for name, data in Split.read(folder).pictures()]
        files = sorted(path for path in folder.glob("*") if path.suffix.lower() in PICTURE_SUFFIXES)
        pictures = [decode(str(path), path.read_bytes()) for path in files]
    except OSError as error:
        raise TrainingDataError(f"{error.filename} cannot be read: {error.strerror}.") from None
    if not pictures:
        raise TrainingDataError(f"{folder} holds no pictures to validate on ({', '.join(sorted(PICTURE_SUFFIXES))}).")
    return pictures


@torch.no_grad()
def validate(
    model: Network,
    pictures: list[NDArray[np.uint8]],
    *,
    step: int,
    temperature: float = 0.0,
    jpeg: Jpeg | None = None,
) -> Validation:
    """Float32, one picture at a time, on the model's device; grey pictures count as three equal channels.

    Args:
        model: the network.
        pictures: (H, W, 3) uint8 each, any size.
        step: written into the result.
        temperature: of Z on the way back; picture i gets seed i.
        jpeg: the LR picture goes through such a file; None is lossless.
    """
    scale = model.interface.scale
    device = next(model.parameters()).device
    quality, lr_quality = [], []
    for index, picture in enumerate(pictures):
        height, width = picture.shape[:2]
        x = torch.from_numpy(picture).to(device).permute(2, 0, 1)[None].float() / 255
        x = functional.pad(x, (0, -width % scale, 0, -height % scale), mode="replicate")
        lr, boundary = model.quantize(model(x), x)
        latent = model.sample_latent(lr, temperature=temperature, seed=index) if temperature else None
        received = lr if jpeg is None else straight_through_jpeg(lr, jpeg)
        restored = model.inverse(received, boundary, latent)[:, :, :height, :width]
        quality.append(psnr_y(_to_uint8(restored), picture, border=scale))
        lr_quality.append(psnr(_to_uint8(lr), bicubic_downscale(picture, scale=scale)))
    through = None if jpeg is None else f"jpeg:{jpeg.quality}"
    return Validation(step=step, psnr_y=float(np.mean(quality)), lr_psnr=float(np.mean(lr_quality)), through=through)


def _to_uint8(x: torch.Tensor) -> NDArray[np.uint8]:
    pixels = (x[0].clamp(0, 1) * 255).round().to(torch.uint8)
    return pixels.permute(1, 2, 0).contiguous().cpu().numpy()
