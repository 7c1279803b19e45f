"""An HR picture, and the measures by which others are scored against it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bdflow_rt.metrics import psnr, psnr_y, ssim, ssim_y
from bdflow_rt.picture import Picture, UInt8Array

if TYPE_CHECKING:
    from bdflow_rt.metrics.lpips import Lpips

LPIPS_MIN_SIZE = 31
"""Smaller pictures have no LPIPS (AlexNet). Here because the network's own module needs torch."""


class Reference:
    """An HR picture that (H, W, 3) uint8 pixels are scored against; a grey one is its own luma, as in published tables.

    Args:
        picture: the HR picture.
        lpips: network of LPIPS; None leaves that measure out.
    """

    def __init__(self, picture: Picture, lpips: Lpips | None = None) -> None:
        self.picture = picture
        self._lpips = lpips
        self._truth = self._scored(picture.pixels)

    def psnr_y(self, pixels: UInt8Array, *, border: int) -> float:
        """PSNR of the luma in dB, without a border."""
        return psnr_y(self._scored(pixels), self._truth, border=border)

    def psnr_rgb(self, pixels: UInt8Array, *, border: int) -> float:
        """PSNR of all channels in dB, without a border."""
        return psnr(self._scored(pixels), self._truth, border=border)

    def ssim_y(self, pixels: UInt8Array) -> float:
        """SSIM of the luma."""
        return ssim_y(self._scored(pixels), self._truth, border=0)

    def ssim_rgb(self, pixels: UInt8Array) -> float:
        """SSIM, mean over the channels."""
        return ssim(self._scored(pixels), self._truth)

    def lpips(self, pixels: UInt8Array) -> float | None:
        """LPIPS; None where there is no network, or the picture is smaller than `LPIPS_MIN_SIZE`."""
        if self._lpips is None or min(pixels.shape[:2]) < LPIPS_MIN_SIZE:
            return None
        import torch

        # Copied, because torch takes no array that cannot be written.
        pair = (torch.from_numpy(np.array(one)).permute(2, 0, 1)[None].float() / 255 for one in (pixels, self.pixels))
        with torch.inference_mode():
            return float(self._lpips(*pair))

    @property
    def pixels(self) -> UInt8Array:
        """(H, W, 3) uint8."""
        return self.picture.pixels

    def _scored(self, pixels: UInt8Array) -> UInt8Array:
        return pixels[:, :, 0] if self.picture.colour == "grey" else pixels
