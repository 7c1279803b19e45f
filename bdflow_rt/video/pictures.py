"""Numbered pictures as a video, and a video as numbered pictures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

from bdflow_rt.containers import check_picture_path, read_picture, write_picture
from bdflow_rt.errors import (
    ArgumentError,
    CorruptImageError,
    OutputExistsError,
    UnsupportedVideoError,
    describe,
    plural,
    shorten,
)
from bdflow_rt.files import PathLike, as_path, check_output
from bdflow_rt.options import DEFAULT_MAX_PIXELS, Colours
from bdflow_rt.packet import ColourInfo
from bdflow_rt.picture import Picture, UInt8Array
from bdflow_rt.video.clock import Span
from bdflow_rt.video.frames import Extras, Frame, Problems, TrackPacket, VideoInfo
from bdflow_rt.video.numbered import Pattern, find_pictures
from bdflow_rt.video.result import no_frames

_MAX_RATE, _MAX_DENOMINATOR = 1000, 1001
_SRGB = ColourInfo(primaries=1, transfer=13, matrix=0, full_range=True)
"""Code points of ITU-T H.273 for what a picture without a profile is; never grey, since a later one may not be."""


class PictureSource:
    """A `FrameSource` of numbered pictures, one after the other at a constant rate.

    Args:
        path: a pattern such as frame_%05d.png, or a folder.
        fps: pictures per second, such as 25, 29.97 or "30000/1001".
        colours: as for `read_picture`; a colour profile that "keep" would keep is refused, since a video has none.
        span: the part that is taken; None is all of it.
        strict: raise at the first damaged picture instead of leaving it out.
        max_pixels: larger pictures are refused before they are decoded.

    Raises:
        MissingFileError, UnreadableFileError, CorruptVideoError: as `find_pictures`.
        CorruptImageError, UnsupportedImageError, ImageTooLargeError: as `read_picture`.
        UnsupportedVideoError: the first picture has a colour profile.
        ArgumentError: `fps` is no rate.
    """

    decoder = "pictures"
    decoder_reason = "they are pictures, and are read as any other picture"

    def __init__(
        self,
        path: PathLike,
        *,
        fps: float | Fraction | str,
        colours: Colours = "keep",
        span: Span | None = None,
        strict: bool = False,
        max_pixels: int = DEFAULT_MAX_PIXELS,
    ) -> None:
        self._colours, self._span, self._strict, self._max_pixels = colours, span or Span(), strict, max_pixels
        rate = frame_rate(fps)
        self._files = find_pictures(path)
        self._name = f"'{as_path(path)}'"
        self.problems, self.extras = Problems(), Extras()
        height, width = self._read(self._files[0]).shape[:2]
        self.info = VideoInfo(width, height, 1 / rate, _SRGB, frame_rate=rate, frames=len(self._files))

    def __iter__(self) -> Iterator[Frame | TrackPacket]:
        """The pictures, once.

        Raises:
            UnsupportedVideoError: one has another size than the first, or a colour profile.
            CorruptImageError: one is damaged, and the source is strict.
            UnsupportedImageError: as `read_picture`.
        """
        for index, file in enumerate(self._files):
            time = index * self.info.time_base
            if self._span.is_past(time):
                return
            if not self._span.takes(time):
                continue
            try:
                pixels = self._read(file)
            except CorruptImageError as error:
                self.problems.damaged += 1
                if self._strict:
                    raise
                self.problems.say(f"{self._name} has a damaged picture, which is left out: {shorten(error)}")
                continue
            if pixels.shape != (self.info.height, self.info.width, 3):
                raise UnsupportedVideoError(
                    f"'{file}' has {pixels.shape[1]} x {pixels.shape[0]} pixels, and the pictures before it "
                    f"{self.info.width} x {self.info.height}; a video has one size, so scale or crop them to one first."
                )
            yield Frame(pixels, self._span.moved(index, self.info.time_base), 1)

    def close(self) -> None:
        """No file stays open between two pictures."""

    def _read(self, file: Path) -> UInt8Array:
        picture = read_picture(file, colours=self._colours, max_pixels=self._max_pixels)
        if picture.icc_profile is not None:
            raise UnsupportedVideoError(
                f"'{file}' has a colour profile, which a video cannot carry; convert the colours to sRGB with "
                "colours='convert' (--convert-srgb), or take them as they are with colours='assume' (--assume-srgb)."
            )
        return picture.pixels


class PictureOutput:
    """Writes numbered pictures, from 1 on; see `Output`. Timestamps are not kept.

    Args:
        path: a pattern such as frame_%05d.png; its suffix chooses the format.
        info: of the frames.
        problems: where it is said that audio stays behind.
        overwrite: replace pictures of that pattern, also those that an older, longer video left.

    Raises:
        ArgumentError: no place for a number, or a suffix of no picture format.
        OutputExistsError: there are pictures of that pattern.
        UnwritableOutputError, DiskFullError: as `check_output`.
    """

    resumed_frames = 0

    def __init__(self, path: PathLike, info: VideoInfo, problems: Problems, *, overwrite: bool = False) -> None:
        pattern = Pattern.of(path)
        if pattern is None:
            raise ArgumentError(f"'{path}' has no place for the number of a picture; give one as in frame_%05d.png.")
        self._pattern, self._problems, self._colour = pattern, problems, info.colour.model
        check_picture_path(pattern.path(1), width=info.width, height=info.height)
        check_output(pattern.path(1))
        self._older = pattern.numbers()
        if self._older and not overwrite:
            raise OutputExistsError(
                f"'{path}' has {plural(len(self._older), 'picture')} already; choose another name, or replace them "
                "with overwrite=True (--overwrite)."
            )
        self.frames = self._bytes = 0

    def __enter__(self) -> PictureOutput:
        return self

    def __exit__(self, *_: object) -> None:
        """Every picture that was begun is whole."""

    def is_kept(self) -> bool:
        return False

    def pass_on(self, item: Any) -> None:
        """Say once that pictures have no tracks beside them."""
        self._problems.say("Pictures cannot hold audio or subtitles, which stay behind.")

    def write(self, pictures: Sequence[UInt8Array], pts: int, duration: int) -> None:
        """Write the next picture, the only one of `pictures`.

        Raises:
            DiskFullError, UnwritableOutputError: it cannot be written.
        """
        self.frames += 1
        self._bytes += write_picture(self._pattern.path(self.frames), Picture(pictures[0], self._colour))

    def finish(self) -> int:
        """Remove pictures of an older video past the last one, and return the bytes that were written.

        Raises:
            CorruptVideoError: no frame was written.
        """
        if not self.frames:
            raise no_frames()
        for number in self._older:
            if not 1 <= number <= self.frames:
                self._pattern.path(number).unlink(missing_ok=True)
        return self._bytes


def frame_rate(fps: float | Fraction | str) -> Fraction:
    """Pictures per second as a fraction; 29.97 is 2997/100.

    Raises:
        ArgumentError: it is no number above 0 and up to 1000.
    """
    try:
        rate = Fraction(fps).limit_denominator(_MAX_DENOMINATOR)
    except (TypeError, ValueError, ZeroDivisionError, OverflowError):
        rate = Fraction(0)
    if isinstance(fps, bool) or not 0 < rate <= _MAX_RATE:
        raise ArgumentError(
            f"fps is {describe(fps)}; it must be a number of pictures per second, above 0 and up to {_MAX_RATE}, such "
            "as 25 or 30000/1001."
        )
    return rate
