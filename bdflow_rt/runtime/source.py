"""HR pictures as callers have them, on their way to an engine; and the packets that are made of them."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bdflow_rt.engines.front import NV12, RGB, Front
from bdflow_rt.errors import ArgumentError, EmptyImageError, ShapeError
from bdflow_rt.interop import check_gpu_bytes, from_host, is_gpu_array
from bdflow_rt.options import check_area
from bdflow_rt.packet import ColourInfo, Packet, PacketHeader, ZPolicy
from bdflow_rt.picture import as_picture, check_bytes_array
from bdflow_rt.zoo import ModelCard


@dataclass(frozen=True, eq=False)
class Source:
    """An HR picture on its way in.

    Attributes:
        frame: its arrays, by the names of `front`.
        size: (H, W).
        front: what they are.
        on_gpu: where they are.
        colour: for the packet's header.
        icc_profile: that goes along.
    """

    frame: dict[str, Any]
    size: tuple[int, int]
    front: Front = RGB
    on_gpu: bool = False
    colour: ColourInfo = field(default_factory=ColourInfo)
    icc_profile: bytes | None = None

    @property
    def side(self) -> str:
        """The library of its arrays, which that of its packet follows."""
        return type(next(iter(self.frame.values()))).__module__

    def packet(self, made: dict[str, Any], card: ModelCard, z: ZPolicy) -> Packet:
        """The packet of what a model made of it, `lr` and `boundary`; on a GPU without the CRC of the pixels."""
        header = PacketHeader(
            model=card.id,
            identity=card.packet_identity,
            scale=card.interface.scale,
            width=self.size[1],
            height=self.size[0],
            bits=card.interface.bits,
            lr_crc32=None if self.on_gpu else Packet.crc32_of(made["lr"]),
            profile_crc32=None if self.icc_profile is None else zlib.crc32(self.icc_profile),
            z=z,
            colour=self.colour,
        )
        return Packet(made["lr"], made.get("boundary"), header, self.icc_profile)


def as_source(image: Any, *, front: Front, max_pixels: int) -> Source:
    """What a caller gave as a picture, checked.

    Args:
        image: a `Picture`; an array (H, W, 3) uint8 RGB or (H, W) uint8 grey of the host's, (H, W, 3) on a GPU; of NV12
            the pair luma and chroma.
        front: what it is.
        max_pixels: larger ones are refused.

    Raises:
        ArgumentError: NV12 is no pair of arrays of one side.
        DTypeError, ShapeError, EmptyImageError, ImageTooLargeError: what it is instead.
    """
    if isinstance(front, NV12):
        return _nv12_source(image, front, max_pixels)
    if is_gpu_array(image):
        shape = tuple(getattr(image, "shape", ()))
        if len(shape) != 3 or shape[2] != 3:
            raise ShapeError(f"The image has shape {shape}; on a GPU (H, W, 3) is needed.")
        return Source({"image": image}, _size("image", image, max_pixels), on_gpu=True)
    picture = as_picture(from_host(image), max_pixels=max_pixels)
    height, width = picture.pixels.shape[:2]
    colour = ColourInfo(model=picture.colour)
    return Source({"image": picture.pixels}, (height, width), colour=colour, icc_profile=picture.icc_profile)


def _nv12_source(image: Any, front: NV12, max_pixels: int) -> Source:
    if not isinstance(image, (tuple, list)) or len(image) != 2:
        raise ArgumentError(f"The image is a {type(image).__name__}; of NV12 give the pair of arrays (luma, chroma).")
    luma, chroma = (one if is_gpu_array(one) else from_host(one) for one in image)
    for name, array, dimensions in (("luma", luma, 2), ("chroma", chroma, 3)):
        if not hasattr(array, "shape") or len(array.shape) != dimensions:
            found = f"of shape {tuple(array.shape)}" if hasattr(array, "shape") else f"a {type(array).__name__}"
            raise ShapeError(f"{name} is {found}; luma is an array (H, W), chroma (ceil(H/2), ceil(W/2), 2).")
    height, width = size = _size("luma", luma, max_pixels)
    needed = (height + 1) // 2, (width + 1) // 2, 2
    if tuple(chroma.shape) != needed:
        raise ShapeError(f"chroma has shape {tuple(chroma.shape)}; beside luma {(height, width)} it must be {needed}.")
    if is_gpu_array(luma) != is_gpu_array(chroma):
        raise ArgumentError("One of luma and chroma is on a GPU and the other is not; give both from one side.")
    _size("chroma", chroma, max_pixels)
    colour = ColourInfo(matrix=front.matrix_code, full_range=front.levels == "full")
    return Source({"luma": luma, "chroma": chroma}, size, front, on_gpu=is_gpu_array(luma), colour=colour)


def _size(name: str, array: Any, max_pixels: int) -> tuple[int, int]:
    """Height and width of an array of bytes that has any."""
    height, width = int(array.shape[0]), int(array.shape[1])
    if not height or not width:
        raise EmptyImageError(f"{name} has shape {tuple(array.shape)} and so no pixels.")
    if isinstance(array, np.ndarray):
        check_bytes_array(name, array)
    else:
        check_gpu_bytes(name, array)
    check_area(f"{name} has", width, height, max_pixels=max_pixels)
    return height, width
