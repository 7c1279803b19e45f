"""Opening containers through PyAV, with one typed error per reason why that may fail."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from typing import Any

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from bdflow_rt.containers.kind import PREFIX_BYTES, has_index_first, video_format
from bdflow_rt.containers.matroska import file_end
from bdflow_rt.containers.source import open_input
from bdflow_rt.errors import BdflowError, CorruptVideoError, UnsupportedVideoError, shorten
from bdflow_rt.files import PathLike, as_path
from bdflow_rt.pipes import InputPipe
from bdflow_rt.video.frames import Attachment, Extras, Problems, Track

_COVER_TYPES = {"mjpeg": ("jpg", "image/jpeg"), "png": ("png", "image/png")}
_METADATA: dict[str, Any] = {"metadata_errors": "replace"} if int(av.__version__.split(".")[0]) < 19 else {}
"""PyAV before 19 raises on tags that are not UTF-8."""
DECODER_THREADS = "SLICE"
"""Threads within a frame alone. With a frame per thread, damage near the end makes FFmpeg drop, without an error, the
frames that are still in its threads, more of them the more cores there are."""
_SHORT_S = Fraction(1, 2)
"""Seconds before the end that its header states, at which a file may end without being called cut off."""
_PADDING_PIXELS = 1 << 16
_PIPE_BYTES = 1 << 18
VideoInput = PathLike | InputPipe
"""A file, or a descriptor that cannot be sought in."""
_KEPT = ("audio", "subtitle")
_OWN_TAGS = ("BDFLOW_", "ENCODER", "MAJOR_BRAND", "MINOR_VERSION", "COMPATIBLE_BRANDS")
"""Tags that a container writes itself, or that are of another file."""


def name_of(source: VideoInput) -> str:
    """What messages call a video."""
    return source.name if isinstance(source, InputPipe) else f"'{as_path(source)}'"


def open_video(source: VideoInput, *, max_pixels: int) -> InputContainer:
    """Open a video; its first bytes say of which kind it is, and no other parser is tried.

    Frames of more than about `max_pixels` are not decoded, whatever they say of themselves: FFmpeg makes room for a
    frame when it opens the file. A text that FFmpeg would take for a playlist, and follow to other files and hosts, is
    not read.

    Raises:
        MissingFileError, UnreadableFileError, CorruptImageError: as `open_input`.
        CorruptVideoError: it is no video, or its beginning is damaged or cut off.
        UnsupportedVideoError: its kind cannot be read from a pipe.
    """
    name = name_of(source)
    if isinstance(source, InputPipe):
        prefix = source.peek(PREFIX_BYTES)
    else:
        with open_input(source) as file:
            prefix = file.read(PREFIX_BYTES)
    format_name = video_format(prefix)
    if format_name is None:
        raise CorruptVideoError(
            f"{name} is no video of a kind that is known here. Videos are read from MP4, MOV, Matroska, WebM, AVI, "
            "MPEG, y4m and others."
        )
    options = decoder_limit(max_pixels)
    if isinstance(source, InputPipe) and format_name == "mov" and not has_index_first(prefix):
        raise UnsupportedVideoError(
            f"{name} is an MP4 or MOV with its index behind its frames, and a pipe cannot go back; name the file, or "
            "write it in fragments: ffmpeg -i IN -c copy -movflags frag_keyframe+empty_moov -f mp4 -"
        )
    with typed_errors(name):
        if isinstance(source, InputPipe):
            return av.open(source, format=format_name, options=options, buffer_size=_PIPE_BYTES, **_METADATA)
        path = os.path.abspath(as_path(source))
        return av.open(path, format=format_name, options={"protocol_whitelist": "file", **options}, **_METADATA)


def is_cut(source: VideoInput, container: InputContainer, end: Fraction) -> bool:
    """Whether a video that was read to its end is not whole, as far as its container says.

    A Matroska file says how many bytes it has. For others, and for pipes, it is the time of the end: files whose last
    frame is a long one may say a later one than their packets do.

    Args:
        source: where it came from.
        container: opened from it.
        end: in seconds, of all packets that came.
    """
    is_matroska = container.format.name.startswith("matroska")
    if is_matroska and not isinstance(source, InputPipe):
        with open_input(source) as file:
            whole = file_end(file.read(PREFIX_BYTES))
            if whole is not None:
                return os.fstat(file.fileno()).st_size < whole
    start = 0 if is_matroska else container.start_time or 0  # what Matroska states as duration is the time of the end
    return bool(container.duration) and end + _SHORT_S < Fraction(start + (container.duration or 0), av.time_base)


def decoder_limit(max_pixels: int) -> dict[str, str]:
    """An option of FFmpeg's decoders; what they count is padded."""
    return {"max_pixels": str(max_pixels + max_pixels // 4 + _PADDING_PIXELS)}


def choose_stream(container: InputContainer, problems: Problems, *, name: str) -> VideoStream:
    """The video track that is read: the container's best, with a notice where there are others.

    Raises:
        CorruptVideoError: there is none.
        UnsupportedVideoError: no decoder is known for it.
    """
    tracks = [stream for stream in container.streams.video if not is_cover(stream)]
    if not tracks:
        kinds = sorted({stream.type for stream in container.streams})
        raise CorruptVideoError(f"{name} has no video track ({', '.join(kinds) or 'no tracks'}); name a video.")
    best = container.streams.best("video")
    chosen = best if best in tracks else tracks[0]
    if len(tracks) > 1:
        problems.say(f"{name} has {len(tracks)} video tracks; the one numbered {chosen.index} is used alone.")
    if chosen.codec_context is None:
        raise UnsupportedVideoError(f"{name} has video of a codec that is not known here; convert it to H.264 first.")
    return chosen


def is_cover(stream: VideoStream) -> bool:
    """Whether a video track is a picture beside the audio, as music files and films have them."""
    return bool(stream.disposition & av.stream.Disposition.attached_pic)


def extras_of(container: InputContainer, problems: Problems, *, name: str) -> Extras:
    """What a container holds beside its video; what cannot go along is named."""
    attachments = [
        Attachment(stream.name or f"attachment-{stream.index}", stream.mimetype or "application/octet-stream", data)
        for stream in container.streams
        if isinstance(stream, av.stream.AttachmentStream) and (data := stream.data) is not None
    ]
    chapters = container.chapters()
    others = [stream.type for stream in container.streams if stream.type in ("data", "unknown")]
    if len(others) > bool(chapters):  # MP4 keeps the titles of chapters in one of them
        problems.say(f"{name} has tracks of {' and '.join(sorted(set(others)))}, which stay behind.")
    return Extras(
        tracks=[
            Track(index, stream) for index, stream in enumerate(one for one in container.streams if one.type in _KEPT)
        ],
        chapters=chapters,
        metadata={key: value for key, value in container.metadata.items() if not key.upper().startswith(_OWN_TAGS)},
        attachments=attachments,
    )


def cover_of(stream: VideoStream, data: bytes) -> Attachment | None:
    """A cover picture as the attachment that Matroska makes of it; None for another kind of picture."""
    known = _COVER_TYPES.get(stream.codec_context.name)
    return None if known is None else Attachment(f"cover.{known[0]}", known[1], data)


def reason(error: Exception) -> str:
    """Why FFmpeg failed, without its number and the name of the file."""
    return shorten(getattr(error, "strerror", None) or error)


@contextmanager
def typed_errors(name: str) -> Iterator[None]:
    """Turn what FFmpeg raises inside into a typed error.

    Raises:
        CorruptVideoError, UnsupportedVideoError: what the file is instead of a sound video.
    """
    try:
        yield
    except BdflowError:
        raise
    except (av.error.DecoderNotFoundError, av.error.PatchWelcomeError, NotImplementedError) as error:
        raise UnsupportedVideoError(
            f"{name} has video of a kind that is not decoded here ({reason(error)}); convert it to H.264 first."
        ) from error
    except (av.error.FFmpegError, ValueError, UnicodeDecodeError) as error:
        raise CorruptVideoError(
            f"{name} is damaged or cut off ({reason(error)}). Get the video again from where it was made."
        ) from error
