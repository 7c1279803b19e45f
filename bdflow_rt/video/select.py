"""Which decoder reads a video or a sequence of pictures, and why."""

from __future__ import annotations

from fractions import Fraction
from typing import Literal, get_args

from bdflow_rt.errors import ArgumentError, check_choice
from bdflow_rt.files import as_path
from bdflow_rt.options import DEFAULT_MAX_PIXELS, Colours
from bdflow_rt.pipes import InputPipe
from bdflow_rt.video.av_source import AvSource
from bdflow_rt.video.clock import Span
from bdflow_rt.video.frames import FrameSource
from bdflow_rt.video.numbered import is_sequence
from bdflow_rt.video.opened import VideoInput, name_of
from bdflow_rt.video.pictures import PictureSource

Decoder = Literal["auto", "pyav", "dali"]
_ASKED = "it was asked for"


def open_frames(
    path: VideoInput,
    *,
    decoder: Decoder = "auto",
    fps: float | Fraction | str | None = None,
    colours: Colours = "keep",
    span: Span | None = None,
    strict: bool = False,
    max_pixels: int = DEFAULT_MAX_PIXELS,
) -> FrameSource:
    """Open a video file, or numbered pictures, as a source of frames; its `decoder_reason` says why it is this one.

    "auto" is PyAV for a video, which decodes nearly every codec by spec/colour.md to the level, and for pictures the
    reader of all other pictures. "dali" is faithful to fewer files and refuses the others.

    Args:
        path: a video file, or an `InputPipe` of one; a pattern such as frame_%05d.png, or a folder of pictures.
        decoder: "auto", "pyav" or "dali".
        fps: pictures per second; of pictures alone, which say nothing of time.
        colours: of pictures alone, as for `read_picture`.
        span: the part that is taken; None is all of it.
        strict: raise at the first damage instead of going on.
        max_pixels: larger frames are refused before they are decoded.

    Raises:
        ArgumentError: another decoder, one that does not read pictures, pictures without `fps`, or a video with it.
        InputError: it cannot be read, or is of a kind that would be altered silently.
        BackendUnavailableError: the decoder is not installed.
    """
    check_choice("decoder", decoder, get_args(Decoder))
    source: FrameSource
    if not isinstance(path, InputPipe) and is_sequence(path):
        if fps is None:
            raise ArgumentError(
                f"'{as_path(path)}' is a sequence of pictures, which say nothing of time; give how many there are per "
                "second with fps (--fps), for example 25."
            )
        if decoder == "pyav":
            raise ArgumentError(
                f"decoder is 'pyav', which reads video files, and '{as_path(path)}' is pictures; leave it out."
            )
        if decoder == "dali":
            from bdflow_rt.video.dali_source import DaliPictureSource

            kind: type[PictureSource] = DaliPictureSource
        else:
            kind = PictureSource
        source = kind(path, fps=fps, colours=colours, span=span, strict=strict, max_pixels=max_pixels)
    else:
        if fps is not None or colours != "keep":
            raise ArgumentError(
                f"fps and colours are for sequences of pictures, and {name_of(path)} is a video, which says both "
                "itself; leave them out."
            )
        if decoder == "dali":
            if isinstance(path, InputPipe):
                raise ArgumentError(f"decoder is 'dali', which reads files, and {path.name} is a pipe; leave it out.")
            from bdflow_rt.video.dali_source import DaliSource

            source = DaliSource(path, span=span, strict=strict, max_pixels=max_pixels)
        else:
            source = AvSource(path, span=span, strict=strict, max_pixels=max_pixels)
    if decoder != "auto":
        source.decoder_reason = _ASKED
    return source
