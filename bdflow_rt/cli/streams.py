"""What the commands read and write: files, and the standard streams or another open descriptor in their place."""

from __future__ import annotations

import argparse
import io
import os
import pathlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, BinaryIO

from bdflow_rt.errors import ArgumentError, MissingFileError, OutputExistsError
from bdflow_rt.files import as_path, check_output, descriptor_of, is_file, shown
from bdflow_rt.pipes import InputPipe, OutputPipe

if TYPE_CHECKING:
    from bdflow_rt.options import Colours
    from bdflow_rt.packet import Packet
    from bdflow_rt.picture import Picture

STREAM = "-"
"""Stands for standard input or output; a file of that name is ./-"""


@dataclass(frozen=True)
class Source:
    """What a command reads.

    Attributes:
        given: its name on the command line.
        path: where it is; of a descriptor the name of that.
        content: a picture that came from a pipe; a file is read later.
        pipe: that a video comes from.
        size_bytes: of either; 0 of a pipe.
    """

    given: str
    path: pathlib.Path
    content: bytes | None
    size_bytes: int
    pipe: InputPipe | None = None

    @classmethod
    def open(cls, given: str, *, max_pixels: int) -> Source:
        """Look at a file, or at what begins to come from a descriptor, and if that is no video, read it whole.

        Raises:
            InputError: it cannot be read, or nothing is there.
            ImageTooLargeError: more comes from a descriptor than a picture of `max_pixels` needs.
            ArgumentError: the name is empty.
        """
        from bdflow_rt.containers.decoders import check_start
        from bdflow_rt.containers.kind import PREFIX_BYTES, video_format
        from bdflow_rt.containers.source import file_size, max_file_bytes, read_pipe
        from bdflow_rt.options import check_max_pixels

        check_max_pixels(max_pixels)
        path = input_path(given)
        number = descriptor_of(path)
        if number is None:
            return cls(given, path, None, file_size(path))
        name = _name_of(path)
        if number == 0 and sys.stdin is None:  # what was closed leads nowhere by now
            raise MissingFileError(f"{name} is closed; pipe something in, or give the name of a file.")
        pipe = InputPipe(number, name=name)
        if video_format(pipe.peek(PREFIX_BYTES)) is not None:
            is_redirected = is_file(os.fstat(number))  # a file may be sought in
            return cls(given, path, None, file_size(path)) if is_redirected else cls(given, path, None, 0, pipe)
        limit, check = max_file_bytes(max_pixels), partial(check_start, name=name)
        content = read_pipe(pipe, name=name, max_bytes=limit, check=check)
        pipe.close()
        return cls(given, path, content, len(content))

    def read_picture(self, *, background: str | None, colours: Colours, max_pixels: int) -> Picture:
        """The picture in it; errors as `containers.read_picture`."""
        from bdflow_rt.containers import read_picture

        data = self.path if self.content is None else self.content
        name = _name_of(self.path)
        return read_picture(data, background=background, colours=colours, max_pixels=max_pixels, name=name)

    def read_packet(self, *, max_pixels: int) -> Packet:
        """The packet in it; errors as `containers.read_packet`."""
        from bdflow_rt.containers import decode_png, read_packet

        if self.content is None:
            return read_packet(self.path, max_pixels=max_pixels)
        return decode_png(self.content, max_pixels=max_pixels, name=_name_of(self.path))

    @property
    def video(self) -> pathlib.Path | InputPipe:
        """Where a video comes from."""
        return self.path if self.pipe is None else self.pipe

    def is_video(self) -> bool:
        """Whether it is a video, by its first bytes; errors as `stream`."""
        from bdflow_rt.containers.kind import PREFIX_BYTES, video_format

        if self.pipe is not None:
            return True
        with self.stream() as stream:
            return video_format(stream.read(PREFIX_BYTES)) is not None

    @contextmanager
    def stream(self) -> Iterator[BinaryIO]:
        """Its bytes, to seek in; errors as `containers.source.open_input`."""
        from bdflow_rt.containers.source import open_input

        with open_input(self.path) if self.content is None else io.BytesIO(self.content) as stream:
            yield stream


def input_path(given: str) -> pathlib.Path:
    """The path of an input; standard input's is /dev/stdin."""
    return as_path("/dev/stdin" if given == STREAM else given)


def output_path(given: str) -> pathlib.Path:
    """The path of an output; standard output's is /dev/stdout."""
    return as_path("/dev/stdout" if given == STREAM else given)


@contextmanager
def output_target(given: str, *, timeout: float | None) -> Iterator[pathlib.Path | OutputPipe]:
    """Where a video goes: a file, or the pipe or descriptor of that name.

    Raises:
        UnwritableOutputError: a named pipe cannot be opened.
    """
    path = output_path(given)
    number = descriptor_of(path)
    opened = None
    try:
        if number is None and path.exists() and not is_file(os.stat(path)) and not path.is_dir():
            opened = number = os.open(path, os.O_WRONLY)
        if number is None:
            yield path
        else:
            pipe = OutputPipe(number, name=_name_of(path), timeout=timeout)
            try:
                yield pipe
            finally:
                pipe.close()
    finally:
        if opened is not None:
            os.close(opened)


def add_existing(parser: argparse.ArgumentParser) -> None:
    """What becomes of an output that exists."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--overwrite", action="store_true", help="replace an output that exists")
    group.add_argument("--no-clobber", action="store_true", help="leave an output that exists, and do nothing")


def prepare_output(args: argparse.Namespace) -> bool:
    """Check before long work that the output can be written, and may be; whether it is to be left as it is.

    Args:
        args: `input`, `output`, `overwrite`, `no_clobber` and `json` of the command.

    Raises:
        ArgumentError: the output and the JSON document would both be on standard output.
        OutputError: it cannot be written, is the input, or exists.
    """
    output = output_path(args.output)
    if args.json and descriptor_of(output) == 1:
        raise ArgumentError(
            "--json prints on standard output, where the picture is to go; leave --json out, or name a file."
        )
    # What is left as it is need not be writable; that it is the input is said all the same.
    left = args.no_clobber and not _is_same(output, input_path(args.input)) and is_left(args)
    if left:
        return True
    check_output(output, inputs=[input_path(args.input)])
    return is_left(args)


def is_left(args: argparse.Namespace) -> bool:
    """Whether the output exists and --no-clobber leaves it; again right before it is written, for one made since.

    Raises:
        OutputExistsError: it exists, and is not to be replaced.
    """
    output = output_path(args.output)
    if args.overwrite or not _is_existing(output):
        return False
    if args.no_clobber:
        return True
    raise OutputExistsError(
        f"'{output}' exists; give --overwrite to replace it, --no-clobber to leave it, or choose another name."
    )


def _is_same(output: pathlib.Path, source: pathlib.Path) -> bool:
    try:
        return os.path.samefile(output, source)
    except (OSError, ValueError):
        return False


def _is_existing(output: pathlib.Path) -> bool:
    """Whether a file is there that would be lost; no pipe, device or descriptor."""
    try:
        return descriptor_of(output) is None and is_file(os.stat(output))
    except (OSError, ValueError):
        return False


def _name_of(path: pathlib.Path) -> str:
    """What starts a message about an input."""
    name = shown(path)
    return name[:1].upper() + name[1:]
