"""`VideoRescaler`: videos and streams of frames, down and up."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, overload

from bdflow_rt.engines.front import RGB, Front
from bdflow_rt.errors import ArgumentError
from bdflow_rt.files import PathLike
from bdflow_rt.options import MEMORY_LIMIT_MIB, Options, RescalerOptions, as_options
from bdflow_rt.packet import Packet, PacketHeader, ZPolicy
from bdflow_rt.pipes import InputPipe
from bdflow_rt.rescaler import Rescaler
from bdflow_rt.video.frames import Frame, FrameSource
from bdflow_rt.video.lr_file import LrFrame, LrSource, read_header
from bdflow_rt.video.meter import Meter
from bdflow_rt.video.opened import VideoInput
from bdflow_rt.video.rescale import VideoTarget, downscale_video, upscale_video
from bdflow_rt.video.result import VideoResult
from bdflow_rt.video.stream import Stream, StreamOptions
from bdflow_rt.zoo import DEFAULT_MODEL, ModelCard, find_model, find_model_by_identity

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

_MOST_WORKERS = 4
_WORKER_MIB = 512.0
"""What a frame of 1920 x 1080 takes with the largest models, so that it is not cut into tiles."""


def video_options(options: RescalerOptions | None = None, **changes: Unpack[Options]) -> RescalerOptions:
    """Options for frames that come one after the other, where `workers` and the memory limit are the defaults.

    Up to four workers, with the cores shared among them, compute a frame each: that takes less time in all than all
    cores on one frame, and each frame takes longer. Each may use 512 MiB.
    """
    chosen = as_options(options, changes)
    if chosen.workers != 1 or chosen.device not in (None, "cpu"):
        return chosen
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    workers = min(chosen.threads or cores, _MOST_WORKERS)
    limit = chosen.memory_limit_mib
    if limit == MEMORY_LIMIT_MIB:
        limit = max(limit, workers * _WORKER_MIB)
    return dataclasses.replace(chosen, workers=workers, memory_limit_mib=limit)


class VideoRescaler:
    """A model for videos and streams of frames; a context manager.

    Reading, the network and writing overlap, and several frames are computed at a time. Results come in order.

    Args:
        model: name of an installed model, path of a model folder, or a `ModelCard`.
        options, changes: as for `Rescaler`; see `video_options` for what is another default here.

    Attributes:
        rescaler: what rescales the frames.

    Raises:
        As `Rescaler.from_pretrained`.
    """

    def __init__(
        self,
        model: PathLike | ModelCard = DEFAULT_MODEL,
        options: RescalerOptions | None = None,
        **changes: Unpack[Options],
    ) -> None:
        card = model if isinstance(model, ModelCard) else find_model(model)
        self.rescaler = Rescaler(card, video_options(options, **changes))

    @classmethod
    def for_video(
        cls, source: VideoInput | LrSource, options: RescalerOptions | None = None, **changes: Unpack[Options]
    ) -> Self:
        """One with the model that made an LR video, found by its identity.

        Args:
            source: what `downscale` wrote. A pipe is read once, so give an `LrSource` of it.
            options, changes: as for the class.

        Raises:
            UnknownModelError, WeightsHashError: that model is not here.
            PacketError, InputError: the file is no LR video.
        """
        header = source.header if isinstance(source, LrSource) else read_header(source)
        return cls(find_model_by_identity(header.model, header.identity), options, **changes)

    def downscale(self, source: VideoInput | FrameSource, target: VideoTarget, **settings: Any) -> VideoResult:
        """Downscale a video to an LR video, as `downscale_video` with this model; `settings` are its options."""
        return downscale_video(source, target, self.rescaler, **settings)

    @overload
    def upscale(self, source: VideoInput | LrSource, target: VideoTarget, **settings: Any) -> VideoResult: ...

    @overload
    def upscale(self, source: VideoInput | LrSource, target: None = None, **settings: Any) -> Iterator[Frame]: ...

    def upscale(
        self, source: VideoInput | LrSource, target: VideoTarget | None = None, **settings: Any
    ) -> VideoResult | Iterator[Frame]:
        """Restore a video, to a file or pipe as `upscale_video`, or without a target frame by frame.

        Args:
            source: what `downscale` wrote.
            target: as for `upscale_video`; None returns an iterator of the restored frames, with their timestamps in
                units of the source's time base.
            settings: the options of `upscale_video`; without a target `z`, `force`, `strict` and `stream`.

        Raises:
            As `upscale_video`.
        """
        if target is not None:
            return upscale_video(source, target, self.rescaler, **settings)
        return self._frames(source, **settings)

    def stream(
        self,
        frames: Iterable[Any],
        *,
        front: Front = RGB,
        z: ZPolicy | None = None,
        refine: int = 0,
        options: StreamOptions | None = None,
    ) -> Iterator[LrFrame]:
        """Downscale frames that the caller has, as they come: `for lr, boundary in rescaler.stream(frames)`.

        Args:
            frames: (H, W, 3) uint8 RGB arrays, or pairs as `front` says, or `Frame`s of them with timestamps. They are
                read in a thread, some ahead of what is given; an array must not change until its result has come.
            front: `NV12(matrix, levels)` if the frames are pairs (luma, chroma), which are not converted beforehand.
            z, refine: as for `Rescaler.downscale`.
            options: what becomes of frames that come too fast, and how long to wait for one.

        Returns:
            An iterator of `LrFrame`, in order; the timestamp of an array is its number.

        Raises:
            As `Rescaler.downscale`, and what the iterator of `frames` raises, each in its place in the order.
            StalledError: a stage made no progress for as long as `options` allow.
        """
        policy = z or ZPolicy()

        def begin(frame: Frame) -> Callable[[], LrFrame]:
            return lambda: LrFrame.of(
                self.rescaler.downscale(frame.pixels, z=policy, refine=refine, front=front), frame.pts, frame.duration
            )

        return self._stream(_numbered(frames), begin, options)

    def restore(
        self,
        frames: Iterable[Any],
        *,
        size: tuple[int, int],
        front: Front = RGB,
        z: ZPolicy | None = None,
        options: StreamOptions | None = None,
    ) -> Iterator[Frame]:
        """Restore frames that the caller has, as they come.

        Args:
            frames: `LrFrame`s, or pairs (lr, boundary): (h, w, 3) uint8 RGB and (h, w) uint8 levels, or None where the
                model has no map.
            size: (H, W) of the restored frames.
            front, z: as for `Rescaler.upscale`.
            options: as for `stream`.

        Returns:
            An iterator of `Frame`, whose `pixels` are (H, W, 3) uint8 RGB or the pair of `front`.

        Raises:
            PacketMismatchError, ShapeError, DTypeError: a frame does not fit the model or the size.
            As `Rescaler.upscale` and `stream` besides.
        """
        card, policy = self.rescaler.card, z or ZPolicy()
        header = PacketHeader(
            model=card.id, identity=card.packet_identity, scale=card.interface.scale, width=size[1], height=size[0],
            bits=card.interface.bits, lr_crc32=None, z=policy,
        )  # fmt: skip

        def restored(number: int, item: Any) -> Frame:
            lr, boundary = item
            pixels = self.rescaler.upscale(Packet(lr, boundary, header), front=front, force=True)
            pts, duration = (item.pts, item.duration) if isinstance(item, LrFrame) else (number, 1)
            return Frame(pixels, pts, duration)

        return self._stream(enumerate(frames), lambda item: lambda: restored(*item), options)

    def close(self, *, cancel: bool = False) -> None:
        """See `Rescaler.close`."""
        self.rescaler.close(cancel=cancel)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(cancel=error is not None)

    def _frames(
        self,
        source: VideoInput | LrSource,
        *,
        z: ZPolicy | None = None,
        force: bool = False,
        strict: bool = False,
        stream: StreamOptions | None = None,
    ) -> Iterator[Frame]:
        given = isinstance(source, LrSource)
        opened = (
            source
            if isinstance(source, LrSource)
            else LrSource(source, force=force, strict=strict, max_pixels=self.rescaler.max_pixels)
        )
        try:
            opened.check_model(self.rescaler.card)
            header = opened.header

            def begin(item: Any) -> Callable[[], Frame] | None:
                if not isinstance(item, LrFrame):
                    return None
                return lambda: Frame(
                    self.rescaler.upscale(item.packet(header), z=z, force=True), item.pts, item.duration
                )

            interrupt = source.interrupt if isinstance(source, InputPipe) else None
            yield from self._stream(opened, begin, stream, interrupt=interrupt)
        finally:
            if not given:
                opened.close()

    def _stream(
        self,
        items: Iterable[Any],
        begin: Callable[[Any], Callable[[], Any] | None],
        options: StreamOptions | None,
        interrupt: Callable[[], None] | None = None,
    ) -> Iterator[Any]:
        """The results of frames, in order."""
        meter = Meter(workers=self.rescaler.options.workers, total=None)
        with Stream(items, begin, meter=meter, options=options, interrupt=interrupt) as results:
            for _, result in results:
                if result is not None:
                    yield result


def _numbered(frames: Iterable[Any]) -> Iterator[Frame]:
    """Frames with timestamps: those they have, or their numbers."""
    if isinstance(frames, (str, bytes, os.PathLike)):
        raise ArgumentError(
            f"stream got {frames!r:.60}, which is a name; it takes frames. For video files there is downscale(source, "
            "target)."
        )
    for number, frame in enumerate(frames):
        yield frame if isinstance(frame, Frame) else Frame(frame, number, 1)
