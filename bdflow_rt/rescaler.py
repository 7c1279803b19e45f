"""`Rescaler`: one picture or one batch, down and up again."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bdflow_rt.containers.image import Picture, check_picture_path, read_picture, write_picture
from bdflow_rt.containers.png import check_packet_path, read_packet, write_packet
from bdflow_rt.engines.engine import Engine, Precision
from bdflow_rt.engines.select import check_precision, open_engine, select
from bdflow_rt.errors import (
    ArgumentError,
    ClosedError,
    DTypeError,
    EmptyImageError,
    ImageTooLargeError,
    PacketMismatchError,
    ShapeError,
)
from bdflow_rt.files import check_output
from bdflow_rt.packet import ColourInfo, Packet, PacketHeader, UInt8Array, ZPolicy
from bdflow_rt.tiles import MIB, Span, bytes_per_lr_pixel, hr_window, keep, scaled, tile_size, windows
from bdflow_rt.zoo import DEFAULT_MODEL, Direction, ModelCard, find_model, find_model_by_hash

MAX_PIXELS = 1 << 28
"""Largest HR picture by default: 16384 x 16384 pixels."""
MEMORY_LIMIT_MIB = 1024.0
"""Working memory of the network by default; larger pictures are cut into exact tiles."""
MAX_THREADS = 1024
"""Thread pools crash the process where the system has no more threads to give."""

PathLike = str | os.PathLike[str]
Progress = Callable[[int, int], None]


class Rescaler:
    """Turns pictures into packets and packets into pictures with one model on one backend.

    Make one with `Rescaler.from_pretrained(name)`, or `Rescaler.for_packet(packet)` to restore a packet with the very
    weights it was made with. It is a context manager; `close()` frees the engines.

    Threads: one Rescaler may be shared; its calls wait for each other, since each uses all cores.

    Args:
        card: of the model.
        backend: "auto", "openvino" or "torch".
        device: "cpu" or, with torch, "cuda" or "cuda:N"; None is the CPU.
        precision: "fp32", or "bf16" for models whose card allows it (faster on CPUs that have it).
        threads: CPU threads, 1 to 1024; None is all cores.
        memory_limit_mib: working memory of the network, not below 128 in effect. Larger pictures are cut into tiles
            that give the same pixels (to at most 1 LSB).
        max_pixels: larger HR pictures are refused.

    Raises:
        ArgumentError: an option is not allowed.
        BackendUnavailableError: the backend is not installed.
    """

    def __init__(
        self,
        card: ModelCard,
        *,
        backend: str = "auto",
        device: str | None = None,
        precision: Precision = "fp32",
        threads: int | None = None,
        memory_limit_mib: float = MEMORY_LIMIT_MIB,
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        if threads is not None and not 1 <= threads <= MAX_THREADS:
            raise ArgumentError(f"threads is {threads}; it must be 1 to {MAX_THREADS}, or None for all cores.")
        if not memory_limit_mib > 0:
            raise ArgumentError(
                f"memory_limit_mib is {memory_limit_mib}; it must be above 0, or infinite for no limit."
            )
        if max_pixels < 1:
            raise ArgumentError(f"max_pixels is {max_pixels}; it must be at least 1.")
        self.card = card
        self._selection = select(backend, device)
        check_precision(self._selection, card, precision)
        self._precision: Precision = precision
        self._threads = threads
        self._memory_limit_mib = memory_limit_mib
        self._max_pixels = max_pixels
        self._engines: dict[Direction, Engine] = {}
        self._lock = threading.RLock()
        self._closed = False

    @classmethod
    def from_pretrained(
        cls, name: PathLike = DEFAULT_MODEL, *, backend: str = "auto", device: str | None = None, **options: Any
    ) -> Rescaler:
        """A rescaler for a model of the zoo ("bdflow-x4", "bdflow-x4@1") or for a model folder.

        Args:
            name: of the model; the bare name means its newest version.
            backend, device, options: as for the class.

        Raises:
            UnknownModelError, CorruptModelError: there is no such model.
        """
        return cls(find_model(name), backend=backend, device=device, **options)

    @classmethod
    def for_packet(cls, packet: Packet, **options: Any) -> Rescaler:
        """A rescaler with the weights that made a packet, found by their hash.

        Raises:
            UnknownModelError, WeightsHashError: those weights are not here.
        """
        return cls(find_model_by_hash(packet.header.model, packet.header.weights_hash), **options)

    @property
    def backend(self) -> str:
        """The backend that runs: "openvino" or "torch"."""
        return self._selection.backend

    @property
    def backend_reason(self) -> str:
        """Why this backend."""
        return self._selection.reason

    def downscale(
        self, image: UInt8Array | PathLike, *, z: ZPolicy | None = None, progress: Progress | None = None
    ) -> Packet | list[Packet]:
        """Make a picture small.

        Args:
            image: (H, W, 3) uint8 RGB of any size from 1 x 1; (H, W) uint8 grey, which comes back as three equal
                channels; (N, H, W, 3) for a batch; or the path of a picture file.
            z: what `upscale` shall use for Z; None is Z = 0.
            progress: called with the number of tiles done and in all.

        Returns:
            A packet; a list of them for a batch.

        Raises:
            ShapeError, DTypeError, EmptyImageError, ImageTooLargeError: the array cannot be used.
            InputError: the file cannot be read as a picture.
            NonFiniteOutputError, OutOfMemoryError: the engine failed.
        """
        if isinstance(image, (str, os.PathLike)):
            picture = read_picture(image, max_pixels=self._max_pixels)
            return self._downscale(picture, z or ZPolicy(), progress)
        pixels = self._check_image(image)
        if pixels.ndim == 4:
            return [self._downscale(Picture(frame), z or ZPolicy(), progress) for frame in pixels]
        if pixels.ndim == 2:
            picture = Picture(np.repeat(pixels[:, :, None], 3, axis=2), colour="grey")
        else:
            picture = Picture(pixels)
        return self._downscale(picture, z or ZPolicy(), progress)

    def upscale(
        self,
        packet: Packet | Sequence[Packet] | PathLike,
        *,
        z: ZPolicy | None = None,
        force: bool = False,
        progress: Progress | None = None,
    ) -> UInt8Array | list[UInt8Array]:
        """Restore the picture a packet was made from.

        Args:
            packet: what `downscale` returned, a sequence of them, or the path of a packet file.
            z: what to use for Z; None is what the packet says.
            force: restore even if the LR pixels were edited.
            progress: called with the number of tiles done and in all.

        Returns:
            (H, W, 3) uint8 RGB of the original's size; a list of them for a sequence.

        Raises:
            PacketMismatchError: the packet was made with other weights; `Rescaler.for_packet` finds them.
            EditedPictureError: the LR pixels were edited, and `force` is False.
            PacketError, InputError: the file cannot be read as a packet.
            NonFiniteOutputError, OutOfMemoryError: the engine failed.
        """
        if isinstance(packet, (str, os.PathLike)):
            packet = read_packet(packet, max_pixels=self._max_pixels)
        if isinstance(packet, Packet):
            return self._upscale(packet, z, force, progress)
        packets: list[Any] = list(packet) if isinstance(packet, Sequence) else [packet]
        for one in packets:
            if not isinstance(one, Packet):
                raise ArgumentError(
                    f"upscale got a {type(one).__name__}; give what downscale returned: a Packet, a sequence of them, "
                    "or the path of a packet file."
                )
        return [self._upscale(one, z, force, progress) for one in packets]

    def downscale_file(
        self,
        source: PathLike,
        target: PathLike,
        *,
        background: str | None = None,
        progress: Progress | None = None,
    ) -> Packet:
        """Make a picture file small: writes a normal PNG with the packet inside, whole or not at all.

        The colour profile is kept, EXIF orientation applied.

        Args:
            source: PNG, JPEG, WebP, TIFF, BMP, PPM or GIF.
            target: a .png.
            background: colour to flatten a transparent picture over.
            progress: called with the number of tiles done and in all.

        Raises:
            InputError: the picture cannot be read, or is of a kind that would be altered silently.
            OutputError: the target cannot be written, or is the source.
        """
        check_packet_path(target)
        check_output(target, inputs=[source])
        picture = read_picture(source, background=background, max_pixels=self._max_pixels)
        packet = self._downscale(picture, ZPolicy(), progress)
        write_packet(target, packet)
        return packet

    def upscale_file(
        self,
        source: PathLike | Packet,
        target: PathLike,
        *,
        z: ZPolicy | None = None,
        force: bool = False,
        progress: Progress | None = None,
    ) -> Picture:
        """Restore the picture from what `downscale_file` wrote; grey comes back as grey, the colour profile is kept.

        Args:
            source: a packet file, or a packet that was read from one.
            target: .png, .webp, .tif, .bmp, .ppm (lossless) or .jpg.
            z, force, progress: as for `upscale`.

        Raises:
            As `upscale`; OutputError: the target cannot be written, or is the source.
        """
        if isinstance(source, Packet):
            packet = source
            check_output(target)
        else:
            check_output(target, inputs=[source])
            packet = read_packet(source, max_pixels=self._max_pixels)
        check_picture_path(target, width=packet.header.width, height=packet.header.height)
        pixels = self._upscale(packet, z, force, progress)
        picture = Picture(pixels, packet.header.colour.model, packet.icc_profile)
        write_picture(target, picture)
        return picture

    def warm_up(self, height: int = 64, width: int = 64) -> None:
        """Load both directions and run each once, so that the first picture is as fast as the next.

        Args:
            height, width: of the HR pictures to come. Larger ones (512 x 512 pixels and more) have their network
                prepared for each size anew, which takes a fraction of a second.
        """
        self.upscale(self.downscale(np.zeros((height, width, 3), np.uint8)))

    def close(self) -> None:
        """Free the engines; using the rescaler again raises `ClosedError`."""
        with self._lock:
            self._closed = True
            for engine in self._engines.values():
                engine.close()
            self._engines.clear()

    def __enter__(self) -> Rescaler:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _downscale(self, picture: Picture, z: ZPolicy, progress: Progress | None) -> Packet:
        config = self.card.config
        pixels = picture.pixels
        height, width = pixels.shape[:2]
        lr_height, lr_width = -(-height // config.scale), -(-width // config.scale)
        lr = np.empty((lr_height, lr_width, 3), np.uint8)
        boundary = np.empty((lr_height, lr_width), np.uint8) if config.bits else None

        def one(rows: Span, columns: Span) -> None:
            tile = hr_window(pixels, rows, columns, config.scale)
            results = self._run("downscale", {"image": tile[None]})
            keep(lr, results["lr"][0], rows, columns)
            if boundary is not None:
                keep(boundary, results["boundary"][0], rows, columns)

        self._each_tile("downscale", (lr_height, lr_width), one, progress)
        header = PacketHeader(
            model=self.card.id,
            weights_hash=self.card.weights_hash,
            scale=config.scale,
            width=width,
            height=height,
            bits=config.bits,
            lr_crc32=Packet.crc32_of(lr),
            z=z,
            colour=ColourInfo(model=picture.colour),
        )
        return Packet(lr, boundary, header, picture.icc_profile)

    def _upscale(self, packet: Packet, z: ZPolicy | None, force: bool, progress: Progress | None) -> UInt8Array:
        self._check_packet(packet)
        if not force:
            packet.check_pixels()
        config, header = self.card.config, packet.header
        policy = header.z if z is None else z
        direction: Direction = "upscale_z" if policy.temperature else "upscale"
        image = np.empty((header.height, header.width, 3), np.uint8)

        def one(rows: Span, columns: Span) -> None:
            area = slice(rows.start, rows.stop), slice(columns.start, columns.stop)
            inputs: dict[str, NDArray[Any]] = {"lr": packet.lr[area][None]}
            if packet.boundary is not None:
                inputs["boundary"] = packet.boundary[area][None]
            if policy.temperature:
                inputs["latent"] = _latent(policy, rows, columns, packet.lr.shape[1], config.latent_channels)[None]
            restored = self._run(direction, inputs)["image"][0]
            if header.colour.model == "grey":
                restored = _to_grey(restored)
            keep(image, restored, scaled(rows, config.scale), scaled(columns, config.scale))

        self._each_tile(direction, header.lr_size, one, progress)
        return image

    def _each_tile(
        self,
        direction: Direction,
        size: tuple[int, int],
        function: Callable[[Span, Span], None],
        progress: Progress | None,
    ) -> None:
        config, limit_mib = self.card.config, self._memory_limit_mib
        tile = tile_size(*size, config, memory_limit_mib=limit_mib, backend=self.backend)
        if 2 * tile[0] * tile[1] * bytes_per_lr_pixel(config, self.backend) > limit_mib * MIB:
            # No room for the working memory of two directions.
            with self._lock:
                for engine in (other for key, other in self._engines.items() if key != direction):
                    engine.release()
        plan = list(windows(*size, tile, config.halo))
        for done, (rows, columns) in enumerate(plan, 1):
            function(rows, columns)
            if progress is not None:
                progress(done, len(plan))

    def _run(self, direction: Direction, inputs: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        with self._lock:
            if self._closed:
                raise ClosedError("This Rescaler was closed; make a new one.")
            if direction not in self._engines:
                self._engines[direction] = open_engine(
                    self._selection, self.card, direction, precision=self._precision, threads=self._threads
                )
            return self._engines[direction].run(inputs)

    def _check_image(self, image: UInt8Array) -> UInt8Array:
        if not isinstance(image, np.ndarray):
            raise DTypeError(f"The image is a {type(image).__name__}; give a NumPy array or the path of a picture.")
        if image.dtype != np.uint8:
            raise DTypeError(f"The image is {image.dtype}; give uint8 RGB in 0..255.")
        if image.ndim not in (2, 3, 4) or (image.ndim > 2 and image.shape[-1] != 3):
            raise ShapeError(f"The image has shape {image.shape}; (H, W, 3), (H, W) or (N, H, W, 3) is needed.")
        if image.size == 0:
            raise EmptyImageError(f"The image has shape {image.shape} and so no pixels.")
        height, width = image.shape[-3:-1] if image.ndim > 2 else image.shape
        if height * width > self._max_pixels:
            raise ImageTooLargeError(
                f"The image has {width} x {height} pixels, more than max_pixels = {self._max_pixels}; raise max_pixels "
                "or cut the image."
            )
        return image

    def _check_packet(self, packet: Packet) -> None:
        header, config = packet.header, self.card.config
        if header.weights_hash != self.card.weights_hash:
            raise PacketMismatchError(
                f"The packet was made with {header.model} (weights {header.weights_hash.hex()}), and this rescaler is "
                f"{self.card.id} ({self.card.weights_hash.hex()}). Use Rescaler.for_packet(packet)."
            )
        if header.scale != config.scale or header.bits != config.bits:
            raise PacketMismatchError(
                f"The packet says scale {header.scale} and {header.bits} bits, but its model {self.card.id} has scale "
                f"{config.scale} and {config.bits} bits. Create the packet again."
            )
        if header.width * header.height > self._max_pixels:
            raise ImageTooLargeError(
                f"The packet restores to {header.width} x {header.height} pixels, more than max_pixels = "
                f"{self._max_pixels}; raise max_pixels if you trust it."
            )


def _latent(policy: ZPolicy, rows: Span, columns: Span, width: int, channels: int) -> NDArray[np.float32]:
    """Z of a window, (Z, h, w): drawn row by row from a counter-based generator, so that tiles fit together."""
    latent = np.empty((channels, rows.stop - rows.start, columns.stop - columns.start), np.float32)
    for index, row in enumerate(range(rows.start, rows.stop)):
        random = np.random.Generator(np.random.Philox(key=policy.seed, counter=[0, 0, 0, row]))
        drawn = random.standard_normal((width, channels), np.float32)
        latent[:, index] = drawn[columns.start : columns.stop].T * np.float32(policy.temperature)
    return latent


def _to_grey(pixels: UInt8Array) -> UInt8Array:
    """The mean of the three channels in each of them, in place of colour noise the source did not have."""
    total = pixels.sum(axis=2, dtype=np.uint16)
    return np.repeat(((total + 1) // 3).astype(np.uint8)[:, :, None], 3, axis=2)
