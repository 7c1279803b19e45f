"""Videos over time: PSNR of frames and of their differences, and flicker on static cells, beside bicubic down and up.

    python -m bdflow_rt.bench.temporal --model bdflow-x2 --model bdflow-x4 --video coffee.mp4 --video dog.mp4 \\
        --still Set14/flowers.png --frames 12 --output bench/results/temporal

writes a file per video, OUTPUT/NAME.json, with what `bdflow eval` measures of every model. A photograph given as
`--still` makes two more, of a scene in which nothing moves: NAME-still, its frames all equal, where any change is the
model's own; and NAME-noise, with noise of a camera's sensor in every frame, normal with a standard deviation of `SIGMA`
levels, where all cells are taken as static that change by no more than `SIGMAS` deviations of the noise's difference.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import math
import pathlib
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from fractions import Fraction
from typing import Any

import numpy as np

from bdflow_rt.bench.command import run_command, write_result
from bdflow_rt.containers.image import read_picture
from bdflow_rt.evaluate.environment import environment
from bdflow_rt.evaluate.video import evaluate_video
from bdflow_rt.metrics.temporal import TOLERANCE
from bdflow_rt.picture import UInt8Array
from bdflow_rt.rescaler import Rescaler
from bdflow_rt.video.av_source import AvSource
from bdflow_rt.video.frames import Extras, Frame, FrameSource, Problems, VideoInfo

SIGMA = 2.0
"""Levels of 255: of a camera in good light."""
SIGMAS = 6
STILL_FRAMES_PER_S = 25

Opener = Callable[[], AbstractContextManager[FrameSource]]
_OF_VIDEO = ("hr_size", "frames", "damaged")
"""What the results of all models of a video share."""


class StillSource:
    """A `FrameSource` of one picture again and again, without end.

    Args:
        pixels: (H, W, 3) uint8.
        sigma: standard deviation of the normal noise in each frame, in levels of 255; it is rounded and clamped.
    """

    decoder = "pictures"
    decoder_reason = "the frames are drawn here"

    def __init__(self, pixels: UInt8Array, *, sigma: float = 0.0) -> None:
        height, width = pixels.shape[:2]
        self.info = VideoInfo(width, height, time_base=Fraction(1, STILL_FRAMES_PER_S))
        self.extras, self.problems = Extras(), Problems()
        self._pixels, self._sigma = pixels, sigma

    def __iter__(self) -> Iterator[Frame]:
        """The frames; the noise is the same in each run."""
        rng = np.random.default_rng(0)
        for index in itertools.count():
            noise = self._sigma * rng.standard_normal(self._pixels.shape)
            noisy = np.clip(np.rint(self._pixels + noise), 0, 255).astype(np.uint8)
            yield Frame(noisy, pts=index, duration=1)

    def close(self) -> None:
        """There is nothing to let go of."""


def tolerance_of(sigma: float) -> int:
    """Levels that the difference of two frames of a static scene with such noise practically never exceeds."""
    return math.ceil(SIGMAS * math.sqrt(2) * sigma) + TOLERANCE


def measure(open_source: Opener, rescalers: list[Rescaler], *, frames: int, tolerance: int) -> dict[str, Any]:
    """A video with every model, each reading it from the beginning."""
    results = []
    for rescaler in rescalers:
        with open_source() as source:
            result = evaluate_video(rescaler, source, frames=frames, tolerance=tolerance)
        results.append({"scale": rescaler.card.interface.scale, **result})
        sys.stderr.write(f"{rescaler.card.id}: {result['frames']} frames\n")
    shared = {**environment(), **{name: results[0][name] for name in _OF_VIDEO}}
    others = [{name: one[name] for name in one if name not in shared and name != "notices"} for one in results]
    return {**shared, "models": others}  # notices hold paths of this machine


def scenes_of(
    videos: Iterable[pathlib.Path], stills: Iterable[pathlib.Path]
) -> dict[str, tuple[Opener, int, float | None]]:
    """Every video and the two scenes of every photograph, by name: how it is opened, its tolerance, and its noise."""

    def opener(path: pathlib.Path) -> Opener:
        return lambda: AvSource(path)

    def still_opener(pixels: UInt8Array, sigma: float) -> Opener:
        return lambda: nullcontext(StillSource(pixels, sigma=sigma))

    scenes: dict[str, tuple[Opener, int, float | None]] = {}
    for path in videos:
        scenes[path.stem] = (opener(path), TOLERANCE, None)
    for path in stills:
        pixels = read_picture(path).pixels
        scenes[f"{path.stem}-still"] = (still_opener(pixels, 0), 0, 0.0)
        scenes[f"{path.stem}-noise"] = (still_opener(pixels, SIGMA), tolerance_of(SIGMA), SIGMA)
    return scenes


def main() -> None:
    """Measure every video with every model, and write a JSON file each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--video", type=pathlib.Path, action="append", default=[], help="file; repeat")
    parser.add_argument("--still", type=pathlib.Path, action="append", default=[], help="photograph; repeat")
    parser.add_argument("--model", action="append", required=True, help="name or folder of a model; repeat")
    parser.add_argument("--frames", type=int, default=12, help="of each video, from its beginning (default: 12)")
    parser.add_argument("--threads", type=int, help="CPU threads (default: all cores)")
    parser.add_argument("--output", type=pathlib.Path, required=True, help="folder of the results")
    args = parser.parse_args()
    with contextlib.ExitStack() as stack:
        rescalers = [stack.enter_context(Rescaler.from_pretrained(name, threads=args.threads)) for name in args.model]
        for name, (open_source, tolerance, sigma) in scenes_of(args.video, args.still).items():
            sys.stderr.write(f"{name}\n")
            measured = measure(open_source, rescalers, frames=args.frames, tolerance=tolerance)
            write_result(args.output / f"{name}.json", {**measured, "video": name, "sigma": sigma})


if __name__ == "__main__":
    sys.exit(run_command("temporal", main))
