"""A network of your own: trained for a few seconds on drawn pictures, exported, used.

    python examples/07_train.py [FOLDER_WITH_PICTURES]

Needs the extras [train] and [export]. So little training gives a working model, not a good one.
"""

import sys
import tempfile
from pathlib import Path

from bdflow_rt import Picture, Rescaler
from bdflow_rt.containers import write_picture
from bdflow_rt.metrics import bicubic_downscale, bicubic_resize, psnr_y
from bdflow_rt.picture import sample_picture
from bdflow_rt.zoo import find_model

CONFIG = """
crop = 64
batch = 2
iterations = 120
optimizer = "muon"
learning_rate = 4e-3
workers = 0
warmup = 10
log_every = 40

[model]
scale = 2
blocks = [1]
hidden = [8]

[loss]
lr = 3
reconstruction = 1
lpips = 0
boundary = 0
latent = 0
"""


def main() -> None:
    """Train, export, and measure on a picture that was not trained on."""
    from bdflow_rt.export.onnx import export_model
    from bdflow_rt.training.config import TrainConfig
    from bdflow_rt.training.runs import train_model

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "tiny-x2.toml").write_text(CONFIG)
        pictures = Path(sys.argv[1]) if len(sys.argv) > 1 else folder / "pictures"
        if len(sys.argv) == 1:
            pictures.mkdir()
            for seed in range(8):
                write_picture(pictures / f"{seed}.png", Picture(sample_picture(192, 256, seed)))
        run = folder / "run"
        train_model(
            TrainConfig.find(str(folder / "tiny-x2.toml")), data=[pictures], output=run, cache=folder / "cache",
            name="tiny-x2", version=1,
        )  # fmt: skip
        export_model(find_model(run / "model"))  # a model folder: card, weights, ONNX graphs

        hr = sample_picture(240, 320, seed=99)
        with Rescaler.from_pretrained(run / "model") as rescaler:
            restored = rescaler.upscale(rescaler.downscale(hr))
        bicubic = bicubic_resize(bicubic_downscale(hr, scale=2), scale=2)
        print(f"tiny-x2  {psnr_y(restored, hr, border=2):.2f} dB PSNR-Y")
        print(f"bicubic  {psnr_y(bicubic, hr, border=2):.2f} dB")


if __name__ == "__main__":
    main()
