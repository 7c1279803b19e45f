"""LPIPS v0.1, the learned perceptual distance (Zhang et al., CVPR 2018), on AlexNet, which tables report.

The network's weights are not part of the package: they are read from `lpips_alex_v0.1.npz` (keys `features.*` as in
torchvision, `lin*` as in the authors' package).
"""

from __future__ import annotations

import os
import pathlib

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bdflow_rt.errors import CorruptModelError, DTypeError, ShapeError
from bdflow_rt.metrics.parameters import find_parameters, read_parameters

_FILE = "lpips_alex_v0.1.npz"
_SHIFT = (-0.030, -0.088, -0.188)
_SCALE = (0.458, 0.448, 0.450)
"""ImageNet's mean and deviation for inputs in [-1, 1], as the authors' ScalingLayer has them."""

_LAYERS = {
    0: (64, 3, 11, 4, 2, False),
    3: (192, 64, 5, 1, 2, True),
    6: (384, 192, 3, 1, 1, True),
    8: (256, 384, 3, 1, 1, False),
    10: (256, 256, 3, 1, 1, False),
}
"""Index in torchvision's `features` -> channels out and in, side of the kernel, stride, padding, and whether a pooling
precedes; each ReLU is compared."""
_MIN_SIZE = 31
"""Smallest height and width that leave a pixel in the deepest layer."""
_EPSILON = 1e-10
"""Keeps the gradient of the norm finite where all features of a pixel are 0; the authors add it to the norm."""


class Lpips(nn.Module):
    """The distance as a frozen module: a metric, and a loss whose gradient reaches both pictures.

    Args:
        path: the .npz file; None looks for metrics/lpips_alex_v0.1.npz in the folder that BDFLOW_DATA names.

    Raises:
        MissingFileError: the file does not exist, or `path` is None and BDFLOW_DATA is not set.
        CorruptModelError: the file does not hold the weights of this network.
    """

    def __init__(self, *, path: str | os.PathLike[str] | None = None) -> None:
        super().__init__()
        for name, value in _read_weights(find_parameters(_FILE, path, what="LPIPS weights")).items():
            self.register_buffer(_buffer_name(name), value, persistent=False)
        self.register_buffer("shift", torch.tensor(_SHIFT).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("scale", torch.tensor(_SCALE).view(1, 3, 1, 1), persistent=False)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Distance of each pair of pictures, 0 for equal ones.

        Args:
            a, b: (N, 3, H, W) float32 RGB in [0, 1], of one shape; H and W at least 31.

        Returns:
            (N,) float32.

        Raises:
            ShapeError, DTypeError: the pictures are of another kind.
        """
        if a.shape != b.shape or a.ndim != 4 or a.shape[1] != 3 or min(a.shape[2:]) < _MIN_SIZE:
            raise ShapeError(
                f"The pictures have shapes {tuple(a.shape)} and {tuple(b.shape)}; LPIPS needs two of one shape "
                f"(N, 3, H, W), H and W at least {_MIN_SIZE}."
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
        stages = []
        for index, (*_, stride, padding, pool) in _LAYERS.items():
            x = F.max_pool2d(x, 3, 2) if pool else x
            weight, bias = (self._weight(f"features.{index}.{name}") for name in ("weight", "bias"))
            x = F.relu(F.conv2d(x, weight, bias, stride=stride, padding=padding))
            stages.append(x)
        return stages

    def _weight(self, name: str) -> Tensor:
        return self.get_buffer(_buffer_name(name))


def _buffer_name(name: str) -> str:
    return name.replace(".", "_")


def _unit_length(x: Tensor) -> Tensor:
    return x / (x.square().sum(dim=1, keepdim=True) + _EPSILON).sqrt()


def _read_weights(path: pathlib.Path) -> dict[str, Tensor]:
    weights = read_parameters(path, what="LPIPS weights")
    shapes: dict[str, tuple[int, ...]] = {}
    for stage, (index, (outputs, inputs, side, *_)) in enumerate(_LAYERS.items()):
        shapes |= {f"features.{index}.weight": (outputs, inputs, side, side), f"features.{index}.bias": (outputs,)}
        shapes[f"lin{stage}.model.1.weight"] = (1, outputs, 1, 1)
    if wrong := [name for name, shape in shapes.items() if name not in weights or weights[name].shape != shape]:
        raise CorruptModelError(f"{path} does not hold LPIPS (alex): {wrong[0]} is missing or of another shape.")
    return {name: torch.from_numpy(weights[name]).float() for name in shapes}
