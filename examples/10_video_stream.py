"""Frames that your own program has, down and up as they come: no file in between.

    python examples/10_video_stream.py [your.mp4]

Needs the extra `video`. Without a video of yours it takes a picture that moves. With one, OpenCV reads it here, as it
reads a camera: cv2.VideoCapture(0).
"""

import itertools
import sys
from collections.abc import Iterator

import cv2
import numpy as np

from bdflow_rt.metrics import psnr_y
from bdflow_rt.picture import sample_picture
from bdflow_rt.video import Frame, VideoRescaler


def moving() -> Iterator[Frame]:
    """Frames at 25 per second, with timestamps in milliseconds."""
    picture = sample_picture(180, 400)
    for index in range(24):
        yield Frame(np.ascontiguousarray(picture[:, 3 * index :][:, :320]), pts=40 * index, duration=40)


def captured(name: str) -> Iterator[Frame]:
    """Frames of a file or camera."""
    capture = cv2.VideoCapture(name)
    while True:
        is_there, bgr = capture.read()
        if not is_there:
            return
        yield Frame(
            np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8),
            pts=round(capture.get(cv2.CAP_PROP_POS_MSEC)),
            duration=0,
        )


def main() -> None:
    """Downscale and restore every frame, and compare."""
    frames = captured(sys.argv[1]) if len(sys.argv) > 1 else moving()
    frames, originals = itertools.tee(itertools.islice(frames, 24))
    first = next(originals)
    height, width = first.pixels.shape[:2]

    with VideoRescaler("bdflow-x2-fast") as rescaler:
        small = rescaler.stream(frames)  # an iterator: frames are read, computed and given at the same time
        restored = rescaler.restore(small, size=(height, width))
        for original, frame in zip(itertools.chain([first], originals), restored, strict=True):
            quality = psnr_y(frame.pixels, original.pixels, border=2)
            print(f"frame at {frame.pts:5d} ms: {quality:.2f} dB PSNR-Y")


if __name__ == "__main__":
    main()
