"""The demo: one photograph goes down to a file and comes back from it, next to bicubic. Run by `make demo`."""

from __future__ import annotations

import importlib.util
import pathlib
import sys
import time
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bdflow_rt.bench.command import run_command
from bdflow_rt.containers.image import read_picture
from bdflow_rt.containers.png import read_packet
from bdflow_rt.errors import MissingFileError, UnwritableOutputError
from bdflow_rt.files import write_atomically
from bdflow_rt.metrics import bicubic_downscale, bicubic_resize, psnr, psnr_y
from bdflow_rt.rescaler import Rescaler

if TYPE_CHECKING:
    from PIL import Image

OUTPUT = pathlib.Path("demo-out")
PHOTOGRAPH = "data/chelsea.png"
"""Ships with scikit-image; CC0."""
DETAIL = 160
GAP = 8
CAPTION_HEIGHT = 30


def default_photograph() -> pathlib.Path:
    """The photograph that comes with scikit-image, found without importing it.

    Raises:
        MissingFileError: scikit-image, or that file of it, is not there.
    """
    spec = importlib.util.find_spec("skimage")
    folders = spec.submodule_search_locations if spec else None
    path = pathlib.Path(next(iter(folders))) / PHOTOGRAPH if folders else pathlib.Path(PHOTOGRAPH)
    if not path.exists():
        raise MissingFileError(f"The demo's photograph {PHOTOGRAPH} of scikit-image is not here; use IMAGE=your.jpg.")
    return path


def run(source: pathlib.Path, output: pathlib.Path = OUTPUT) -> None:
    """Downscale and restore `source` with the default model; print what it took and write the comparison picture."""
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UnwritableOutputError(f"The folder '{output}' cannot be made: {error.strerror}.") from None
    small, restored_path, picture_path = (output / name for name in ("lr.png", "restored.png", "comparison.png"))
    with Rescaler.from_pretrained() as rescaler:
        height, width = read_picture(source).pixels.shape[:2]
        rescaler.warm_up(height=height, width=width)
        started = time.perf_counter()
        rescaler.downscale_file(source, small)
        middle = time.perf_counter()
        rescaler.upscale_file(small, restored_path)
        ended = time.perf_counter()
        model, backend, reason = rescaler.card.id, rescaler.backend, rescaler.backend_reason
    hr, restored, packet = read_picture(source).pixels, read_picture(restored_path).pixels, read_packet(small)
    scale = packet.header.scale
    height, width = hr.shape[:2]
    reference = bicubic_downscale(hr, scale=scale)
    bicubic = bicubic_resize(reference, scale=scale)[:height, :width]
    ours_db, bicubic_db = (psnr_y(image, hr, border=scale) for image in (restored, bicubic))
    side = min(DETAIL, height, width)
    panels = [
        (f"original: {width} x {height}, {source.stat().st_size:,} bytes", hr),
        (
            f"LR file: {packet.lr.shape[1]} x {packet.lr.shape[0]}, {small.stat().st_size:,} bytes",
            _enlarged(packet.lr, scale, height, width),
        ),
        (f"bicubic: {bicubic_db:.2f} dB", bicubic),
        (f"restored from the LR file: {ours_db:.2f} dB", restored),
    ]
    image = comparison(panels, window=(*busiest_window(hr, side), side))
    write_atomically(picture_path, lambda file: image.save(file, "PNG"))
    lines = [
        f"model      {model} on {backend} ({reason})",
        f"original   {source.name}, {width} x {height}, {source.stat().st_size:,} bytes",
        f"small      {small}, {packet.lr.shape[1]} x {packet.lr.shape[0]}, {small.stat().st_size:,} bytes, boundary "
        f"included; {psnr(packet.lr, reference):.2f} dB from a bicubic LR",
        f"restored   {restored_path}: {ours_db:.2f} dB PSNR-Y; bicubic: {bicubic_db:.2f} dB",
        f"seconds    down {middle - started:.2f}, up {ended - middle:.2f}, files included",
        f"picture    {picture_path}",
    ]
    sys.stdout.write("\n".join(lines) + "\n")


def busiest_window(image: NDArray[np.uint8], side: int) -> tuple[int, int]:
    """Top and left of the side x side window with the most detail (largest mean Laplacian), in steps of side/4."""
    import cv2

    detail = np.abs(cv2.Laplacian(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.CV_32F))
    total = cv2.integral(detail)
    step = max(side // 4, 1)
    height, width = image.shape[:2]
    corners = [(y, x) for y in range(0, height - side + 1, step) for x in range(0, width - side + 1, step)]

    def amount(corner: tuple[int, int]) -> float:
        y, x = corner
        return float(total[y + side, x + side] - total[y, x + side] - total[y + side, x] + total[y, x])

    return max(corners, key=amount)


def comparison(
    panels: list[tuple[str, NDArray[np.uint8]]], *, window: tuple[int, int, int], zoom: int = 2
) -> Image.Image:
    """Draw the panels next to each other.

    Args:
        panels: captions and (H, W, 3) uint8 pictures, all of one size.
        window: top, left and side of the detail shown.
        zoom: whole factor each pixel is enlarged by.
    """
    from PIL import Image, ImageDraw, ImageFont

    top, left, side = window
    shown = side * zoom
    canvas = Image.new("RGB", (len(panels) * (shown + GAP) - GAP, shown + CAPTION_HEIGHT), "white")
    draw = ImageDraw.Draw(canvas)
    font = ImageFont.load_default(size=15)
    for index, (caption, pixels) in enumerate(panels):
        detail = Image.fromarray(np.ascontiguousarray(pixels[top : top + side, left : left + side]))
        x = index * (shown + GAP)
        canvas.paste(detail.resize((shown, shown), Image.Resampling.NEAREST), (x, 0))
        draw.text((x + 2, shown + 6), caption, fill="black", font=font)
    return canvas


def _enlarged(lr: np.ndarray, scale: int, height: int, width: int) -> np.ndarray:
    return lr.repeat(scale, axis=0).repeat(scale, axis=1)[:height, :width]


def main() -> None:
    """Take the picture named on the command line, or the default one."""
    run(pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else default_photograph())


if __name__ == "__main__":
    sys.exit(run_command("demo", main))
