"""What a runtime has to know of a network: its `ModelInterface`, and nothing else of its architecture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

from bdflow_rt.errors import ModelConfigError

Direction = Literal["downscale", "upscale", "upscale_z", "super_resolve"]
"""upscale takes Z = 0, upscale_z a Z of its own; super_resolve takes a picture that no network made."""
CoreInput = Literal["haar", "rgb"]
GraphKind = Literal["public", "core"]
"""A public graph takes and gives uint8 pixels; a core graph has float16 planes in the place of the HR picture."""
SCALES = (2, 4, 8, 16, 32, 64)
"""HR pixels per LR pixel, to each side, that a packet can state."""
LR_BOUND = 64
"""Levels of 255 by which an LR pixel may differ, in each channel, from the mean of the HR pixels it stands for.

What a network puts beyond is cut off: on pictures unlike those it was trained on it overshoots, and the LR would get
bright dots. Photographs are practically never cut (docs/research/quality.md), and the upscale direction takes any LR.
"""
_INPUTS: dict[Direction, tuple[str, ...]] = {
    "downscale": ("image",),
    "upscale": ("lr", "boundary"),
    "upscale_z": ("lr", "boundary", "latent"),
    "super_resolve": ("lr",),
}


def graph_name(direction: Direction, kind: GraphKind) -> str:
    """What a model's card and folder call a graph: "downscale", or "downscale.core"."""
    return direction if kind == "public" else f"{direction}.core"


class TensorSpec(NamedTuple):
    """One input or output of a graph.

    `dims` are numbers, or letters for what varies: N pictures, H x W HR pixels, h x w LR pixels.
    """

    dtype: str
    dims: tuple[str | int, ...]

    def shape(self, batch: tuple[int, int, int], scale: int) -> tuple[int, ...]:
        """The dimensions for N, h, w."""
        n, h, w = batch
        sizes = {"N": n, "h": h, "w": w, "H": h * scale, "W": w * scale, "H/2": h * scale // 2, "W/2": w * scale // 2}
        return tuple(sizes[dim] if isinstance(dim, str) else dim for dim in self.dims)


@dataclass(frozen=True)
class ModelInterface:
    """A network as its users see it.

    Attributes:
        scale: one of `SCALES`. HR sides are padded to its multiples.
        activation_bytes: upper estimate of the working memory per LR pixel, in float32 and OpenVINO.
        halo: LR pixels that a tile needs on each side to give the whole picture's pixels; None where pictures cannot be
            cut, since every pixel hangs on all others.
        bits: bits per pixel of the boundary map, 0 to 8; 0 is none.
        latent_channels: channels of Z at LR resolution.
        directions: what the network does.
        core_input: what a core graph has in the place of the HR picture: "haar", its 12 first-level Haar planes, or
            "rgb", its 3 planes, of values in [0, 1].
        lr_bound: largest difference of an LR pixel to the mean of its HR pixels, in levels of 255; None is no bound.
        hr_size: height and width of the only HR pictures that the network takes; None is any.

    Raises:
        ModelConfigError: a value is impossible.
    """

    scale: int
    activation_bytes: int
    halo: int | None
    bits: int = 0
    latent_channels: int = 0
    directions: tuple[Direction, ...] = ("downscale", "upscale", "upscale_z")
    core_input: CoreInput = "haar"
    lr_bound: int | None = LR_BOUND
    hr_size: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        sound = {
            "scale": self.scale in SCALES,
            "activation_bytes": self.activation_bytes > 0,
            "halo": self.halo is None or self.halo >= 0,
            "bits": 0 <= self.bits <= 8,
            "latent_channels": self.latent_channels >= 0,
            "directions": bool(self.directions) and set(self.directions) <= set(get_args(Direction)),
            "core_input": self.core_input in get_args(CoreInput),
            "lr_bound": self.lr_bound is None or 0 < self.lr_bound <= 255,
            "hr_size": self.hr_size is None or all(side > 0 and side % self.scale == 0 for side in self.hr_size),
        }
        for name, is_sound in sound.items():
            if not is_sound:
                raise ModelConfigError(f"The interface's {name} is {getattr(self, name)!r}, which no network can have.")

    @property
    def max_level(self) -> int:
        """Largest level of the boundary map, 2^bits - 1."""
        return (1 << self.bits) - 1

    @property
    def boundary_offset(self) -> float:
        """o = (2^bits - 1)/2, which centres the levels on zero."""
        return self.max_level / 2

    def inputs(self, direction: Direction, *, kind: GraphKind = "public") -> dict[str, TensorSpec]:
        """What a direction's graph takes, by name, in order."""
        return self._named(_INPUTS[direction], kind)

    def outputs(self, direction: Direction, *, kind: GraphKind = "public") -> dict[str, TensorSpec]:
        """What it gives, `mean` last: of the values before they are rounded, finite only where all of them are."""
        return self._named((*(("lr", "boundary") if direction == "downscale" else ("image",)), "mean"), kind)

    @property
    def tensors(self) -> dict[str, TensorSpec]:
        """Everything that is an input or output of a graph, by name."""
        haar, rgb = ("N", 12, "H/2", "W/2"), ("N", 3, "H", "W")
        return {
            "image": TensorSpec("uint8", ("N", "H", "W", 3)),
            "planes": TensorSpec("float16", haar if self.core_input == "haar" else rgb),
            "lr": TensorSpec("uint8", ("N", "h", "w", 3)),
            "boundary": TensorSpec("uint8", ("N", "h", "w")),
            "latent": TensorSpec("float32", ("N", self.latent_channels, "h", "w")),
            "mean": TensorSpec("float32", ()),
        }

    def _named(self, names: tuple[str, ...], kind: GraphKind) -> dict[str, TensorSpec]:
        specs = self.tensors
        names = tuple("planes" if kind == "core" and name == "image" else name for name in names)
        return {name: specs[name] for name in names if name != "boundary" or self.bits}
