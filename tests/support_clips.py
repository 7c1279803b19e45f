"""A video file of given pictures, written by hand: YUV4MPEG2 needs no encoder."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bdflow_rt.picture import UInt8Array


def write_y4m(path: Path, frames: UInt8Array) -> Path:
    """Write (T, H, W, 3) uint8 as the planes Y, Cb and Cr of a video at 25 frames a second, and return its path."""
    height, width = frames.shape[1:3]
    head = f"YUV4MPEG2 W{width} H{height} F25:1 Ip A1:1 C444\n".encode()
    planes = (np.ascontiguousarray(frame.transpose(2, 0, 1)).tobytes() for frame in frames)
    path.write_bytes(head + b"".join(b"FRAME\n" + frame for frame in planes))
    return path
