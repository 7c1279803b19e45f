"""BDFlow: a Haar pyramid with invertible blocks on every level (paper, 3.2 and Table 2)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from bdflow_rt.errors import ModelConfigError
from bdflow_rt.zoo.architecture import Architecture, architecture
from bdflow_rt.zoo.boundary import BoundaryConfig
from bdflow_rt.zoo.interface import SCALES, ModelInterface

Coupling = Literal["scaled", "additive"]
MAX_BLOCKS = 64
MAX_HIDDEN = 4096
"""Per level; far above what is of use, and low enough that a card with absurd numbers is refused as such."""
TRANSFORM_RADIUS = 3
"""Pixels that one transform reaches to each side: three 3x3 convolutions."""
LEAKY_SLOPE = 0.2
"""Of the transforms' LeakyReLU; part of every model, whatever its configuration."""


def _is_whole(value: Any, least: int, most: int) -> bool:
    return type(value) is int and least <= value <= most


@architecture("bdflow", module="bdflow_rt.models.bdflow:BDFlow")
@dataclass(frozen=True)
class BDFlowConfig(Architecture):
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
    boundary: BoundaryConfig = field(default_factory=BoundaryConfig)

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
    def latent_channels(self) -> int:
        """Channels of Z at LR resolution: what is neither Y nor B."""
        return 3 * 4**self.levels - (4 if self.bits else 3)

    def channels(self, level: int) -> int:
        """Channels after the Haar transform of level 1..n: 3 * 4^level."""
        return 3 * 4**level

    def interface(self) -> ModelInterface:
        # Measured, not derived: three hidden maps and three maps of all channels of the largest level are 1.27 to 1.45
        # times the peak of OpenVINO with the paper's x2 to x16 networks, whatever the direction and size, and 1.02 to
        # 1.4 times with 16 to 96 hidden channels.
        largest = max(
            (3 * hidden + 3 * self.channels(level)) * 4 ** (self.levels - level)
            for level, hidden in enumerate(self.hidden, 1)
        )
        return ModelInterface(
            scale=self.scale,
            activation_bytes=4 * largest,
            halo=self.receptive_field(),
            bits=self.bits,
            latent_channels=self.latent_channels,
        )

    def receptive_field(self) -> int:
        """As for every architecture, in LR pixels.

        A block chains two transforms (phi, then rho and eta on its result), so it reaches 6 pixels of its own
        level; level l has pixels of 2^l HR pixels. Rounded up to whole LR pixels.
        """
        reach_hr = sum(2 * TRANSFORM_RADIUS * k * 2**level for level, k in enumerate(self.blocks, 1))
        return -(-reach_hr // self.scale)

    def mask(self) -> BoundaryConfig:
        """`boundary`."""
        return self.boundary

    def extends(self, smaller: Architecture) -> str | None:
        """A network fits into one of the same widths and coupling that has more blocks behind, or more levels."""
        if not isinstance(smaller, BDFlowConfig):
            return f"architecture {smaller.arch!r}"
        if smaller.coupling != self.coupling:
            return f"coupling {smaller.coupling!r}"
        if smaller.levels > self.levels:
            return f"scale {smaller.scale}"
        for level in range(smaller.levels):
            if smaller.hidden[level] != self.hidden[level]:
                return f"hidden width {smaller.hidden[level]} at level {level + 1}"
            if smaller.blocks[level] > self.blocks[level]:
                return f"{smaller.blocks[level]} blocks at level {level + 1}"
        return None

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


def paper_config(scale: int, **changes: Any) -> BDFlowConfig:
    """The paper's network for a scale: 64 hidden channels, K = 2 blocks per level, K = 4 for x8 (Table 2)."""
    if type(scale) is not int or scale not in SCALES:
        raise ModelConfigError(f"scale is {scale!r}; it must be one of {', '.join(map(str, SCALES))}.")
    levels = scale.bit_length() - 1
    settings = {"scale": scale, "blocks": (4 if scale == 8 else 2,) * levels, "hidden": (64,) * levels}
    return BDFlowConfig(**{**settings, **changes})


def _transform_macs(inputs: int, outputs: int, hidden: int) -> int:
    return 9 * (inputs * hidden + hidden * hidden + hidden * outputs + inputs * outputs)


def _transform_parameters(inputs: int, outputs: int, hidden: int) -> int:
    return _transform_macs(inputs, outputs, hidden) + 2 * hidden + 2 * outputs
