"""LPIPS v0.1, the learned perceptual distance (Zhang et al., CVPR 2018), on AlexNet and SqueezeNet 1.1.

The networks' weights are not part of the package: they are read from `lpips_alex_v0.1.npz` or
`lpips_squeeze_v0.1.npz` (keys `features.*` as in torchvision, `lin*` as in the authors' package).
"""

from __future__ import annotations

import os
import pathlib
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bdflow_rt.errors import ArgumentError, CorruptModelError, DTypeError, ShapeError
from bdflow_rt.metrics.parameters import find_parameters, read_parameters

Net = Literal["alex", "squeeze"]

_SHIFT = (-0.030, -0.088, -0.188)
_SCALE = (0.458, 0.448, 0.450)
"""ImageNet's mean and deviation for inputs in [-1, 1], as the authors' ScalingLayer has them."""

_ALEX_LAYERS = ((0, 4, 2, False), (3, 1, 2, True), (6, 1, 1, True), (8, 1, 1, False), (10, 1, 1, False))
"""Index in torchvision's `features`, stride, padding, and whether a pooling precedes; each ReLU is compared."""
_SQUEEZE_STAGES = (((3, 4), True), ((6, 7), True), ((9,), True), ((10,), False), ((11,), False), ((12,), False))
"""Fire modules of each stage after the first convolution, and whether a pooling precedes; each stage is compared."""
_STAGES = {"alex": 5, "squeeze": 7}
_MIN_SIZE = {"alex": 31, "squeeze": 17}
"""Smallest height and width that leave a pixel in the deepest stage."""
_EPSILON = 1e-10
"""Keeps the gradient of the norm finite where all features of a pixel are 0; the authors add it to the norm."""


class Lpips(nn.Module):
    """The distance as a frozen module: a metric, and a loss whose gradient reaches both pictures.

    Args:
        net: "alex", what tables report, or "squeeze", the cheapest.
        path: the .npz file; None looks for metrics/lpips_<net>_v0.1.npz in the folder that BDFLOW_DATA names.

    Raises:
        ArgumentError: `net` is unknown.
        MissingFileError: the file does not exist, or `path` is None and BDFLOW_DATA is not set.
        CorruptModelError: the file does not hold the weights of this network.
    """

    def __init__(self, net: Net = "alex", *, path: str | os.PathLike[str] | None = None) -> None:
        super().__init__()
        if net not in _STAGES:
            raise ArgumentError(f"net is {net!r}; it must be 'alex' or 'squeeze'.")
        self.net = net
        file = find_parameters(f"lpips_{net}_v0.1.npz", path, what="LPIPS weights")
        for name, value in _read_weights(file, net).items():
            self.register_buffer(_buffer_name(name), value, persistent=False)
        self.register_buffer("shift", torch.tensor(_SHIFT).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("scale", torch.tensor(_SCALE).view(1, 3, 1, 1), persistent=False)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Distance of each pair of pictures, 0 for equal ones.

        Args:
            a, b: (N, 3, H, W) float32 RGB in [0, 1], of one shape; H and W at least 31 ("alex") or 17 ("squeeze").

        Returns:
            (N,) float32.

        Raises:
            ShapeError, DTypeError: the pictures are of another kind.
        """
        smallest = _MIN_SIZE[self.net]
        if a.shape != b.shape or a.ndim != 4 or a.shape[1] != 3 or min(a.shape[2:]) < smallest:
            raise ShapeError(
                f"The pictures have shapes {tuple(a.shape)} and {tuple(b.shape)}; LPIPS ({self.net}) needs two of one "
                f"shape (N, 3, H, W), H and W at least {smallest}."
            )
        if a.dtype != torch.float32 or b.dtype != torch.float32:
            raise DTypeError(f"The pictures are {a.dtype} and {b.dtype}; both must be torch.float32.")
        distance = torch.zeros(len(a), device=a.device)
        with torch.autocast(a.device.type, enabled=False):
            for stage, (left, right) in enumerate(zip(self._features(a), self._features(b), strict=True)):
                difference = (_unit_length(left) - _unit_length(right)).square()
                weight = self._weight(f"lin{stage}.model.1.weight")
                distance = distance + F.conv2d(difference, weight).mean(dim=(1, 2, 3))
        return distance

    def _features(self, x: Tensor) -> list[Tensor]:
        x = (2 * x - 1 - self._weight("shift")) / self._weight("scale")
        return self._alex(x) if self.net == "alex" else self._squeeze(x)

    def _alex(self, x: Tensor) -> list[Tensor]:
        stages = []
        for index, stride, padding, pool in _ALEX_LAYERS:
            if pool:
                x = F.max_pool2d(x, 3, 2)
            x = self._convolve(x, f"features.{index}", stride=stride, padding=padding)
            stages.append(x)
        return stages

    def _squeeze(self, x: Tensor) -> list[Tensor]:
        stages = [self._convolve(x, "features.0", stride=2)]
        for modules, pool in _SQUEEZE_STAGES:
            x = stages[-1]
            if pool:
                x = F.max_pool2d(x, 3, 2, ceil_mode=True)
            for index in modules:
                x = self._convolve(x, f"features.{index}.squeeze")
                narrow = self._convolve(x, f"features.{index}.expand1x1")
                x = torch.cat([narrow, self._convolve(x, f"features.{index}.expand3x3", padding=1)], dim=1)
            stages.append(x)
        return stages

    def _convolve(self, x: Tensor, name: str, *, stride: int = 1, padding: int = 0) -> Tensor:
        weight, bias = self._weight(f"{name}.weight"), self._weight(f"{name}.bias")
        return F.relu(F.conv2d(x, weight, bias, stride=stride, padding=padding))

    def _weight(self, name: str) -> Tensor:
        return self.get_buffer(_buffer_name(name))


def _buffer_name(name: str) -> str:
    return name.replace(".", "_")


def _unit_length(x: Tensor) -> Tensor:
    return x / (x.square().sum(dim=1, keepdim=True) + _EPSILON).sqrt()


def _read_weights(path: pathlib.Path, net: Net) -> dict[str, Tensor]:
    weights = read_parameters(path, what="LPIPS weights")
    shapes = _shapes(net)
    if wrong := [name for name, shape in shapes.items() if name not in weights or weights[name].shape != shape]:
        raise CorruptModelError(f"{path} does not hold LPIPS ({net}): {wrong[0]} is missing or of another shape.")
    return {name: torch.from_numpy(weights[name]).float() for name in shapes}


def _shapes(net: Net) -> dict[str, tuple[int, ...]]:
    """Every weight of a network and its shape."""
    if net == "alex":
        layers = {0: (64, 3, 11), 3: (192, 64, 5), 6: (384, 192, 3), 8: (256, 384, 3), 10: (256, 256, 3)}
        convolutions = {f"features.{index}": layer for index, layer in layers.items()}
        compared = [layer[0] for layer in layers.values()]
    else:
        convolutions = {"features.0": (64, 3, 3)}
        compared, channels = [64], 64
        narrow = {3: 16, 4: 16, 6: 32, 7: 32, 9: 48, 10: 48, 11: 64, 12: 64}
        for modules, _ in _SQUEEZE_STAGES:
            for index in modules:
                width = narrow[index]
                convolutions[f"features.{index}.squeeze"] = (width, channels, 1)
                convolutions[f"features.{index}.expand1x1"] = (4 * width, width, 1)
                convolutions[f"features.{index}.expand3x3"] = (4 * width, width, 3)
                channels = 8 * width
            compared.append(channels)
    shapes: dict[str, tuple[int, ...]] = {}
    for name, (outputs, inputs, side) in convolutions.items():
        shapes |= {f"{name}.weight": (outputs, inputs, side, side), f"{name}.bias": (outputs,)}
    return shapes | {f"lin{stage}.model.1.weight": (1, width, 1, 1) for stage, width in enumerate(compared)}
