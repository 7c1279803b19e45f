"""JPEG files of kinds that Pillow does not write."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tests.containers.build import encoded

EIGHT_BITS: dict[str, Any] = {"qtables": [[8] * 64] * 2, "subsampling": 0}
"""What `encoded` makes the 8-bit twin of a 12-bit picture with."""


def twelve_bit_jpeg(image: Image.Image) -> bytes:
    """An 8-bit JPEG in 12 bits: the same coefficients, in steps of 16 times the size."""
    data = encoded(image, "JPEG", **EIGHT_BITS).replace(bytes([8] * 64), bytes([128] * 64))
    at = data.index(b"\xff\xc0\0")
    return data[:at] + b"\xff\xc1" + data[at + 2 : at + 4] + b"\x0c" + data[at + 5 :]


def lossless_jpeg(grey: NDArray[np.uint8]) -> bytes:
    """A JPEG of process 14 (SOF3), each sample predicted by the one before it, or in the first column above it.

    Source: ITU-T T.81, annex H. Its Huffman table has a code of 4 bits for each number of bits of a difference.
    """
    height, width = grey.shape
    samples = grey.astype(int)
    before = np.hstack([np.vstack([[[128]], samples[:-1, :1]]), samples[:, :-1]])
    bits = ""
    for difference in (samples - before).ravel():
        count = int(abs(difference)).bit_length()
        value = difference if difference > 0 else difference + (1 << count) - 1
        bits += f"{count:04b}" + (f"{value:0{count}b}" if count else "")
    bits += "1" * (-len(bits) % 8)
    codes = int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\0")
    frame = struct.pack(">BHHBBBB", 8, height, width, 1, 1, 0x11, 0)
    table = bytes([0, 0, 0, 0, 9, *[0] * 12, *range(9)])
    scan = bytes([1, 1, 0, 1, 0, 0])
    segments = ((0xC3, frame), (0xC4, table), (0xDA, scan))
    head = b"".join(struct.pack(">BBH", 0xFF, kind, len(part) + 2) + part for kind, part in segments)
    return b"\xff\xd8" + head + codes + b"\xff\xd9"
