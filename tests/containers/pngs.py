"""PNG files of every kind that the specification allows, made by hand: PngSuite's like, without PngSuite."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tests.containers.build import Chunks, join

ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
KINDS = [
    (colour, depth)
    for colour, depths in ((0, (1, 2, 4, 8, 16)), (2, (8, 16)), (3, (1, 2, 4, 8)), (4, (8, 16)), (6, (8, 16)))
    for depth in depths
]
"""Every colour type with every depth of its own."""


@dataclass(frozen=True)
class Png:
    """A PNG and what it means.

    Attributes:
        samples: (H, W, C) uint16, as they are in the file.
        palette: (N, 3) uint8 of a palette picture.
    """

    colour: int
    depth: int
    interlace: int
    samples: NDArray[np.uint16]
    palette: NDArray[np.uint8]

    @classmethod
    def random(cls, colour: int, depth: int, interlace: int, *, size: tuple[int, int] = (23, 29), seed: int = 0) -> Png:
        """Noise, with alpha full everywhere."""
        rng = np.random.default_rng((colour, depth, interlace, seed))
        samples = rng.integers(0, 1 << depth, (*size, CHANNELS[colour])).astype(np.uint16)
        if colour in (4, 6):
            samples[..., -1] = (1 << depth) - 1
        return cls(colour, depth, interlace, samples, rng.integers(0, 256, (1 << min(depth, 8), 3)).astype(np.uint8))

    def rgb(self) -> NDArray[np.uint8]:
        """(H, W, 3) uint8, scaled as the specification says (section 13.12), for 16 bits by their high byte."""
        if self.colour == 3:
            return self.palette[self.samples[..., 0]]
        colours = self.samples[..., :-1] if self.colour in (4, 6) else self.samples
        scaled = colours >> 8 if self.depth == 16 else colours * (255 // ((1 << self.depth) - 1))
        return np.broadcast_to(scaled, (*scaled.shape[:2], 3)).astype(np.uint8)

    def encode(self, *before: tuple[bytes, bytes], after: Chunks = []) -> bytes:  # noqa: B006 - never written to
        """The file, with chunks before and behind the pixels."""
        height, width = self.samples.shape[:2]
        ihdr = struct.pack(">IIBBBBB", width, height, self.depth, self.colour, 0, 0, self.interlace)
        palette = [(b"PLTE", self.palette.tobytes())] if self.colour == 3 else []
        passes = ADAM7 if self.interlace else ((0, 0, 1, 1),)
        rows = b"".join(self._rows(self.samples[y::down, x::right]) for x, y, right, down in passes)
        pixels = zlib.compress(rows)
        half = len(pixels) // 2
        idat = [(b"IDAT", pixels[:half]), (b"IDAT", pixels[half:])]
        # Chunks about colours stand before the palette, tRNS behind it.
        first = [pair for pair in before if pair[0] != b"tRNS"]
        last = [pair for pair in before if pair[0] == b"tRNS"]
        return join([(b"IHDR", ihdr), *first, *palette, *last, *idat, *after, (b"IEND", b"")])

    def _rows(self, samples: NDArray[np.uint16]) -> bytes:
        """Rows with filter 0 before each, packed to whole bytes."""
        if not samples.size:
            return b""
        flat = samples.reshape(len(samples), -1)
        if self.depth == 16:
            data: NDArray[np.uint8] = flat.astype(">u2").view(np.uint8).reshape(len(flat), -1)
        else:
            bits = np.unpackbits(flat.astype(np.uint8)[..., None], axis=2)[..., 8 - self.depth :]
            data = np.packbits(bits.reshape(len(flat), -1), axis=1)
        return np.hstack([np.zeros((len(data), 1), np.uint8), data]).tobytes()
