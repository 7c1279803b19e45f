"""A video through OpenCV: LR frames and boundary maps into lossless files, and frames back from those.

    python examples/08_opencv_video.py [your.mp4]

Needs nothing but the package, which brings OpenCV. Sound, timestamps and colour tags do not pass through OpenCV.
"""

import dataclasses
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from bdflow_rt import Packet, Rescaler, write_packet
from bdflow_rt.metrics import psnr
from bdflow_rt.picture import UInt8Array, sample_picture

FOLDER = Path("example-out")


def main() -> None:
    """Down into three files, and up from them alone."""
    FOLDER.mkdir(exist_ok=True)
    video = sys.argv[1] if len(sys.argv) > 1 else write_clip(FOLDER / "clip.mkv")
    downscale(video)
    upscale(video)


def downscale(video: str) -> None:
    """lr.mkv, boundary.mkv, and the first frame as a packet, which names the model and the HR size of all."""
    rate = cv2.VideoCapture(video).get(cv2.CAP_PROP_FPS)
    lr_file, boundary_file = Writer("lr.mkv", rate), Writer("boundary.mkv", rate)
    with Rescaler.from_pretrained("bdflow-x2-fast") as rescaler:
        step = 2 * rescaler.card.interface.scale  # OpenCV cuts odd sides of what it writes, so the LR gets even ones
        for number, frame in enumerate(frames(video)):
            height, width = frame.shape[:2]
            even = np.pad(frame, ((0, -height % step), (0, -width % step), (0, 0)), mode="edge")
            packet = rescaler.downscale(even)
            lr_file.write(packet.lr[:, :, ::-1])
            boundary_file.write(np.asarray(packet.boundary))  # the levels, 0 to 2^bits - 1, as grey values
            if number == 0:
                write_packet(FOLDER / "first.png", packet)
                print(f"down      {width} x {height} -> {packet.lr.shape[1]} x {packet.lr.shape[0]}")
    for file in (lr_file, boundary_file):
        print(f"{file.close():,} bytes: {file.path}")


def upscale(video: str) -> None:
    """restored.mkv from those files; the video is read only to compare with it."""
    rescaler, first = Rescaler.open(FOLDER / "first.png")
    # All frames have the header of the first one, but for the CRC of its pixels.
    header = dataclasses.replace(first.header, lr_crc32=None)
    restored_file = Writer("restored.mkv", cv2.VideoCapture(video).get(cv2.CAP_PROP_FPS))
    values = []
    with rescaler:
        tracks = frames(str(FOLDER / "lr.mkv")), frames(str(FOLDER / "boundary.mkv")), frames(video)
        for lr, boundary, original in zip(*tracks, strict=True):
            height, width = original.shape[:2]
            restored = rescaler.upscale(Packet(lr, boundary[:, :, 0], header))[:height, :width]
            restored_file.write(restored[:, :, ::-1])
            values.append(psnr(restored, original))
    print(f"{restored_file.close():,} bytes: {restored_file.path}")
    print(f"up        {len(values)} frames, {np.mean(values):.2f} dB PSNR")


def frames(path: str) -> Iterator[UInt8Array]:
    """The frames of a video in RGB, (H, W, 3); OpenCV's are BGR."""
    capture = cv2.VideoCapture(path)
    while True:
        is_read, frame = capture.read()
        if not is_read:
            return
        yield np.ascontiguousarray(frame[:, :, ::-1], np.uint8)


class Writer:
    """A lossless video, FFV1 in Matroska, of BGR (H, W, 3) or grey (H, W) frames; their first one sets the size."""

    def __init__(self, name: str, rate: float) -> None:
        """Write to a file in FOLDER, at a number of frames per second."""
        self.path, self._rate = FOLDER / name, rate
        self._video: cv2.VideoWriter | None = None

    def write(self, frame: UInt8Array) -> None:
        """Append a frame."""
        if self._video is None:
            size, codec = (frame.shape[1], frame.shape[0]), cv2.VideoWriter.fourcc(*"FFV1")
            self._video = cv2.VideoWriter(str(self.path), codec, self._rate, size, isColor=frame.ndim == 3)
            if not self._video.isOpened():
                raise SystemExit(f"This build of OpenCV cannot write FFV1 into {self.path}.")
        self._video.write(np.ascontiguousarray(frame))

    def close(self) -> int:
        """Finish the file; returns its size in bytes."""
        if self._video is None:
            raise SystemExit("The video has no frames that OpenCV can read.")
        self._video.release()
        return self.path.stat().st_size


def write_clip(path: Path) -> str:
    """Twelve frames, 240 x 180, of a picture that moves; returns the name of the file."""
    picture, clip = sample_picture(180, 264), Writer(path.name, 24)
    for shift in range(0, 24, 2):
        clip.write(picture[:, shift : shift + 240, ::-1])
    clip.close()
    return str(path)


if __name__ == "__main__":
    main()
