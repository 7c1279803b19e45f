"""The BDFlow network as ONNX operators, both directions."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bdflow_rt.export.graph import GraphBuilder
from bdflow_rt.zoo.config import LEAKY_SLOPE, ModelConfig

Branches = tuple[str, str]
"""u1, 3 channels, and u2, the rest."""
_DENSE_CHANNELS = 12
"""Up to so many channels a Haar transform is a dense convolution, mostly of zeros.

From 48 on a grouped one is faster, in OpenVINO and in ONNX Runtime, and saves 16 C^2 weights in every graph.
"""
_SIGNS = np.array([[[1, 1], [1, 1]], [[1, -1], [1, -1]], [[1, 1], [-1, -1]], [[1, -1], [-1, 1]]], np.float64)
"""Of a b / c d in the bands A, H, V, D."""
_CELLS = {"kernel_shape": [2, 2], "strides": [2, 2]}


class FlowGraph:
    """Writes a network's operators into a builder.

    Args:
        builder: receives the nodes.
        config: the network's structure.
    """

    def __init__(self, builder: GraphBuilder, config: ModelConfig) -> None:
        self._b = builder
        self._config = config

    def analyse(self, x: str) -> Branches:
        """(N, 3, H, W) to the branches of level 1: 3 and 9 of its 12 Haar planes at H/2 x W/2."""
        return self._haar(x, 0)

    def synthesise(self, branches: Branches) -> str:
        """The branches of level 1 back to (N, 3, H, W)."""
        return self._haar_inverse(branches, 0)[0]

    def split(self, planes: str) -> Branches:
        """First-level Haar planes (N, 12, H/2, W/2) as branches."""
        return self._channels(planes, range(3), "planes/u1"), self._channels(planes, range(3, 12), "planes/u2")

    def merge(self, branches: Branches) -> str:
        """The branches of level 1 as planes (N, 12, H/2, W/2)."""
        return self._merge(branches, 0)

    def down(self, branches: Branches) -> tuple[str, str | None]:
        """The branches of level 1 to Y (N, 3, h, w) and B (N, 1, h, w), None for 0 bits; Z is never formed."""
        u1, u2 = branches
        for level, count in enumerate(self._config.blocks):
            if level:
                u1, u2 = self._haar(self._merge((u1, u2), level - 1), level)
            last_level = level == self._config.levels - 1
            for k in range(count):
                last = last_level and k == count - 1
                u1, u2 = self._forward(level, k, u1, u2, rows=self._boundary_rows if last else None)
        return u1, u2 or None

    def mean(self, branches: Branches) -> str:
        """The mean of the HR pixels of each LR pixel, (N, 3, h, w), from the branches of level 1."""
        if self._config.levels == 1:
            return branches[0]
        size = [self._config.scale // 2] * 2
        return self._b.node("AveragePool", branches[0], name="lr/mean", kernel_shape=size, strides=size)

    def up(self, lr: str, boundary: str | None, latent: str | None) -> Branches:
        """Y, B (channel values) and Z to the branches of level 1; Z = 0 where `latent` is None."""
        u1, u2 = lr, self._rest(boundary, latent)
        for level in reversed(range(self._config.levels)):
            for k in reversed(range(self._config.blocks[level])):
                u1, u2 = self._inverse(level, k, u1, u2)
            if level:
                u1, u2 = self._haar_inverse((u1, u2), level)
        return u1, u2

    @property
    def _boundary_rows(self) -> int:
        return 1 if self._config.bits else 0

    def _rest(self, boundary: str | None, latent: str | None) -> str:
        if latent is not None:
            return latent if boundary is None else self._b.node("Concat", boundary, latent, name="rest", axis=1)
        if boundary is None:
            return ""
        # B and the zeros of Z as a convolution: a Pad would make TensorRT compute shapes.
        first = np.eye(1 + self._config.latent_channels, 1).reshape(-1, 1, 1, 1)
        weight = self._b.constant("rest/weight", first, np.float32)
        return self._b.node("Conv", boundary, weight, name="rest", kernel_shape=[1, 1])

    def _merge(self, branches: Branches, level: int) -> str:
        return self._b.node("Concat", *branches, name=f"levels.{level}/merge", axis=1)

    def _forward(self, level: int, k: int, u1: str, u2: str, *, rows: int | None) -> tuple[str, str]:
        b, block = self._b, f"levels.{level}.{k}"
        shift = self._transform(f"{block}.phi", u2, level)
        if self._config.coupling == "scaled":
            u1 = b.node("Mul", u1, self._scale(f"{block}.phi", shift, sign=1), name=f"{block}/scaled1")
        u1 = b.node("Add", u1, shift, name=f"{block}/u1")
        if rows == 0:
            return u1, ""
        if rows is not None:
            u2 = self._channels(u2, range(rows), f"{block}/boundary")
        scale = self._scale(f"{block}.rho", self._transform(f"{block}.rho", u1, level, rows=rows), sign=1)
        u2 = b.node("Mul", u2, scale, name=f"{block}/scaled2")
        return u1, b.node("Add", u2, self._transform(f"{block}.eta", u1, level, rows=rows), name=f"{block}/u2")

    def _inverse(self, level: int, k: int, u1: str, u2: str) -> tuple[str, str]:
        b, block = self._b, f"levels.{level}.{k}"
        eta = self._transform(f"{block}.eta", u1, level)
        # Where all of u2' is the zero Z there is nothing to subtract from.
        u2 = (
            b.node("Sub", u2, eta, name=f"{block}/unshifted2") if u2 else b.node("Neg", eta, name=f"{block}/unshifted2")
        )
        scale = self._scale(f"{block}.rho", self._transform(f"{block}.rho", u1, level), sign=-1)
        u2 = b.node("Mul", u2, scale, name=f"{block}/u2")
        shift = self._transform(f"{block}.phi", u2, level)
        u1 = b.node("Sub", u1, shift, name=f"{block}/unshifted1")
        if self._config.coupling == "scaled":
            u1 = b.node("Mul", u1, self._scale(f"{block}.phi", shift, sign=-1), name=f"{block}/u1")
        return u1, u2

    def _transform(self, name: str, x: str, level: int, *, rows: int | None = None) -> str:
        rest, hidden = self._config.channels(level + 1) - 3, self._config.hidden[level]
        inputs, outputs = (rest, 3) if name.endswith(".phi") else (3, rest)
        conv1 = self._conv(f"{name}.conv1", x, inputs, hidden)
        conv2 = self._conv(f"{name}.conv2", self._leaky(conv1, f"{name}/leaky1"), hidden, hidden)
        conv3 = self._conv(f"{name}.conv3", self._leaky(conv2, f"{name}/leaky2"), hidden, outputs, rows=rows)
        shortcut = self._conv(f"{name}.shortcut", x, inputs, outputs, rows=rows)
        return self._b.node("Add", conv3, shortcut, name=f"{name}/sum")

    def _leaky(self, x: str, name: str) -> str:
        return self._b.node("LeakyRelu", x, name=name, alpha=LEAKY_SLOPE)

    def _conv(self, name: str, x: str, inputs: int, outputs: int, *, rows: int | None = None) -> str:
        weight = self._b.weight(f"{name}.weight", (outputs, inputs, 3, 3), rows=rows)
        bias = self._b.weight(f"{name}.bias", (outputs,), rows=rows)
        return self._b.node("Conv", x, weight, bias, name=name, kernel_shape=[3, 3], pads=[1, 1, 1, 1])

    def _scale(self, name: str, h: str, *, sign: int) -> str:
        """s(h) = exp(2*sigmoid(h) - 1) = exp(tanh(h/2)), or its reciprocal for sign -1."""
        half = self._b.constant("half", 0.5, np.float32)
        log = self._b.node("Tanh", self._b.node("Mul", h, half, name=f"{name}/half"), name=f"{name}/log_scale")
        if sign < 0:
            log = self._b.node("Neg", log, name=f"{name}/negated")
        return self._b.node("Exp", log, name=f"{name}/scale")

    def _channels(self, x: str, which: range, name: str) -> str:
        return self._gather(x, self._b.constant(f"{which.start}..{which.stop - 1}", which, np.int64), name)

    def _gather(self, x: str, indices: str, name: str) -> str:
        # No Slice or Split: TensorRT would compute their sizes at run time.
        return self._b.node("Gather", x, indices, name=name, axis=1)

    def _haar(self, x: str, level: int) -> Branches:
        """Channels of the level above to the branches of this one.

        A convolution of stride 2 with weights of +-1/4, which takes float32 sums in every precision and no shape
        arithmetic. A dense one has all bands in their order; a grouped one, for many channels, has those of each
        channel together.
        """
        b, name, count = self._b, f"levels.{level}/haar", self._config.channels(level)
        if count <= _DENSE_CHANNELS:
            weights = np.split(_dense_weights(count) / 4, [3])
            u1, u2 = (
                b.node("Conv", x, b.constant(f"{name}/{branch}", weight, np.float32), name=f"{name}/u{branch}",
                       **_CELLS)
                for branch, weight in enumerate(weights, 1)
            )  # fmt: skip
            return u1, u2
        weight = b.constant(f"{name}/weight", _grouped_weights(count) / 4, np.float32)
        bands = b.node("Conv", x, weight, name=f"{name}/bands", group=count, **_CELLS)
        u1, u2 = (
            self._gather(bands, b.constant(f"{name}/{branch}", which, np.int64), f"{name}/u{branch}")
            for branch, which in enumerate(np.split(np.arange(4 * count).reshape(count, 4).T.ravel(), [3]), 1)
        )
        return u1, u2

    def _haar_inverse(self, branches: Branches, level: int) -> Branches:
        """Branches of this level to those of the level above, or to the image's 3 channels and nothing."""
        b, name, count = self._b, f"levels.{level}/haar_inverse", self._config.channels(level)
        x = self._merge(branches, level)
        if count <= _DENSE_CHANNELS:
            weights = np.split(_dense_weights(count), [3], axis=1)
            u1, u2 = (
                b.node("ConvTranspose", x, b.constant(f"{name}/{branch}", weight, np.float32), name=f"{name}/u{branch}",
                       **_CELLS)
                if weight.size else ""
                for branch, weight in enumerate(weights, 1)
            )  # fmt: skip
            return u1, u2
        made = []
        for branch, which in enumerate(np.split(np.arange(4 * count).reshape(4, count).T, [3]), 1):
            bands = self._gather(x, b.constant(f"{name}/{branch}", which.ravel(), np.int64), f"{name}/bands{branch}")
            weight = b.constant(f"{name}/weight{branch}", _grouped_weights(len(which)), np.float32)
            made.append(b.node("ConvTranspose", bands, weight, name=f"{name}/u{branch}", group=len(which), **_CELLS))
        return made[0], made[1]


def _dense_weights(channels: int) -> NDArray[np.float64]:
    """(4C, C, 2, 2): the signs of every channel, band-major."""
    return np.einsum("bij,oc->bocij", _SIGNS, np.eye(channels)).reshape(4 * channels, channels, 2, 2)


def _grouped_weights(channels: int) -> NDArray[np.float64]:
    """(4C, 1, 2, 2): the signs of every channel, channel-major."""
    return np.tile(_SIGNS[:, None], (channels, 1, 1, 1))
