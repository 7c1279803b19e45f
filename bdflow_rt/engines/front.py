"""Fronts: what HR frames are made of where they come in and go out. Spec: spec/colour.md."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from bdflow_rt.errors import ArgumentError
from bdflow_rt.kernels.colour import Levels, Matrix, check_colour
from bdflow_rt.kernels.colour_opencv import planes_to_rgb, rgb_to_planes

UInt8Array = NDArray[np.uint8]


@dataclass(frozen=True)
class RGBFront:
    """Frames of one array: image (H, W, 3) uint8."""

    arrays: ClassVar[tuple[str, ...]] = ("image",)


@dataclass(frozen=True)
class NV12:
    """Frames of two arrays, as video decoders and encoders have them: luma (H, W) and chroma (ceil(H/2), ceil(W/2), 2),
    Cb before Cr, uint8.

    Attributes:
        matrix: "bt601", "bt709" or "bt2020".
        levels: "limited" (luma 16..235, chroma 16..240) or "full".

    Raises:
        ArgumentError: it is neither.
    """

    matrix: Matrix = "bt709"
    levels: Levels = "limited"
    arrays: ClassVar[tuple[str, ...]] = ("luma", "chroma")

    @property
    def matrix_code(self) -> int:
        """Code point of the matrix in ITU-T H.273, table 4."""
        return {"bt709": 1, "bt601": 6, "bt2020": 9}[self.matrix]

    def __post_init__(self) -> None:
        check_colour(matrix=self.matrix, levels=self.levels)

    def to_rgb(self, luma: UInt8Array, chroma: UInt8Array) -> UInt8Array:
        """The RGB picture (H, W, 3) uint8 of a frame in the host's memory, rounded half to even."""
        return planes_to_rgb(luma, chroma[..., 0], chroma[..., 1], matrix=self.matrix, levels=self.levels)

    def from_rgb(self, image: UInt8Array) -> tuple[UInt8Array, UInt8Array]:
        """Luma and chroma of an RGB picture (H, W, 3) uint8 in the host's memory."""
        luma, *chroma = rgb_to_planes(image, matrix=self.matrix, levels=self.levels)
        return luma, np.stack(chroma, axis=-1)


RGB = RGBFront()
Front = RGBFront | NV12


def named(front: Front, out: Any) -> dict[str, Any] | None:
    """The arrays that a frame is to be written to, by name: of RGB a single one, of NV12 a pair; None stays None.

    Raises:
        ArgumentError: it is no pair.
    """
    if out is None or not isinstance(front, NV12):
        return None if out is None else {"image": out}
    if not isinstance(out, (tuple, list)) or len(out) != 2:
        raise ArgumentError(f"out is a {type(out).__name__}; of NV12 give the pair of arrays (luma, chroma).")
    return dict(zip(front.arrays, out, strict=True))
