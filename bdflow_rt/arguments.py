"""What a `Rescaler` is given, checked and brought into one form."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np

from bdflow_rt.containers.image import Picture
from bdflow_rt.errors import (
    ArgumentError,
    DTypeError,
    EmptyImageError,
    ImageTooLargeError,
    PacketMismatchError,
    ShapeError,
)
from bdflow_rt.packet import Packet, UInt8Array, ZPolicy
from bdflow_rt.zoo import ModelCard

if TYPE_CHECKING:
    from bdflow_rt.engines.engine import PrecisionChoice

MAX_THREADS = 1024
"""Thread pools crash the process where the system has no more threads to give."""


class Options(TypedDict, total=False):
    """Options of `Rescaler` besides backend and device."""

    precision: PrecisionChoice
    threads: int | None
    memory_limit_mib: float
    max_pixels: int


def check_options(*, device: Any, threads: Any, memory_limit_mib: Any, max_pixels: Any) -> None:
    """Check what a `Rescaler` is made with.

    Raises:
        ArgumentError: an option has the wrong type or an impossible value.
    """
    if device is not None and not isinstance(device, str):
        raise ArgumentError(f"device is {device!r}; it must be 'cpu', 'cuda' or 'cuda:N'.")
    if threads is not None and not (type(threads) is int and 1 <= threads <= MAX_THREADS):
        raise ArgumentError(f"threads is {threads!r}; it must be 1 to {MAX_THREADS}, or None for all cores.")
    if type(memory_limit_mib) not in (int, float) or not memory_limit_mib > 0:
        raise ArgumentError(f"memory_limit_mib is {memory_limit_mib!r}; it must be above 0, or infinite for no limit.")
    if type(max_pixels) is not int or max_pixels < 1:
        raise ArgumentError(f"max_pixels is {max_pixels!r}; it must be a whole number of at least 1.")


def check_z(z: Any) -> None:
    """Check what is to be used for Z.

    Raises:
        ArgumentError: it is no ZPolicy.
    """
    if not isinstance(z, ZPolicy):
        raise ArgumentError(f"z is {z!r}; it must be a ZPolicy, such as ZPolicy(temperature=0.45, seed=1).")


def check_refine(steps: Any) -> None:
    """Check the steps of a refinement.

    Raises:
        ArgumentError: they are no whole number, or negative.
    """
    if type(steps) is not int or steps < 0:
        raise ArgumentError(f"refine is {steps!r}; it must be a whole number of steps, 0 for none.")


def as_picture(image: UInt8Array, *, max_pixels: int) -> Picture:
    """A picture from an array: (H, W, 3) uint8 RGB as it is, (H, W) uint8 grey as three equal channels.

    Its pixels are contiguous: a view (flipped, transposed, sliced, broadcast) is copied, so that nothing behind this
    needs to know of strides. The caller's array is never written to.

    Raises:
        DTypeError, ShapeError, EmptyImageError, ImageTooLargeError: what it is instead.
    """
    if not isinstance(image, np.ndarray):
        raise DTypeError(f"The image is a {type(image).__name__}; give a NumPy array or the path of a picture.")
    if isinstance(image, np.ma.MaskedArray):
        raise DTypeError("The image is a masked array, whose mask would be lost; give image.filled(...).")
    if image.dtype != np.uint8:
        raise DTypeError(f"The image is {image.dtype}; give uint8 RGB in 0..255.")
    if image.ndim == 4 and image.shape[-1] == 3:
        raise ShapeError(f"The image has shape {image.shape}, which is a batch; use downscale_batch.")
    if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[-1] != 3):
        raise ShapeError(f"The image has shape {image.shape}; (H, W, 3) or (H, W) is needed.")
    if image.size == 0:
        raise EmptyImageError(f"The image has shape {image.shape} and so no pixels.")
    height, width = image.shape[:2]
    if height * width > max_pixels:
        raise ImageTooLargeError(
            f"The image has {width} x {height} pixels, more than max_pixels = {max_pixels}; raise max_pixels or cut "
            "the image."
        )
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
    header, config = packet.header, card.config
    if header.identity != card.packet_identity:
        raise PacketMismatchError(
            f"The packet was made with {header.model} (identity {header.identity.hex()}), and this rescaler is "
            f"{card.id} ({card.packet_identity.hex()}). Use Rescaler.for_packet(packet)."
        )
    if header.scale != config.scale or header.bits != config.bits:
        raise PacketMismatchError(
            f"The packet says scale {header.scale} and {header.bits} bits, but its model {card.id} has scale "
            f"{config.scale} and {config.bits} bits. Create the packet again."
        )
    if header.width * header.height > max_pixels:
        raise ImageTooLargeError(
            f"The packet restores to {header.width} x {header.height} pixels, more than max_pixels = {max_pixels}; "
            "raise max_pixels if you trust it."
        )


def to_grey(pixels: UInt8Array) -> UInt8Array:
    """The mean of the three channels in each of them, (H, W, 3): a grey source had no colour noise to restore."""
    total = pixels.sum(axis=2, dtype=np.uint16)
    return np.repeat(((total + 1) // 3).astype(np.uint8)[:, :, None], 3, axis=2)
