"""Videos on the command line: what `bdflow downscale` and `bdflow upscale` do where their input is one."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from bdflow_rt.cli.options import colours_of, engine_options
from bdflow_rt.cli.output import describe_run, note, print_left, print_result, progress_callback
from bdflow_rt.cli.streams import Source, input_path
from bdflow_rt.containers.source import file_size
from bdflow_rt.errors import ArgumentError, InputError, OutputExistsError, ResumeError, plural
from bdflow_rt.files import as_path

if TYPE_CHECKING:
    from pathlib import Path

    from bdflow_rt.rescaler import Rescaler
    from bdflow_rt.video import VideoResult

_OF_DOWNSCALE = ("lr_codec", "lr_preset", "decoder", "fps", "start", "duration", "strict", "resume")
_OF_UPSCALE = ("codec", "crf", "preset", "pix_fmt", "strict", "resume")
_PICTURES_ONLY = ("background", "assume_srgb", "convert_srgb", "format", "quality", "seed", "temperature")
_COLOURS = {"assume_srgb", "convert_srgb"}
"""Of those, the ones that sequences of pictures take as well."""


def add_downscale_options(parser: argparse.ArgumentParser) -> None:
    """Options of `bdflow downscale` for videos."""
    group = _group(parser)
    group.add_argument("--lr-codec", help="h264-lossless, or ffv1 for archives; both keep every pixel (default: "
                       "h264-lossless, by x264, which is under the GPL)")  # fmt: skip
    group.add_argument("--lr-preset", help="of h264-lossless, ultrafast to medium: smaller files, but slower (default: "
                       "ultrafast)")  # fmt: skip
    group.add_argument("--decoder", choices=("auto", "pyav", "dali"), help="dali is for VP8, VP9 and Motion JPEG of "
                       "some colours (default: auto, which is pyav)")  # fmt: skip
    group.add_argument("--fps", metavar="N", help="pictures per second, such as 25 or 30000/1001, where the input is a "
                       "folder of pictures or a pattern such as frame_%%05d.png")  # fmt: skip
    group.add_argument("--start", type=float, metavar="SECONDS", help="begin there (default: 0)")
    group.add_argument("--duration", type=float, metavar="SECONDS", help="take so much (default: to the end)")


def add_upscale_options(parser: argparse.ArgumentParser) -> None:
    """Options of `bdflow upscale` for videos."""
    group = _group(parser)
    group.add_argument("--codec", help="h264, hevc, av1, vp9, lossless ffv1, or h264-nvenc, hevc-nvenc, av1-nvenc "
                       "(default: h264, by x264, which is under the GPL)")  # fmt: skip
    group.add_argument("--crf", type=int, help="quality, lower is better (default: 16 for h264)")
    group.add_argument("--preset", help="of the encoder, speed against size (default: medium for h264)")
    group.add_argument("--pix-fmt", help="yuv420p, yuv422p or yuv444p (default: yuv420p; yuv444p for odd sizes)")


def is_video(source: Source) -> bool:
    """Whether the input is a video, by its first bytes."""
    from bdflow_rt.containers.kind import PREFIX_BYTES, video_format

    with source.stream() as stream:
        return video_format(stream.read(PREFIX_BYTES)) is not None


def sequence(args: argparse.Namespace) -> Source | None:
    """The input of `bdflow downscale` where it is a pattern of numbered pictures, or a folder of them; else None.

    Raises:
        InputError: there are no such pictures, or a number is missing.
    """
    path = input_path(args.input)
    if not path.is_dir() and ("%" not in path.name or path.is_file()):
        return None
    from bdflow_rt.video.numbered import find_pictures, is_sequence

    if not is_sequence(path):
        return None
    return Source(args.input, path, None, sum(file_size(file) for file in find_pictures(path)))


def check_picture_options(args: argparse.Namespace) -> None:
    """Refuse options of videos for a picture.

    Raises:
        ArgumentError: one is given.
    """
    _refuse(args, {*_OF_DOWNSCALE, *_OF_UPSCALE}, "videos, and the input is a picture")


def downscale(args: argparse.Namespace, source: Source) -> int:
    """Run `bdflow downscale` on a video."""
    from bdflow_rt.video import downscale_video

    options = _options(args, ("lr_codec", "lr_preset", "decoder", "fps", "start", "duration"))
    if args.fps is not None:
        options["colours"] = colours_of(args)

    def run(rescaler: Rescaler, **common: Any) -> VideoResult:
        return downscale_video(source.path, args.output, rescaler, refine=args.refine, **options, **common)

    def opened() -> Rescaler:
        from bdflow_rt.rescaler import Rescaler

        return Rescaler.from_pretrained(args.model, engine_options(args))

    return _run(args, source, "downscale", opened, run)


def upscale(args: argparse.Namespace, source: Source) -> int:
    """Run `bdflow upscale` on an LR video."""
    from bdflow_rt.video import Encoding, rescaler_for, upscale_video

    os.environ.setdefault("SVT_LOG", "1")  # errors alone: SVT-AV1 prints its settings on stderr
    names = {"pix_fmt": "pixel_format"}
    given = _options(args, ("codec", "crf", "preset", "pix_fmt"))
    encoding = Encoding(**{names.get(name, name): value for name, value in given.items()}) if given else None

    def run(rescaler: Rescaler, **common: Any) -> VideoResult:
        return upscale_video(source.path, args.output, rescaler, encoding=encoding, force=args.force, **common)

    def opened() -> Rescaler:
        from bdflow_rt.rescaler import Rescaler

        if args.model:
            return Rescaler.from_pretrained(args.model, engine_options(args))
        return rescaler_for(source.path, engine_options(args))

    return _run(args, source, "upscale", opened, run)


def _run(
    args: argparse.Namespace,
    source: Source,
    label: str,
    opened: Callable[[], Rescaler],
    run: Callable[..., VideoResult],
) -> int:
    started = time.monotonic()
    of_colours = _COLOURS if getattr(args, "fps", None) is not None else set()
    _refuse(args, set(_PICTURES_ONLY) - of_colours, "pictures, and the input is a video")
    if source.content is not None:
        raise ArgumentError("A video is read from a file, and this one comes from standard input; name the file.")
    progress = progress_callback(label=label, quiet=args.quiet)
    with opened() as rescaler:
        try:
            result = run(
                rescaler,
                strict=bool(args.strict),
                resume=bool(args.resume),
                overwrite=args.overwrite,
                progress=progress,
            )
        except BaseException as error:  # Ctrl-C and SIGTERM, too
            if isinstance(error, OutputExistsError) and args.no_clobber and _part_of(args) is None:
                return print_left(args)
            if not isinstance(error, (ArgumentError, OutputExistsError, ResumeError)):
                _say_what_is_left(args)
            raise
        (width, height), (lr_width, lr_height) = result.hr_size, result.lr_size
        arrow = f"{width} x {height} -> {lr_width} x {lr_height}, " if label == "downscale" else f"{width} x {height}, "
        described = {
            "input": args.input,
            "output": args.output,
            **describe_run(rescaler, started),
            "hr_size": [width, height],
            "lr_size": [lr_width, lr_height],
            "frames": result.frames,
            "resumed_frames": result.resumed_frames,
            "damaged": result.damaged,
            "retimed": result.retimed,
            "notices": list(result.notices),
            "decoder": result.decoder,
            "decoder_reason": result.decoder_reason,
            "input_bytes": source.size_bytes,
            "output_bytes": result.output_bytes,
        }
        print_result(args, described, f"{arrow}{plural(result.frames, 'frame')}, {result.output_bytes} bytes", rescaler)
    if not args.quiet and not args.json:
        if result.damaged:
            note(f"bdflow: note: {plural(result.damaged, 'frame')} of {args.input} damaged or missing")
        if result.retimed:
            note(f"bdflow: note: {plural(result.retimed, 'frame')} of {args.input} had no timestamp of its own")
    return InputError.exit_code if result.damaged else 0


def _say_what_is_left(args: argparse.Namespace) -> None:
    """Say that an interrupted video can be continued."""
    part = _part_of(args)
    if part is not None and not args.quiet:
        note(f"bdflow: note: what was written so far is in {part}; --resume goes on with it")


def _part_of(args: argparse.Namespace) -> Path | None:
    """What an interrupted run has left beside the output."""
    from bdflow_rt.video.part import part_path

    part = part_path(as_path(args.output))
    return part if part.exists() else None


def _group(parser: argparse.ArgumentParser) -> Any:
    group = parser.add_argument_group("videos")
    group.add_argument("--resume", action="store_true", default=None, help="go on with what an interrupted run left")
    group.add_argument(
        "--strict", action="store_true", default=None, help="stop at the first damaged frame instead of counting it"
    )
    return group


def _options(args: argparse.Namespace, names: tuple[str, ...]) -> dict[str, Any]:
    """Those that were given; the others keep the defaults of the API."""
    return {name: getattr(args, name) for name in names if getattr(args, name) is not None}


def _refuse(args: argparse.Namespace, names: set[str], what: str) -> None:
    for name, value in vars(args).items():
        if name in names and value not in (None, False):
            raise ArgumentError(f"--{name.replace('_', '-')} is for {what}; leave it out.")
