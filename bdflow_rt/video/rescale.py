"""Whole video files, down and up."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import av

from bdflow_rt.errors import (
    ArgumentError,
    CorruptVideoError,
    OutputError,
    OutputExistsError,
    ResumeError,
    check_choice,
)
from bdflow_rt.files import PathLike, as_path, check_output, sync_folder
from bdflow_rt.options import Colours, Options, RescalerOptions
from bdflow_rt.packet import StreamHeader, ZPolicy
from bdflow_rt.rescaler import Rescaler
from bdflow_rt.video.clock import Span
from bdflow_rt.video.codecs import Encoding, LrCodec, LrPreset, TrackCodec
from bdflow_rt.video.convert import MATRIX_CODES, Colour, default_matrix, from_picture
from bdflow_rt.video.frames import Frame, Problems, TrackPacket
from bdflow_rt.video.lr_file import LrFrame, LrSource, lr_writer, read_header, stream_codec, write_frame
from bdflow_rt.video.numbered import Pattern
from bdflow_rt.video.ordered import IN_FLIGHT, in_order, packet_of
from bdflow_rt.video.part import PartWriter, part_path
from bdflow_rt.video.remux import MATROSKA, SUFFIXES, check_container, finish_as
from bdflow_rt.video.result import LR_DECODER_REASON, Progress, VideoResult
from bdflow_rt.video.resume import Leftover, check_journal, fingerprint, journal_path, write_journal
from bdflow_rt.video.select import Decoder, open_frames
from bdflow_rt.video.to_pictures import upscale_to_pictures
from bdflow_rt.zoo import find_model_by_identity

if TYPE_CHECKING:
    from typing_extensions import Unpack


def downscale_video(
    source: PathLike,
    target: PathLike,
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
    progress: Progress | None = None,
) -> VideoResult:
    """Downscale a video to an LR video: a Matroska file that players show, and that `upscale_video` restores.

    It grows as `TARGET.part.mkv`, which can be played at any time. Audio, subtitles, chapters, metadata and attachments
    go along as they are.

    Args:
        source: a video file; or pictures: a folder, or a pattern such as frame_%05d.png.
        target: the .mkv to write.
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
        progress: called after each frame.

    Raises:
        InputError: the source cannot be read, or is of a kind that would be altered silently.
        OutputExistsError: the target or a part file is there.
        ResumeError: the part file was begun from another source or with other settings.
        OutputError: the target cannot be written; what was written stays in the part file.
        ArgumentError: an option is not allowed.
    """
    span = Span(start, duration)
    check_choice("lr_codec", lr_codec, get_args(LrCodec))
    check_choice("lr_preset", lr_preset, get_args(LrPreset))
    path = _checked_target(source, target, (MATROSKA,), resume=resume, overwrite=overwrite)
    policy = z or ZPolicy()
    opened = open_frames(
        source, decoder=decoder, fps=fps, colours=colours, span=span, strict=strict, max_pixels=rescaler.max_pixels
    )
    with closing(opened) as frames:
        settings = {
            "direction": "downscale", "source": fingerprint(source), "model": rescaler.card.id,
            "identity": rescaler.card.packet_identity.hex(), "lr_codec": lr_codec, "lr_preset": lr_preset,
            "start": start, "duration": duration, "z": [policy.temperature, policy.seed], "refine": refine,
            "pyav": av.__version__,
            "decoder": frames.decoder, "fps": str(frames.info.frame_rate), "colours": colours,
        }  # fmt: skip
        interface, info = rescaler.card.interface, frames.info
        header = StreamHeader(
            model=rescaler.card.id, identity=rescaler.card.packet_identity, scale=interface.scale,
            width=info.width, height=info.height, bits=interface.bits, z=policy, colour=info.colour,
            time_base=(info.time_base.numerator, info.time_base.denominator), codec=stream_codec(lr_codec),
            lr_is_exact=True, frame_data="rows" if interface.bits else "track",
        )  # fmt: skip

        def writer(part: Path) -> PartWriter:
            return lr_writer(
                part, header, info, frames.extras, codec=lr_codec, preset=lr_preset, problems=frames.problems
            )

        run = _Run(path, settings, writer, tracks=2, resume=resume)
        with run:
            ahead = IN_FLIGHT * rescaler.options.workers

            def begin(frame: Frame) -> Any:
                return None if run.is_kept() else rescaler.submit_downscale(frame.pixels, z=policy, refine=refine)

            for item, job in in_order(iter(frames), Frame, begin, ahead=ahead):
                if job is None:
                    run.pass_on(item)
                else:
                    write_frame(run.writer, job.wait(), item.pts, item.duration)
                if progress is not None and isinstance(item, Frame):
                    progress(run.writer.frames, info.frames)
        run.finish((), info.time_base, frames.problems)
        return _result(run, frames.problems, header, path, frames.decoder, frames.decoder_reason)


def rescaler_for(source: PathLike, options: RescalerOptions | None = None, **changes: Unpack[Options]) -> Rescaler:
    """A rescaler with the model that made an LR video, found by its identity.

    Args:
        source: what `downscale_video` wrote.
        options, changes: as for `Rescaler`.

    Raises:
        UnknownModelError, WeightsHashError: that model is not here.
        PacketError, InputError: the file is no LR video.
    """
    header = read_header(source)
    return Rescaler(find_model_by_identity(header.model, header.identity), options, **changes)


def upscale_video(
    source: PathLike,
    target: PathLike,
    rescaler: Rescaler,
    *,
    encoding: Encoding | None = None,
    z: ZPolicy | None = None,
    force: bool = False,
    strict: bool = False,
    resume: bool = False,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> VideoResult:
    """Restore the video that an LR video was made from.

    Args:
        source: what `downscale_video` wrote.
        target: a .mkv, .mp4, .mov or .webm to write; or pictures, by a pattern such as frame_%05d.png.
        rescaler: of the model that made it: `rescaler_for(source)`.
        encoding: codec, quality and pixel format of a video; None is H.264 at CRF 16.
        z: what to use for Z; None is the policy in the file.
        force: restore even where the LR pictures were changed.
        strict, resume, overwrite, progress: as for `downscale_video`.

    Raises:
        PacketError: it is no LR video, of another model, damaged, or its LR pictures were changed.
        InputError, OutputError, ArgumentError: as `downscale_video`.
    """
    if Pattern.of(target) is not None and as_path(target).suffix.lower() not in SUFFIXES:
        if encoding is not None or resume:
            raise ArgumentError(f"encoding and resume are for video files, and '{target}' is pictures; leave them out.")
        with LrSource(source, force=force, strict=strict, max_pixels=rescaler.max_pixels) as frames:
            return upscale_to_pictures(frames, target, rescaler, z=z, overwrite=overwrite, progress=progress)
    encoding = encoding or Encoding()
    path = _checked_target(source, target, SUFFIXES, resume=resume, overwrite=overwrite)
    with LrSource(source, force=force, strict=strict, max_pixels=rescaler.max_pixels) as frames:
        header, info = frames.header, frames.info
        frames.check_model(rescaler.card)
        encoder, pixel_format, options = encoding.track(header.width, header.height)
        check_container(path.suffix.lower(), encoder)
        colour = _coded_colour(header)
        policy = header.z if z is None else z
        settings = {
            "direction": "upscale", "source": fingerprint(source), "identity": rescaler.card.packet_identity.hex(),
            "encoder": encoder, "pixel_format": pixel_format, "options": options,
            "z": [policy.temperature, policy.seed], "force": force, "pyav": av.__version__,
        }  # fmt: skip
        is_rgb = pixel_format == "bgr0"
        tags = replace(header.colour, matrix=0, full_range=True) if is_rgb else header.colour
        if not is_rgb and tags.matrix == 0:
            tags = replace(tags, matrix={"bt601": 6, "bt709": 1, "bt2020": 9}[colour.matrix or "bt709"])
        codec = TrackCodec(
            encoder, pixel_format, header.width, header.height, options, colour=tags,
            pixel_aspect=info.pixel_aspect, frame_rate=info.frame_rate,
        )  # fmt: skip
        times: list[int] = []

        def writer(part: Path) -> PartWriter:
            return PartWriter(part, [codec], info, frames.extras, tags={}, problems=frames.problems)

        run = _Run(path, settings, writer, tracks=1, resume=resume)
        with run:
            ahead = IN_FLIGHT * rescaler.options.workers

            def begin(frame: LrFrame) -> Any:
                if run.is_kept():
                    return None
                return rescaler.submit_upscale(packet_of(frame, header), z=policy, force=True)

            for item, job in in_order(iter(frames), LrFrame, begin, ahead=ahead):
                if isinstance(item, LrFrame):
                    times.append(item.data.pts)
                if job is None:
                    run.pass_on(item)
                else:
                    frame = from_picture(job.wait(), pixel_format, colour)
                    run.writer.write([frame], item.data.pts, item.data.duration)
                if progress is not None and isinstance(item, LrFrame):
                    progress(run.writer.frames, None)
        run.finish(times, info.time_base, frames.problems)
        return _result(run, frames.problems, header, path, "pyav", LR_DECODER_REASON)


class _Run:
    """One video on its way: the part file, what of an older one is kept, and the end.

    Args:
        target: where the video is to be.
        settings: what it is made from and how, for the journal.
        writer: makes the part file.
        tracks: video tracks in it.
        resume: whether to go on with an older part file.

    Raises:
        ResumeError: the older one was begun in another way.
    """

    def __init__(
        self,
        target: Path,
        settings: Mapping[str, Any],
        writer: Callable[[Path], PartWriter],
        *,
        tracks: int,
        resume: bool,
    ) -> None:
        self._target, self._part = target, part_path(target)
        self._kept: Iterator[list[Any]] = iter(())
        self.resumed_frames = self._asked = 0
        if resume and self._part.exists():
            leftover = Leftover(self._part, tracks)
            if leftover.frames:
                check_journal(target, settings)
                self._kept, self.resumed_frames = leftover.packets(), leftover.frames
        self._growing = self._part.with_suffix(".resumed.mkv") if self.resumed_frames else self._part
        self.writer = writer(self._growing)
        # What is kept was coded by the same encoder as what will follow: one decoder begins for both.
        begun = {**settings, "encoders": [hashlib.sha256(one).hexdigest() for one in self.writer.extradata]}
        try:
            if self.resumed_frames:
                check_journal(target, begun)
            else:
                write_journal(target, begun)
        except BaseException:
            self.writer.abort()
            self._growing.unlink(missing_ok=True)
            raise

    def __enter__(self) -> _Run:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            return
        if issubclass(kind, Exception):
            with suppress(OutputError):
                self.writer.close()
        self.writer.abort()

    def is_kept(self) -> bool:
        """Whether the next frame to be begun is there already."""
        self._asked += 1
        return self._asked <= self.resumed_frames

    def pass_on(self, item: Any) -> None:
        """Write what needs no network: a packet of another track, or a frame that is kept."""
        if isinstance(item, TrackPacket):
            self.writer.copy(item)
            return
        self.writer.copy_video(next(self._kept))
        if self.writer.frames == self.resumed_frames:
            self._growing.replace(self._part)  # it has all that the older one had
            self._growing = self._part
            self.writer.path = self._part

    def finish(self, times: Sequence[int], time_base: Fraction, problems: Problems) -> None:
        """Close the part file, and make it the target; `times` are those of the frames, where its container asks."""
        if not self.writer.frames:
            self.writer.abort()
            self._growing.unlink(missing_ok=True)
            journal_path(self._target).unlink(missing_ok=True)
            raise CorruptVideoError(
                "No frame of the video is in the part that start and duration take, or none can be read."
            )
        if self.writer.frames < self.resumed_frames:
            self.writer.abort()
            raise ResumeError(
                f"'{self._target}' cannot be continued: its part file has {self.resumed_frames} frames, and the source "
                f"gave {self.writer.frames}. Begin anew with overwrite=True (--overwrite)."
            )
        self.writer.close()
        finish_as(self._target, self._part, times, time_base, problems=problems)
        journal_path(self._target).unlink(missing_ok=True)
        sync_folder(self._target.parent)


def _coded_colour(header: StreamHeader) -> Colour:
    """How restored frames are coded: as the source was, or where that was RGB or grey by the rule of untagged video."""
    matrix = MATRIX_CODES.get(header.colour.matrix)
    if matrix is None:
        return Colour(default_matrix(header.width, header.height), "limited")
    return Colour(matrix, "full" if header.colour.full_range else "limited")


def _checked_target(
    source: PathLike, target: PathLike, suffixes: tuple[str, ...], *, resume: bool, overwrite: bool
) -> Path:
    """The target as a path, where it may be written.

    Raises:
        ArgumentError: another suffix, or both options.
        OutputExistsError: it or its part file is there.
        OutputExistsAsInputError, UnwritableOutputError, DiskFullError: as `check_output`.
    """
    path = as_path(target)
    if path.suffix.lower() not in suffixes:
        raise ArgumentError(f"'{path}' has no suffix of a video that can be written here: {', '.join(suffixes)}.")
    if resume and overwrite:
        raise ArgumentError("resume and overwrite are both given; go on, or begin anew.")
    check_output(path, inputs=[source])
    if path.exists() and not overwrite:
        raise OutputExistsError(
            f"'{path}' exists; choose another name, or replace it with overwrite=True (--overwrite)."
        )
    part = part_path(path)
    if part.exists() and not (resume or overwrite):
        raise OutputExistsError(
            f"'{part}' is there from a run that was interrupted; go on with resume=True (--resume), or begin anew with "
            "overwrite=True (--overwrite)."
        )
    return path


def _result(run: _Run, problems: Problems, header: StreamHeader, path: Path, decoder: str, reason: str) -> VideoResult:
    height, width = header.lr_size
    return VideoResult(
        run.writer.frames, run.resumed_frames, problems.damaged, problems.retimed, tuple(problems.notices),
        (header.width, header.height), (width, height), path.stat().st_size, decoder, reason,
    )  # fmt: skip
