"""`Rescaler`: one picture or one batch, down and up again."""

from __future__ import annotations

import itertools
import os
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from bdflow_rt.containers.image import check_picture_path, read_picture, write_picture
from bdflow_rt.containers.png import check_packet_path, read_packet, write_packet
from bdflow_rt.engines.select import choose_precision, select
from bdflow_rt.errors import ArgumentError, check_type, check_whole, describe
from bdflow_rt.files import PathLike, as_path, check_output
from bdflow_rt.options import (
    DEFAULT_MAX_PIXELS,
    MEMORY_LIMIT_MIB,
    Options,
    Precision,
    PrecisionChoice,
    Progress,
    as_sequence,
    check_options,
    check_work,
)
from bdflow_rt.packet import ColourInfo, Packet, PacketHeader, ZPolicy
from bdflow_rt.picture import Picture, UInt8Array, as_picture
from bdflow_rt.runtime.runner import Runner
from bdflow_rt.zoo import DEFAULT_MODEL, Direction, ModelCard, find_model, find_model_by_identity

if TYPE_CHECKING:
    from typing_extensions import Unpack

T = TypeVar("T")


class Rescaler:
    """Turns pictures into packets and packets into pictures with one model on one backend.

    Make one with `Rescaler.from_pretrained(name)`, or `Rescaler.for_packet(packet)` to restore a packet with the very
    weights it was made with. It is a context manager; `close()` frees the engines.

    Threads: one Rescaler may be shared; pictures wait for each other, since each uses all cores, and so does `close()`.
    Processes: what a fork copies of a used backend cannot run. In a process that was forked after this or another
    Rescaler had made a picture with the same backend, every picture raises `ForkedProcessError` at once: start workers
    by "spawn" or "forkserver", or fork them before the first picture. (multiprocessing forks by default on Linux up to
    Python 3.13.) Where PyTorch was only loaded before the fork, it computes with one thread.

    Args:
        card: of the model.
        backend: "auto", "openvino", "torch", "tensorrt" or "tensorrt-rtx"; "auto" is never TensorRT, whose engines
            are built first (`bdflow build`).
        device: "cpu", "cuda" or "cuda:N"; None is the CPU, or the first GPU for TensorRT. OpenVINO runs on the CPU.
        precision: "fp32"; "bf16" on a CPU that has it; "fp16" on a GPU, and the only one of TensorRT engines. What
            these cost is in the model's card: up to 0.3 dB is allowed. None is float32, and float16 with TensorRT.
            "auto" takes the fastest that costs at most 0.05 dB, so its pixels depend on the machine.
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
        precision: PrecisionChoice | None = None,
        threads: int | None = None,
        memory_limit_mib: float = MEMORY_LIMIT_MIB,
        max_pixels: int = DEFAULT_MAX_PIXELS,
    ) -> None:
        check_type("card", card, ModelCard, "the ModelCard of a model; by name there is Rescaler.from_pretrained(name)")
        check_options(
            backend=backend,
            precision=precision,
            device=device,
            threads=threads,
            memory_limit_mib=memory_limit_mib,
            max_pixels=max_pixels,
        )
        self.card = card
        self._selection = select(backend, device)
        self._precision, self._precision_reason = choose_precision(self._selection, card, precision)
        self._max_pixels = max_pixels
        self._runner = Runner(
            card, self._selection, precision=self._precision, threads=threads, memory_limit_mib=memory_limit_mib
        )

    @classmethod
    def from_pretrained(
        cls,
        name: PathLike = DEFAULT_MODEL,
        *,
        backend: str = "auto",
        device: str | None = None,
        **options: Unpack[Options],
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
    def for_packet(
        cls,
        packet: Packet | PathLike,
        *,
        backend: str = "auto",
        device: str | None = None,
        **options: Unpack[Options],
    ) -> Rescaler:
        """A rescaler with the model that made a packet, found by its identity.

        Args:
            packet: or the path of a packet file.
            backend, device, options: as for the class.

        Raises:
            UnknownModelError, WeightsHashError: that model is not here.
            PacketError, InputError: the file cannot be read as a packet.
        """
        if not isinstance(packet, Packet):
            return cls.open(packet, backend=backend, device=device, **options)[0]
        card = find_model_by_identity(packet.header.model, packet.header.identity)
        return cls(card, backend=backend, device=device, **options)

    @classmethod
    def open(
        cls, path: PathLike, *, backend: str = "auto", device: str | None = None, **options: Unpack[Options]
    ) -> tuple[Rescaler, Packet]:
        """A packet file's packet, and a rescaler that restores it: as `for_packet`, with the file read once.

        Args:
            path: of a packet file.
            backend, device, options: as for the class.

        Raises:
            As `for_packet`.
        """
        packet = read_packet(path, max_pixels=options.get("max_pixels", DEFAULT_MAX_PIXELS))
        return cls.for_packet(packet, backend=backend, device=device, **options), packet

    @property
    def backend(self) -> str:
        """The backend that runs: "openvino", "torch", "tensorrt" or "tensorrt-rtx"."""
        return self._selection.backend

    @property
    def backend_reason(self) -> str:
        """Why this backend."""
        return self._selection.reason

    @property
    def precision(self) -> Precision:
        """What the network computes in."""
        return self._precision

    @property
    def precision_reason(self) -> str:
        """Why this precision, and what it costs in dB of PSNR."""
        return self._precision_reason

    @property
    def max_pixels(self) -> int:
        """Largest HR picture that is accepted."""
        return self._max_pixels

    def downscale(
        self,
        image: UInt8Array | Picture | PathLike,
        *,
        z: ZPolicy | None = None,
        background: str | None = None,
        refine: int = 0,
        progress: Progress | None = None,
    ) -> Packet:
        """Make a picture small.

        Args:
            image: (H, W, 3) uint8 RGB of any size from 1 x 1; (H, W) uint8 grey, which comes back as three equal
                channels; a `Picture`, whose profile goes along; or the path of a picture file.
            z: what `upscale` shall use for Z; None is Z = 0.
            background: colour to flatten a transparent picture file over, as in CSS.
            refine: steps of gradient descent on the LR pixels, which bring the restored picture nearer to this one and
                cost time only here (`runtime.refine`); 0 is none, docs/quality.md has what 20 gain. Needs PyTorch.
            progress: called with the number of tiles done and in all, while other threads wait; again for `refine`.

        Raises:
            ArgumentError: `refine` is not a whole number of at least 0, or `z` no ZPolicy.
            ShapeError, DTypeError, EmptyImageError, ImageTooLargeError: the array cannot be used.
            InputError: the file cannot be read as a picture, or is of a kind that would be altered silently.
            NonFiniteOutputError, OutOfMemoryError, BackendUnavailableError: the engine failed or does not load.
            ForkedProcessError: this process was forked from one that had made pictures with the backend.
            CorruptModelError, WeightsHashError: the model's files are not those of its card.
            ClosedError: the rescaler was closed.
        """
        _check_z(z)
        check_work(refine=refine, progress=progress)
        return self._downscale([self._picture(image, background)], z or ZPolicy(), refine, progress)[0]

    def downscale_batch(
        self,
        images: UInt8Array | Sequence[UInt8Array | Picture | PathLike],
        *,
        z: ZPolicy | None = None,
        background: str | None = None,
        refine: int = 0,
    ) -> list[Packet]:
        """Make pictures small, those of one size that follow one another at once.

        Small pictures take less time so. Their LR may differ from that of `downscale` by 1 in a few values.

        Args:
            images: (N, H, W, 3) uint8, or a sequence of what `downscale` takes, of any sizes.
            z, background, refine: as for `downscale`.

        Raises:
            As `downscale`.
        """
        _check_z(z)
        check_work(refine=refine)
        items = as_sequence("downscale_batch", images)
        pictures = (self._picture(image, background) for image in items)
        made: list[Packet] = []
        for group in self._groups("downscale", pictures, lambda picture: picture.pixels.shape[:2]):
            made += self._downscale(group, z or ZPolicy(), refine, None)
        return made

    def upscale(
        self,
        packet: Packet | PathLike,
        *,
        z: ZPolicy | None = None,
        force: bool = False,
        progress: Progress | None = None,
    ) -> UInt8Array:
        """Restore the picture a packet was made from.

        Args:
            packet: what `downscale` returned, or the path of a packet file.
            z: what to use for Z; None is what the packet says.
            force: restore even if the LR pixels or the colour profile were edited.
            progress: called with the number of tiles done and in all, while other threads wait.

        Returns:
            (H, W, 3) uint8 RGB of the original's size.

        Raises:
            PacketMismatchError: the packet was made with other weights; `Rescaler.for_packet` finds them.
            EditedPictureError: the LR pixels or the colour profile were edited, and `force` is False.
            PacketError, InputError: the file cannot be read as a packet.
            NonFiniteOutputError and others: as `downscale`.
        """
        _check_z(z)
        check_work(force=force, progress=progress)
        return self._upscale([self._checked(packet, force)], z, progress)[0]

    def upscale_batch(
        self, packets: Sequence[Packet | PathLike], *, z: ZPolicy | None = None, force: bool = False
    ) -> list[UInt8Array]:
        """Restore pictures, those of one size that follow one another at once: a sequence of what `upscale` takes.

        Small pictures take less time so, and may differ from those of `upscale` by 1 in a few values.

        Raises:
            As `upscale`.
        """
        _check_z(z)
        check_work(force=force)
        checked = (self._checked(packet, force) for packet in as_sequence("upscale_batch", packets))
        restored: list[UInt8Array] = []

        def alike(packet: Packet) -> tuple[int, int, bool]:
            return packet.header.height, packet.header.width, bool((z or packet.header.z).temperature)

        for group in self._groups("upscale_z" if z and z.temperature else "upscale", checked, alike):
            restored += self._upscale(group, z, None)
        return restored

    def downscale_file(
        self,
        source: PathLike,
        target: PathLike,
        *,
        z: ZPolicy | None = None,
        background: str | None = None,
        refine: int = 0,
        progress: Progress | None = None,
    ) -> Packet:
        """Make a picture file small: writes a normal PNG with the packet inside, whole or not at all.

        The colour profile is kept, EXIF orientation applied.

        Args:
            source: PNG, JPEG, WebP, TIFF, BMP, PPM or GIF.
            target: a .png.
            z, background, refine, progress: as for `downscale`.

        Raises:
            As `downscale`; OutputError: the target cannot be written, or is the source.
        """
        check_packet_path(target)
        check_output(target, inputs=[source])
        packet = self.downscale(as_path(source), z=z, background=background, refine=refine, progress=progress)
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
        pixels = self.upscale(packet, z=z, force=force, progress=progress)
        picture = Picture(pixels, packet.header.colour.model, packet.icc_profile)
        write_picture(target, picture)
        return picture

    def warm_up(self, *, height: int = 64, width: int = 64) -> None:
        """Load both directions and run each once, so that the first picture is as fast as the next.

        Args:
            height, width: of the HR pictures to come. Larger ones (512 x 512 pixels and more) have their network
                prepared for each size anew, which takes a fraction of a second.
        """
        check_whole("height", height, 1, self._max_pixels)
        check_whole("width", width, 1, self._max_pixels // height)
        self.upscale(self.downscale(np.zeros((height, width, 3), np.uint8)))

    def close(self) -> None:
        """Free the engines; using the rescaler again raises `ClosedError`."""
        self._runner.close()

    def __enter__(self) -> Rescaler:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _picture(self, image: UInt8Array | Picture | PathLike, background: str | None) -> Picture:
        if isinstance(image, (str, os.PathLike)):
            return read_picture(image, background=background, max_pixels=self._max_pixels)
        return as_picture(image, max_pixels=self._max_pixels)

    def _checked(self, packet: Packet | PathLike, force: bool) -> Packet:
        if isinstance(packet, (str, os.PathLike)):
            packet = read_packet(packet, max_pixels=self._max_pixels)
        if not isinstance(packet, Packet):
            raise ArgumentError(
                f"upscale got a {type(packet).__name__}; give what downscale returned, a Packet, or the path of a "
                "packet file. For several there is upscale_batch."
            )
        packet.check_model(self.card, max_pixels=self._max_pixels)
        if not force:
            packet.check_unedited()
        return packet

    def _groups(
        self, direction: Direction, items: Iterable[T], key: Callable[[T], tuple[int, ...]]
    ) -> Iterator[list[T]]:
        """Neighbours of one size, (height, width, ...) by `key`, as many as go through the engine at once."""
        scale = self.card.interface.scale
        for (height, width, *_), alike in itertools.groupby(items, key):
            most = self._runner.batch_size(direction, (-(-height // scale), -(-width // scale)))
            while group := list(itertools.islice(alike, most)):
                yield group

    def _downscale(
        self, pictures: Sequence[Picture], z: ZPolicy, refine: int, progress: Progress | None
    ) -> list[Packet]:
        """Packets of pictures of one size."""
        made = self._runner.downscale(
            [picture.pixels for picture in pictures],
            z=z,
            grey=[picture.colour == "grey" for picture in pictures],
            refine=refine,
            progress=progress,
        )
        return [self._packet(lr, boundary, picture, z) for (lr, boundary), picture in zip(made, pictures, strict=True)]

    def _packet(self, lr: UInt8Array, boundary: UInt8Array | None, picture: Picture, z: ZPolicy) -> Packet:
        header = PacketHeader(
            model=self.card.id,
            identity=self.card.packet_identity,
            scale=self.card.interface.scale,
            width=picture.pixels.shape[1],
            height=picture.pixels.shape[0],
            bits=self.card.interface.bits,
            lr_crc32=Packet.crc32_of(lr),
            profile_crc32=None if picture.icc_profile is None else zlib.crc32(picture.icc_profile),
            z=z,
            colour=ColourInfo(model=picture.colour),
        )
        return Packet(lr, boundary, header, picture.icc_profile)

    def _upscale(self, packets: Sequence[Packet], z: ZPolicy | None, progress: Progress | None) -> list[UInt8Array]:
        """The HR pixels of packets of one size."""
        headers = [packet.header for packet in packets]
        return self._runner.upscale(
            [packet.lr for packet in packets],
            [packet.boundary for packet in packets],
            size=(headers[0].height, headers[0].width),
            z=[z or header.z for header in headers],
            grey=[header.colour.model == "grey" for header in headers],
            progress=progress,
        )


def _check_z(z: object) -> None:
    if z is not None and not isinstance(z, ZPolicy):
        raise ArgumentError(f"z is {describe(z)}; it must be a ZPolicy, such as ZPolicy(temperature=0.45, seed=1).")
