"""An 8-bit picture in memory, and the arrays that can be one."""

from __future__ import annotations

from dataclasses import dataclass, replace
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
        left_behind: kinds of metadata that its file has and this does not hold, such as "EXIF" and "resolution".

    Raises:
        ShapeError, DTypeError, EmptyImageError: `pixels` is not such an array.
        ArgumentError: another `colour`, or a longer profile.
    """

    pixels: UInt8Array
    colour: Literal["rgb", "grey"] = "rgb"
    icc_profile: bytes | None = None
    left_behind: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_pixels_array("The picture", self.pixels)
        if not isinstance(self.colour, str) or self.colour not in ("rgb", "grey"):
            raise ArgumentError(f"colour is {describe(self.colour)}; it must be 'rgb' or 'grey'.")
        check_profile(self.icc_profile)


def as_picture(image: UInt8Array | Picture, *, max_pixels: int) -> Picture:
    """A picture from an array: (H, W, 3) uint8 RGB as it is, (H, W) uint8 grey as three equal channels.

    Its pixels are contiguous: a view (flipped, transposed, sliced, broadcast) is copied, so that nothing behind this
    needs to know of strides. The caller's array is never written to.

    Raises:
        DTypeError, ShapeError, EmptyImageError, ImageTooLargeError: what it is instead.
    """
    if isinstance(image, Picture):
        height, width = image.pixels.shape[:2]
        check_area("The image has", width, height, max_pixels=max_pixels)
        return replace(image, pixels=np.ascontiguousarray(image.pixels))
    if not isinstance(image, np.ndarray):
        raise DTypeError(
            f"The image is a {type(image).__name__}; give a NumPy array, a Picture or the path of a picture."
        )
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
    """A picture with the statistics of a photograph, for trying things out where no file is at hand.

    Noise with a 1/f-like spectrum over a slanted gradient, overlapping flat and striped shapes with sharp edges, and a
    little sensor grain.

    Args:
        height, width: in pixels, from 1.
        seed: the same arguments give the same picture.

    Returns:
        (height, width, 3) uint8.
    """
    import cv2

    rng = np.random.default_rng((seed, height, width))
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    slope = rng.uniform(-50, 50, (2, 3)).astype(np.float32)
    picture = rng.uniform(90, 160, 3).astype(np.float32) + (y / height)[..., None] * slope[0]
    picture += (x / width)[..., None] * slope[1]
    picture += _cloud(rng, height, width) + 0.3 * np.dstack([_cloud(rng, height, width) for _ in range(3)])
    side = max(height, width)
    for _ in range(14):
        centre = (float(rng.uniform(0, width)), float(rng.uniform(0, height)))
        axes = tuple(float(v) for v in rng.uniform(0.02, 0.3, 2) * side)
        box = (centre, axes, float(rng.uniform(0, 180)))
        mask = np.zeros((height, width), np.uint8)
        if rng.random() < 0.5:
            cv2.ellipse(mask, box, 255, -1, cv2.LINE_AA)
        else:
            cv2.fillPoly(mask, [cv2.boxPoints(box).astype(np.int32)], 255, cv2.LINE_AA)
        period, angle = rng.uniform(3, 24), rng.uniform(0, np.pi)
        stripes = rng.uniform(0, 45) * np.sin(2 * np.pi / period * (x * np.cos(angle) + y * np.sin(angle)))
        colour = np.float32(rng.uniform(20, 235)) + rng.normal(0, 25, 3).astype(np.float32)
        alpha = mask[..., None].astype(np.float32) / 255
        picture += alpha * (colour + stripes[..., None].astype(np.float32) - picture)
    picture += rng.normal(0, 1.5, picture.shape).astype(np.float32)
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8)


def _cloud(rng: np.random.Generator, height: int, width: int) -> npt.NDArray[np.float32]:
    """Multi-scale noise, (H, W, 1) float32: coarser octaves are stronger, as in photographs."""
    import cv2

    total = np.zeros((height, width), np.float32)
    amplitude, cell = 2.0, 1
    while cell <= max(height, width):
        coarse = rng.normal(0, amplitude, (-(-height // cell) + 1, -(-width // cell) + 1)).astype(np.float32)
        total += cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
        amplitude, cell = min(amplitude * 1.5, 16.0), cell * 2
    return total[..., None]
