"""A lossy codec in the loop: the LR picture as a JPEG file between the two directions, and gradients that get past it.

Weights that never saw a codec lose several dB when their LR is stored as JPEG. Two gradients, to be compared:

- straight-through: the pixels are those of the real libjpeg, the gradient passes as if nothing had been done;
- differentiable: the same steps in PyTorch (colour conversion, chroma resampling, DCT, quantisation), whose roundings
  have a gradient. What a coefficient loses by quantisation then gets next to none.

Source of the second gradient: Shin and Song, "JPEG-resistant Adversarial Images" (2017): round(x) + (x - round(x))^3.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from bdflow_rt.training.jpeg import Jpeg, JpegWorkers

CodecGradient = Literal["straight-through", "differentiable"]
BLOCK = 8
"""Side of the squares that JPEG transforms."""
_TO_YCC = (
    (0.299, 0.587, 0.114),
    (-0.168735892, -0.331264108, 0.5),
    (0.5, -0.418687589, -0.081312411),
)  # fmt: skip
"""RGB to Y, Cb, Cr of JFIF (BT.601, full range), without the offset of chroma."""
_TO_RGB = ((1.0, 0.0, 1.402), (1.0, -0.344136286, -0.714136286), (1.0, 1.772, 0.0))


class LossyLr:
    """The codec between the directions of a training step.

    Args:
        gradient: how it gets past the codec.
        lowest, highest: range of the JPEG quality, drawn anew for every batch, with the sampling of chroma.
        seed: of the run; the settings are a function of it and of the step.
        workers: processes that code (straight-through).
    """

    def __init__(self, gradient: CodecGradient, *, lowest: int, highest: int, seed: int, workers: int) -> None:
        self._gradient, self._lowest, self._highest, self._seed = gradient, lowest, highest, seed
        self._workers = JpegWorkers(workers)

    def __call__(self, lr: Tensor, step: int) -> Tensor:
        """(N, 3, h, w) in [0, 1] in steps of 1/255, as it comes back from its files, with a gradient."""
        settings = Jpeg.draw(np.random.default_rng((self._seed, step)), lowest=self._lowest, highest=self._highest)
        with torch.autocast(lr.device.type, enabled=False):
            if self._gradient == "differentiable":
                return differentiable_jpeg(lr.float(), settings)
            return straight_through_jpeg(lr.float(), settings, workers=self._workers)

    def close(self) -> None:
        """End the worker processes."""
        self._workers.close()


def straight_through_jpeg(lr: Tensor, settings: Jpeg, *, workers: JpegWorkers | None = None) -> Tensor:
    """Every picture written as a JPEG file by libjpeg and read again; its gradient passes as if nothing had been done.

    Args:
        lr: (N, 3, h, w) float32 in [0, 1], in steps of 1/255; any device.
        settings: of the files.
        workers: where they are coded; None is here.

    Returns:
        The same shape, in steps of 1/255.
    """
    pixels = (lr.detach() * 255).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    coded = settings.apply(pixels) if workers is None else workers.apply(settings, pixels)
    values = torch.from_numpy(coded).to(lr.device).permute(0, 3, 1, 2).float() / 255
    return lr + (values - lr).detach()


def differentiable_jpeg(lr: Tensor, settings: Jpeg) -> Tensor:
    """The steps of libjpeg in PyTorch, with its tables: within a level of its pixels, and with a gradient.

    Args:
        lr: (N, 3, h, w) float32 in [0, 1]; any size and device.
        settings: quality and sampling of chroma.

    Returns:
        The same shape, in steps of 1/255.
    """
    height, width = lr.shape[2:]
    luma_table, chroma_table = (table.to(lr.device) for table in _tables(settings.quality))
    ycc = _straight(_mix(lr * 255, _TO_YCC), torch.round)
    luma, chroma = ycc[:, :1], ycc[:, 1:]
    luma = _code_blocks(luma - 128, luma_table) + 128
    if settings.halved_chroma:
        chroma = _straight(functional.avg_pool2d(_padded(chroma, 2), 2), lambda mean: _whole(mean, (0.25, 0.5)))
    chroma = _code_blocks(chroma, chroma_table)
    if settings.halved_chroma:
        # Weights of 3/4 and 1/4 in each axis, the last sample repeated: libjpeg's "fancy upsampling".
        chroma = functional.interpolate(chroma, scale_factor=2.0, mode="bilinear")[..., :height, :width]
        chroma = _straight(chroma, lambda levels: _whole(levels, (8 / 16, 7 / 16)))
    rgb = _mix(torch.cat((luma, chroma), dim=1), _TO_RGB)
    return _straight(rgb, lambda values: values.round().clamp(0, 255)) / 255


def _code_blocks(planes: Tensor, table: Tensor) -> Tensor:
    """Quantise the DCT of every block of (N, C, h, w) around 0, and transform back to whole levels -128..127."""
    n, channels, height, width = planes.shape
    padded = _padded(planes, BLOCK)
    rows, columns = padded.shape[2] // BLOCK, padded.shape[3] // BLOCK
    blocks = padded.reshape(n, channels, rows, BLOCK, columns, BLOCK).transpose(3, 4)
    dct = _dct_matrix().to(planes.device)
    coefficients = dct @ blocks @ dct.T
    back = dct.T @ (_quantised(coefficients, table) * table) @ dct
    joined = back.transpose(3, 4).reshape(padded.shape)[..., :height, :width]
    return _straight(joined, lambda levels: levels.round().clamp(-128, 127))


def _quantised(coefficients: Tensor, table: Tensor) -> Tensor:
    """libjpeg's levels of the coefficients; their gradient is that of round(x) + (x - round(x))^3."""
    # In eighths, as its integer DCT gives them: there is many a tie, which it rounds away from zero.
    eighths = (coefficients.detach() * 8).round()
    levels = eighths.sign() * ((eighths.abs() + 4 * table) / (8 * table)).floor()
    smooth = levels + (coefficients / table - levels) ** 3
    return smooth + (levels - smooth).detach()


def _whole(values: Tensor, biases: tuple[float, float]) -> Tensor:
    """Floor of the values plus a bias of even and of odd columns, by which libjpeg rounds chroma without a drift."""
    bias = torch.tensor(biases, device=values.device, dtype=values.dtype).repeat(values.shape[-1] // 2 + 1)
    return (values + bias[: values.shape[-1]]).floor()


def _straight(x: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
    """function(x), whose gradient passes as if nothing had been done."""
    return x + (function(x.detach()) - x).detach()


def _mix(planes: Tensor, matrix: tuple[tuple[float, ...], ...]) -> Tensor:
    weights = torch.tensor(matrix, device=planes.device, dtype=planes.dtype)
    return torch.einsum("oi,nihw->nohw", weights, planes)


def _padded(planes: Tensor, multiple: int) -> Tensor:
    height, width = planes.shape[2:]
    return functional.pad(planes, (0, -width % multiple, 0, -height % multiple), mode="replicate")


@functools.cache
def _dct_matrix() -> Tensor:
    """The orthonormal DCT-II of `BLOCK` samples."""
    k, i = torch.meshgrid(torch.arange(BLOCK), torch.arange(BLOCK), indexing="ij")
    matrix = torch.cos(math.pi * (2 * i + 1) * k / (2 * BLOCK)) * math.sqrt(2 / BLOCK)
    matrix[0] = math.sqrt(1 / BLOCK)
    return matrix


@functools.cache
def _tables(quality: int) -> tuple[Tensor, Tensor]:
    """libjpeg's quantisation steps of luma and chroma, (8, 8) float32."""
    luma, chroma = (torch.tensor(steps, dtype=torch.float32).reshape(BLOCK, BLOCK) for steps in Jpeg(quality).tables())
    return luma, chroma
