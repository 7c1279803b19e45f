"""One direction of any network with what crosses the wire at its ends: 8-bit pixels, levels of the boundary map, Z.

The public form has uint8 pixels in and out and everything else inside. The core form has float16 planes in the place
of the HR picture: on a GPU the kernels `ingest` and `egress` make and take them. Every backend computes what is written
here: PyTorch runs it, and the graphs of the others are exported from it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from bdflow_rt.models.layers.quantize import BoundaryQuantizer, bound_levels
from bdflow_rt.models.network import Network, NetworkOutput
from bdflow_rt.zoo.interface import Direction, GraphKind


class FromPixels(nn.Module):
    """(N, H, W, 3) uint8 to (N, 3, H, W) float32 in [0, 1]."""

    float32 = True

    def forward(self, pixels: Tensor) -> Tensor:
        return pixels.float().permute(0, 3, 1, 2) / 255


class ToPixels(nn.Module):
    """(N, 3, H, W) in levels of 255 to (N, H, W, 3) uint8: clamped, rounded half to even."""

    float32 = True

    def forward(self, levels: Tensor) -> Tensor:
        # TensorRT takes uint8 nowhere but at inputs and outputs: the casts come first and last.
        return levels.permute(0, 2, 3, 1).clamp(0, 255).round().to(torch.uint8).contiguous()


class ToLr(nn.Module):
    """Y (N, 3, h, w) to the LR picture (N, h, w, 3) uint8, bound to the means of its HR pixels."""

    float32 = True

    def __init__(self, network: Network) -> None:
        super().__init__()
        self._means, self._bound = network.cell_means, network.interface.lr_bound
        self.pixels = ToPixels()

    def forward(self, y: Tensor, planes: Tensor) -> Tensor:
        return self.pixels(bound_levels(y, self._means(planes).float(), self._bound))


class ToLevels(nn.Module):
    """B (N, 1, h, w) to the levels of the boundary map (N, h, w) uint8."""

    float32 = True

    def forward(self, b: Tensor, quantizer: BoundaryQuantizer) -> Tensor:
        return quantizer.position(b)[:, 0].clamp(0, quantizer.max_level).round().to(torch.uint8)


class FromLevels(nn.Module):
    """Levels of the boundary map (N, h, w) uint8 to (N, 1, h, w), as they enter the inverse."""

    float32 = True

    def forward(self, levels: Tensor, quantizer: BoundaryQuantizer) -> Tensor:
        return quantizer.value(levels.float()[:, None])


class Wire(nn.Module):
    """One direction of a network, from and to what `ModelInterface` calls its inputs and outputs.

    Args:
        network: in any precision, in which it computes; its outputs are rounded from float32.
        direction: which one.
        kind: "public" or "core".

    `down` and `up` are the network's own; whoever compiles them puts the result here.
    """

    float32 = True

    def __init__(self, network: Network, direction: Direction, *, kind: GraphKind = "public") -> None:
        super().__init__()
        self.network = network
        self.direction = direction
        self.kind = kind
        self.down: Callable[[Tensor], NetworkOutput] = network.down
        self.up: Callable[..., Tensor] = network.up
        self.image = FromPixels() if direction == "downscale" else ToPixels()
        self.lr = ToLr(network) if direction == "downscale" else FromPixels()
        self.boundary = ToLevels() if direction == "downscale" else FromLevels()

    def forward(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The outputs by name, `mean` the last."""
        return self._downscale(inputs) if self.direction == "downscale" else self._upscale(inputs)

    def _downscale(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        network = self.network
        planes = inputs["planes"] if self.kind == "core" else network.analyse(self.image(inputs["image"]))
        planes = planes.to(self._dtype)
        output = self.down(planes)
        lr = checked = output.lr.float()  # before it is bounded, which would hide an infinity
        outputs = {"lr": self.lr(lr, planes)}
        if output.boundary is not None and network.quantizer is not None:
            boundary = output.boundary.float()
            outputs["boundary"] = self.boundary(boundary, network.quantizer)
            checked = torch.cat((lr, boundary), dim=1)
        return {**outputs, "mean": checked.mean()}

    def _upscale(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        network, boundary, latent = self.network, None, inputs.get("latent")
        if network.quantizer is not None:
            boundary = self.boundary(inputs["boundary"], network.quantizer).to(self._dtype)
        if latent is not None:
            latent = latent.to(self._dtype)
        planes = self.up(self.lr(inputs["lr"]).to(self._dtype), boundary, latent)
        if self.kind == "core":
            return {"planes": planes.to(torch.float16), "mean": planes.float().mean()}
        image = network.synthesise(planes.float())
        return {"image": self.image(image * 255), "mean": image.mean()}

    @property
    def _dtype(self) -> torch.dtype:
        return next(self.network.parameters()).dtype
