"""Validation: both directions on whole pictures, quantised as on the wire."""

from __future__ import annotations

import pathlib
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from bdflow_rt.errors import TrainingDataError
from bdflow_rt.metrics.bicubic import bicubic_downscale
from bdflow_rt.metrics.psnr import psnr, psnr_y
from bdflow_rt.models.network import Network
from bdflow_rt.models.wire import Wire
from bdflow_rt.runtime.latent import latent_rows
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
    scale, device = model.interface.scale, next(model.parameters()).device
    down, up = Wire(model, "downscale"), Wire(model, "upscale_z" if temperature else "upscale")
    quality, lr_quality = [], []
    for index, picture in enumerate(pictures):
        height, width = picture.shape[:2]
        padded = np.pad(picture, ((0, -height % scale), (0, -width % scale), (0, 0)), mode="edge")
        packet = down({"image": torch.from_numpy(padded)[None].to(device)})
        lr = packet["lr"].cpu().numpy()
        if jpeg is not None:
            packet["lr"] = torch.from_numpy(jpeg.apply(lr)).to(device)
        if temperature:
            h, w = lr.shape[1:3]
            channels = model.interface.latent_channels
            latent = latent_rows(
                range(h), columns=range(w), width=w, channels=channels, temperature=temperature, seed=index
            )
            packet["latent"] = torch.from_numpy(latent[None]).to(device)
        restored = up(packet)["image"][0, :height, :width].cpu().numpy()
        quality.append(psnr_y(restored, picture, border=scale))
        lr_quality.append(psnr(lr[0], bicubic_downscale(picture, scale=scale)))
    through = None if jpeg is None else f"jpeg:{jpeg.quality}"
    return Validation(step=step, psnr_y=float(np.mean(quality)), lr_psnr=float(np.mean(lr_quality)), through=through)
