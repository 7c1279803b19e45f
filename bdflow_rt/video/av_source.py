"""Frames of a video file through PyAV: any codec that FFmpeg decodes."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from functools import partial
from typing import Any, ClassVar

import av

from bdflow_rt.errors import CorruptVideoError, UnsupportedVideoError, plural
from bdflow_rt.files import as_path
from bdflow_rt.options import DEFAULT_MAX_PIXELS, check_area, check_max_pixels
from bdflow_rt.picture import UInt8Array
from bdflow_rt.pipes import InputPipe
from bdflow_rt.video.clock import Clock, Span
from bdflow_rt.video.convert import (
    Colour,
    check_kind,
    colour_info,
    colour_of,
    depth_of,
    display_matrix,
    to_picture,
    turned,
)
from bdflow_rt.video.ffv1 import SliceCheck
from bdflow_rt.video.frames import Frame, Problems, TrackPacket, VideoInfo
from bdflow_rt.video.opened import (
    DECODER_THREADS,
    VideoInput,
    choose_stream,
    cover_of,
    decoder_limit,
    extras_of,
    is_cover,
    is_cut,
    name_of,
    open_video,
    reason,
    typed_errors,
)

_REORDERED = 64
"""More frames than any decoder holds back."""
_MARGIN_S = 10
"""Seconds around the part that is taken in which the other tracks of that time may be stored."""


_DETECTION = {"mjpeg": {"err_detect": "explode"}}
"""By codec, what makes FFmpeg fail on damage that it would pass on without a mark."""


class AvSource:
    """A `FrameSource` of a video file or pipe, and a context manager.

    Each frame has the timestamp of the container, after edit lists; none is computed from a frame rate but where a
    stream has no timestamps at all. Frames are turned upright.

    Args:
        source: the file, or an `InputPipe`.
        span: the part that is taken; None is all of it.
        strict: raise at the first damage instead of going on.
        max_pixels: larger frames are refused before they are decoded.

    Raises:
        MissingFileError, UnreadableFileError: the file cannot be opened.
        CorruptVideoError: no video, damaged or cut off before its first frame, or without frames.
        UnsupportedVideoError: interlaced, HDR, with an alpha channel, or of a codec or matrix that is not known.
        ImageTooLargeError: the frames have more than `max_pixels`.
    """

    decoder = "pyav"
    _seekable: ClassVar[tuple[str, ...]] = ("mov", "matroska")
    """Containers whose index says where a second begins, in each track."""

    def __init__(
        self,
        source: VideoInput,
        *,
        span: Span | None = None,
        strict: bool = False,
        max_pixels: int = DEFAULT_MAX_PIXELS,
    ) -> None:
        check_max_pixels(max_pixels)
        self._strict, self._max_pixels = strict, max_pixels
        self._name, self._source = name_of(source), source
        self.problems = Problems()
        self._container = open_video(source, max_pixels=max_pixels)
        try:
            self._begin = Fraction(max(self._container.start_time or 0, 0), av.time_base)
            self._span, self._is_over = (span or Span()).since(self._begin), False
            self._stream = choose_stream(self._container, self.problems, name=self._name)
            self.extras = extras_of(self._container, self.problems, name=self._name)
            self.decoder_reason = f"it decodes {self._stream.codec_context.name}, as nearly every codec"
            self._is_in_order = self._container.format.name == "avi" and self._stream.codec_context.has_b_frames
            width, height = self._stream.width, self._stream.height
            check_area(f"{self._name} has frames of", width, height, max_pixels=max_pixels)
            codec = self._stream.codec_context.name
            self._stream.thread_type = DECODER_THREADS
            self._stream.codec_context.options = {**decoder_limit(max_pixels), **_DETECTION.get(codec, {})}
            self._slices = SliceCheck() if codec == "ffv1" else None
            self._listed = len(self._stream.index_entries)  # packets of the video that the file's index promises
            self._is_whole = not self._seek()
            self._seen = 0  # packets of the video
            self._dts: deque[int] = deque(maxlen=_REORDERED)  # of those whose frames have not come
            self._end, self._last_byte = Fraction(0), 0  # of all packets, in seconds; of the last one of the video
            self._items = self._decoded()
            self._ahead: list[TrackPacket] = []
            self._first = self._first_frame()
            if not self._is_whole and (self._first.time is None or self._first.time > self._span.start):
                raise CorruptVideoError(
                    f"{self._name} has an index that leads to the wrong place; make it anew, for example with: ffmpeg "
                    "-i IN -c copy OUT.mkv"
                )
            self.info = self._described(self._first)
        except BaseException:
            self._container.close()
            raise

    def __enter__(self) -> AvSource:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file and the decoder."""
        self._container.close()

    def __iter__(self) -> Iterator[Frame | TrackPacket]:
        """The frames and the packets of other tracks, once.

        Raises:
            CorruptVideoError: damage, where the source is strict.
            UnsupportedVideoError: a frame of another size or kind than the first.
        """
        clock = Clock(self.info, self._span, self.problems, name=self._name, first=self._first.pts)
        for item in self._all():
            if isinstance(item, TrackPacket):
                if clock.takes_packet(item.packet):
                    yield item
                continue
            self._check_same(item)
            timed = clock.of(self._pts_of(item), item.duration)
            if clock.is_over:
                yield from self._others_of_the_end(clock)
                return
            if item.is_corrupt and (self._is_whole or timed is not None):
                self._damage(f"a frame at {self._time_of(item)} was decoded from damaged data")
            if timed is not None:
                yield Frame(partial(self._picture, item, colour_of(item, name=self._name)), *timed)
        self._check_whole()

    def _picture(self, frame: av.VideoFrame, colour: Colour) -> UInt8Array:
        """(H, W, 3) uint8 RGB, upright."""
        return turned(to_picture(frame, colour), self._matrix)

    def _others_of_the_end(self, clock: Clock) -> Iterator[TrackPacket]:
        """Packets of other tracks that are taken, and stored behind the last frame that is."""
        self._is_over = True
        if self.extras.tracks:
            for item in self._items:
                if clock.takes_packet(item.packet):
                    yield item

    def _all(self) -> Iterator[Any]:
        """Decoded frames and packets, with those that were read to find the first frame."""
        ahead, self._ahead = self._ahead, []
        yield from ahead
        yield self._first
        yield from self._items

    def _decoded(self) -> Iterator[Any]:
        """Decoded frames and `TrackPacket`s, in the order of the file."""
        tracks = {track.stream.index: track.index for track in self.extras.tracks}
        covers = {stream.index: stream for stream in self._container.streams.video if is_cover(stream)}
        wanted = [self._stream, *(track.stream for track in self.extras.tracks), *covers.values()]
        packets = self._container.demux(*wanted)
        while True:
            try:
                packet = next(packets)
            except (StopIteration, IndexError):  # the latter at the end of a file that gets further tracks on the way
                return
            except (av.error.FFmpegError, ValueError) as error:
                self._damage(f"it cannot be read on ({reason(error)})")
                return
            index = packet.stream.index
            if index == self._stream.index and self._is_over:
                at = _time_of(packet)
                if at is not None and self._span.is_past(at - _MARGIN_S):
                    return
            elif index == self._stream.index:
                self._note_end(packet)
                self._seen += packet.size > 0
                self._last_byte = max(self._last_byte, (packet.pos or 0) + packet.size)
                if packet.size and packet.dts is not None:
                    self._dts.append(packet.dts)
                if (
                    packet.size or packet.pts is None
                ):  # with a time but no data it repeats the frame before, as in Theora
                    yield from self._frames_of(packet)
            elif packet.size and index in covers:
                cover = cover_of(covers[index], bytes(packet))
                if cover is not None:
                    self.extras = replace(self.extras, attachments=[*self.extras.attachments, cover])
            elif packet.size:
                self._note_end(packet)
                yield TrackPacket(tracks[index], packet)

    def _seek(self) -> bool:
        """Go to a key frame before the part that is taken, and say whether that could be done."""
        start = self._span.start - _MARGIN_S
        if (
            start <= 0
            or not self._container.format.name.startswith(self._seekable)
            or isinstance(self._source, InputPipe)
        ):
            return False
        try:
            self._container.seek(int(start / (self._stream.time_base or 1)), stream=self._stream)
        except av.error.FFmpegError:  # without an index
            return False
        return True

    def _pts_of(self, frame: av.VideoFrame) -> int | None:
        """The timestamp of a frame. AVI has none but the order of packets, which FFmpeg takes for that of frames."""
        if not self._is_in_order:
            return frame.pts
        return self._dts.popleft() if self._dts else None

    def _frames_of(self, packet: Any) -> list[av.VideoFrame]:
        is_known = self._slices is not None and packet.size and self._slices.is_damaged(bytes(packet))
        if is_known:
            self._damage("the data of a frame do not fit their checksum")
        try:
            return list(packet.decode())
        except (av.error.DecoderNotFoundError, av.error.PatchWelcomeError, av.error.NotImplementedError) as error:
            raise UnsupportedVideoError(
                f"{self._name} has video of a kind that is not decoded here ({reason(error)}); convert it to H.264 "
                "first."
            ) from error
        except (av.error.FFmpegError, ValueError) as error:
            if not is_known:
                self._damage(f"the data of a frame does not decode ({reason(error)})")
            return []

    def _first_frame(self) -> av.VideoFrame:
        with typed_errors(self._name):
            for item in self._items:
                if not isinstance(item, TrackPacket):
                    return item
                self._ahead.append(item)
        raise CorruptVideoError(
            f"{self._name} has no frame that can be decoded. Get the video again from where it was made."
        )

    def _described(self, frame: av.VideoFrame) -> VideoInfo:
        check_kind(frame, name=self._name)
        colour = colour_of(frame, name=self._name)
        if (depth := depth_of(frame.format)) > 8:
            self.problems.say(f"{self._name} has {depth} bits per sample, and comes back with 8.")
        try:
            self._matrix = display_matrix(frame)
        except ValueError as error:
            raise UnsupportedVideoError(
                f"{self._name} is to be shown turned by no multiple of 90 degrees ({error}); turn it first."
            ) from error
        aspect = self._stream.sample_aspect_ratio or Fraction(1)
        size, aspect = (frame.width, frame.height), Fraction(aspect) if aspect > 0 else Fraction(1)
        if not self._matrix[0]:
            size, aspect = size[::-1], 1 / aspect
        check_area(f"{self._name} has frames of", *size, max_pixels=self._max_pixels)
        self._kind = (frame.width, frame.height)
        rate = self._stream.average_rate or self._stream.guessed_rate
        return VideoInfo(
            *size,
            time_base=Fraction(frame.time_base or self._stream.time_base or 1),
            colour=colour_info(frame, colour),
            pixel_aspect=aspect,
            frame_rate=rate if rate and rate > 0 else None,
            frames=self._stream.frames or None,
            pixel_format=frame.format.name,
        )

    def _check_same(self, frame: av.VideoFrame) -> None:
        """Refuse a frame of another size, and one that is interlaced, where the first ones were not.

        Raises:
            UnsupportedVideoError: it is.
        """
        if (frame.width, frame.height) != self._kind:
            raise UnsupportedVideoError(
                f"{self._name} changes its size from {self._kind[0]} x {self._kind[1]} to {frame.width} x "
                f"{frame.height} at {self._time_of(frame)}; cut it there, or scale it to one size first, for example "
                f"with: ffmpeg -i IN -vf scale={self._kind[0]}:{self._kind[1]} OUT.mkv"
            )
        check_kind(frame, name=self._name)

    def _note_end(self, packet: Any) -> None:
        at = _time_of(packet)
        if at is not None:
            self._end = max(self._end, at + (packet.duration or 0) * packet.time_base)

    def _check_whole(self) -> None:
        """Notice an end that comes too early: FFmpeg takes the end of the data for the end of the video.

        Raises:
            CorruptVideoError: it does, and the source is strict.
        """
        stated = self._stream.frames
        if self._seen <= self._listed < stated:  # frames before an edit list, or in AVI some that only repeat another
            stated = self._listed
        if self._is_whole and self._seen < stated:
            self._damage(f"it ends after {self._seen} of {plural(stated, 'frame')}", count=stated - self._seen)
            return
        if self._container.format.name == "yuv4mpegpipe":
            size = self._source.taken if isinstance(self._source, InputPipe) else as_path(self._source).stat().st_size
            if size > self._last_byte:  # FFmpeg leaves out what is no whole frame without a word
                self._damage("it ends inside a frame")
            return
        if is_cut(self._source, self._container, self._end):
            self._damage(f"it is cut off after {float(self._end):.3f} s")

    def _damage(self, what: str, *, count: int = 1) -> None:
        self.problems.damaged += count
        if self._strict:
            raise CorruptVideoError(f"{self._name} is damaged: {what}. Get it again from where it was made.")
        if self.problems.damaged == count:  # one sentence is enough, the others are counted
            self.problems.say(f"{self._name} is damaged: {what}.")

    def _time_of(self, frame: av.VideoFrame) -> str:
        return "an unknown time" if frame.time is None else f"{frame.time:.3f} s"


def _time_of(packet: Any) -> Fraction | None:
    """In seconds."""
    at = packet.pts if packet.pts is not None else packet.dts
    return None if at is None or not packet.time_base else at * packet.time_base
