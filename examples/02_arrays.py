"""NumPy arrays instead of files: one picture, a batch, and packets as bytes for a database or a queue.

    python examples/02_arrays.py [your.jpg]

Needs nothing but the package.
"""

import sys

import numpy as np

from bdflow_rt import Rescaler, decode_png, encode_png
from bdflow_rt.containers import read_picture
from bdflow_rt.metrics import psnr
from bdflow_rt.picture import sample_picture


def main() -> None:
    """One array, then four at once, then bytes."""
    image = read_picture(sys.argv[1]).pixels if len(sys.argv) > 1 else sample_picture(251, 333)

    with Rescaler.from_pretrained("bdflow-x4-fast") as rescaler:
        # One picture: (H, W, 3) uint8 RGB of any size from 1 x 1.
        packet = rescaler.downscale(image)
        restored = rescaler.upscale(packet)
        print(f"picture   {image.shape} -> {packet.lr.shape} -> {restored.shape}: {psnr(restored, image):.2f} dB PSNR")
        if packet.boundary is not None:
            print(f"boundary  {packet.boundary.shape}, levels 0 to {packet.boundary.max()}")

        # A batch: an array (N, H, W, 3), or a list of pictures of any sizes.
        batch = np.stack([sample_picture(96, 128, seed) for seed in range(4)])
        packets = rescaler.downscale_batch(batch)
        pictures = rescaler.upscale_batch(packets)
        values = ", ".join(f"{psnr(back, hr):.2f}" for back, hr in zip(pictures, batch, strict=True))
        print(f"batch     {batch.shape}: {values} dB PSNR")

    # Bytes: the same PNG that write_packet puts into a file.
    data = encode_png(packet)
    print(f"bytes     {len(data):,}")

    # Elsewhere, with nothing but the bytes: the packet names its model, and for_packet loads that one.
    received = decode_png(data)
    with Rescaler.for_packet(received) as rescaler:
        again = rescaler.upscale(received)
    print(f"received  made with {received.header.model}; equal to the first result: {np.array_equal(again, restored)}")


if __name__ == "__main__":
    main()
