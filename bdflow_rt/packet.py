"""What crosses the wire: the LR picture, its boundary map, and the header that says how to restore them."""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np

from bdflow_rt.errors import (
    ArgumentError,
    DeviceMismatchError,
    EditedPictureError,
    PacketMismatchError,
    ShapeError,
    check_type,
    check_whole,
    describe,
    plural,
)
from bdflow_rt.interop import check_gpu_bytes, is_gpu_array, to_host
from bdflow_rt.options import MAX_SIDE, check_area
from bdflow_rt.picture import UInt8Array, check_bytes_array, check_pixels_array, check_profile
from bdflow_rt.zoo.card import IDENTITY_BYTES, ModelCard
from bdflow_rt.zoo.interface import SCALES

MODEL_ID = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}@[1-9][0-9]{0,5}")
"""A model's name, "@", and its version: "bdflow-x4@1"."""
CODEC = re.compile(r"[a-z0-9][a-z0-9._-]{0,31}")
FrameData = Literal["rows", "track", "none"]
MAX_TEMPERATURE = 10.0


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
        if not isinstance(self.model, str) or self.model not in ("rgb", "grey"):
            raise ArgumentError(f"colour.model is {describe(self.model)}; it must be 'rgb' or 'grey'.")
        for name in ("primaries", "transfer", "matrix"):
            check_whole(f"colour.{name}", getattr(self, name), 0, 255)
        if not isinstance(self.full_range, bool):
            raise ArgumentError(f"colour.full_range is {describe(self.full_range)}; it must be True or False.")


@dataclass(frozen=True, kw_only=True)
class ZPolicy:
    """What the inverse network uses for the latent channels Z, which a packet does not store.

    Attributes:
        temperature: 0 (the default) means Z = 0; otherwise Z ~ N(0, temperature^2), at most 10. The paper's prior
            has temperature sqrt(0.2).
        seed: seed of that sampling, 0..2^64-1.
    """

    temperature: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        value = self.temperature
        if not isinstance(value, (int, float)) or not 0 <= value <= MAX_TEMPERATURE:
            raise ArgumentError(
                f"z.temperature is {describe(value)}; it must be a number from 0 to {MAX_TEMPERATURE:g}."
            )
        check_whole("z.seed", self.seed, 0, 2**64 - 1)


@dataclass(frozen=True, kw_only=True)
class Header:
    """What restoring needs besides pixels, of a picture as of every frame of a video (spec/packet.md).

    Attributes:
        model: name and version of the model, such as "bdflow-x4@1".
        identity: first 8 bytes of the model's identity, see `ModelCard.identity`.
        scale: 2, 4, 8, 16, 32 or 64.
        width, height: size of the original HR picture in pixels, before padding.
        bits: bits per pixel of the boundary map, 0..8; with 0 there is no map.
        z: what the inverse gets for Z.
        colour: colour description of the source.

    Raises:
        ArgumentError: a value that is not allowed.
    """

    model: str
    identity: bytes
    scale: int
    width: int
    height: int
    bits: int
    z: ZPolicy = ZPolicy()
    colour: ColourInfo = ColourInfo()

    def __post_init__(self) -> None:
        if not isinstance(self.model, str) or not MODEL_ID.fullmatch(self.model):
            raise ArgumentError(
                f"model is {describe(self.model)}; it must be a name of lower-case letters, digits, '.', '_' and '-' "
                "with a version, such as 'bdflow-x4@1'."
            )
        if not isinstance(self.identity, bytes) or len(self.identity) != IDENTITY_BYTES:
            raise ArgumentError(f"identity is {describe(self.identity)}; it must be {IDENTITY_BYTES} bytes.")
        if not isinstance(self.scale, int) or self.scale not in SCALES:
            raise ArgumentError(f"scale is {describe(self.scale)}; it must be one of {', '.join(map(str, SCALES))}.")
        check_whole("width", self.width, 1, MAX_SIDE)
        check_whole("height", self.height, 1, MAX_SIDE)
        check_whole("bits", self.bits, 0, 8)
        for name, kind in (("z", ZPolicy), ("colour", ColourInfo)):
            if not isinstance(getattr(self, name), kind):
                raise ArgumentError(f"{name} is {describe(getattr(self, name))}; it must be a {kind.__name__}.")

    @property
    def lr_size(self) -> tuple[int, int]:
        """(h, w) of the LR picture: the HR size over the scale, rounded up."""
        return -(-self.height // self.scale), -(-self.width // self.scale)

    def check_model(self, card: ModelCard, *, name: str, way: str) -> None:
        """Check that a model can restore what the header is of; `name` starts the message, and `way` ends it.

        Raises:
            PacketMismatchError: it was made with another model, or the header contradicts this one.
        """
        interface = card.interface
        if self.identity != card.packet_identity:
            raise PacketMismatchError(
                f"{name} was made with {self.model} (identity {self.identity.hex()}), and the model in use is "
                f"{card.id} ({card.packet_identity.hex()}). {way}"
            )
        if (self.scale, self.bits) != (interface.scale, interface.bits):
            raise PacketMismatchError(
                f"{name} says scale {self.scale} and {plural(self.bits, 'bit')}, but its model {card.id} has scale "
                f"{interface.scale} and {plural(interface.bits, 'bit')}. Downscale the original again."
            )


@dataclass(frozen=True, kw_only=True)
class PacketHeader(Header):
    """The header of a picture's packet: the attributes of `Header`, and two checksums.

    Attributes:
        lr_crc32: CRC-32 of the LR pixels, see `Packet.crc32_of`; None where they went through a lossy codec.
        profile_crc32: CRC-32 of the ICC profile that belongs to the picture; None where none does, so it is sRGB.
    """

    lr_crc32: int | None
    profile_crc32: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("lr_crc32", "profile_crc32"):
            if getattr(self, name) is not None:
                check_whole(name, getattr(self, name), 0, 2**32 - 1)


@dataclass(frozen=True, kw_only=True)
class StreamHeader(Header):
    """The header of a video, once per file; CRCs belong to each frame.

    Attributes:
        time_base: seconds per unit of a timestamp, as numerator and denominator, each 1..2^32-1.
        codec: of the LR track, such as "h264" or "ffv1"; up to 32 of a-z, 0-9, ".", "_" and "-".
        lr_is_exact: whether that codec keeps every LR pixel.
        frame_data: where timestamps, durations and CRCs of the frames are: in further rows of the boundary map, in a
            track of their own, or nowhere.
    """

    time_base: tuple[int, int]
    codec: str
    lr_is_exact: bool
    frame_data: FrameData

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.time_base, tuple) or len(self.time_base) != 2:
            raise ArgumentError(f"time_base is {describe(self.time_base)}; it must be a numerator and a denominator.")
        for value in self.time_base:
            check_whole("time_base", value, 1, 2**32 - 1)
        if not isinstance(self.codec, str) or not CODEC.fullmatch(self.codec):
            raise ArgumentError(
                f"codec is {describe(self.codec)}; it must be a name such as 'h264', of up to 32 letters."
            )
        if not isinstance(self.lr_is_exact, bool):
            raise ArgumentError(f"lr_is_exact is {describe(self.lr_is_exact)}; it must be True or False.")
        if not isinstance(self.frame_data, str) or self.frame_data not in get_args(FrameData):
            raise ArgumentError(
                f"frame_data is {describe(self.frame_data)}; it must be one of {', '.join(get_args(FrameData))}."
            )


@dataclass(frozen=True, eq=False)
class Packet:
    """An LR picture with what is needed to restore the HR picture from it.

    Its arrays are in the host's memory, or both on a GPU. There nobody looks at their content: a packet that was made
    on a GPU has no CRC until `to_host`, and levels of a boundary map that are too high are not noticed.

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
        if self.on_gpu:
            self._check_gpu_arrays()
        else:
            check_pixels_array("The LR picture", self.lr)
        check_type("header", self.header, PacketHeader, "a PacketHeader")
        self._check_size()
        self._check_boundary()
        check_profile(self.icc_profile)

    @staticmethod
    def crc32_of(lr: UInt8Array) -> int:
        """CRC-32 (as in zlib and PNG) of the pixels of `lr`, (h, w, 3) uint8, in row-major RGB order."""
        check_pixels_array("The LR picture", lr)
        return zlib.crc32(np.ascontiguousarray(lr).data)

    @property
    def on_gpu(self) -> bool:
        """Whether its arrays are on a GPU."""
        return is_gpu_array(self.lr)

    def to_host(self) -> Packet:
        """The same packet in the host's memory, with the CRC of its pixels; itself where it is there already."""
        if not self.on_gpu:
            return self
        lr = np.ascontiguousarray(to_host(self.lr))
        boundary = None if self.boundary is None else np.ascontiguousarray(to_host(self.boundary))
        known = self.header.lr_crc32
        header = replace(self.header, lr_crc32=self.crc32_of(lr) if known is None else known)
        return Packet(lr, boundary, header, self.icc_profile)

    @property
    def profile_crc32(self) -> int | None:
        """CRC-32 of the colour profile as it is; None where there is none. The header has what it was."""
        return None if self.icc_profile is None else zlib.crc32(self.icc_profile)

    def check_unedited(self) -> None:
        """Check that LR pixels, where they are in the host's memory, and colour profile are those it was made with.

        Raises:
            EditedPictureError: the CRC-32 of one of them is not the header's.
        """
        header = self.header
        if not self.on_gpu and header.lr_crc32 is not None and (actual := self.crc32_of(self.lr)) != header.lr_crc32:
            raise EditedPictureError(
                f"The small picture was edited after it was made (its pixels have CRC-32 {actual:08x}, the packet says "
                f"{header.lr_crc32:08x}), so the stored detail no longer fits it. Use the unedited file, or restore "
                "it anyway with force=True (--force)."
            )
        if self.profile_crc32 != header.profile_crc32:
            what = "lost" if self.icc_profile is None else "got" if header.profile_crc32 is None else "changed"
            raise EditedPictureError(
                f"The small picture {what} its colour profile after it was made, so the restored colours would not be "
                "those of the original. Use the file as downscale wrote it, or restore it anyway with force=True "
                "(--force)."
            )

    def check_model(self, card: ModelCard, *, max_pixels: int) -> None:
        """Check that a model can restore it.

        Raises:
            PacketMismatchError: it was made with another model, or its header contradicts this one.
            ImageTooLargeError: the HR picture has more than `max_pixels`.
        """
        self.header.check_model(card, name="The packet", way="Use Rescaler.for_packet(packet).")
        check_area("The packet restores to", self.header.width, self.header.height, max_pixels=max_pixels)

    def _check_gpu_arrays(self) -> None:
        if self.boundary is not None and not is_gpu_array(self.boundary):
            raise DeviceMismatchError("The LR picture is on a GPU and the boundary map is not; put both on one side.")
        for name, array, dims in (("The LR picture", self.lr, 3), ("The boundary map", self.boundary, 2)):
            if array is None:
                continue
            check_gpu_bytes(name, array)
            if len(array.shape) != dims or (dims == 3 and array.shape[2] != 3):
                needed = "(height, width, 3)" if dims == 3 else "(height, width)"
                raise ShapeError(f"{name} has shape {tuple(array.shape)}; it must be {needed}.")

    def _check_size(self) -> None:
        header = self.header
        if tuple(self.lr.shape[:2]) != header.lr_size:
            height, width = self.lr.shape[:2]
            raise PacketMismatchError(
                f"The small picture has {width} x {height} pixels, but a {header.width} x {header.height} original at "
                f"scale {header.scale} gives {header.lr_size[1]} x {header.lr_size[0]}. Use the file as downscale "
                "wrote it."
            )

    def _check_boundary(self) -> None:
        header, bits = self.header, self.header.bits
        if (self.boundary is None) != (bits == 0):
            found = "no boundary map" if self.boundary is None else "a boundary map"
            raise PacketMismatchError(
                f"The packet has {found}, but its header says {plural(bits, 'bit')} per pixel. A map is needed exactly "
                "where bits is 1 to 8; create the packet again."
            )
        if self.boundary is None:
            return
        if not self.on_gpu:
            check_bytes_array("The boundary map", self.boundary)
        if tuple(self.boundary.shape) != header.lr_size:
            raise ShapeError(
                f"The boundary map has shape {tuple(self.boundary.shape)}; the LR picture needs {header.lr_size}."
            )
        if not self.on_gpu and (level := int(self.boundary.max())) >= 1 << bits:
            raise PacketMismatchError(
                f"The boundary map has level {level}, but the header says {plural(bits, 'bit')} per pixel, so at most "
                f"{(1 << bits) - 1}. Create the packet again with the model that made the map."
            )
