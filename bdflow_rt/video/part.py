"""Matroska files that grow beside their final name: playable at any time, whole only under that name.

`OUT.part.mkv` is flushed with every cluster, so what a kill leaves can be played, and continued: `Leftover` reads it.
"""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.container import OutputContainer
from av.stream import Disposition

from bdflow_rt.errors import DiskFullError, UnsupportedVideoError, UnwritableOutputError
from bdflow_rt.pipes import OutputPipe
from bdflow_rt.video.codecs import TrackCodec, ffv1_options
from bdflow_rt.video.frames import Extras, Problems, TrackPacket, VideoInfo
from bdflow_rt.video.opened import reason
from bdflow_rt.video.text_track import TextTrack, codec_of

_OPTIONS = {"cluster_time_limit": "1000", "flush_packets": "1", "avoid_negative_ts": "disabled"}
"""Clusters of a second, each written at once; timestamps as they are, those before 0 of audio too."""
_PIPE_OPTIONS = {**_OPTIONS, "cluster_time_limit": "0", "max_interleave_delta": "1000000"}
"""A cluster for each frame, which nobody waits for; no track is waited for longer than a second, in microseconds."""
_PIPE_BYTES = 1 << 18
_NAMES = {"matroska": "Matroska", "yuv4mpegpipe": "y4m"}
_HARDWARE = ", which needs an NVIDIA GPU that has an encoder"
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def part_path(target: Path) -> Path:
    """Where a video grows until it is whole."""
    return target.with_name(f"{target.name}.part.mkv")


class PartWriter:
    """Writes video tracks, and the tracks that go along, to a part file or a pipe.

    Args:
        target: the part file, an older one of which is replaced; or an `OutputPipe`.
        codecs: of the video tracks, the first of which is the one to be shown.
        info: time base of the frames.
        extras: what goes along.
        tags: of the file, before those of `extras`.
        attachments: before those of `extras`.
        container: FFmpeg's name of the muxer.
        problems: where what the container cannot hold is named.

    Attributes:
        frames: that were written.

    Raises:
        UnwritableOutputError, DiskFullError: it cannot be written.
        UnsupportedVideoError: an encoder cannot be started.
    """

    def __init__(
        self,
        target: Path | OutputPipe,
        codecs: Sequence[TrackCodec],
        info: VideoInfo,
        extras: Extras,
        *,
        tags: Mapping[str, str],
        attachments: Sequence[Any] = (),
        container: str = "matroska",
        problems: Problems,
    ) -> None:
        self.target, self.frames = target, 0
        self._time_base = info.time_base
        with typed_writing(target):
            self._container = self._opened(target, container)
            try:
                self._container.metadata.update({**extras.metadata, **tags})
                self._streams = [self._add_video(codec, info) for codec in codecs]
                self._tracks = self._add_tracks(extras, container, problems)
                for attachment in (*attachments, *extras.attachments):
                    self._container.add_attachment(attachment.name, attachment.media_type, attachment.data)
                if extras.chapters:
                    self._container.set_chapters(list(extras.chapters))
                self._container.start_encoding()
            except BaseException:
                self._container.close()
                raise
        self._last_dts: dict[int, Fraction] = {}
        # An interrupt comes to the main thread, so in this one a frame is written to all tracks or to none.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="bdflow-write")

    @property
    def pixel_format(self) -> str:
        """Of the track that is shown."""
        return str(self._streams[0].codec_context.pix_fmt)

    @property
    def extradata(self) -> list[bytes]:
        """What a decoder of each video track needs to begin."""
        return [bytes(stream.codec_context.extradata or b"") for stream in self._streams]

    def write(self, frames: Sequence[av.VideoFrame], pts: int, duration: int) -> None:
        """Append one picture to each video track, all of one time.

        Raises:
            DiskFullError, UnwritableOutputError: the file cannot be written on.
        """
        for frame in frames:
            frame.pts, frame.time_base, frame.duration = pts, self._time_base, duration
        self._thread.submit(self._write, frames).result()

    def copy_video(self, packets: Sequence[Any]) -> None:
        """Append one coded picture to each video track, of another file with the same codecs."""
        self._thread.submit(self._write, packets).result()

    def _write(self, pictures: Sequence[Any]) -> None:
        with typed_writing(self.target):
            for stream, picture in zip(self._streams, pictures, strict=True):
                coded = stream.encode(picture) if isinstance(picture, av.VideoFrame) else [picture]
                for packet in coded:
                    self._mux(packet, stream)
        self.frames += 1

    def copy(self, packet: TrackPacket) -> None:
        """Append a packet of a track that goes along; what the file cannot hold was named before."""
        track = self._tracks.get(packet.track)
        if isinstance(track, TextTrack):
            cue = track.cue(packet.packet)
            if cue is not None:
                with typed_writing(self.target):
                    self._container.mux_one(track.packet(cue))
        elif track is not None:
            with typed_writing(self.target):
                packet.packet.stream = track
                self._container.mux_one(packet.packet)

    def close(self) -> None:
        """Write what the encoders still hold, and the end of the file."""
        self._thread.shutdown()
        with typed_writing(self.target):
            for stream in self._streams:
                for packet in stream.encode(None):
                    self._mux(packet, stream)
            self._container.close()
            if isinstance(self.target, Path):
                with open(self.target, "rb") as file:
                    os.fsync(file.fileno())

    def abort(self) -> None:
        """Let go of the file, which keeps what was written."""
        if isinstance(self.target, OutputPipe):
            self.target.interrupt()
        self._thread.shutdown()
        with suppress(av.error.FFmpegError, OSError, ValueError):
            self._container.close()

    @staticmethod
    def _opened(target: Path | OutputPipe, container: str) -> OutputContainer:
        if isinstance(target, Path):
            return av.open(str(target), "w", format=container, container_options=dict(_OPTIONS))
        options = dict(_PIPE_OPTIONS) if container == "matroska" else {}
        return av.open(target, "w", format=container, container_options=options, buffer_size=_PIPE_BYTES)

    def _add_video(self, codec: TrackCodec, info: VideoInfo) -> Any:
        options = dict(codec.options)
        if codec.encoder == "ffv1":
            options = ffv1_options(options, width=codec.width)
        stream: Any = self._container.add_stream(codec.encoder, rate=codec.frame_rate, options=options)
        stream.width, stream.height, stream.pix_fmt = codec.width, codec.height, codec.pixel_format
        context = stream.codec_context
        context.time_base = stream.time_base = info.time_base
        if codec.pixel_aspect != 1:
            context.sample_aspect_ratio = codec.pixel_aspect
        if codec.is_shown:
            context.color_primaries, context.color_trc = codec.colour.primaries, codec.colour.transfer
            context.colorspace = codec.colour.matrix
            context.color_range = 2 if codec.colour.full_range else 1
        try:
            context.open(strict=False)
        except (av.error.FFmpegError, OSError) as error:
            raise UnsupportedVideoError(
                f"The encoder {codec.encoder} cannot be started for {codec.width} x {codec.height} pixels "
                f"({reason(error)}){_HARDWARE if 'nvenc' in codec.encoder else ''}; take another codec."
            ) from error
        stream.metadata.update(codec.tags)
        stream.disposition = Disposition.default if codec.is_shown else Disposition(0)
        return stream

    def _add_tracks(self, extras: Extras, container: str, problems: Problems) -> dict[int, Any]:
        added: dict[int, Any] = {}
        for track in extras.tracks:
            if can_hold(container, track.stream):
                stream = added[track.index] = self._container.add_stream_from_template(track.stream)
            elif TextTrack.is_for(track.stream, container):
                text = added[track.index] = TextTrack(track.stream, container, self._container, problems)
                stream = text.stream
            else:
                problems.say(
                    f"{_NAMES[container]} cannot hold {track.stream.type} of {codec_of(track.stream)}; it stays behind."
                )
                continue
            stream.metadata.update(_tags(track.stream))
            stream.disposition = track.stream.disposition
        return added

    def _mux(self, packet: Any, stream: Any) -> None:
        """Write a packet whose decoding time follows that of the one before, as muxers insist."""
        packet.stream = stream
        last = self._last_dts.get(stream.index)
        if packet.dts is not None:
            dts = packet.dts * packet.time_base
            if last is not None and dts <= last:
                packet.dts = int(last / packet.time_base) + 1
            self._last_dts[stream.index] = packet.dts * packet.time_base
        self._container.mux_one(packet)


def _tags(stream: Any) -> dict[str, str]:
    """The tags of a track; MP4 has its title under another name."""
    tags = dict(stream.metadata)
    return tags if "name" not in tags else {"title": tags.pop("name"), **tags}


def can_hold(container: str, track: Any) -> bool:
    """Whether a container takes a track as it is. Some say so and then fail to begin, so an empty file is begun.

    Args:
        container: FFmpeg's name of its muxer.
        track: a stream of another file.
    """
    try:
        with av.open(io.BytesIO(), "w", format=container) as trial:
            trial.add_stream_from_template(track)
            trial.start_encoding()
    except (ValueError, av.error.FFmpegError):
        return False
    return True


@contextmanager
def typed_writing(target: Path | OutputPipe) -> Iterator[None]:
    """Turn what fails inside, while a video is written, into a typed error.

    Raises:
        DiskFullError, UnwritableOutputError: it cannot be written.
    """
    try:
        yield
    except (OSError, av.error.FFmpegError) as error:
        code = getattr(error, "errno", None)
        if isinstance(target, OutputPipe):
            kind = DiskFullError if code in _FULL else UnwritableOutputError
            name = target.name[:1].upper() + target.name[1:]
            raise kind(f"{name} cannot be written ({reason(error)}). Look after the program that reads it.") from error
        if code in _FULL:
            raise DiskFullError(
                f"'{target}' could not be written on ({os.strerror(code)}). What is there can be played; free some "
                "space, and go on with resume=True (--resume)."
            ) from error
        if isinstance(error, (FileNotFoundError, NotADirectoryError)):
            raise UnwritableOutputError(
                f"'{target}' cannot be written: the folder '{target.parent}' does not exist. Create it or choose "
                "another one."
            ) from error
        raise UnwritableOutputError(f"'{target}' cannot be written ({reason(error)}).") from error
