"""From first-level Haar planes to frames: on GPU arrays kernels/cuda/egress.cuh, on NumPy arrays its twins."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bdflow_rt.errors import ArgumentError, ShapeError
from bdflow_rt.kernels.arrays import FLOATS, check_array, whole_number
from bdflow_rt.kernels.colour import Levels, Matrix, check_colour, from_rgb, nv12_of_rgb, round_level, saturate
from bdflow_rt.kernels.compile import Kernel
from bdflow_rt.kernels.device import Output, run
from bdflow_rt.kernels.haar import haar_inverse_reference
from bdflow_rt.kernels.launch import GRID_Y, PLANE_TYPES, Launch, address, rows_aligned, strides

KERNELS = tuple(
    Kernel("egress.cuh", f"bdflow::{name}<{scalar}, {cells}>")
    for name in ("egress", "egress_nv12")
    for scalar, choices in PLANE_TYPES.values()
    for cells in choices
)


def egress(
    planes: Any, *, height: int | None = None, width: int | None = None, out: Any = None, stream: Any = None
) -> Any:
    """First-level Haar planes to 8-bit RGB frames, in one pass: inverse Haar, clamped to [0, 1], times 255, rounded.

    Args:
        planes: (N, 12, h, w) float16 or float32, band-major as `ingest` makes them, NumPy's or on the GPU. Any strides.
        height, width: of the frames, at most 2h x 2w, the rest is cropped; None is all.
        out: array for the frames, on the same side; its rows are contiguous and may lie apart. None allocates one.
        stream: CUDA stream to work on: of CuPy, PyTorch or PyCUDA, or its address; None is the current one.

    Returns:
        (N, height, width, 3) uint8 RGB, rounded half to even; a NaN becomes 0. `egress(ingest(x))` is x, exactly.

    Raises:
        ShapeError, EmptyImageError, DTypeError, LayoutError, ArrayTooLargeError: as `check_egress`, or of `out`.
        OverlapError: `out` shares memory with the planes.
        DeviceMismatchError, BackendUnavailableError: as `haar_forward`.
    """
    check, twin = (
        functools.partial(function, height=height, width=width) for function in (check_egress, egress_reference)
    )
    return run({"planes": planes}, {"out": out}, stream, check=check, plan=egress_launch, twin=twin)[0]


def egress_nv12(
    planes: Any,
    *,
    height: int | None = None,
    width: int | None = None,
    matrix: Matrix = "bt709",
    levels: Levels = "limited",
    out: tuple[Any, Any] | None = None,
    stream: Any = None,
) -> tuple[Any, Any]:
    """First-level Haar planes to 8-bit NV12 frames, in one pass; RGB is clamped and not rounded on the way.

    Args:
        planes, height, width, stream: as for `egress`.
        matrix: "bt601" or "bt709".
        levels: "limited" (luma 16..235, chroma 16..240) or "full".
        out: arrays for luma and chroma; rows may lie apart, as in an encoder's surface. None allocates them.

    Returns:
        Luma (N, height, width) and chroma (N, ceil(height/2), ceil(width/2), 2), Cb before Cr, uint8; chroma is the
        mean over the pixels of a 2x2 block inside the frame.

    Raises:
        ArgumentError: matrix or levels is not an allowed one.
        ShapeError, EmptyImageError, DTypeError, LayoutError, ArrayTooLargeError, OverlapError, DeviceMismatchError,
            BackendUnavailableError: as `egress`.

    Source: ITU-R BT.601-7 and BT.709-6; ranges of ITU-T H.273, section 8.3.
    """
    if out is not None and (not isinstance(out, tuple) or len(out) != 2):
        raise ArgumentError(f"out is a {type(out).__name__}; it must be a pair of arrays, luma and chroma.")
    outputs = dict(zip(("luma", "chroma"), out or (None, None), strict=True))
    check, twin = (
        functools.partial(function, height=height, width=width, matrix=matrix, levels=levels)
        for function in (check_egress_nv12, egress_nv12_reference)
    )
    plan = functools.partial(egress_nv12_launch, matrix=matrix, levels=levels)
    luma, chroma = run({"planes": planes}, outputs, stream, check=check, plan=plan, twin=twin)
    return luma, chroma


def egress_reference(planes: NDArray[Any], *, height: int | None = None, width: int | None = None) -> NDArray[np.uint8]:
    """NumPy twin of `egress`. Its arguments were checked."""
    frames = np.moveaxis(_picture(planes, height, width), 1, -1)
    return round_level(np.ascontiguousarray(frames) * np.float32(255))


def egress_nv12_reference(
    planes: NDArray[Any], *, height: int | None = None, width: int | None = None, matrix: Matrix, levels: Levels
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """NumPy twin of `egress_nv12`. Its arguments were checked."""
    return nv12_of_rgb(_picture(planes, height, width), matrix=matrix, levels=levels)


def egress_launch(planes: Any, out: Any) -> Launch:
    """The launch that writes the frames of `planes` to `out`, cropped to its size; both were checked."""
    n, height, width, _ = out.shape
    scalar, cells = _cells(planes)
    groups = -(-((width + 1) // 2) // cells)
    kernel = Kernel("egress.cuh", f"bdflow::egress<{scalar}, {cells}>")
    blocks = -(-groups // kernel.threads)
    # As many threads as share a row evenly, in whole warps, so that few idle at its end.
    threads = -(-groups // (32 * blocks)) * 32
    run = next(run for run in (16, 4, 1) if rows_aligned(out, run))
    return Launch(
        kernel=kernel,
        grid=(blocks, min(n * ((height + 1) // 2), GRID_Y), 1),
        block=(threads, 1, 1),
        arguments=(planes, out, *map(np.int32, (n, height, width, run)), *strides(planes), *strides(out)[:2]),
    )


def egress_nv12_launch(planes: Any, luma: Any, chroma: Any, *, matrix: Matrix, levels: Levels) -> Launch:
    """The launch that writes the frames of `planes` to luma and chroma, cropped to their size; all were checked."""
    n, height, width = luma.shape
    scalar, cells = _cells(planes)
    items = (height + 1) // 2 * -(-((width + 1) // 2) // cells)
    aligned = rows_aligned(luma, 2 * cells) and rows_aligned(chroma, 2 * cells)
    steps = (*strides(planes), *strides(luma)[:2], *strides(chroma)[:2])
    sizes = map(np.int32, (n, height, width, aligned))
    kernel = Kernel("egress.cuh", f"bdflow::egress_nv12<{scalar}, {cells}>")
    arguments = planes, luma, chroma, *sizes, *steps, *from_rgb(matrix=matrix, levels=levels)
    return Launch.over(kernel, items, n, arguments)


def check_egress(planes: Any, *, height: int | None = None, width: int | None = None) -> list[Output]:
    """Refuse what `egress` does not take, and return what its output has to be.

    Raises:
        ShapeError, EmptyImageError, DTypeError: planes are not (N, 12, h, w) float16 or float32, or empty; height or
            width is not in 1..2h or 1..2w.
        ArrayTooLargeError: more than 2^31 - 1 elements.
        LayoutError: elements do not lie at multiples of their size.
        ArgumentError: height or width is no whole number.
    """
    check_array("planes", planes, axes="(N, 12, h, w)", dtypes=FLOATS)
    size = []
    for name, value, length in (("height", height, planes.shape[2]), ("width", width, planes.shape[3])):
        size.append(2 * length if value is None else whole_number(name, value))
        if not 1 <= size[-1] <= 2 * length:
            raise ShapeError(f"{name} is {value}; planes of shape {tuple(planes.shape)} make 1 to {2 * length}.")
    return [Output((planes.shape[0], *size, 3), np.dtype(np.uint8), pitched=True)]


def check_egress_nv12(
    planes: Any, *, height: int | None = None, width: int | None = None, matrix: str, levels: str
) -> list[Output]:
    """Refuse what `egress_nv12` does not take, and return what luma and chroma have to be.

    Raises:
        As `check_egress`; ArgumentError also for a matrix or levels that is not an allowed one.
    """
    check_colour(matrix=matrix, levels=levels)
    (rgb,) = check_egress(planes, height=height, width=width)
    n, rows, columns, _ = rgb.shape
    shapes = (n, rows, columns), (n, (rows + 1) // 2, (columns + 1) // 2, 2)
    return [Output(shape, rgb.dtype, pitched=True) for shape in shapes]


def _picture(planes: NDArray[Any], height: int | None, width: int | None) -> NDArray[np.float32]:
    with np.errstate(invalid="ignore"):  # infinite bands of opposite sign make the NaN that becomes 0
        return saturate(haar_inverse_reference(planes.astype(np.float32))[:, :, :height, :width])


def _cells(planes: Any) -> tuple[str, int]:
    """C++ type, and as many cells per thread as the planes' layout lets it load at once."""
    scalar, choices = PLANE_TYPES[np.dtype(planes.dtype)]
    steps, size = strides(planes), planes.dtype.itemsize
    for cells in choices:
        if (
            planes.shape[3] % cells == 0
            and steps[3] == 1
            and not any(step % cells for step in steps[:3])
            and address(planes) % (cells * size) == 0
        ):
            return scalar, cells
    return scalar, 1
