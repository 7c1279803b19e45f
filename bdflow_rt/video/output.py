"""Where a video goes: a file that grows beside its name, or a pipe."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

from bdflow_rt.errors import ArgumentError, OutputError, OutputExistsError, ResumeError
from bdflow_rt.files import PathLike, as_path, check_output, sync_folder
from bdflow_rt.pipes import OutputPipe
from bdflow_rt.video.frames import Problems, TrackPacket
from bdflow_rt.video.part import PartWriter, part_path
from bdflow_rt.video.remux import MATROSKA, finish_as
from bdflow_rt.video.result import no_frames
from bdflow_rt.video.resume import Leftover, check_journal, journal_path, write_journal

if TYPE_CHECKING:
    from typing_extensions import Self


class Output(Protocol):
    """What frames are written to, in order, and packets of other tracks between them; a context manager.

    Attributes:
        frames: that are there.
        resumed_frames: those of them that an interrupted run had written.
    """

    @property
    def frames(self) -> int: ...

    @property
    def resumed_frames(self) -> int: ...

    def __enter__(self) -> Self:
        """Itself; what ends the block with an exception leaves what was written valid."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def is_kept(self) -> bool:
        """Whether the next frame to be begun is there already; asked once for each, in order."""

    def pass_on(self, item: Any) -> None:
        """Take what needs no network: a `TrackPacket`, or a frame that is kept."""

    def write(self, pictures: Sequence[Any], pts: int, duration: int) -> None:
        """Append a frame: a picture for each video track."""

    def finish(self) -> int:
        """Finish what was written, and return its bytes."""


class FileOutput:
    """A file on its way: the part file, what of an older one is kept, and the end.

    Args:
        target: where the video is to be.
        settings: what it is made from and how, for the journal; None where that cannot be said, and nothing resumed.
        writer: opens the part file.
        tracks: video tracks in it.
        time_base: of the timestamps.
        problems: where what the target's container cannot hold is named.
        resume: whether to go on with an older part file.

    Raises:
        ResumeError: the older one was begun in another way.
    """

    def __init__(
        self,
        target: Path,
        settings: Mapping[str, Any] | None,
        writer: Callable[[Path], PartWriter],
        *,
        tracks: int,
        time_base: Fraction,
        problems: Problems,
        resume: bool,
    ) -> None:
        self._target, self._part = target, part_path(target)
        self._time_base, self._problems = time_base, problems
        self._times = None if target.suffix.lower() == MATROSKA else array("q")
        self._kept: Iterator[list[Any]] = iter(())
        self.resumed_frames = self._asked = 0
        if settings is not None and resume and self._part.exists():
            leftover = Leftover(self._part, tracks)
            if leftover.frames:
                check_journal(target, settings)
                self._kept, self.resumed_frames = leftover.packets(), leftover.frames
        self._growing = self._part.with_suffix(".resumed.mkv") if self.resumed_frames else self._part
        self.writer = writer(self._growing)
        if settings is None:
            journal_path(target).unlink(missing_ok=True)
            return
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

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            return
        _leave_valid(self.writer, kind)

    @property
    def frames(self) -> int:
        """That are there."""
        return self.writer.frames

    def is_kept(self) -> bool:
        self._asked += 1
        return self._asked <= self.resumed_frames

    def pass_on(self, item: Any) -> None:
        if isinstance(item, TrackPacket):
            self.writer.copy(item)
            return
        self._note(item.pts)
        self.writer.copy_video(next(self._kept))
        if self.writer.frames == self.resumed_frames:
            self._growing.replace(self._part)  # it has all that the older one had
            self._growing = self._part
            self.writer.target = self._part

    def write(self, pictures: Sequence[Any], pts: int, duration: int) -> None:
        self._note(pts)
        self.writer.write(pictures, pts, duration)

    def finish(self) -> int:
        """Close the part file, make it the target, and return its bytes.

        Raises:
            CorruptVideoError: no frame was written.
            ResumeError: the source has fewer frames than the older part file.
            DiskFullError, UnwritableOutputError: the target cannot be written; the part file stays.
        """
        if not self.writer.frames:
            self.writer.abort()
            self._growing.unlink(missing_ok=True)
            journal_path(self._target).unlink(missing_ok=True)
            raise no_frames()
        if self.writer.frames < self.resumed_frames:
            self.writer.abort()
            raise ResumeError(
                f"'{self._target}' cannot be continued: its part file has {self.resumed_frames} frames, and the source "
                f"gave {self.writer.frames}. Begin anew with overwrite=True (--overwrite)."
            )
        self.writer.close()
        finish_as(self._target, self._part, self._times or (), self._time_base, problems=self._problems)
        journal_path(self._target).unlink(missing_ok=True)
        sync_folder(self._target.parent)
        return self._target.stat().st_size

    def _note(self, pts: int) -> None:
        if self._times is not None:
            self._times.append(pts)


class PipeOutput:
    """A pipe that a video is written to.

    Args:
        writer: of the video.
        pipe: that it writes to.
    """

    resumed_frames = 0

    def __init__(self, writer: PartWriter, pipe: OutputPipe) -> None:
        self.writer, self._pipe = writer, pipe

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            _leave_valid(self.writer, kind)

    @property
    def frames(self) -> int:
        """That were written."""
        return self.writer.frames

    def is_kept(self) -> bool:
        return False

    def pass_on(self, item: TrackPacket) -> None:
        self.writer.copy(item)

    def write(self, pictures: Sequence[Any], pts: int, duration: int) -> None:
        self.writer.write(pictures, pts, duration)

    def finish(self) -> int:
        """Write the end of the video, and return the bytes that were written.

        Raises:
            CorruptVideoError: no frame was written.
            DiskFullError, UnwritableOutputError: the pipe cannot be written.
        """
        self.writer.close()
        if not self.writer.frames:
            raise no_frames()
        return self._pipe.written


def checked_target(
    source: PathLike | None, target: PathLike, suffixes: tuple[str, ...], *, resume: bool, overwrite: bool
) -> Path:
    """The target as a path, where it may be written.

    Args:
        source: the file that is read; None where it is none.
        target: the file to write.
        suffixes: that it may have.
        resume, overwrite: as for `downscale_video`.

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
    check_output(path, inputs=[] if source is None else [source])
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


def _leave_valid(writer: PartWriter, kind: type[BaseException]) -> None:
    """Write what an encoder holds, where there is time for it, and let go of the file."""
    if issubclass(kind, Exception):
        with suppress(OutputError):
            writer.close()
    writer.abort()
