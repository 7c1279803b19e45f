"""What a user would run on the GPU instead of our kernels: CuPy's own functions, and torch, eager and compiled.

Haar rivals compute the same values. Mask rivals stop before the suppression of non-maxima and the levels, which none of
these libraries has: they do less, in float32, and are labelled so.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from bdflow_rt.kernels.boundary_definition import BLUR_WEIGHTS, LUMA_SHIFT, LUMA_WEIGHTS

_HAAR = np.array([[1, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]], np.float32)
"""Rows A, H, V, D over a, b, c, d."""
_SOBEL = np.outer([1, 2, 1], [-1, 0, 1]).astype(np.float32)
Rival = Callable[[], Any]


def haar_forward_rivals(x: Any) -> dict[str, Rival]:
    """Of `haar_forward`; x is a CuPy array (N, C, H, W)."""
    import cupy
    import torch
    from torch.utils.dlpack import from_dlpack

    def slices() -> Any:
        a, b, c, d = (x[:, :, row::2, column::2] for row in (0, 1) for column in (0, 1))
        top, bottom, left, right = a + b, c + d, a - b, c - d
        return cupy.concatenate((top + bottom, left + right, top - bottom, left - right), axis=1) * x.dtype.type(0.25)

    tensor = from_dlpack(x)
    channels = x.shape[1]
    weight = torch.from_numpy(_HAAR / 4).to(tensor).repeat(channels, 1).view(4 * channels, 1, 2, 2)

    def convolution(picture: Any) -> Any:
        bands = torch.nn.functional.conv2d(picture, weight, stride=2, groups=channels)
        n, _, height, width = bands.shape
        return bands.view(n, channels, 4, height, width).transpose(1, 2).reshape(n, 4 * channels, height, width)

    return {"cupy slices": slices, **_eager_and_compiled("torch conv2d", convolution, tensor)}


def haar_inverse_rivals(bands: Any) -> dict[str, Rival]:
    """Of `haar_inverse`; bands is a CuPy array (N, 4C, h, w)."""
    import cupy
    import torch
    from torch.utils.dlpack import from_dlpack

    n, grouped_channels, height, width = bands.shape
    channels = grouped_channels // 4

    def slices() -> Any:
        average, horizontal, vertical, diagonal = cupy.split(bands, 4, axis=1)
        top, bottom = average + vertical, average - vertical
        left, right = horizontal + diagonal, horizontal - diagonal
        x = cupy.empty((n, channels, 2 * height, 2 * width), bands.dtype)
        x[:, :, 0::2, 0::2], x[:, :, 0::2, 1::2] = top + left, top - left
        x[:, :, 1::2, 0::2], x[:, :, 1::2, 1::2] = bottom + right, bottom - right
        return x

    tensor = from_dlpack(bands)
    weight = torch.from_numpy(_HAAR).to(tensor).repeat(channels, 1).view(4 * channels, 1, 2, 2)

    def convolution(planes: Any) -> Any:
        grouped = planes.view(n, 4, channels, height, width).transpose(1, 2).reshape(n, 4 * channels, height, width)
        return torch.nn.functional.conv_transpose2d(grouped, weight, stride=2, groups=channels)

    return {"cupy slices": slices, **_eager_and_compiled("torch conv_transpose2d", convolution, tensor)}


def mask_rivals(image: Any, *, threshold: int) -> dict[str, Rival]:
    """Of `boundary_mask`, without suppression and levels; image is a CuPy array (N, H, W, 3) uint8."""
    import cupy
    import torch
    from cupyx.scipy import ndimage
    from torch.utils.dlpack import from_dlpack

    weights = np.array(LUMA_WEIGHTS, np.float32) / (1 << LUMA_SHIFT)
    blur = np.array(BLUR_WEIGHTS, np.float32) / sum(BLUR_WEIGHTS)
    blur_taps, smooth_taps, step_taps = (cupy.asarray(taps, cupy.float32) for taps in (blur, [1, 2, 1], [-1, 0, 1]))

    correlate = functools.partial(ndimage.correlate1d, mode="nearest")

    def scipy_style() -> Any:
        grey = sum(image[..., index] * weights[index] for index in range(3))
        for axis in (1, 2):
            grey = ndimage.correlate1d(grey, blur_taps, axis=axis, mode="mirror")
        # Not ndimage.sobel, which would smooth along the batch too.
        gx, gy = (
            correlate(correlate(grey, smooth_taps, axis=across), step_taps, axis=along)
            for across, along in ((1, 2), (2, 1))
        )
        return gx * gx + gy * gy > threshold**2

    tensor = from_dlpack(image)
    luma = torch.from_numpy(weights).to(tensor.device)
    smooth = torch.from_numpy(np.outer(blur, blur)).to(tensor.device)[None, None]
    sobel = torch.from_numpy(np.stack((_SOBEL, _SOBEL.T))).to(tensor.device)[:, None]

    def convolution(picture: Any) -> Any:
        pad = torch.nn.functional.pad
        grey = (picture.float() @ luma)[:, None]
        blurred = torch.nn.functional.conv2d(pad(grey, (2, 2, 2, 2), mode="reflect"), smooth)
        gradient = torch.nn.functional.conv2d(pad(blurred, (1, 1, 1, 1), mode="replicate"), sobel)
        return gradient.square().sum(1) > threshold**2

    return {
        "cupyx.scipy.ndimage, no suppression": scipy_style,
        **_eager_and_compiled("torch conv2d, no suppression", convolution, tensor),
    }


def opencv_mask(frame: Any, *, threshold: int) -> Any:
    """The 1-bit mask of one (H, W, 3) uint8 NumPy picture by OpenCV on the CPU."""
    import cv2

    grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
    return cv2.Canny(cv2.GaussianBlur(grey, (5, 5), 0), threshold, threshold, L2gradient=True)


def _eager_and_compiled(name: str, function: Callable[[Any], Any], tensor: Any) -> dict[str, Rival]:
    import torch

    compiled = torch.compile(function, dynamic=False)
    return {
        f"{name}, eager": functools.partial(function, tensor),
        f"{name}, compiled": functools.partial(compiled, tensor),
    }
