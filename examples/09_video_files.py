"""A video file both ways: the small video plays everywhere, and holds all that restoring needs.

    python examples/09_video_files.py [your.mp4]

Needs the extra `video`. Without a video of yours it draws a short one, whose timestamps are not evenly spaced. Files
go to ./example-out.
"""

import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from bdflow_rt.metrics import psnr_y
from bdflow_rt.picture import sample_picture
from bdflow_rt.video import Encoding, VideoRescaler

FOLDER = Path("example-out")


def sample() -> Path:
    """A video file to try things out with: a photograph-like picture that moves."""
    path, picture = FOLDER / "video.mp4", sample_picture(180, 400)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "10"})
        stream.width, stream.height, stream.pix_fmt = 320, 180, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for index in range(12):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture[:, 4 * index :][:, :320]), format="rgb24")
            frame.pts, frame.time_base = 40 * index + 3 * (index % 4), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def frames_of(path: Path) -> list[tuple[float, np.ndarray]]:
    """Seconds and RGB pixels of the first frames of a file."""
    with av.open(str(path)) as container:
        return [
            (frame.time or 0.0, frame.to_ndarray(format="rgb24"))
            for _, frame in zip(range(12), container.decode(video=0), strict=False)
        ]


def main() -> None:
    """Downscale, restore and compare one video."""
    FOLDER.mkdir(exist_ok=True)
    source = Path(sys.argv[1]) if len(sys.argv) > 1 else sample()
    small, restored = FOLDER / "video.lr.mkv", FOLDER / "restored.mp4"

    with VideoRescaler("bdflow-x2-fast") as rescaler:
        down = rescaler.downscale(source, small, duration=2, overwrite=True)
    with VideoRescaler.for_video(small) as rescaler:
        up = rescaler.upscale(small, restored, encoding=Encoding(crf=16), overwrite=True)

    original, back = frames_of(source), frames_of(restored)
    errors = [abs(a[0] - b[0]) for a, b in zip(original, back, strict=False)]
    quality = [psnr_y(b[1], a[1], border=2) for a, b in zip(original, back, strict=False)]
    print(f"original  {source}: {down.hr_size[0]} x {down.hr_size[1]}, {source.stat().st_size:,} bytes")
    print(
        f"small     {small}: {down.lr_size[0]} x {down.lr_size[1]}, {down.frames} frames, {down.output_bytes:,} bytes"
    )
    print(f"restored  {restored}: {up.frames} frames, {np.mean(quality):.2f} dB PSNR-Y on average")
    print(f"timestamps differ by at most {max(errors):.6f} s")
    for notice in (*down.notices, *up.notices):
        print(f"note      {notice}")


if __name__ == "__main__":
    main()
