"""What crosses the wire: the LR picture, its boundary map, and the header that says how to restore them."""

from __future__ import annotations

import math
import re
import zlib
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from bdflow_rt.errors import (
    ArgumentError,
    DTypeError,
    EditedPictureError,
    EmptyImageError,
    PacketMismatchError,
    ShapeError,
)
from bdflow_rt.zoo.config import SCALES

UInt8Array = npt.NDArray[np.uint8]

MODEL_ID = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}@[1-9][0-9]{0,5}")
"""A model's name, "@", and its version: "bdflow-x4@1"."""
WEIGHTS_HASH_BYTES = 8
MAX_SIDE = 2**31 - 1
"""Largest width or height of a PNG, and so of a packet."""
MAX_TEMPERATURE = 10.0
MAX_ICC_BYTES = 16 << 20
"""Cap on a colour profile, so that a hostile file cannot inflate without end; real ones stay below 4 MiB."""


def _check_whole(name: str, value: object, low: int, high: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise ArgumentError(f"{name} is {value!r}; it must be a whole number from {low} to {high}.")


@dataclass(frozen=True, kw_only=True)
class ColourInfo:
    """Colour description of the HR source.

    Attributes:
        model: "rgb", or "grey" where the source was grey; `upscale` then gives grey back.
        primaries, transfer, matrix: code points of ITU-T H.273, 0..255; 2 means unspecified.
        full_range: whether code values use the full range 0..255, as pictures do.
    """

    model: Literal["rgb", "grey"] = "rgb"
    primaries: int = 2
    transfer: int = 2
    matrix: int = 2
    full_range: bool = True

    def __post_init__(self) -> None:
        if self.model not in ("rgb", "grey"):
            raise ArgumentError(f"colour.model is {self.model!r}; it must be 'rgb' or 'grey'.")
        for name in ("primaries", "transfer", "matrix"):
            _check_whole(f"colour.{name}", getattr(self, name), 0, 255)
        if not isinstance(self.full_range, bool):
            raise ArgumentError(f"colour.full_range is {self.full_range!r}; it must be True or False.")


@dataclass(frozen=True, kw_only=True)
class ZPolicy:
    """What the inverse network gets for the latent channels Z, which never cross the wire.

    Attributes:
        temperature: 0 (the default) means Z = 0; otherwise Z ~ N(0, temperature^2), at most 10. The paper's prior
            has temperature sqrt(0.2).
        seed: seed of that sampling, 0..2^64-1.
    """

    temperature: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        value = self.temperature
        if not isinstance(value, (int, float)) or not (math.isfinite(value) and 0 <= value <= MAX_TEMPERATURE):
            raise ArgumentError(f"z.temperature is {value!r}; it must be a number from 0 to {MAX_TEMPERATURE:g}.")
        _check_whole("z.seed", self.seed, 0, 2**64 - 1)


@dataclass(frozen=True, kw_only=True)
class PacketHeader:
    """Everything besides pixels that restoring needs.

    Attributes:
        model: name and version of the model, such as "bdflow-x4@1".
        weights_hash: first 8 bytes of the SHA-256 of its weights.
        scale: 2, 4, 8, 16, 32 or 64.
        width, height: size of the original HR picture in pixels, before padding.
        bits: bits per pixel of the boundary map, 0..8; with 0 there is no map.
        lr_crc32: CRC-32 of the LR pixels, see `Packet.crc32_of`.
        z: what the inverse gets for Z.
        colour: colour description of the source.

    Raises:
        ArgumentError: a value that is not allowed.
    """

    model: str
    weights_hash: bytes
    scale: int
    width: int
    height: int
    bits: int
    lr_crc32: int
    z: ZPolicy = ZPolicy()
    colour: ColourInfo = ColourInfo()

    def __post_init__(self) -> None:
        if not isinstance(self.model, str) or not MODEL_ID.fullmatch(self.model):
            raise ArgumentError(
                f"model is {self.model!r}; it must be a name of lower-case letters, digits, '.', '_' and '-' "
                "with a version, such as 'bdflow-x4@1'."
            )
        if not isinstance(self.weights_hash, bytes) or len(self.weights_hash) != WEIGHTS_HASH_BYTES:
            raise ArgumentError(f"weights_hash is {self.weights_hash!r}; it must be {WEIGHTS_HASH_BYTES} bytes.")
        if self.scale not in SCALES or not isinstance(self.scale, int):
            raise ArgumentError(f"scale is {self.scale!r}; it must be one of {', '.join(map(str, SCALES))}.")
        _check_whole("width", self.width, 1, MAX_SIDE)
        _check_whole("height", self.height, 1, MAX_SIDE)
        _check_whole("bits", self.bits, 0, 8)
        _check_whole("lr_crc32", self.lr_crc32, 0, 2**32 - 1)
        for name, kind in (("z", ZPolicy), ("colour", ColourInfo)):
            if not isinstance(getattr(self, name), kind):
                raise ArgumentError(f"{name} is {getattr(self, name)!r}; it must be a {kind.__name__}.")

    @property
    def lr_size(self) -> tuple[int, int]:
        """(h, w) of the LR picture: the HR size over the scale, rounded up."""
        return -(-self.height // self.scale), -(-self.width // self.scale)


@dataclass(frozen=True, eq=False)
class Packet:
    """An LR picture with what is needed to restore the HR picture from it.

    Attributes:
        lr: (h, w, 3) uint8, an ordinary RGB picture.
        boundary: (h, w) uint8 with levels 0..2^bits-1, or None where the header says 0 bits.
        header: how to restore it.
        icc_profile: ICC colour profile of `lr`, which is also that of the restored picture; None means sRGB.

    Raises:
        ShapeError, DTypeError, EmptyImageError: an array is not of that kind.
        PacketMismatchError: arrays and header contradict each other.
    """

    lr: UInt8Array
    boundary: UInt8Array | None
    header: PacketHeader
    icc_profile: bytes | None = None

    def __post_init__(self) -> None:
        check_pixels_array("The LR picture", self.lr)
        self._check_size()
        self._check_boundary()
        if self.icc_profile is not None and not 0 < len(self.icc_profile) <= MAX_ICC_BYTES:
            raise ArgumentError(
                f"The colour profile has {len(self.icc_profile)} bytes; 1 to {MAX_ICC_BYTES} are allowed. "
                "Convert the picture to sRGB, or pass icc_profile=None."
            )

    @staticmethod
    def crc32_of(lr: UInt8Array) -> int:
        """CRC-32 (as in zlib and PNG) of the pixels of `lr`, (h, w, 3) uint8, in row-major RGB order."""
        return zlib.crc32(np.ascontiguousarray(lr).data)

    def check_pixels(self) -> None:
        """Check that the LR pixels are those the packet was made with.

        Raises:
            EditedPictureError: their CRC-32 is not the header's.
        """
        found = self.crc32_of(self.lr)
        if found != self.header.lr_crc32:
            raise EditedPictureError(
                f"The small picture was edited after it was made (its pixels have CRC-32 {found:08x}, the packet says "
                f"{self.header.lr_crc32:08x}), so the stored detail no longer fits it. Use the unedited file, or "
                "restore it anyway with force=True (--force)."
            )

    def _check_size(self) -> None:
        header = self.header
        if self.lr.shape[:2] != header.lr_size:
            height, width = self.lr.shape[:2]
            raise PacketMismatchError(
                f"The small picture has {width} x {height} pixels, but a {header.width} x {header.height} original at "
                f"scale {header.scale} gives {header.lr_size[1]} x {header.lr_size[0]}. Use the file as downscale "
                "wrote it."
            )

    def _check_boundary(self) -> None:
        bits = self.header.bits
        if (self.boundary is None) != (bits == 0):
            found = "no boundary map" if self.boundary is None else "a boundary map"
            raise PacketMismatchError(
                f"The packet has {found}, but its header says {bits} bits per pixel. A map is needed exactly where "
                "bits is 1 to 8; create the packet again."
            )
        if self.boundary is None:
            return
        if self.boundary.dtype != np.uint8:
            raise DTypeError(f"The boundary map has dtype {self.boundary.dtype}; it must be uint8.")
        if self.boundary.shape != self.lr.shape[:2]:
            raise ShapeError(
                f"The boundary map has shape {self.boundary.shape}; the LR picture needs {self.lr.shape[:2]}."
            )
        if (level := int(self.boundary.max())) >= 1 << bits:
            raise PacketMismatchError(
                f"The boundary map has level {level}, but the header says {bits} bits per pixel, so at most "
                f"{(1 << bits) - 1}. Create the packet again with the model that made the map."
            )


def check_pixels_array(name: str, pixels: UInt8Array) -> None:
    """Check that `pixels` is a (H, W, 3) uint8 picture with at least one pixel; `name` starts the message.

    Raises:
        DTypeError, ShapeError, EmptyImageError: what it is instead.
    """
    if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8:
        kind = f"dtype {pixels.dtype}" if isinstance(pixels, np.ndarray) else f"type {type(pixels).__name__}"
        raise DTypeError(f"{name} has {kind}; it must be a NumPy array of uint8.")
    if pixels.ndim != 3 or pixels.shape[2] != 3:
        raise ShapeError(f"{name} has shape {pixels.shape}; it must be (height, width, 3).")
    if pixels.size == 0:
        raise EmptyImageError(f"{name} has shape {pixels.shape}, so no pixels; at least 1 x 1 is needed.")
