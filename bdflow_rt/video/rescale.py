"""Whole videos, down and up: from files and pipes to files and pipes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

import av

from bdflow_rt.errors import ArgumentError, check_choice
from bdflow_rt.files import PathLike, as_path, is_path
from bdflow_rt.options import Colours
from bdflow_rt.packet import StreamHeader, ZPolicy
from bdflow_rt.pipes import InputPipe, OutputPipe
from bdflow_rt.rescaler import Rescaler
from bdflow_rt.video.clock import Span
from bdflow_rt.video.codecs import Encoding, LrCodec, LrPreset, TrackCodec
from bdflow_rt.video.convert import CODE_OF, MATRIX_CODES, Colour, default_matrix, from_picture
from bdflow_rt.video.frames import Extras, Frame, FrameSource, Problems, VideoInfo
from bdflow_rt.video.lr_file import LrFrame, LrSource, lr_pictures, lr_writer, stream_codec
from bdflow_rt.video.meter import Meter
from bdflow_rt.video.numbered import Pattern
from bdflow_rt.video.opened import VideoInput
from bdflow_rt.video.output import FileOutput, Output, PipeOutput, checked_target
from bdflow_rt.video.part import PartWriter
from bdflow_rt.video.pictures import PictureOutput
from bdflow_rt.video.remux import MATROSKA, SUFFIXES, check_container
from bdflow_rt.video.result import LR_DECODER_REASON, Progress, VideoResult
from bdflow_rt.video.resume import fingerprint
from bdflow_rt.video.select import Decoder, open_frames
from bdflow_rt.video.stream import KEPT, Stream, StreamOptions

if TYPE_CHECKING:
    pass

VideoTarget = PathLike | OutputPipe
PipeFormat = Literal["y4m", "mkv"]


def downscale_video(
    source: VideoInput | FrameSource,
    target: VideoTarget,
    rescaler: Rescaler,
    *,
    lr_codec: LrCodec = "h264-lossless",
    lr_preset: LrPreset = "ultrafast",
    decoder: Decoder = "auto",
    fps: float | Fraction | str | None = None,
    colours: Colours = "keep",
    start: float = 0,
    duration: float | None = None,
    z: ZPolicy | None = None,
    refine: int = 0,
    strict: bool = False,
    resume: bool = False,
    overwrite: bool = False,
    stream: StreamOptions | None = None,
    progress: Progress | None = None,
) -> VideoResult:
    """Downscale a video to an LR video: a Matroska file that players show, and that `upscale_video` restores.

    It grows as `TARGET.part.mkv`, which can be played at any time. Audio, subtitles, chapters, metadata and attachments
    go along as they are, but the text of MP4's subtitles as SubRip. Reading, the network, which computes as many frames
    at a time as the rescaler has workers, and writing overlap.

    Args:
        source: a video file, or a pipe of one; pictures: a folder, or a pattern such as frame_%05d.png; or a
            `FrameSource` of one's own, to which the options from `decoder` to `duration` and `strict` do not apply.
        target: the .mkv to write, or a pipe.
        rescaler: of the model.
        lr_codec: "h264-lossless", or "ffv1" for archives; both keep every LR pixel.
        lr_preset: of H.264, speed against size; FFV1 has none.
        decoder, fps, colours: what decodes, and of pictures how many there are per second, and what becomes of
            colours that are not sRGB; as for `open_frames`.
        start, duration: the part of the video that is taken, in seconds.
        z: what `upscale_video` uses for Z by default; None is Z = 0.
        refine: steps of gradient descent on each LR picture, see `Rescaler.downscale`.
        strict: stop at the first damaged frame instead of counting it.
        resume: go on with a part file that an interrupted run left; where there is none, begin.
        overwrite: replace the target and a part file.
        stream: what becomes of live input that comes too fast, and how long to wait for input.
        progress: called after each frame.

    Raises:
        InputError: the source cannot be read, or is of a kind that would be altered silently.
        OutputExistsError: the target or a part file is there.
        ResumeError: the part file was begun from another source or with other settings.
        OutputError: the target cannot be written; what was written stays in the part file.
        StalledError: a stage made no progress for as long as `stream` allows.
        ArgumentError: an option is not allowed.
    """
    span = Span(start, duration)
    check_choice("lr_codec", lr_codec, get_args(LrCodec))
    check_choice("lr_preset", lr_preset, get_args(LrPreset))
    destination = _checked(source, target, (MATROSKA,), resume=resume, overwrite=overwrite)
    policy = z or ZPolicy()
    opened: AbstractContextManager[FrameSource]
    if is_path(source) or isinstance(source, InputPipe):
        opened = closing(
            open_frames(
                source, decoder=decoder, fps=fps, colours=colours, span=span, strict=strict,
                max_pixels=rescaler.max_pixels,
            )
        )  # fmt: skip
    else:
        opened = nullcontext(cast(FrameSource, source))
    with opened as frames:
        interface, info = rescaler.card.interface, frames.info
        settings = {
            "direction": "downscale", "model": rescaler.card.id,
            "identity": rescaler.card.packet_identity.hex(), "lr_codec": lr_codec, "lr_preset": lr_preset,
            "start": start, "duration": duration, "z": [policy.temperature, policy.seed], "refine": refine,
            "decoder": frames.decoder, "fps": str(info.frame_rate), "colours": colours,
        }  # fmt: skip
        header = StreamHeader(
            model=rescaler.card.id, identity=rescaler.card.packet_identity, scale=interface.scale,
            width=info.width, height=info.height, bits=interface.bits, z=policy, colour=info.colour,
            time_base=(info.time_base.numerator, info.time_base.denominator), codec=stream_codec(lr_codec),
            lr_is_exact=True, frame_data="rows" if interface.bits else "track",
        )  # fmt: skip

        def writer(to: Path | OutputPipe) -> PartWriter:
            return lr_writer(
                to, header, info, frames.extras, codec=lr_codec, preset=lr_preset, problems=frames.problems
            )

        output = _output(source, destination, settings, writer, info, frames.problems, tracks=2, resume=resume)

        def begin(item: Any) -> Callable[[], list[Any] | None] | None:
            if not isinstance(item, Frame):
                return None
            if output.is_kept():
                return KEPT
            return lambda: lr_pictures(
                rescaler.downscale(item.pixels, z=policy, refine=refine), item.pts, item.duration, codec=lr_codec
            )

        meter = Meter(workers=rescaler.options.workers, total=info.frames)
        _run(source, frames, begin, output, meter, stream, progress)
        return _result(output, meter, frames.problems, header, frames.decoder, frames.decoder_reason)


def upscale_video(
    source: VideoInput | LrSource,
    target: VideoTarget,
    rescaler: Rescaler,
    *,
    encoding: Encoding | None = None,
    pipe_format: PipeFormat = "y4m",
    z: ZPolicy | None = None,
    force: bool = False,
    strict: bool = False,
    resume: bool = False,
    overwrite: bool = False,
    stream: StreamOptions | None = None,
    progress: Progress | None = None,
) -> VideoResult:
    """Restore the video that an LR video was made from.

    Args:
        source: what `downscale_video` wrote: a file, a pipe, or an `LrSource` of one, to which `force` and `strict` do
            not apply.
        target: a .mkv, .mp4, .mov or .webm to write; pictures, by a pattern such as frame_%05d.png; or a pipe.
        rescaler: of the model that made it: `VideoRescaler.for_video` finds it.
        encoding: codec, quality and pixel format of a video; None is H.264 at CRF 16.
        pipe_format: what goes into a pipe: "y4m", frames that are not coded and nothing beside them, or "mkv".
        z: what to use for Z; None is the policy in the file.
        force: restore even where the LR pictures were changed.
        strict, resume, overwrite, stream, progress: as for `downscale_video`.

    Raises:
        PacketError: it is no LR video, of another model, damaged, or its LR pictures were changed.
        InputError, OutputError, StalledError, ArgumentError: as `downscale_video`.
    """
    check_choice("pipe_format", pipe_format, get_args(PipeFormat))
    pictures = is_path(target) and _is_pictures(target)
    if pictures and (encoding is not None or resume):
        raise ArgumentError(f"encoding and resume are for video files, and '{target}' is pictures; leave them out.")
    destination = target if pictures else _checked(source, target, SUFFIXES, resume=resume, overwrite=overwrite)
    opened: AbstractContextManager[LrSource]
    if isinstance(source, LrSource):
        opened = nullcontext(source)
    else:
        opened = LrSource(source, force=force, strict=strict, max_pixels=rescaler.max_pixels)
    with opened as frames:
        header, info, problems = frames.header, frames.info, frames.problems
        frames.check_model(rescaler.card)
        policy = header.z if z is None else z
        codec, colour = None, None
        output: Output
        if is_path(destination) and pictures:
            output = PictureOutput(destination, info, problems, overwrite=overwrite)
        else:
            raw = pipe_format == "y4m" and isinstance(destination, OutputPipe)
            codec, colour = _restored_track(header, info, encoding or Encoding(), raw=raw)
            if isinstance(destination, Path):
                check_container(destination.suffix.lower(), codec.encoder)
            settings = {
                "direction": "upscale", "identity": rescaler.card.packet_identity.hex(),
                "encoder": codec.encoder, "pixel_format": codec.pixel_format, "options": codec.options,
                "z": [policy.temperature, policy.seed], "force": force,
            }  # fmt: skip
            extras = Extras(tracks=frames.extras.tracks) if raw else frames.extras
            container = "yuv4mpegpipe" if raw else "matroska"
            track = codec

            def writer(to: Path | OutputPipe) -> PartWriter:
                return PartWriter(to, [track], info, extras, tags={}, container=container, problems=problems)

            output = _output(source, destination, settings, writer, info, problems, tracks=1, resume=resume)

        def restored(frame: LrFrame) -> list[Any]:
            pixels = rescaler.upscale(frame.packet(header), z=policy, force=True)
            return [pixels if codec is None or colour is None else from_picture(pixels, codec.pixel_format, colour)]

        def begin(item: Any) -> Callable[[], list[Any] | None] | None:
            if not isinstance(item, LrFrame):
                return None
            if output.is_kept():
                return KEPT
            return lambda: restored(item)

        meter = Meter(workers=rescaler.options.workers, total=None)
        _run(source, frames, begin, output, meter, stream, progress)
        return _result(output, meter, problems, header, "pyav", LR_DECODER_REASON)


def _run(
    source: Any,
    frames: Iterable[Any],
    begin: Callable[[Any], Callable[[], list[Any] | None] | None],
    output: Output,
    meter: Meter,
    options: StreamOptions | None,
    progress: Progress | None,
) -> None:
    """Bring all frames of a source to an output."""
    interrupt = source.interrupt if isinstance(source, InputPipe) else None
    stream = Stream(frames, begin, meter=meter, options=options, progress=progress, interrupt=interrupt)
    with output, stream as items:
        for item, pictures in items:
            if pictures is None:
                output.pass_on(item)
            else:
                output.write(pictures, item.pts, item.duration)


def _output(
    source: Any,
    destination: Any,
    settings: dict[str, Any],
    writer: Callable[[Path | OutputPipe], PartWriter],
    info: VideoInfo,
    problems: Problems,
    *,
    tracks: int,
    resume: bool,
) -> Output:
    """Where a video goes; a file can be resumed where the source is one that can be read again."""
    if isinstance(destination, OutputPipe):
        return PipeOutput(writer(destination), destination)
    known = {**settings, "source": fingerprint(source), "pyav": av.__version__} if is_path(source) else None
    return FileOutput(
        destination, known, writer, tracks=tracks, time_base=info.time_base, problems=problems, resume=resume
    )


def _is_pictures(target: PathLike) -> bool:
    """Whether a target means numbered pictures."""
    return Pattern.of(target) is not None and as_path(target).suffix.lower() not in SUFFIXES


def _restored_track(
    header: StreamHeader, info: VideoInfo, encoding: Encoding, *, raw: bool
) -> tuple[TrackCodec, Colour]:
    """How restored frames are coded, and converted for that."""
    encoder, pixel_format, options = (encoding.y4m_track if raw else encoding.track)(header.width, header.height)
    # y4m says nothing of a matrix: by the rule of untagged video.
    colour = Colour(default_matrix(header.width, header.height), "limited") if raw else _coded_colour(header)
    tags = header.colour
    if pixel_format == "bgr0":
        tags = replace(tags, matrix=0, full_range=True)
    elif raw or tags.matrix == 0:
        tags = replace(tags, matrix=CODE_OF[colour.matrix or "bt709"], full_range=colour.levels == "full")
    return TrackCodec(
        encoder, pixel_format, header.width, header.height, options, colour=tags,
        pixel_aspect=info.pixel_aspect, frame_rate=info.frame_rate,
    ), colour  # fmt: skip


def _checked(
    source: Any, target: VideoTarget, suffixes: tuple[str, ...], *, resume: bool, overwrite: bool
) -> Path | OutputPipe:
    """Where to write, when that may be done; errors as `checked_target`."""
    is_again = is_path(source)
    if resume and (not is_again or isinstance(target, OutputPipe)):
        raise ArgumentError("resume=True (--resume) is for files that are made from files; leave it out.")
    if isinstance(target, OutputPipe):
        return target
    return checked_target(source if is_again else None, target, suffixes, resume=resume, overwrite=overwrite)


def _coded_colour(header: StreamHeader) -> Colour:
    """How restored frames are coded: as the source was, or where that was RGB or grey by the rule of untagged video."""
    matrix = MATRIX_CODES.get(header.colour.matrix)
    if matrix is None:
        return Colour(default_matrix(header.width, header.height), "limited")
    return Colour(matrix, "full" if header.colour.full_range else "limited")


def _result(
    output: Output, meter: Meter, problems: Problems, header: StreamHeader, decoder: str, reason: str
) -> VideoResult:
    output_bytes = output.finish()
    height, width = header.lr_size
    return VideoResult(
        output.frames, output.resumed_frames, problems.damaged, problems.retimed, tuple(problems.notices),
        (header.width, header.height), (width, height), output_bytes, decoder, reason, meter.stats(),
    )  # fmt: skip
