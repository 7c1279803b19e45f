"""Videos through the stages of a stream: frames per second, latency, and the share of what the cores can give.

    python -m bdflow_rt.bench.video --model bdflow-x2-fast --model bdflow-x4-fast --output bench/results/video

writes OUTPUT/NAME.json for every model. On a CPU all stages share the cores, so that no more frames per second are
possible than cores / (sum of the stages' CPU seconds per frame). Each stage's CPU time is measured alone, before and
after the stream, in the same run: `bound_fps` is that quotient, and `share_of_bound` what `fps` is of it, which leaves
the first and last frames out, as a long video has it.
Both ways, from file to file and from pipe to pipe.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from itertools import islice
from typing import Any

import numpy as np

from bdflow_rt.bench.command import run_command, write_result
from bdflow_rt.evaluate.environment import environment
from bdflow_rt.picture import sample_picture
from bdflow_rt.pipes import InputPipe, OutputPipe
from bdflow_rt.video import Encoding, Frame, LrFrame, LrSource, StreamStats, VideoRescaler
from bdflow_rt.video.av_source import AvSource
from bdflow_rt.video.codecs import TrackCodec
from bdflow_rt.video.convert import Colour, default_matrix, from_picture
from bdflow_rt.video.frames import Extras, Problems
from bdflow_rt.video.lr_file import lr_pictures, lr_writer
from bdflow_rt.video.part import PartWriter

SIZES = {"480p": (856, 480), "720p": (1280, 720), "1080p": (1920, 1080)}
FRAMES = {"480p": 48, "720p": 24, "1080p": 16}
"""Of the stream; the stages alone take a third of them, twice."""
RATE = 30
ENCODING = Encoding(preset="ultrafast")
"""Of restored files; the default preset, medium, takes ten times as long as this one."""


def draw_clip(path: pathlib.Path, size: tuple[int, int], frames: int) -> None:
    """An H.264 file of a photograph-like picture that moves."""
    import av

    width, height = size
    picture = sample_picture(height + 2 * frames, width + 3 * frames)
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=RATE, options={"crf": "18", "preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for index in range(frames):
            part = np.ascontiguousarray(picture[2 * index :, 3 * index :][:height, :width])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(part, format="rgb24")))
        container.mux(stream.encode(None))


def cpu_ms(function: Callable[[Any], Any], items: Iterable[Any]) -> tuple[float, list[Any]]:
    """CPU milliseconds of the process per call, and what the calls return."""
    begun = time.process_time()
    results = [function(item) for item in items]
    return 1000 * (time.process_time() - begun) / len(results), results


class Stages:
    """The stages of one way, each measured alone.

    Args:
        rescaler: with the model; one worker of it is used.
        lr: the clip, downscaled.
        folder: for files that are written.
    """

    def __init__(self, rescaler: VideoRescaler, lr: pathlib.Path, folder: pathlib.Path) -> None:
        self._rescaler, self._lr, self._folder = rescaler.rescaler, lr, folder

    def down(self, clip: pathlib.Path, count: int) -> dict[str, float]:
        """CPU milliseconds per frame of the stages of downscaling a clip."""
        with AvSource(clip) as source, LrSource(self._lr) as known:
            header, info = known.header, source.info
            read, frames = cpu_ms(lambda frame: frame, islice((one for one in source if isinstance(one, Frame)), count))
            convert, pixels = cpu_ms(lambda frame: frame.pixels, frames)
            network, packets = cpu_ms(self._rescaler.downscale, pixels)
            target = self._folder / "stage.mkv"
            writer = lr_writer(
                target, header, info, Extras(), codec="h264-lossless", preset="ultrafast", problems=Problems()
            )
            with closed(writer):
                write, _ = cpu_ms(
                    lambda number: writer.write(
                        lr_pictures(packets[number], number, 1, codec="h264-lossless"), number, 1
                    ),
                    range(len(packets)),
                )
        return {"read": read, "convert": convert, "network": network, "write": write}

    def up(self, count: int, *, raw: bool) -> dict[str, float]:
        """CPU milliseconds per frame of the stages of restoring, to H.264 or to y4m."""
        with LrSource(self._lr) as source:
            header, info = source.header, source.info
            frames = islice((one for one in source if isinstance(one, LrFrame)), count)
            read, packets = cpu_ms(lambda frame: frame.packet(header), frames)
        network, pictures = cpu_ms(lambda packet: self._rescaler.upscale(packet, force=True), packets)
        track = Encoding().y4m_track if raw else ENCODING.track
        encoder, pixel_format, options = track(header.width, header.height)
        colour = Colour(default_matrix(header.width, header.height), "limited")
        convert, coded = cpu_ms(lambda picture: from_picture(picture, pixel_format, colour), pictures)
        codec = TrackCodec(encoder, pixel_format, header.width, header.height, options, frame_rate=Fraction(RATE))
        with open(os.devnull, "wb") as nowhere:
            target = OutputPipe(nowhere.fileno(), name="nowhere") if raw else self._folder / "stage.mkv"
            container = "yuv4mpegpipe" if raw else "matroska"
            writer = PartWriter(target, [codec], info, Extras(), tags={}, container=container, problems=Problems())
            begun = time.process_time()
            with closed(writer):  # the encoder holds frames back until then
                for number, frame in enumerate(coded):
                    writer.write([frame], number, 1)
            write = 1000 * (time.process_time() - begun) / len(coded)
        return {"read": read, "convert": convert, "network": network, "write": write}


@contextmanager
def closed(writer: PartWriter) -> Iterator[None]:
    """Close a writer in the end."""
    try:
        yield
    finally:
        writer.close()


@contextmanager
def piped(path: pathlib.Path) -> Iterator[tuple[InputPipe, OutputPipe]]:
    """A pipe that a file comes from, and one whose bytes are thrown away, each with a thread at its other end."""
    (read_in, write_in), (read_out, write_out) = os.pipe(), os.pipe()

    def feed() -> None:
        with open(path, "rb") as file, open(write_in, "wb", buffering=0) as pipe:
            while part := file.read(1 << 16):
                pipe.write(part)

    def drain() -> None:
        with open(read_out, "rb", buffering=0) as pipe:
            while pipe.read(1 << 16):
                pass

    threads = [threading.Thread(target=feed), threading.Thread(target=drain)]
    for thread in threads:
        thread.start()
    source, target = InputPipe(read_in, name="the pipe"), OutputPipe(write_out, name="the pipe")
    os.close(read_in)
    os.close(write_out)
    try:
        yield source, target
    finally:
        target.close()
        source.close()
        for thread in threads:
            thread.join()


def measure(
    rescaler: VideoRescaler, size_name: str, folder: pathlib.Path, *, frames: int | None
) -> Iterator[dict[str, Any]]:
    """The results of both ways at one size, files and pipes."""
    import av

    count = frames or FRAMES[size_name]
    clip, lr, y4m = folder / "clip.mp4", folder / "clip.lr.mkv", folder / "clip.y4m"
    draw_clip(clip, SIZES[size_name], count)
    rescaler.downscale(clip, lr, overwrite=True)
    with av.open(str(clip)) as source, av.open(str(y4m), "w", format="yuv4mpegpipe") as sink:
        stream: Any = sink.add_stream("wrapped_avframe", rate=RATE)
        stream.width, stream.height, stream.pix_fmt = *SIZES[size_name], "yuv420p"
        for frame in source.decode(video=0):
            sink.mux(stream.encode(frame))
    rescaler.upscale(lr, folder / "out.mp4", overwrite=True)  # each worker prepares the network for this size
    stages = Stages(rescaler, lr, folder)
    alone = max(4, count // 3)

    def cost(direction: str, way: str) -> dict[str, float]:
        if direction == "downscale":
            return stages.down(clip if way == "files" else y4m, alone)
        return stages.up(alone, raw=way == "pipes")

    for direction in ("downscale", "upscale"):
        run = rescaler.downscale if direction == "downscale" else rescaler.upscale
        options = {} if direction == "downscale" else {"encoding": ENCODING}
        for way in ("files", "pipes"):
            before = cost(direction, way)
            times: list[float] = []

            def note(stats: StreamStats, times: list[float] = times) -> None:
                times.append(time.perf_counter())

            begun, cpu = time.perf_counter(), time.process_time()
            if way == "files":
                source_path = clip if direction == "downscale" else lr
                suffix = ".mkv" if direction == "downscale" else ".mp4"
                result = run(source_path, folder / f"out{suffix}", overwrite=True, progress=note, **options)
            else:
                with piped(y4m if direction == "downscale" else lr) as (source_pipe, target_pipe):
                    result = run(source_pipe, target_pipe, progress=note)
            seconds, cpu = time.perf_counter() - begun, time.process_time() - cpu
            after = cost(direction, way)
            costs = {name: (before[name] + after[name]) / 2 for name in before}
            cores = len(os.sched_getaffinity(0))
            bound = 1000 * cores / sum(costs.values())
            stats, workers = result.stats, rescaler.rescaler.options.workers
            # Without the first and last frames, during which some workers have nothing to do.
            steady = (len(times) - 2 * workers) / (times[-workers - 1] - times[workers - 1])
            yield {
                "size": size_name, "width": SIZES[size_name][0], "height": SIZES[size_name][1],
                "direction": direction, "way": way, "frames": result.frames, "cores": cores,
                "workers": workers,
                "fps": steady, "bound_fps": bound, "share_of_bound": steady / bound,
                "fps_with_start_and_end": result.frames / seconds,
                "busy_cores": cpu / seconds, "stage_cpu_ms": costs, "stage_cpu_ms_before": before,
                "stage_cpu_ms_after": after, "limit": stats.limit,
                "latency_ms": {
                    "p50": stats.latency_p50_ms, "p95": stats.latency_p95_ms, "p99": stats.latency_p99_ms,
                    "max": stats.latency_max_ms,
                },
            }  # fmt: skip


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark's command line and return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m bdflow_rt.bench.video", description=__doc__.partition("\n")[0])
    parser.add_argument("--model", action="append", required=True, help="name of a model; may be given several times")
    parser.add_argument(
        "--size", action="append", choices=tuple(SIZES), help="may be given several times (default: all)"
    )
    parser.add_argument("--frames", type=int, help="of each stream (default: by the size)")
    parser.add_argument("--precision", help="as for bdflow downscale")
    parser.add_argument("--output", type=pathlib.Path, required=True, help="folder for the results")
    args = parser.parse_args(argv)

    def run() -> None:
        for name in args.model:
            with (
                VideoRescaler(name, precision=args.precision) as rescaler,
                tempfile.TemporaryDirectory() as folder,
            ):
                rows = []
                for size in args.size or SIZES:
                    for row in measure(rescaler, size, pathlib.Path(folder), frames=args.frames):
                        rows.append(row)
                        sys.stdout.write(
                            f"{name} {row['size']} {row['direction']} {row['way']}: {row['fps']:.2f} frames/s of "
                            f"{row['bound_fps']:.2f} ({100 * row['share_of_bound']:.1f} %), p99 "
                            f"{row['latency_ms']['p99']:.0f} ms, limited by {row['limit']}\n"
                        )
                        sys.stdout.flush()
                card = rescaler.rescaler.card
                write_result(
                    args.output / f"{card.name}.json",
                    {
                        **environment(card), "backend": rescaler.rescaler.backend,
                        "precision": rescaler.rescaler.precision, "rows": rows,
                    },
                )  # fmt: skip

    return run_command("bdflow_rt.bench.video", run)


if __name__ == "__main__":
    sys.exit(main())
