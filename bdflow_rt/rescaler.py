"""`Rescaler`: one picture or one batch, down and up again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar, get_args

import numpy as np

from bdflow_rt.containers.image import check_picture_path, read_picture, write_picture
from bdflow_rt.containers.png import check_packet_path, read_packet, write_packet
from bdflow_rt.engines.engine import Job
from bdflow_rt.engines.front import RGB, Front, named
from bdflow_rt.engines.select import choose_precision, select
from bdflow_rt.errors import ArgumentError, check_choice, check_type, check_whole
from bdflow_rt.files import PathLike, as_path, check_output, is_path
from bdflow_rt.options import Colours, Options, Precision, Progress, RescalerOptions, as_options, as_sequence
from bdflow_rt.packet import Packet, ZPolicy
from bdflow_rt.picture import Picture
from bdflow_rt.runtime.pool import JointJob
from bdflow_rt.runtime.runner import Runner
from bdflow_rt.runtime.source import Source, as_source
from bdflow_rt.runtime.work import Work, groups
from bdflow_rt.zoo import DEFAULT_MODEL, Direction, ModelCard, find_model, find_model_by_identity

if TYPE_CHECKING:
    from typing_extensions import Unpack

T = TypeVar("T")
Image = Any
"""(H, W, 3) or (H, W) uint8 array of any library, a `Picture`, or a path."""


class Rescaler:
    """Downscales pictures to packets and restores packets, with one model on one backend.

    Create it with `Rescaler.from_pretrained(name)`, or with `Rescaler.for_packet(packet)` to restore a packet with the
    weights that made it. It is a context manager; `close()` frees the engines.

    Arrays: results are on the device of the input. Input in the host's memory (NumPy, or PyTorch and others by DLPack)
    gives NumPy arrays. Input on a GPU (CuPy, PyTorch, JAX, PyCUDA, Numba) needs an engine on that GPU and is never
    copied to the host; PyTorch tensors give PyTorch tensors, all others give CuPy arrays.

    Threads: all threads may share a Rescaler. It computes as many pictures at the same time as it has workers; other
    calls wait.

    Processes: a backend that has run cannot be used after a fork. In a process that was forked after any Rescaler had
    run the same backend, every picture raises `ForkedProcessError` at once. Start processes with "spawn" or
    "forkserver", or fork before the first picture. (multiprocessing forks by default on Linux up to Python 3.13.) If
    PyTorch was only imported before the fork, it runs with one thread.

    Args:
        card: the model's card, from `bdflow_rt.zoo.find_model(name)`.
        options: backend, device, precision and limits; None is `RescalerOptions()`.
        changes: fields of `RescalerOptions`, such as `backend="torch"`, which replace those of `options`.

    Raises:
        ArgumentError: an option is not allowed.
        BackendUnavailableError: the backend is not installed.
    """

    def __init__(self, card: ModelCard, options: RescalerOptions | None = None, **changes: Unpack[Options]) -> None:
        check_type("card", card, ModelCard, "the ModelCard of a model; by name there is Rescaler.from_pretrained(name)")
        self.card = card
        self.options = as_options(options, changes)
        self._selection = select(self.options.backend, self.options.device)
        self._precision, self._precision_reason = choose_precision(self._selection, card, self.options.precision)
        self._runner = Runner(card, self._selection, precision=self._precision, options=self.options)

    @classmethod
    def from_pretrained(
        cls, name: PathLike = DEFAULT_MODEL, options: RescalerOptions | None = None, **changes: Unpack[Options]
    ) -> Rescaler:
        """A rescaler for an installed model ("bdflow-x4", "bdflow-x4@1") or for a model folder.

        Args:
            name: name of the model, or path of its folder; a name without a version means the newest. The default is
                "bdflow-x4".
            options, changes: as for the class.

        Raises:
            UnknownModelError, CorruptModelError: there is no such model.
        """
        return cls(find_model(name), options, **changes)

    @classmethod
    def for_packet(
        cls, packet: Packet | PathLike, options: RescalerOptions | None = None, **changes: Unpack[Options]
    ) -> Rescaler:
        """A rescaler with the model that made a packet, found by its identity.

        Args:
            packet: a packet, or the path of a packet file.
            options, changes: as for the class.

        Raises:
            UnknownModelError, WeightsHashError: that model is not here.
            PacketError, InputError: the file cannot be read as a packet.
        """
        if not isinstance(packet, Packet):
            return cls.open(packet, options, **changes)[0]
        card = find_model_by_identity(packet.header.model, packet.header.identity)
        return cls(card, options, **changes)

    @classmethod
    def open(
        cls, path: PathLike, options: RescalerOptions | None = None, **changes: Unpack[Options]
    ) -> tuple[Rescaler, Packet]:
        """Read a packet file, and return the rescaler that restores it with the packet; see `for_packet`.

        Args:
            path: path of a packet file.
            options, changes: as for the class.

        Raises:
            As `for_packet`.
        """
        chosen = as_options(options, changes)
        packet = read_packet(path, max_pixels=chosen.max_pixels)
        return cls.for_packet(packet, chosen), packet

    @property
    def backend(self) -> str:
        """The backend that runs: "openvino", "torch", "tensorrt" or "tensorrt-rtx"."""
        return self._selection.backend

    @property
    def backend_reason(self) -> str:
        """Why this backend was selected, and which other backend has run for pictures that did not fit its engines."""
        other = self._runner.fallback
        also = "" if other is None else f"; {other.backend} on {other.device} has run where {other.reason}"
        return self._selection.reason + also

    @property
    def precision(self) -> Precision:
        """Precision of the network: "fp32", "bf16" or "fp16"."""
        return self._precision

    @property
    def precision_reason(self) -> str:
        """Why this precision was selected, and what it costs in dB of PSNR."""
        return self._precision_reason

    @property
    def max_pixels(self) -> int:
        """Largest number of pixels of an HR picture that is accepted."""
        return self.options.max_pixels

    def downscale(
        self,
        image: Image,
        *,
        z: ZPolicy | None = None,
        background: str | None = None,
        colours: Colours = "keep",
        refine: int = 0,
        progress: Progress | None = None,
        front: Front = RGB,
        out: Mapping[str, Any] | None = None,
        stream: Any = None,
    ) -> Packet:
        """Downscale a picture to a packet.

        Args:
            image: (H, W, 3) uint8 RGB of any size from 1 x 1, in the host's memory or on a GPU; (H, W) uint8 grey, in
                the host's memory, which is restored as three equal channels; a `Picture`, whose profile is kept; the
                path of a picture file; or the pair of arrays that `front` describes.
            z: what `upscale` uses for Z by default; None is Z = 0.
            background: colour to flatten a transparent picture file over, as in CSS.
            colours: for a picture file whose colours are not sRGB. "keep" keeps its ICC profile, or writes one for a
                file that describes its colours in another way; "convert" converts to sRGB; "assume" treats the pixel
                values as sRGB.
            refine: steps of gradient descent on the LR pixels, which bring the restored picture closer to the original;
                0 is none. They take time here only, and need PyTorch and a picture in the host's memory.
            progress: called with the number of tiles done and the total, while other threads wait; again for `refine`.
            front: `NV12(matrix, levels)` if the picture is a video frame, as the pair (luma, chroma).
            out: arrays for the packet, "lr" (h, w, 3) and "boundary" (h, w) uint8, on the device of the picture; arrays
                that are not given are allocated.
            stream: on a GPU, the stream to work on: of CuPy, PyTorch or PyCUDA, or its address; None is the current
                stream of the picture's library. The host waits for the result; in `submit_downscale` it does not.

        Returns:
            The packet; `write_packet` and `encode_png` store it.

        Raises:
            ArgumentError: `refine` is not a whole number of at least 0, or `z` is not a ZPolicy.
            ShapeError, DTypeError, EmptyImageError, ImageTooLargeError: the array cannot be used.
            LayoutError, OverlapError: an array of `out` cannot be written to, or is the picture's memory.
            DeviceMismatchError: an array is not on the device of the engine or of the picture.
            InputError: the file cannot be read as a picture, or is of a kind that would be altered silently.
            NonFiniteOutputError, OutOfMemoryError, BackendUnavailableError: the engine failed or does not load.
            ForkedProcessError: this process was forked from one that had run the backend.
            CorruptModelError, WeightsHashError: the model's files are not those of its card.
            ClosedError: the rescaler was closed.
        """
        work = Work(z=z, refine=refine, progress=progress, front=front, out=out, stream=stream)
        source = self._source(image, front, background=background, colours=colours)
        return work.downscale(self._runner, self.card, [source]).wait()[0]

    def submit_downscale(
        self,
        image: Image,
        *,
        z: ZPolicy | None = None,
        background: str | None = None,
        colours: Colours = "keep",
        refine: int = 0,
        front: Front = RGB,
        out: Mapping[str, Any] | None = None,
        stream: Any = None,
        block: bool = True,
    ) -> Job[Packet]:
        """Start to downscale a picture, without waiting for the result; jobs start in the order of the calls.

        On a GPU all work is queued on the stream at once, and later work on that stream may use `outputs`. A picture in
        the host's memory is downscaled by a worker, in a thread: its array must not change before the job has ended.

        Args:
            image, z, background, colours, refine, front, out, stream: as for `downscale`.
            block: if two jobs per worker already run or wait, wait for room. Without effect for arrays of a GPU, whose
                queue is the stream.

        Returns:
            The job: `wait()` returns the packet or raises the job's error; `done()` does not wait; `outputs` is the
            packet.

        Raises:
            BusyError: there is no room, and `block` is False.
            As `downscale`, of an array that cannot be used; a file, `out` and what fails later raise in the job's
            `wait`.
        """
        work = Work(z=z, refine=refine, front=front, out=out, stream=stream)
        source = None if is_path(image) else self._source(image, front, background=background, colours=colours)

        def begin() -> Job[list[Packet]]:
            read = self._source(image, front, background=background, colours=colours) if source is None else source
            return work.downscale(self._runner, self.card, [read])

        return self._submit(begin, now=source is not None and source.on_gpu, block=block)

    def downscale_batch(
        self,
        images: Any,
        *,
        z: ZPolicy | None = None,
        background: str | None = None,
        colours: Colours = "keep",
        refine: int = 0,
        stream: Any = None,
    ) -> list[Packet]:
        """Downscale pictures, with consecutive pictures of the same size in one batch.

        This is faster for small pictures. A few LR values may differ from those of `downscale` by 1.

        Args:
            images: (N, H, W, 3) uint8, or a sequence of what `downscale` takes, of any sizes.
            z, background, colours, refine, stream: as for `downscale`.

        Raises:
            As `downscale`.
        """
        work, scale = Work(z=z, refine=refine, stream=stream), self.card.interface.scale
        sources = (
            self._source(image, RGB, background=background, colours=colours)
            for image in as_sequence("downscale_batch", images)
        )
        made: list[Packet] = []
        for group in groups(self._runner, "downscale", scale, sources, lambda source: (*source.size, source.side)):
            made += work.downscale(self._runner, self.card, group).wait()
        return made

    def upscale(
        self,
        packet: Packet | PathLike,
        *,
        z: ZPolicy | None = None,
        force: bool = False,
        progress: Progress | None = None,
        front: Front = RGB,
        out: Any = None,
        stream: Any = None,
    ) -> Any:
        """Restore the picture that a packet was made from.

        Args:
            packet: what `downscale` returned, or the path of a packet file.
            z: what to use for Z; None is the policy in the packet.
            force: restore even if the LR pixels or the colour profile were edited.
            progress: called with the number of tiles done and the total, while other threads wait.
            front: `NV12(matrix, levels)` returns a video frame, as the pair (luma, chroma).
            out: array for the picture, on the device of the packet; for NV12 the pair. None allocates it.
            stream: as for `downscale`.

        Returns:
            (H, W, 3) uint8 RGB of the original's size, or the pair of `front`.

        Raises:
            PacketMismatchError: the packet was made with other weights; `Rescaler.for_packet` finds them.
            EditedPictureError: the LR pixels or the colour profile were edited, and `force` is False. Pixels on a GPU
                are not checked.
            PacketError, InputError: the file cannot be read as a packet.
            NonFiniteOutputError and others: as `downscale`.
        """
        work = Work(z=z, force=force, progress=progress, front=front, out=named(front, out), stream=stream)
        return work.upscale(self._runner, [self._checked(packet, force)]).wait()[0]

    def submit_upscale(
        self,
        packet: Packet | PathLike,
        *,
        z: ZPolicy | None = None,
        force: bool = False,
        front: Front = RGB,
        out: Any = None,
        stream: Any = None,
        block: bool = True,
    ) -> Job[Any]:
        """Start to restore a picture, without waiting for the result: see `submit_downscale`.

        Args:
            packet, z, force, front, out, stream: as for `upscale`.
            block: as for `submit_downscale`.

        Returns:
            The job; `wait()` returns the picture.

        Raises:
            As `submit_downscale` and `upscale`.
        """
        work = Work(z=z, force=force, front=front, out=named(front, out), stream=stream)
        checked = None if is_path(packet) else self._checked(packet, force)

        def begin() -> Job[list[Any]]:
            return work.upscale(self._runner, [self._checked(packet, force) if checked is None else checked])

        return self._submit(begin, now=checked is not None and checked.on_gpu, block=block)

    def upscale_batch(
        self,
        packets: Sequence[Packet | PathLike],
        *,
        z: ZPolicy | None = None,
        force: bool = False,
        stream: Any = None,
    ) -> list[Any]:
        """Restore a sequence of packets or packet files, with consecutive pictures of the same size in one batch.

        This is faster for small pictures. A few values may differ from those of `upscale` by 1.

        Raises:
            As `upscale`.
        """
        work, scale = Work(z=z, force=force, stream=stream), self.card.interface.scale
        checked = (self._checked(packet, force) for packet in as_sequence("upscale_batch", packets))
        restored: list[Any] = []

        def alike(packet: Packet) -> tuple[int, int, bool, str]:
            header = packet.header
            return header.height, header.width, bool((z or header.z).temperature), type(packet.lr).__module__

        direction: Direction = "upscale_z" if z and z.temperature else "upscale"
        for group in groups(self._runner, direction, scale, checked, alike):
            restored += work.upscale(self._runner, group).wait()
        return restored

    def downscale_file(
        self,
        source: PathLike,
        target: PathLike,
        *,
        z: ZPolicy | None = None,
        background: str | None = None,
        colours: Colours = "keep",
        refine: int = 0,
        progress: Progress | None = None,
    ) -> Packet:
        """Downscale a picture file to a packet file, an ordinary PNG; it is written whole or not at all.

        The colour profile is kept, and EXIF orientation is applied. An existing target is replaced.

        Args:
            source: path of a PNG, JPEG, WebP, TIFF, BMP, PPM or GIF file.
            target: path of the .png to write.
            z, background, colours, refine, progress: as for `downscale`.

        Raises:
            As `downscale`; OutputError: the target cannot be written, or is the source.
        """
        check_packet_path(target)
        check_output(target, inputs=[source])
        packet = self.downscale(
            as_path(source), z=z, background=background, colours=colours, refine=refine, progress=progress
        )
        write_packet(target, packet)
        return packet

    def upscale_file(
        self,
        source: PathLike | Packet,
        target: PathLike,
        *,
        z: ZPolicy | None = None,
        force: bool = False,
        quality: int | None = None,
        progress: Progress | None = None,
    ) -> Picture:
        """Restore a packet file to a picture file; a grey picture stays grey, and the colour profile is kept.

        Args:
            source: a packet file, or a packet that was read from it.
            target: .png, .webp, .tif, .bmp, .ppm (lossless) or .jpg. An existing file is replaced.
            quality: 1 to 100, for JPEG (None is 95) or for WebP (None is lossless).
            z, force, progress: as for `upscale`.

        Raises:
            As `upscale`; OutputError: the target cannot be written, or is the source.
        """
        if isinstance(source, Packet):
            packet = source
            check_output(target)
        else:
            check_output(target, inputs=[source])
            packet = read_packet(source, max_pixels=self.max_pixels)
        check_picture_path(target, width=packet.header.width, height=packet.header.height, quality=quality)
        pixels = self.upscale(packet, z=z, force=force, progress=progress)
        picture = Picture(pixels, packet.header.colour.model, packet.icc_profile)
        write_picture(target, picture, quality=quality)
        return picture

    def warm_up(self, *, height: int = 64, width: int = 64) -> None:
        """Load both directions and run each once on every worker, so that the first picture takes no extra time.

        Args:
            height, width: size of the HR pictures that will follow. From 512 x 512 pixels on, the network is prepared
                for each new size, which takes a fraction of a second.
        """
        check_whole("height", height, 1, self.max_pixels)
        check_whole("width", width, 1, self.max_pixels // height)
        for worker in self._runner.pool.workers:
            with self._runner.pool.worker(worker):
                self.upscale(self.downscale(np.zeros((height, width, 3), np.uint8)))

    def close(self, *, cancel: bool = False) -> None:
        """Finish the pictures in progress and free the engines; later calls raise `ClosedError`.

        Jobs that have not begun are dropped, and their `wait` raises `ClosedError`. A `with` block that ends with an
        exception, such as Ctrl-C, closes with `cancel`.

        Args:
            cancel: cancel the pictures in progress: within about a tenth of a second on OpenVINO, after the current
                tile on other backends.
        """
        self._runner.close(cancel=cancel)

    def __enter__(self) -> Rescaler:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(cancel=error is not None)

    def _source(self, image: Image, front: Front, *, background: str | None, colours: Colours) -> Source:
        check_choice("colours", colours, get_args(Colours))
        if is_path(image) and front == RGB:
            image = read_picture(image, background=background, colours=colours, max_pixels=self.max_pixels)
        return as_source(image, front=front, max_pixels=self.max_pixels)

    def _checked(self, packet: Packet | PathLike, force: bool) -> Packet:
        if is_path(packet):
            packet = read_packet(packet, max_pixels=self.max_pixels)
        if not isinstance(packet, Packet):
            raise ArgumentError(
                f"upscale got a {type(packet).__name__}; give what downscale returned, a Packet, or the path of a "
                "packet file. For several there is upscale_batch."
            )
        packet.check_model(self.card, max_pixels=self.max_pixels)
        if not force:
            packet.check_unedited()
        return packet

    def _submit(self, begin: Callable[[], Job[list[T]]], *, now: bool, block: bool) -> Job[T]:
        """A single picture's job: begun now, as a stream's work goes on by itself, or by a worker in a thread."""
        if now:
            job = begin()
            return JointJob(job.outputs[0], [job])
        return self._runner.pool.submit(lambda: begin().wait()[0], block=block)
