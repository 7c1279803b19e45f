"""How good a picture is, and the bicubic baseline of every table.

Against a reference: PSNR, SSIM and LPIPS; without one: NIQE and PIQE; of videos: frame differences and flicker.
`lpips` needs torch and is therefore imported on its own: `from bdflow_rt.metrics.lpips import Lpips`.
"""

from bdflow_rt.metrics.bicubic import bicubic_downscale, bicubic_resize
from bdflow_rt.metrics.niqe import Niqe
from bdflow_rt.metrics.piqe import piqe
from bdflow_rt.metrics.psnr import psnr, psnr_y, rgb_to_y
from bdflow_rt.metrics.ssim import ssim, ssim_y
from bdflow_rt.metrics.temporal import Flicker, FrameDifferences, StaticFlicker

__all__ = [
    "Flicker", "FrameDifferences", "Niqe", "StaticFlicker", "bicubic_downscale", "bicubic_resize", "piqe", "psnr",
    "psnr_y", "rgb_to_y", "ssim", "ssim_y",
]  # fmt: skip
