"""How good a picture is: PSNR, SSIM and LPIPS against a reference, and the bicubic baseline of every table.

`lpips` needs torch and is therefore imported on its own: `from bdflow_rt.metrics.lpips import Lpips`.
"""

from bdflow_rt.metrics.bicubic import bicubic_downscale, bicubic_resize
from bdflow_rt.metrics.psnr import psnr, psnr_y, rgb_to_y
from bdflow_rt.metrics.ssim import ssim_y

__all__ = ["bicubic_downscale", "bicubic_resize", "psnr", "psnr_y", "rgb_to_y", "ssim_y"]
