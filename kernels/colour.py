"""8-bit Y'CbCr and RGB in [0, 1]: the coefficients that kernels/cuda/colour.cuh takes, and NumPy twins.

Source: ITU-R BT.601-7, BT.709-6 and BT.2020-2 (Kr, Kb), quantised as in ITU-T H.273, section 8.3. Chroma is replicated
over its 2x2 block on the way in and averaged over it on the way out; no chroma location is assumed.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from bdflow_rt.errors import ArgumentError, describe

Matrix = Literal["bt601", "bt709", "bt2020"]
Levels = Literal["limited", "full"]

_KR_KB: dict[Matrix, tuple[float, float]] = {
    "bt601": (0.299, 0.114),
    "bt709": (0.2126, 0.0722),
    "bt2020": (0.2627, 0.0593),
}
_SCALES: dict[Levels, tuple[int, int, int]] = {"limited": (16, 219, 224), "full": (0, 255, 255)}
"""Level of black, and levels per unit of luma and of chroma, which is centred at 128."""
_CENTRE = np.float32(128)


def check_colour(*, matrix: str, levels: str) -> None:
    """Raise ArgumentError unless both are among the allowed ones."""
    for name, value, allowed in (("matrix", matrix, get_args(Matrix)), ("levels", levels, get_args(Levels))):
        if not isinstance(value, str) or value not in allowed:
            raise ArgumentError(f"{name} is {describe(value)}; it must be one of {', '.join(map(repr, allowed))}.")


def to_rgb(*, matrix: Matrix, levels: Levels) -> tuple[np.float32, ...]:
    """Luma offset and gain, then what a level of chroma adds: R of Cr, G of Cb, G of Cr (both subtracted), B of Cb.

    luma = (Y - offset)*gain; R = luma + r_cr*(Cr - 128); G = luma - (g_cb*(Cb - 128) + g_cr*(Cr - 128));
    B = luma + b_cb*(Cb - 128).
    """
    (kr, kb), (black, luma, chroma) = _KR_KB[matrix], _SCALES[levels]
    kg = 1 - kr - kb
    red, blue = 2 * (1 - kr) / chroma, 2 * (1 - kb) / chroma
    return tuple(map(np.float32, (black, 1 / luma, red, blue * kb / kg, red * kr / kg, blue)))


def from_rgb(*, matrix: Matrix, levels: Levels) -> tuple[np.float32, ...]:
    """Weights of R, G and B in luma; gain and offset of luma; gains of Cb and Cr.

    luma = kr*R + kg*G + kb*B; Y = luma*gain + offset; Cb = (B - luma)*cb_gain + 128; Cr = (R - luma)*cr_gain + 128.
    """
    (kr, kb), (black, luma, chroma) = _KR_KB[matrix], _SCALES[levels]
    gains = chroma / (2 * (1 - kb)), chroma / (2 * (1 - kr))
    return tuple(map(np.float32, (kr, 1 - kr - kb, kb, luma, black, *gains)))


def saturate(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """CUDA's __saturatef: clamped to [0, 1], and a NaN is 0."""
    return np.fmin(np.fmax(values, np.float32(0)), np.float32(1))


def rgb_of_nv12(
    luma: NDArray[np.uint8], chroma: NDArray[np.uint8], *, matrix: Matrix, levels: Levels
) -> NDArray[np.float32]:
    """(N, H, W) and (N, ceil(H/2), ceil(W/2), 2) to RGB planes (N, 3, H, W) in [0, 1]; in float32, not rounded."""
    offset, gain, red_cr, green_cb, green_cr, blue_cb = to_rgb(matrix=matrix, levels=levels)
    height, width = luma.shape[1:]
    grey = (luma.astype(np.float32) - offset) * gain
    pixels = chroma.repeat(2, axis=1).repeat(2, axis=2)[:, :height, :width]
    cb, cr = np.moveaxis(pixels.astype(np.float32) - _CENTRE, -1, 0)
    planes = np.stack((grey + red_cr * cr, grey - (green_cb * cb + green_cr * cr), grey + blue_cb * cb), axis=1)
    return saturate(planes)


def nv12_of_rgb(
    rgb: NDArray[np.float32], *, matrix: Matrix, levels: Levels
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """RGB planes (N, 3, H, W) in [0, 1] to luma (N, H, W) and chroma (N, ceil(H/2), ceil(W/2), 2)."""
    kr, kg, kb, luma_gain, luma_offset, cb_gain, cr_gain = from_rgb(matrix=matrix, levels=levels)
    red, green, blue = rgb[:, 0], rgb[:, 1], rgb[:, 2]
    grey = kr * red + kg * green + kb * blue
    mean = _block_mean(grey)
    chroma = np.stack(((_block_mean(blue) - mean) * cb_gain, (_block_mean(red) - mean) * cr_gain), axis=-1)
    return round_level(grey * luma_gain + luma_offset), round_level(chroma + _CENTRE)


def round_level(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Values of at least 0 to 8-bit levels, half to even; at most 255."""
    return np.rint(np.minimum(values, np.float32(255))).astype(np.uint8)


def _block_mean(planes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Over each 2x2 block of (N, H, W), of its pixels inside the frame."""
    height, width = planes.shape[1:]
    padded = np.pad(planes, ((0, 0), (0, height % 2), (0, width % 2)))
    total = (padded[:, 0::2, 0::2] + padded[:, 0::2, 1::2]) + (padded[:, 1::2, 0::2] + padded[:, 1::2, 1::2])
    rows = np.minimum(2, height - np.arange(0, height, 2, dtype=np.float32))[:, None]
    columns = np.minimum(2, width - np.arange(0, width, 2, dtype=np.float32))
    return total / (rows * columns)
