"""The sizes an engine is built for: the smallest, the largest, and the one whose speed counts most."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from bdflow_rt.errors import ArgumentError
from bdflow_rt.zoo.card import ModelCard

Size = tuple[int, int]
Batch = tuple[int, int, int]
Shapes = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]

NAMED: dict[str, Size] = {"360p": (360, 640), "720p": (720, 1280), "1080p": (1080, 1920), "4k": (2160, 3840)}
"""(height, width) of a frame that fills such a screen."""
SMALLEST: Size = (1, 1)
"""What the named profiles begin at: one LR pixel."""
_MAX_SIDE = 1 << 16
_MAX_BATCH = 1 << 10
_ALLOWED = f"a name ({', '.join(NAMED)}), WIDTHxHEIGHT, or three of them as MIN:OPT:MAX"


@dataclass(frozen=True)
class Profile:
    """The range of inputs that one engine takes.

    Attributes:
        name: as the user gave it, in small letters: it is part of an engine's key.
        min, opt, max: (height, width) of the HR picture in pixels; the network pads them to multiples of its scale.
        batch: smallest, optimal and largest number of pictures.
    """

    name: str
    min: Size
    opt: Size
    max: Size
    batch: Batch = (1, 1, 1)

    def __post_init__(self) -> None:
        for axis, (low, best, high) in enumerate(zip(self.min, self.opt, self.max, strict=True)):
            if not 1 <= low <= best <= high <= _MAX_SIDE:
                raise ArgumentError(
                    f"Profile {self.name!r} has {'widths' if axis else 'heights'} {low}, {best} and {high}; the "
                    f"smallest, optimal and largest must not fall and be from 1 to {_MAX_SIDE}."
                )
        low, best, high = self.batch
        if not 1 <= low <= best <= high <= _MAX_BATCH:
            raise ArgumentError(
                f"The batch is {low}, {best} and {high} pictures; the smallest, optimal and largest must not fall and "
                f"be from 1 to {_MAX_BATCH}."
            )

    def shapes(self, card: ModelCard, inputs: Iterable[str]) -> dict[str, Shapes]:
        """Smallest, optimal and largest shape of inputs of the model's graphs, by name."""
        return {name: self._triple(card, name) for name in inputs}

    def __str__(self) -> str:
        low, best, high = (
            f"{n}x{height}x{width}"
            for n, (height, width) in zip(self.batch, (self.min, self.opt, self.max), strict=True)
        )
        return f"{self.name}: {low} to {high}, best {best}"

    def _triple(self, card: ModelCard, name: str) -> Shapes:
        sizes = (self.min, self.opt, self.max)
        low, best, high = (_shape(card, name, n, size) for n, size in zip(self.batch, sizes, strict=True))
        return low, best, high


def parse_profile(text: str, *, batch: Batch = (1, 1, 1)) -> Profile:
    """A profile from what a user types.

    Args:
        text: "1080p" takes pictures from one LR pixel to 1920 x 1080 and is tuned for the largest; "640x480" takes that
            size alone; "64x64:1280x720:1920x1080" is smallest, optimal, largest, where names are sizes too.
        batch: smallest, optimal and largest number of pictures.

    Raises:
        ArgumentError: it is none of these, or the sizes fall.
    """
    name = text.lower()
    parts = name.split(":")
    sizes = [_size(part, text) for part in parts]
    if len(sizes) == 3:
        return Profile(name, sizes[0], sizes[1], sizes[2], batch)
    if len(sizes) == 1:
        smallest = SMALLEST if parts[0] in NAMED else sizes[0]
        return Profile(name, smallest, sizes[0], sizes[0], batch)
    raise ArgumentError(f"Profile {text!r:.100} has {len(sizes)} sizes; it must be {_ALLOWED}.")


def parse_batch(text: str) -> Batch:
    """ "8" is that many at most, tuned for them; "1,1,8" is smallest, optimal, largest.

    Raises:
        ArgumentError: it is neither.
    """
    if not re.fullmatch(r"\d{1,4}(,\d{1,4},\d{1,4})?", text, re.ASCII):
        raise ArgumentError(f"Batch {text!r:.100} is not allowed; give one number, or smallest,optimal,largest.")
    numbers = [int(part) for part in text.split(",")]
    return (1, numbers[0], numbers[0]) if len(numbers) == 1 else (numbers[0], numbers[1], numbers[2])


def _size(part: str, text: str) -> Size:
    if part in NAMED:
        return NAMED[part]
    if found := re.fullmatch(r"(\d{1,6})x(\d{1,6})", part, re.ASCII):
        return int(found[2]), int(found[1])
    raise ArgumentError(f"Profile {text!r:.100} is not allowed; it must be {_ALLOWED}.")


def _shape(card: ModelCard, name: str, n: int, size: Size) -> tuple[int, ...]:
    h, w = (-(-side // card.interface.scale) for side in size)
    return card.interface.tensors[name].shape((n, h, w), card.interface.scale)
