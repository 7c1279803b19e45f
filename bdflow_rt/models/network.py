"""What every network is: a module with two directions around what crosses the wire."""

from __future__ import annotations

import importlib
from abc import abstractmethod
from collections.abc import Callable, Collection
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d
from torch.utils.checkpoint import checkpoint

from bdflow_rt.errors import ModelConfigError, ShapeError, plural
from bdflow_rt.models.layers.haar import haar_forward, haar_inverse
from bdflow_rt.models.layers.quantize import BoundaryQuantizer, quantize_lr
from bdflow_rt.zoo.architecture import Architecture


class NetworkOutput(NamedTuple):
    """What the down direction returns, not yet quantised, at H/scale x W/scale."""

    lr: Tensor
    """Y, (N, 3, h, w): the LR image, near [0, 1]."""
    boundary: Tensor | None
    """B, (N, 1, h, w): the boundary channel; None for a model with 0 bits."""
    latent: Tensor | None
    """Z, (N, latent_channels, h, w); None for a network without."""


class Network(nn.Module):
    """Base of the networks: implement `down` and `up`.

    Its planes are what `ModelInterface.core_input` says: the first-level Haar planes (N, 12, H/2, W/2), or RGB
    (N, 3, H, W), of pixels in [0, 1].

    `checkpoint_gradients`: set to True to recompute what goes through `self.checkpointed` in the backward pass instead
    of keeping its activations.

    A layer whose class has `float32 = True` computes in float32 in every precision, as does all that `wire.Wire` does.

    Args:
        config: the structure.
    """

    def __init__(self, config: Architecture) -> None:
        super().__init__()
        self.config = config
        self.interface = config.interface()
        self.quantizer = BoundaryQuantizer(self.interface) if self.interface.bits else None
        self.checkpoint_gradients = False

    @abstractmethod
    def down(self, planes: Tensor) -> NetworkOutput:
        """The planes of an HR picture to Y, B and Z, before quantisation."""

    @abstractmethod
    def up(self, lr: Tensor, boundary: Tensor | None = None, latent: Tensor | None = None) -> Tensor:
        """What `down` returned, or its quantised stand-ins, back to planes.

        Args:
            lr: (N, 3, h, w).
            boundary: (N, 1, h, w) channel values (not levels); None where the model has 0 bits.
            latent: (N, latent_channels, h, w); None is Z = 0.
        """

    def float32_modules(self, way: Literal["down", "up"]) -> Collection[nn.Module]:
        """Modules whose own sums, besides those of their layers, stay float32: those that make the output."""
        return ()

    def forward(self, x: Tensor) -> NetworkOutput:
        """Down: (N, 3, H, W) in [0, 1] to Y, B and Z, before quantisation.

        Raises:
            ShapeError: x is not (N, 3, H, W) with H and W multiples of the scale.
        """
        scale = self.interface.scale
        if x.ndim != 4 or x.shape[1] != 3 or x.shape[2] % scale or x.shape[3] % scale:
            raise ShapeError(
                f"A x{scale} network got shape {tuple(x.shape)}; (N, 3, H, W) with H and W multiples of {scale} is "
                "needed."
            )
        return self.down(self.analyse(x))

    def inverse(self, lr: Tensor, boundary: Tensor | None = None, latent: Tensor | None = None) -> Tensor:
        """Up: as `up`, to (N, 3, H, W).

        Raises:
            ShapeError: a boundary is missing or superfluous.
        """
        if (boundary is None) != (self.quantizer is None):
            needed = "no" if self.quantizer is None else "a"
            raise ShapeError(f"A model with {plural(self.interface.bits, 'bit')} takes {needed} boundary.")
        return self.synthesise(self.up(lr, boundary, latent))

    def analyse(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) to planes."""
        return haar_forward(x) if self.interface.core_input == "haar" else x

    def synthesise(self, planes: Tensor) -> Tensor:
        """Planes to (N, 3, H, W)."""
        return haar_inverse(planes) if self.interface.core_input == "haar" else planes

    def cell_means(self, planes: Tensor) -> Tensor:
        """The mean of the HR pixels of each LR pixel, (N, 3, h, w)."""
        side = self.interface.scale // (2 if self.interface.core_input == "haar" else 1)
        average = planes[:, :3]
        return average if side == 1 else avg_pool2d(average, side)

    def quantize(self, output: NetworkOutput, hr: Tensor) -> tuple[Tensor, Tensor | None]:
        """What crosses the wire, as values: Y in steps of 1/255, B as (q - o)*g; gradients pass straight through.

        Args:
            output: what `forward` made of `hr`.
            hr: (N, 3, H, W) in [0, 1], to which Y is bound.
        """
        lr = quantize_lr(output.lr, avg_pool2d(hr, self.interface.scale), self.interface.lr_bound)
        if self.quantizer is None or output.boundary is None:
            return lr, None
        return lr, self.quantizer(output.boundary)

    def checkpointed(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call a function, whose activations are computed anew in the backward pass if `checkpoint_gradients` is on."""
        if self.checkpoint_gradients and torch.is_grad_enabled():
            return checkpoint(function, *arguments, use_reentrant=False, preserve_rng_state=False)
        return function(*arguments)


def build_network(config: Architecture) -> Network:
    """A new network of an architecture.

    Raises:
        ModelConfigError: the architecture names no module that is one.
    """
    home, _, name = config.module.partition(":")
    try:
        network = getattr(importlib.import_module(home), name)(config)
    except (ImportError, AttributeError) as error:
        raise ModelConfigError(f"The architecture {config.arch!r} has no network {config.module!r}: {error}.") from None
    if not isinstance(network, Network):
        raise ModelConfigError(f"{config.module!r} of the architecture {config.arch!r} is no Network.")
    return network
