"""What a `Rescaler` is given, checked and brought into one form."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np

from bdflow_rt.containers.image import Picture
from bdflow_rt.containers.source import check_area, check_max_pixels
from bdflow_rt.errors import (
    ArgumentError,
    DTypeError,
    EmptyImageError,
    PacketMismatchError,
    ShapeError,
    check_type,
    check_whole,
    describe,
)
from bdflow_rt.packet import Packet, UInt8Array, ZPolicy, check_bytes_array
from bdflow_rt.zoo import ModelCard

if TYPE_CHECKING:
    from bdflow_rt.engines.engine import PrecisionChoice

MAX_STEPS = 1_000_000
"""Of a refinement; thousands take all there is to gain."""
MAX_THREADS = 1024
"""Thread pools crash the process where the system has no more threads to give."""


class Options(TypedDict, total=False):
    """Options of `Rescaler` besides backend and device."""

    precision: PrecisionChoice | None
    threads: int | None
    memory_limit_mib: float
    max_pixels: int


def check_options(
    *, card: Any, backend: Any, precision: Any, device: Any, threads: Any, memory_limit_mib: Any, max_pixels: Any
) -> None:
    """Check what a `Rescaler` is made with.

    Raises:
        ArgumentError: an option has the wrong type or an impossible value.
    """
    check_type("card", card, ModelCard, "the ModelCard of a model; by name there is Rescaler.from_pretrained(name)")
    check_type("backend", backend, str, "its name, such as 'auto'")
    check_type("precision", precision, (str, type(None)), "its name, such as 'fp32', or None")
    check_type("device", device, (str, type(None)), "'cpu', 'cuda' or 'cuda:N'")
    if threads is not None:
        check_whole("threads", threads, 1, MAX_THREADS)
    is_number = type(memory_limit_mib) in (int, float)
    if not is_number or not (0 < memory_limit_mib <= sys.float_info.max or memory_limit_mib == math.inf):
        raise ArgumentError(
            f"memory_limit_mib is {describe(memory_limit_mib)}; it must be above 0, or infinite for no limit."
        )
    check_max_pixels(max_pixels)


def check_work(*, z: Any = None, refine: Any = 0, force: Any = False, progress: Any = None) -> None:
    """Check what a picture is made with.

    Raises:
        ArgumentError: `z` is no ZPolicy, `refine` no number of steps, `force` no bool, or `progress` no function.
    """
    if z is not None and not isinstance(z, ZPolicy):
        raise ArgumentError(f"z is {describe(z)}; it must be a ZPolicy, such as ZPolicy(temperature=0.45, seed=1).")
    check_whole("refine", refine, 0, MAX_STEPS)
    check_type("force", force, bool, "True or False")
    if progress is not None and not callable(progress):
        raise ArgumentError(f"progress is {describe(progress)}; it must be a function of the tiles done and in all.")


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


def as_sequence(function: str, items: Any) -> Sequence[Any]:
    """The items of a batch: those of a list or tuple, or the pictures of an array (N, H, W, 3).

    Raises:
        ArgumentError: it is neither; `function` starts the message.
    """
    if isinstance(items, Sequence) and not isinstance(items, (str, bytes)):
        return items
    if isinstance(items, np.ndarray) and items.ndim == 4:
        return list(items)
    kind = f"an array of shape {items.shape}" if isinstance(items, np.ndarray) else f"a {type(items).__name__}"
    raise ArgumentError(f"{function} got {kind}; give a list, or for pictures of one size an array (N, H, W, 3).")


def check_packet(packet: Packet, card: ModelCard, *, max_pixels: int) -> None:
    """Check that a model can restore a packet.

    Raises:
        PacketMismatchError: it was made with another model, or its header contradicts this one.
        ImageTooLargeError: the HR picture has more than `max_pixels`.
    """
    header, interface = packet.header, card.interface
    if header.identity != card.packet_identity:
        raise PacketMismatchError(
            f"The packet was made with {header.model} (identity {header.identity.hex()}), and this rescaler is "
            f"{card.id} ({card.packet_identity.hex()}). Use Rescaler.for_packet(packet)."
        )
    if (header.scale, header.bits) != (interface.scale, interface.bits):
        raise PacketMismatchError(
            f"The packet says scale {header.scale} and {header.bits} bits, but its model {card.id} has scale "
            f"{interface.scale} and {interface.bits} bits. Create the packet again."
        )
    check_area("The packet restores to", header.width, header.height, max_pixels=max_pixels)


def to_grey(pixels: UInt8Array) -> UInt8Array:
    """The mean of the three channels in each of them, (H, W, 3): a grey source had no colour noise to restore."""
    total = pixels.sum(axis=2, dtype=np.uint16)
    return np.repeat(((total + 1) // 3).astype(np.uint8)[:, :, None], 3, axis=2)
