"""Stores a packet of a released model and the picture it restores to, for `test_released_packets.py`.

    python -m tests.released.make bdflow-x4@1

Run once, when the model is released; stored packets never change.
"""

from __future__ import annotations

import pathlib
import sys

import numpy as np
from PIL import Image

from bdflow_rt import Rescaler, write_packet
from tests.support import photo

FOLDER = pathlib.Path(__file__).parent
SIZE = (67, 93)
"""Odd on purpose: the packet has to remember it."""


def main(name: str) -> None:
    """Write NAME.png, the packet, and NAME-restored.png."""
    packet_path, restored_path = FOLDER / f"{name}.png", FOLDER / f"{name}-restored.png"
    if packet_path.exists():
        raise SystemExit(f"{packet_path} exists, and stored packets never change.")
    with Rescaler.from_pretrained(name) as rescaler:
        packet = rescaler.downscale(photo(*SIZE, 11))
        write_packet(packet_path, packet)
        Image.fromarray(np.asarray(rescaler.upscale(packet))).save(restored_path, optimize=True)


if __name__ == "__main__":
    main(sys.argv[1])
