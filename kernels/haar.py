"""One level of the Haar transform and its inverse: on GPU arrays kernels/cuda/haar.cuh, on NumPy arrays its twins."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bdflow_rt.errors import ShapeError
from bdflow_rt.kernels.arrays import FLOATS, check_array
from bdflow_rt.kernels.compile import Kernel
from bdflow_rt.kernels.device import Output, run
from bdflow_rt.kernels.launch import Launch, address, strides

_TYPES = {np.dtype(np.float16): ("__half", 4), np.dtype(np.float32): ("float", 2)}
"""C++ type, and cells per thread where rows are aligned: two loads of 16 bytes."""
KERNELS = tuple(
    Kernel("haar.cuh", f"bdflow::haar_{direction}<{name}, {cells}>")
    for direction in ("forward", "inverse")
    for name, most in _TYPES.values()
    for cells in (1, most)
)


def haar_forward(x: Any, *, out: Any = None, stream: Any = None) -> Any:
    """One level of Haar analysis, the four bands grouped band-major.

    Args:
        x: (N, C, H, W) float16 or float32, NumPy's or on the GPU; H and W even. Any strides; contiguous rows that are
            a multiple of 16 bytes long, at addresses of such multiples, are read in wide accesses.
        out: contiguous array for the result, of the same dtype and on the same side; None allocates one.
        stream: CUDA stream to work on: of CuPy, PyTorch or PyCUDA, or its address. None is the current one of the
            library that x comes from. Nothing waits for it.

    Returns:
        (N, 4C, H/2, W/2), same dtype: C averages A = (a+b+c+d)/4, then C each of H = (a-b+c-d)/4, V = (a+b-c-d)/4 and
        D = (a-b-c+d)/4 of every 2x2 cell a b / c d; sums in float32, rounded once. `out`, or a new array: a PyTorch
        tensor for one, NumPy for NumPy, else CuPy's.

    Raises:
        ShapeError, EmptyImageError, DTypeError, ArrayTooLargeError: x is of another kind, or `out` does not fit it.
        LayoutError, OverlapError: `out` is not contiguous, or shares memory with x; elements of x are not aligned.
        DeviceMismatchError: arrays and stream are not all on one GPU.
        BackendUnavailableError: no GPU, no compiler, or a GPU it does not know.

    Source: paper, eq. 5; convention of IRN, so its checkpoints fit.
    """
    return run({"x": x}, {"out": out}, stream, check=check_forward, plan=forward_launch, twin=haar_forward_reference)[0]


def haar_inverse(bands: Any, *, out: Any = None, stream: Any = None) -> Any:
    """Haar synthesis: a = A+H+V+D, b = A-H+V-D, c = A+H-V-D, d = A-H-V+D.

    Args:
        bands: (N, 4C, h, w) float16 or float32, band-major as `haar_forward` returns them. Any strides; rows that
            are contiguous and a multiple of 8 bytes long, at addresses of such multiples, are read in wide accesses.
        out, stream: as for `haar_forward`.

    Returns:
        (N, C, 2h, 2w), same dtype; sums in float32, rounded once.

    Raises:
        As `haar_forward`; ShapeError if the channels are not a multiple of 4.
    """
    return run(
        {"bands": bands}, {"out": out}, stream, check=check_inverse, plan=inverse_launch, twin=haar_inverse_reference
    )[0]


def haar_forward_reference(x: NDArray[Any]) -> NDArray[Any]:
    """NumPy twin of `haar_forward`: sums in float32, rounded once. Its arguments were checked."""
    a, b, c, d = (x[:, :, row::2, column::2].astype(np.float32) for row in (0, 1) for column in (0, 1))
    top, bottom, left, right = a + b, c + d, a - b, c - d
    bands = np.concatenate((top + bottom, left + right, top - bottom, left - right), axis=1)
    return (bands * np.float32(0.25)).astype(x.dtype)


def haar_inverse_reference(bands: NDArray[Any]) -> NDArray[Any]:
    """NumPy twin of `haar_inverse`: sums in float32, rounded once. Its arguments were checked."""
    average, horizontal, vertical, diagonal = np.split(bands.astype(np.float32), 4, axis=1)
    top, bottom, left, right = average + vertical, average - vertical, horizontal + diagonal, horizontal - diagonal
    n, channels, height, width = average.shape
    x = np.empty((n, channels, 2 * height, 2 * width), bands.dtype)
    x[:, :, 0::2, 0::2], x[:, :, 0::2, 1::2] = top + left, top - left
    x[:, :, 1::2, 0::2], x[:, :, 1::2, 1::2] = bottom + right, bottom - right
    return x


def forward_launch(x: Any, out: Any) -> Launch:
    """The launch that writes the bands of x to `out`, contiguous; both were checked."""
    n, channels, height, width = x.shape
    return _launch("forward", x, out, (n, channels, height // 2, width // 2))


def inverse_launch(bands: Any, out: Any) -> Launch:
    """The launch that writes the picture of `bands` to `out`, contiguous; both were checked."""
    n, channels, height, width = bands.shape
    return _launch("inverse", bands, out, (n, channels // 4, height, width))


def _launch(direction: str, source: Any, out: Any, shape: tuple[int, int, int, int]) -> Launch:
    n, channels, height, width = shape
    name, most = _TYPES[np.dtype(source.dtype)]
    steps = strides(source)
    run = 2 * most if direction == "forward" else most
    aligned = (
        width % most == 0
        and steps[3] == 1
        and not any(step % run for step in steps[:3])
        and address(source) % (run * source.dtype.itemsize) == 0
        and address(out) % (2 * most * source.dtype.itemsize) == 0
    )
    cells = most if aligned else 1
    kernel = Kernel("haar.cuh", f"bdflow::haar_{direction}<{name}, {cells}>")
    arguments = source, out, *map(np.int32, shape), *steps
    return Launch.over(kernel, height * (width // cells), n * channels, arguments)


def check_forward(x: Any) -> list[Output]:
    """Refuse what `haar_forward` does not take; raises what it says. Returns what its output has to be."""
    check_array("x", x, axes="(N, C, H, W)", dtypes=FLOATS)
    n, channels, height, width = x.shape
    if height % 2 or width % 2:
        raise ShapeError(f"x has shape {tuple(x.shape)}; height and width must be even. Pad it by one row or column.")
    return [Output((n, 4 * channels, height // 2, width // 2), x.dtype)]


def check_inverse(bands: Any) -> list[Output]:
    """Refuse what `haar_inverse` does not take; raises what it says. Returns what its output has to be."""
    check_array("bands", bands, axes="(N, 4C, h, w)", dtypes=FLOATS)
    n, channels, height, width = bands.shape
    if channels % 4:
        raise ShapeError(f"bands has shape {tuple(bands.shape)}; the channels must be four bands of as many each.")
    return [Output((n, channels // 4, 2 * height, 2 * width), bands.dtype)]
