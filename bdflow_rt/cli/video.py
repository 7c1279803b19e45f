"""Videos on the command line: what `bdflow downscale` and `bdflow upscale` do where their input is one."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, get_args

from bdflow_rt.cli.options import colours_of, engine_options
from bdflow_rt.cli.output import describe_run, note, print_left, print_result, video_progress
from bdflow_rt.cli.streams import Source, input_path, output_path, output_target
from bdflow_rt.containers.source import file_size
from bdflow_rt.errors import ArgumentError, InputError, MissingFileError, OutputExistsError, ResumeError, plural
from bdflow_rt.files import write_atomically

if TYPE_CHECKING:
    from pathlib import Path

    from bdflow_rt.pipes import OutputPipe
    from bdflow_rt.rescaler import Rescaler
    from bdflow_rt.video import VideoResult

_OF_BOTH = ("strict", "resume", "when_full", "timeout", "stats")
_OF_DOWNSCALE = ("lr_codec", "lr_preset", "decoder", "fps", "start", "duration", *_OF_BOTH)
_OF_UPSCALE = ("codec", "crf", "preset", "pix_fmt", *_OF_BOTH)
_PICTURES_ONLY = ("background", "assume_srgb", "convert_srgb", "quality", "seed", "temperature")
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


def sequence(args: argparse.Namespace) -> Source | None:
    """The input of `bdflow downscale` where it is a pattern of numbered pictures, or a folder with --fps; else None.

    Raises:
        InputError: there are no such pictures, a number is missing, or a folder comes without --fps.
    """
    path = input_path(args.input)
    is_folder = os.path.isdir(path)
    if is_folder and args.fps is None:
        raise MissingFileError(f"'{path}' is a folder; name a file, or for numbered pictures give --fps, such as 25.")
    if not is_folder and ("%" not in path.name or os.path.isfile(path)):
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
    from bdflow_rt.video import VideoRescaler

    options = _options(args, ("lr_codec", "lr_preset", "decoder", "fps", "start", "duration"))
    if args.fps is not None:
        options["colours"] = colours_of(args)
    _check(args)
    with VideoRescaler(args.model, engine_options(args)) as rescaler:

        def run(target: Path | OutputPipe, **common: Any) -> VideoResult:
            return rescaler.downscale(source.video, target, refine=args.refine, **options, **common)

        return _run(args, source, "downscale", rescaler.rescaler, run)


def upscale(args: argparse.Namespace, source: Source) -> int:
    """Run `bdflow upscale` on an LR video."""
    from bdflow_rt.video import Encoding, LrSource, VideoRescaler
    from bdflow_rt.video.rescale import PipeFormat

    if args.format not in (None, *get_args(PipeFormat)):
        raise ArgumentError(f"--format is {args.format}, and the input is a video; give y4m or mkv.")
    os.environ.setdefault("SVT_LOG", "1")  # errors alone: SVT-AV1 prints its settings on stderr
    names = {"pix_fmt": "pixel_format"}
    given = _options(args, ("codec", "crf", "preset", "pix_fmt"))
    encoding = Encoding(**{names.get(name, name): value for name, value in given.items()}) if given else None
    _check(args)
    with ExitStack() as stack:
        video: Any = source.video
        if source.pipe is not None:  # it is read once, for the model's name and for the frames
            video = stack.enter_context(
                LrSource(video, force=args.force, strict=bool(args.strict), max_pixels=args.max_pixels)
            )
        options = engine_options(args)
        rescaler = stack.enter_context(
            VideoRescaler(args.model, options) if args.model else VideoRescaler.for_video(video, options)
        )

        def run(target: Path | OutputPipe, **common: Any) -> VideoResult:
            return rescaler.upscale(
                video, target, encoding=encoding, force=args.force, pipe_format=args.format or "y4m", **common
            )

        return _run(args, source, "upscale", rescaler.rescaler, run)


def _check(args: argparse.Namespace) -> None:
    """Refuse options of pictures."""
    of_colours = _COLOURS if getattr(args, "fps", None) is not None else set()
    _refuse(args, set(_PICTURES_ONLY) - of_colours, "pictures, and the input is a video")


def _run(
    args: argparse.Namespace, source: Source, label: str, rescaler: Rescaler, run: Callable[..., VideoResult]
) -> int:
    from bdflow_rt.video import StreamOptions

    started = time.monotonic()
    stream = StreamOptions(**_options(args, ("when_full", "timeout")))
    show = video_progress(label=label, quiet=args.quiet)
    with output_target(args.output, timeout=args.timeout) as target:
        try:
            result = run(
                target,
                strict=bool(args.strict),
                resume=bool(args.resume),
                overwrite=args.overwrite,
                stream=stream,
                progress=show,
            )
        except BaseException as error:  # Ctrl-C and SIGTERM, too
            if isinstance(error, OutputExistsError) and args.no_clobber and _part_of(args) is None:
                return print_left(args)
            if not isinstance(error, (ArgumentError, OutputExistsError, ResumeError)):
                _say_what_is_left(args)
            raise
        finally:
            show(None)
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
        "dropped": result.stats.dropped,
        "damaged": result.damaged,
        "retimed": result.retimed,
        "notices": list(result.notices),
        "decoder": result.decoder,
        "decoder_reason": result.decoder_reason,
        "input_bytes": source.size_bytes,
        "output_bytes": result.output_bytes,
    }
    if args.stats is not None:
        stats = {**dataclasses.asdict(result.stats), "frames_per_second": result.stats.frames_per_second}
        write_atomically(args.stats, json.dumps(stats, indent=2).encode("utf-8") + b"\n")
    print_result(args, described, f"{arrow}{plural(result.frames, 'frame')}, {result.output_bytes} bytes", rescaler)
    if not args.quiet and not args.json:
        for count, what in (
            (result.damaged, "damaged or missing"),
            (result.retimed, "had no timestamp of its own"),
            (result.stats.dropped, "left out because they came too fast"),
        ):
            if count:
                note(f"bdflow: note: {plural(count, 'frame')} of {args.input} {what}")
    return InputError.exit_code if result.damaged else 0


def _say_what_is_left(args: argparse.Namespace) -> None:
    """Say that an interrupted video can be continued."""
    part = _part_of(args)
    if part is not None and not args.quiet:
        note(f"bdflow: note: what was written so far is in {part}; --resume goes on with it")


def _part_of(args: argparse.Namespace) -> Path | None:
    """What an interrupted run has left beside the output."""
    from bdflow_rt.video.part import part_path

    part = part_path(output_path(args.output))
    return part if part.exists() else None


def _group(parser: argparse.ArgumentParser) -> Any:
    group = parser.add_argument_group("videos")
    group.add_argument("--resume", action="store_true", default=None, help="go on with what an interrupted run left")
    group.add_argument(
        "--strict", action="store_true", default=None, help="stop at the first damaged frame instead of counting it"
    )
    group.add_argument(
        "--when-full",
        choices=("block", "drop-oldest"),
        help="of live input that comes too fast: let it wait, or leave out the oldest frame (default: block)",
    )
    group.add_argument(
        "--timeout",
        type=float,
        metavar="SECONDS",
        help="fail when a stage makes no progress for that long (default: wait for ever)",
    )
    group.add_argument(
        "--stats", metavar="FILE", help="write latency, the time of each stage and what limits it to a JSON file"
    )
    return group


def _options(args: argparse.Namespace, names: tuple[str, ...]) -> dict[str, Any]:
    """Those that were given; the others keep the defaults of the API."""
    return {name: getattr(args, name) for name in names if getattr(args, name) is not None}


def _refuse(args: argparse.Namespace, names: set[str], what: str) -> None:
    for name, value in vars(args).items():
        if name in names and value not in (None, False):
            raise ArgumentError(f"--{name.replace('_', '-')} is for {what}; leave it out.")
