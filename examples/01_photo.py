"""A photo both ways through files: the small PNG is all that is kept, and the PSNR says what came back.

    python examples/01_photo.py [your.jpg]

Needs nothing but the package. Without a picture of yours it takes a photograph of scikit-image where that is installed,
else a drawn one. Files go to ./example-out.
"""

import sys
from pathlib import Path

from bdflow_rt import Picture, Rescaler
from bdflow_rt.containers import read_picture, write_picture
from bdflow_rt.metrics import bicubic_downscale, bicubic_resize, psnr_y
from bdflow_rt.picture import sample_picture

FOLDER = Path("example-out")


def sample() -> Path:
    """A picture file to try things out with."""
    try:
        from skimage.data import chelsea

        pixels = chelsea()
    except ImportError:
        pixels = sample_picture(480, 640)
    path = FOLDER / "photo.png"
    write_picture(path, Picture(pixels))
    return path


def main() -> None:
    """Downscale, restore and measure one picture."""
    FOLDER.mkdir(exist_ok=True)
    source = Path(sys.argv[1]) if len(sys.argv) > 1 else sample()
    small, restored = FOLDER / "small.png", FOLDER / "restored.png"

    with Rescaler.from_pretrained("bdflow-x4") as rescaler:
        packet = rescaler.downscale_file(source, small)
        rescaler.upscale_file(small, restored)
        scale = rescaler.card.interface.scale

    hr, back = read_picture(source).pixels, read_picture(restored).pixels
    height, width = hr.shape[:2]
    bicubic = bicubic_resize(bicubic_downscale(hr, scale=scale), scale=scale)[:height, :width]
    lr_height, lr_width = packet.lr.shape[:2]
    print(f"original  {source}: {width} x {height}, {source.stat().st_size:,} bytes")
    print(f"small     {small}: {lr_width} x {lr_height}, {small.stat().st_size:,} bytes")
    print(f"restored  {restored}: {psnr_y(back, hr, border=scale):.2f} dB PSNR-Y")
    print(f"bicubic   {psnr_y(bicubic, hr, border=scale):.2f} dB, for comparison")


if __name__ == "__main__":
    main()
