"""An 8-bit picture in memory, and the arrays that can be one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from bdflow_rt.errors import ArgumentError, DTypeError, EmptyImageError, ShapeError, check_type, describe
from bdflow_rt.options import check_area

UInt8Array = npt.NDArray[np.uint8]

MAX_ICC_BYTES = 16 << 20
"""Cap on a colour profile, so that a hostile file cannot inflate without end; real ones stay below 4 MiB."""


@dataclass(frozen=True, eq=False)
class Picture:
    """An 8-bit picture in memory.

    Attributes:
        pixels: (H, W, 3) uint8 RGB.
        colour: "grey" where it is a grey picture; its three channels are then equal.
        icc_profile: ICC profile of these RGB pixels; None means sRGB. A grey picture's own profile is replaced by
            the RGB profile with the same tone curve, and changed back when it is written as grey. At most 16 MiB.

    Raises:
        ShapeError, DTypeError, EmptyImageError: `pixels` is not such an array.
        ArgumentError: another `colour`, or a longer profile.
    """

    pixels: UInt8Array
    colour: Literal["rgb", "grey"] = "rgb"
    icc_profile: bytes | None = None

    def __post_init__(self) -> None:
        check_pixels_array("The picture", self.pixels)
        if not isinstance(self.colour, str) or self.colour not in ("rgb", "grey"):
            raise ArgumentError(f"colour is {describe(self.colour)}; it must be 'rgb' or 'grey'.")
        check_profile(self.icc_profile)


def as_picture(image: UInt8Array, *, max_pixels: int) -> Picture:
    """A picture from an array: (H, W, 3) uint8 RGB as it is, (H, W) uint8 grey as three equal channels.

    Its pixels are contiguous: a view (flipped, transposed, sliced, broadcast) is copied, so that nothing behind this
    needs to know of strides. The caller's array is never written to.

    Raises:
        DTypeError, ShapeError, EmptyImageError, ImageTooLargeError: what it is instead.
    """
    if not isinstance(image, np.ndarray):
        raise DTypeError(f"The image is a {type(image).__name__}; give a NumPy array or the path of a picture.")
    check_bytes_array("The image", image)
    if image.ndim == 4 and image.shape[-1] == 3:
        raise ShapeError(f"The image has shape {image.shape}, which is a batch; use downscale_batch.")
    if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[-1] != 3):
        raise ShapeError(f"The image has shape {image.shape}; (H, W, 3) or (H, W) is needed.")
    if image.size == 0:
        raise EmptyImageError(f"The image has shape {image.shape} and so no pixels.")
    height, width = image.shape[:2]
    check_area("The image has", width, height, max_pixels=max_pixels)
    if image.ndim == 2:
        return Picture(np.repeat(np.asarray(image)[:, :, None], 3, axis=2), colour="grey")
    return Picture(np.ascontiguousarray(image))


def to_grey(pixels: UInt8Array) -> UInt8Array:
    """The mean of the three channels in each of them, (H, W, 3): a grey source had no colour noise to restore."""
    total = pixels.sum(axis=2, dtype=np.uint16)
    return np.repeat(((total + 1) // 3).astype(np.uint8)[:, :, None], 3, axis=2)


def check_profile(profile: bytes | None) -> None:
    """Check that an ICC profile is None or 1 byte to 16 MiB.

    Raises:
        ArgumentError: it is something else.
    """
    check_type("icc_profile", profile, (bytes, type(None)), "bytes or None")
    if profile is not None and not 0 < len(profile) <= MAX_ICC_BYTES:
        raise ArgumentError(
            f"The colour profile has {len(profile)} bytes; 1 to {MAX_ICC_BYTES} are allowed. Convert the picture to "
            "sRGB, or pass icc_profile=None."
        )


def check_pixels_array(name: str, pixels: UInt8Array) -> None:
    """Check that `pixels` is a (H, W, 3) uint8 picture with at least one pixel; `name` starts the message.

    Raises:
        DTypeError, ShapeError, EmptyImageError: what it is instead.
    """
    check_bytes_array(name, pixels)
    if pixels.ndim != 3 or pixels.shape[2] != 3:
        raise ShapeError(f"{name} has shape {pixels.shape}; it must be (height, width, 3).")
    if pixels.size == 0:
        raise EmptyImageError(f"{name} has shape {pixels.shape}, so no pixels; at least 1 x 1 is needed.")


def check_bytes_array(name: str, values: Any) -> None:
    """Check that `values` is an array of uint8 and nothing more; `name` starts the message.

    Raises:
        DTypeError: it is something else, or a masked array, whose mask would be lost.
    """
    if isinstance(values, np.ma.MaskedArray):
        raise DTypeError(f"{name} is a masked array, whose mask would be lost; give its filled(...).")
    if not isinstance(values, np.ndarray) or values.dtype != np.uint8:
        found = f"an array of {values.dtype}" if isinstance(values, np.ndarray) else f"a {type(values).__name__}"
        raise DTypeError(f"{name} is {found}; it must be a NumPy array of uint8.")


def sample_picture(height: int, width: int, seed: int = 0) -> UInt8Array:
    """A picture with what photographs have: a 1/f spectrum, and flat and striped shapes with sharp edges.

    Args:
        height, width: in pixels.
        seed: the same arguments give the same picture.

    Returns:
        (height, width, 3) uint8.
    """
    rng = np.random.default_rng((seed, height, width))
    falling = 1 / np.maximum(np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)), 1 / max(height, width))
    noise = np.fft.irfft2(np.fft.rfft2(rng.normal(size=(3, height, width))) * falling, s=(height, width))
    picture = np.moveaxis(128 + 40 * noise / max(noise.std(), 1e-9), 0, -1)
    y, x = np.mgrid[0:height, 0:width]
    for _ in range(12):
        (top, left), radius = rng.uniform(0, 1, 2) * (height, width), rng.uniform(0.05, 0.25) * min(height, width)
        waves = rng.uniform(0, 40) * np.sin(x / rng.uniform(1, 9) + y / rng.uniform(1, 9))
        shape = np.hypot(y - top, x - left) < radius if rng.random() < 0.5 else abs(y - top) + abs(x - left) < radius
        picture[shape] = (rng.uniform(20, 235, 3) + waves[..., None])[shape]
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8)
