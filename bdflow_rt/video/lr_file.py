"""LR videos: a Matroska file with the LR pictures, the boundary maps and the header. Spec: spec/matroska.md."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.stream import AttachmentStream

from bdflow_rt.containers.header import encode_header
from bdflow_rt.containers.matroska import (
    HEADER_NAME,
    HEADER_TAG,
    HEADER_TYPE,
    TRACK_TAG,
    FrameData,
    find_header,
    header_tag,
    join_frame,
    split_frame,
    track_size,
)
from bdflow_rt.containers.source import FILE_AGAIN
from bdflow_rt.errors import (
    CorruptPacketError,
    EditedPictureError,
    NotAPacketError,
    PacketMismatchError,
    PacketVersionError,
    shorten,
)
from bdflow_rt.options import DEFAULT_MAX_PIXELS, check_area, check_max_pixels
from bdflow_rt.packet import ColourInfo, Packet, PacketHeader, StreamHeader
from bdflow_rt.picture import UInt8Array
from bdflow_rt.pipes import OutputPipe
from bdflow_rt.video.codecs import LrCodec, LrPreset, TrackCodec, grey_track, lr_track
from bdflow_rt.video.convert import colour_of, to_picture
from bdflow_rt.video.frames import Attachment, Extras, Problems, TrackPacket, VideoInfo
from bdflow_rt.video.opened import (
    DECODER_THREADS,
    VideoInput,
    decoder_limit,
    extras_of,
    is_cover,
    is_cut,
    name_of,
    open_video,
)
from bdflow_rt.video.part import PartWriter
from bdflow_rt.zoo import ModelCard

_SAME_S = 0.0005
"""Two tracks of one file have a frame at the same millisecond."""
_MOVED_S = Fraction(1, 500)
"""What Matroska's whole milliseconds never make of a difference: the file was cut or joined."""
_CODEC_NAMES = {"h264-lossless": "h264", "ffv1": "ffv1"}


@dataclass(frozen=True, eq=False)
class LrFrame:
    """One frame of an LR video.

    Attributes:
        lr: (h, w, 3) uint8.
        boundary: (h, w) uint8 levels, or None for a model without.
        data: timestamp, duration, and CRC-32 of the LR pixels that the frame was made with.
    """

    lr: UInt8Array
    boundary: UInt8Array | None
    data: FrameData

    @property
    def pts(self) -> int:
        """Timestamp in units of the header's time base."""
        return self.data.pts

    @property
    def duration(self) -> int:
        """In the same units, 0 where it is not known."""
        return self.data.duration

    @classmethod
    def of(cls, packet: Packet, pts: int, duration: int) -> LrFrame:
        """A frame from its packet; where the pixels are on a GPU, the CRC is 0."""
        crc = packet.header.lr_crc32
        return cls(packet.lr, packet.boundary, FrameData(pts, duration, 0 if crc is None else crc))

    def __iter__(self) -> Iterator[Any]:
        """For `lr, boundary = frame`."""
        return iter((self.lr, self.boundary))

    def packet(self, header: StreamHeader) -> Packet:
        """The frame as the packet of a picture."""
        common = {
            name: getattr(header, name) for name in ("model", "identity", "scale", "width", "height", "bits", "z")
        }
        return Packet(self.lr, self.boundary, PacketHeader(**common, colour=header.colour, lr_crc32=self.data.lr_crc32))


def stream_codec(codec: LrCodec) -> str:
    """The name of an LR codec in the header."""
    return _CODEC_NAMES[codec]


def lr_writer(
    target: Path | OutputPipe,
    header: StreamHeader,
    info: VideoInfo,
    extras: Extras,
    *,
    codec: LrCodec,
    preset: LrPreset,
    problems: Problems,
) -> PartWriter:
    """A part file or pipe of an LR video, to which `lr_pictures` are written.

    Raises:
        UnwritableOutputError, DiskFullError: it cannot be written.
    """
    height, width = header.lr_size
    rows, columns = track_size(header)
    encoder, pixel_format, options = lr_track(codec, preset)
    shown = TrackCodec(
        encoder, pixel_format, width, height, options, {TRACK_TAG: "lr", "title": "LR picture"},
        pixel_aspect=info.pixel_aspect, frame_rate=info.frame_rate, colour=_lr_colour(header),
    )  # fmt: skip
    encoder, pixel_format, options = grey_track()
    hidden = TrackCodec(
        encoder, pixel_format, columns, rows, options, {TRACK_TAG: "boundary", "title": "boundary map"},
        is_shown=False, frame_rate=info.frame_rate,
    )  # fmt: skip
    return PartWriter(
        target, [shown, hidden], info, extras,
        tags={HEADER_TAG: header_tag(header)},
        attachments=[Attachment(HEADER_NAME, HEADER_TYPE, encode_header(header))],
        problems=problems,
    )  # fmt: skip


def _lr_colour(header: StreamHeader) -> ColourInfo:
    """Tags of the LR track, which is RGB: primaries and transfer of the source."""
    return ColourInfo(primaries=header.colour.primaries, transfer=header.colour.transfer, matrix=0, full_range=True)


def lr_pictures(packet: Packet, pts: int, duration: int, *, codec: LrCodec) -> list[av.VideoFrame]:
    """A frame's pictures for the two tracks of `lr_writer`, from its packet."""
    crc = packet.header.lr_crc32
    data = FrameData(pts, duration, Packet.crc32_of(packet.lr) if crc is None else crc)
    lr = av.VideoFrame.from_ndarray(np.ascontiguousarray(packet.lr), format="rgb24")
    pixel_format = lr_track(codec, "ultrafast")[1]
    if pixel_format != "rgb24":
        lr = lr.reformat(format=pixel_format)
    return [lr, av.VideoFrame.from_ndarray(join_frame(packet.boundary, data), format="gray")]


def read_header(source: VideoInput) -> StreamHeader:
    """The header of an LR video.

    Raises:
        As `LrSource`.
    """
    with open_video(source, max_pixels=DEFAULT_MAX_PIXELS) as container:
        return _find_header(container, name_of(source))


class LrSource:
    """Reads an LR video: frames in order, and between them the packets of the tracks that go along.

    Args:
        source: the file, or an `InputPipe`.
        force: give frames whose LR pixels were changed, too.
        strict: raise at the first frame that is damaged, instead of leaving it out.
        max_pixels: of an HR frame.

    Attributes:
        header, extras, problems: of the file.
        info: of the restored video.

    Raises:
        NotAPacketError: an ordinary video.
        CorruptPacketError, PacketVersionError: the header is damaged, or of a later version.
        PacketMismatchError: a track is missing, or has pictures of another size.
        CorruptVideoError: the file is no video or is damaged.
        ImageTooLargeError: the HR frames have more than `max_pixels`.
    """

    def __init__(
        self, source: VideoInput, *, force: bool = False, strict: bool = False, max_pixels: int = DEFAULT_MAX_PIXELS
    ) -> None:
        check_max_pixels(max_pixels)
        self._name, self._source, self._force, self._strict = name_of(source), source, force, strict
        self._max_pixels = max_pixels
        self.problems = Problems()
        self._container = open_video(source, max_pixels=max_pixels)
        try:
            self.header = _find_header(self._container, self._name)
            check_area(f"{self._name} restores to", self.header.width, self.header.height, max_pixels=max_pixels)
            self._lr, self._map = self._find_tracks()
            self.extras, self.info = self._read_extras(), self._described()
            for stream in (self._lr, self._map):
                stream.thread_type = DECODER_THREADS
        except BaseException:
            self._container.close()
            raise
        self._has_intact = False
        self._moved = self._end = Fraction(0)  # seconds: of frames against their data; of all that came

    def __enter__(self) -> LrSource:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file and its decoders."""
        self._container.close()

    def _described(self) -> VideoInfo:
        header = self.header
        rate = self._lr.average_rate or self._lr.guessed_rate
        aspect = Fraction(self._lr.sample_aspect_ratio or 1)
        return VideoInfo(
            header.width, header.height, Fraction(*header.time_base), header.colour,
            pixel_aspect=aspect, frame_rate=rate,
        )  # fmt: skip

    def __iter__(self) -> Iterator[LrFrame | TrackPacket]:
        """The frames and packets, once.

        Raises:
            EditedPictureError: the LR pixels were changed, and it is not forced.
            CorruptPacketError: damage, where it is strict.
        """
        waiting = _Waiting()
        for item in self._items(waiting):
            if item is not None:
                yield item
            for lr, hidden in waiting.pairs():
                if (frame := self._checked(lr, hidden)) is not None:
                    yield frame
        for lr, hidden in waiting.pairs(at_end=True):
            self._checked(lr, hidden)
        if is_cut(self._source, self._container, self._end):
            self._damage(f"it is cut off after {float(self._end):.3f} s")

    def check_model(self, card: ModelCard) -> None:
        """Check that a model can restore it.

        Raises:
            PacketMismatchError: it was made with another model, or its header contradicts this one.
        """
        self.header.check_model(card, name=self._name, way="Use VideoRescaler.for_video(path).")

    def _items(self, waiting: _Waiting) -> Iterator[TrackPacket | None]:
        """The packets that go along; those of the two tracks are decoded to where they wait, and None comes instead."""
        tracks = {track.stream.index: track.index for track in self.extras.tracks}
        packets = self._container.demux(self._lr, self._map, *(track.stream for track in self.extras.tracks))
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except (av.error.FFmpegError, ValueError) as error:
                self._damage(f"it cannot be read on ({shorten(error)})")
                return
            index = packet.stream.index
            if index in (self._lr.index, self._map.index):
                waiting.add(self._decoded(packet), is_lr=index == self._lr.index)
                yield None
            elif packet.size:
                self._end = max(self._end, ((packet.pts or 0) + (packet.duration or 0)) * packet.time_base)
                yield TrackPacket(tracks[index], packet)

    def _decoded(self, packet: Any) -> list[av.VideoFrame]:
        try:
            return list(packet.decode())
        except (av.error.FFmpegError, ValueError):
            return []  # it will be missed where the other track has it

    def _checked(self, lr: av.VideoFrame | None, hidden: av.VideoFrame | None) -> LrFrame | None:
        """A frame from both tracks, or None and a count where it cannot be used.

        Raises:
            EditedPictureError, PacketMismatchError: the tracks are not as they were written.
            CorruptPacketError: it is damaged, and the source is strict.
        """
        one = lr if lr is not None else hidden
        when = f"the frame at {one.time:.3f} s" if one is not None and one.time is not None else "a frame"
        if lr is None or hidden is None:
            self._damage(f"{when} is missing in its {'LR' if lr is None else 'boundary'} track")
            return None
        try:
            picture = hidden.to_ndarray(format="gray").astype(np.uint8, copy=False)
            boundary, data = split_frame(picture, self.header)
        except CorruptPacketError as error:
            self._damage(f"{when} cannot be read ({shorten(error)})")
            return None
        pixels = self._pixels(lr)
        if self.header.lr_is_exact and not self._force and Packet.crc32_of(pixels) != data.lr_crc32:
            if not self._has_intact:
                raise EditedPictureError(
                    f"The LR pictures of {self._name} were changed after they were made (coded again, perhaps), so the "
                    "stored detail no longer fits them. Use the file as downscale wrote it, or restore it anyway with "
                    "force=True (--force)."
                )
            self._damage(f"the LR picture of {when} is damaged")
            return None
        self._has_intact = True
        return LrFrame(pixels, boundary, self._in_step(data, lr))

    def _in_step(self, data: FrameData, picture: av.VideoFrame) -> FrameData:
        """A frame's data, with the time that the file gives it now where it was cut or joined, as audio has it."""
        base = Fraction(*self.header.time_base)
        if picture.pts is not None and picture.time_base is not None:
            moved = picture.pts * picture.time_base - data.pts * base
            if abs(moved - self._moved) > _MOVED_S:
                self._moved = moved
                self.problems.say(f"{self._name} was cut, joined or moved in time; its frames go along with its audio.")
        pts = data.pts + round(self._moved / base)
        self._end = max(self._end, (pts + data.duration) * base)
        return replace(data, pts=pts)

    def _pixels(self, frame: av.VideoFrame) -> UInt8Array:
        """(h, w, 3) uint8 of an LR picture.

        Raises:
            PacketMismatchError: it has another size than the header calls for.
        """
        height, width = self.header.lr_size
        if (frame.height, frame.width) != (height, width):
            raise PacketMismatchError(
                f"The LR track of {self._name} has pictures of {frame.width} x {frame.height}, and the header calls "
                f"for {width} x {height}. Use the file as downscale wrote it."
            )
        if frame.format.name in ("gbrp", "rgb24"):
            return np.ascontiguousarray(frame.to_ndarray())
        return to_picture(frame, colour_of(frame, name=self._name))

    def _find_tracks(self) -> tuple[Any, Any]:
        """The LR track and the boundary track, by their tags, or without any by their order.

        Raises:
            PacketMismatchError: one is missing, or of an unknown codec.
        """
        videos = [stream for stream in self._container.streams.video if not is_cover(stream)]
        tagged = {str(stream.metadata.get(TRACK_TAG)): stream for stream in videos}
        found: list[Any] = [tagged.get("lr"), tagged.get("boundary")]
        if None in found and len(videos) >= 2 and not tagged.keys() & {"lr", "boundary"}:
            found = videos[:2]
        for stream, what in zip(found, ("LR", "boundary"), strict=True):
            if stream is None:
                raise PacketMismatchError(
                    f"{self._name} has lost its {what} track, without which it cannot be restored. Use the file as "
                    "downscale wrote it."
                )
            if stream.codec_context is None:
                raise PacketMismatchError(
                    f"The {what} track of {self._name} has a codec that is not known here. Use the file as downscale "
                    "wrote it."
                )
            stream.codec_context.options = decoder_limit(self._max_pixels)
            if stream.codec_context.name == "ffv1":
                stream.codec_context.options |= {"err_detect": "crccheck+explode"}
        return found[0], found[1]

    def _read_extras(self) -> Extras:
        extras = extras_of(self._container, self.problems, name=self._name)
        own = (HEADER_NAME,)
        return replace(extras, attachments=[one for one in extras.attachments if one.name not in own])

    def _damage(self, what: str) -> None:
        self.problems.damaged += 1
        if self._strict:
            raise CorruptPacketError(f"{self._name} is damaged: {what}. {FILE_AGAIN}")
        if self.problems.damaged == 1:  # one sentence is enough, the others are counted
            self.problems.say(f"{self._name} is damaged: {what}.")


class _Waiting:
    """Decoded frames of the two tracks until both have come; those of one time belong together."""

    def __init__(self) -> None:
        self._lr: deque[av.VideoFrame] = deque()
        self._map: deque[av.VideoFrame] = deque()

    def add(self, frames: list[av.VideoFrame], *, is_lr: bool) -> None:
        (self._lr if is_lr else self._map).extend(frames)

    def pairs(self, *, at_end: bool = False) -> Iterator[tuple[av.VideoFrame | None, av.VideoFrame | None]]:
        """What is complete: frames of both tracks, or of one where the other is past that time."""
        while self._lr and self._map:
            lr, hidden = self._lr[0].time or 0.0, self._map[0].time or 0.0
            if abs(lr - hidden) < _SAME_S:
                yield self._lr.popleft(), self._map.popleft()
            elif lr < hidden:
                yield self._lr.popleft(), None
            else:
                yield None, self._map.popleft()
        while at_end and self._lr:
            yield self._lr.popleft(), None
        while at_end and self._map:
            yield None, self._map.popleft()


def _find_header(container: Any, name: str) -> StreamHeader:
    attachment = next(
        (
            stream.data
            for stream in container.streams
            if isinstance(stream, AttachmentStream) and stream.name == HEADER_NAME
        ),
        None,
    )
    header = find_header(attachment, container.metadata.get(HEADER_TAG))
    if header is None:
        raise NotAPacketError(
            f"{name} is an ordinary video, which cannot be restored: `bdflow downscale` makes those that can."
        )
    if header.frame_data == "none":
        raise PacketVersionError(f"{name} has no data of its frames; it needs another release of bdflow-rt.")
    return header
