"""The network's configuration and what follows from it by arithmetic: channels, parameters, MACs, receptive field.

Nothing here needs torch, so cards, the command line and the engines can use it everywhere.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Any, Literal

from bdflow_rt.errors import ModelConfigError

Coupling = Literal["scaled", "additive"]
SCALES = (2, 4, 8, 16, 32, 64)
MAX_BLOCKS = 64
MAX_HIDDEN = 4096
"""Per level; far above what is of use, and low enough that a card with absurd numbers is refused as such."""
TRANSFORM_RADIUS = 3
"""Pixels that one transform reaches to each side: three 3x3 convolutions."""
LEAKY_SLOPE = 0.2
"""Of the transforms' LeakyReLU; part of every model, whatever its configuration."""
LR_BOUND = 64
"""Levels of 255 by which an LR pixel may differ, in each channel, from the mean of the HR pixels it stands for.

What a network puts beyond is cut off: on pictures unlike those it was trained on it overshoots, and the LR would get
bright dots. Photographs are practically never cut (docs/quality.md), and the way back takes any LR.
"""


def _is_whole(value: Any, least: int, most: int) -> bool:
    return type(value) is int and least <= value <= most


@dataclass(frozen=True)
class BoundaryConfig:
    """How the boundary-aware mask is made (training target of the boundary channel, and source of BAW).

    `threshold`, `norm`, `saturation`: steps 4, 6 and 7 of the mask. `source`: "hr" takes the maximum over each
    scale x scale cell of the HR mask; "lr" computes the mask on the LR picture.
    """

    threshold: int = 50
    norm: Literal[1, 2] = 2
    saturation: int = 255
    source: Literal["hr", "lr"] = "hr"

    def __post_init__(self) -> None:
        if not _is_whole(self.norm, 1, 2):
            raise ModelConfigError(f"boundary.norm is {self.norm!r}; it must be 1 or 2.")
        if self.source not in ("hr", "lr"):
            raise ModelConfigError(f"boundary.source is {self.source!r}; it must be 'hr' or 'lr'.")
        whole = type(self.threshold) is int and type(self.saturation) is int
        if not whole or not 0 <= self.threshold < self.saturation:
            raise ModelConfigError(
                f"boundary.threshold is {self.threshold!r} and saturation {self.saturation!r}; whole numbers with "
                "0 <= threshold < saturation are needed."
            )


@dataclass(frozen=True)
class ModelConfig:
    """Structure of a BDFlow network. Everything that changes an output pixel is here; it is saved beside the weights.

    Attributes:
        scale: 2, 4, 8, 16, 32 or 64; the network has n = log2(scale) levels.
        blocks: invertible blocks per level, n entries (the paper's K in each).
        hidden: hidden width of the transforms per level, n entries (64 in the paper).
        coupling: "scaled" is eq. 6 of the paper; "additive" replaces its first line by u1 + phi(u2), as IRN does.
        bits: bits per pixel of the boundary channel, 0..8; with 0, channel 3 belongs to Z.
        boundary: how the training target of the boundary channel is made.
    """

    scale: int = 4
    blocks: tuple[int, ...] = (2, 2)
    hidden: tuple[int, ...] = (64, 64)
    coupling: Coupling = "scaled"
    bits: int = 1
    boundary: BoundaryConfig = BoundaryConfig()

    def __post_init__(self) -> None:
        if type(self.scale) is not int or self.scale not in SCALES:
            raise ModelConfigError(f"scale is {self.scale!r}; it must be one of {', '.join(map(str, SCALES))}.")
        for name, limit in (("blocks", MAX_BLOCKS), ("hidden", MAX_HIDDEN)):
            value = getattr(self, name)
            if (
                not isinstance(value, tuple)
                or len(value) != self.levels
                or not all(_is_whole(v, 1, limit) for v in value)
            ):
                raise ModelConfigError(
                    f"{name} is {value!r}; a x{self.scale} network needs {self.levels} whole numbers from 1 to {limit}."
                )
        if self.coupling not in ("scaled", "additive"):
            raise ModelConfigError(f"coupling is {self.coupling!r}; it must be 'scaled' or 'additive'.")
        if not _is_whole(self.bits, 0, 8):
            raise ModelConfigError(f"bits is {self.bits!r}; it must be 0 to 8.")

    @property
    def levels(self) -> int:
        """Number of Haar levels n; the scale is 2^n."""
        return self.scale.bit_length() - 1

    @property
    def max_level(self) -> int:
        """Largest quantised boundary level, 2^bits - 1."""
        return (1 << self.bits) - 1

    @property
    def boundary_offset(self) -> float:
        """o = (2^bits - 1)/2, which centres the quantised levels on zero."""
        return self.max_level / 2

    @property
    def latent_channels(self) -> int:
        """Channels of Z at LR resolution: what is neither Y nor B."""
        return 3 * 4**self.levels - (4 if self.bits else 3)

    def channels(self, level: int) -> int:
        """Channels after the Haar transform of level 1..n: 3 * 4^level."""
        return 3 * 4**level

    @property
    def halo(self) -> int:
        """LR pixels that one output pixel can depend on, to each side, in either direction.

        A block chains two transforms (phi, then rho and eta on its result), so it reaches 6 pixels of its own
        level; level l has pixels of 2^l HR pixels. Rounded up to whole LR pixels.
        """
        reach_hr = sum(2 * TRANSFORM_RADIUS * k * 2**level for level, k in enumerate(self.blocks, 1))
        return -(-reach_hr // self.scale)

    def parameters(self) -> int:
        """Trainable parameters of the flow, as counted in the paper's Table 2 (the boundary gain is one more)."""
        total = 0
        for level, (k, width) in enumerate(zip(self.blocks, self.hidden, strict=True), 1):
            rest = self.channels(level) - 3
            total += k * (_transform_parameters(rest, 3, width) + 2 * _transform_parameters(3, rest, width))
        return total

    def macs(self, height: int, width: int) -> int:
        """Multiply-accumulates of all convolution weights, one direction, for a height x width HR image.

        The convention of the paper's Table 2 (which prints it as "FLOPs"): biases, Haar sums and element-wise
        work are not counted, and nothing is left out in the down direction.
        """
        total = 0
        for level, (k, hidden) in enumerate(zip(self.blocks, self.hidden, strict=True), 1):
            rest = self.channels(level) - 3
            pixels = (height >> level) * (width >> level)
            total += pixels * k * (_transform_macs(rest, 3, hidden) + 2 * _transform_macs(3, rest, hidden))
        return total

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types; `from_dict` reads it back."""
        return json.loads(json.dumps(dataclasses.asdict(self)))

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> ModelConfig:
        """Read what `to_dict` wrote.

        Raises:
            ModelConfigError: an unknown key or an impossible value.
        """
        boundary = data.get("boundary", {}) if isinstance(data, dict) else None
        if not isinstance(boundary, dict):
            raise ModelConfigError(f"The model's config is {data!r}; it must be a table, and its boundary another one.")
        data = {name: value for name, value in data.items() if name != "boundary"}
        for part, known in ((data, cls), (boundary, BoundaryConfig)):
            names = {field.name for field in dataclasses.fields(known)}
            if unknown := sorted(set(part) - names):
                raise ModelConfigError(f"Unknown key {unknown[0]!r} in the model's config; known: {sorted(names)}.")
        for name in ("blocks", "hidden"):
            if isinstance(data.get(name), list):
                data[name] = tuple(data[name])
        return cls(**data, boundary=BoundaryConfig(**boundary))


def paper_config(scale: int, **changes: Any) -> ModelConfig:
    """The paper's network for a scale: 64 hidden channels, K = 2 blocks per level, K = 4 for x8 (Table 2)."""
    if type(scale) is not int or scale not in SCALES:
        raise ModelConfigError(f"scale is {scale!r}; it must be one of {', '.join(map(str, SCALES))}.")
    levels = scale.bit_length() - 1
    settings = {"scale": scale, "blocks": (4 if scale == 8 else 2,) * levels, "hidden": (64,) * levels}
    return ModelConfig(**{**settings, **changes})


def _transform_macs(inputs: int, outputs: int, hidden: int) -> int:
    return 9 * (inputs * hidden + hidden * hidden + hidden * outputs + inputs * outputs)


def _transform_parameters(inputs: int, outputs: int, hidden: int) -> int:
    return _transform_macs(inputs, outputs, hidden) + 2 * hidden + 2 * outputs
