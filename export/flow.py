"""The BDFlow network as ONNX operators, both directions."""

from __future__ import annotations

import numpy as np

from bdflow_rt.export.graph import GraphBuilder
from bdflow_rt.zoo.config import LEAKY_SLOPE, ModelConfig


class FlowGraph:
    """Writes a network's operators into a builder.

    Args:
        builder: receives the nodes.
        config: the network's structure.
    """

    def __init__(self, builder: GraphBuilder, config: ModelConfig) -> None:
        self._b = builder
        self._config = config

    def down(self, x: str) -> tuple[str, str | None]:
        """(N, 3, H, W) to Y (N, 3, h, w) and B (N, 1, h, w), None for 0 bits. Z of the last block is never formed."""
        u1 = u2 = ""
        for level, count in enumerate(self._config.blocks):
            u1, u2 = self._split(self._haar(x, level), level)
            last_level = level == self._config.levels - 1
            for k in range(count):
                last = last_level and k == count - 1
                u1, u2 = self._forward(level, k, u1, u2, rows=self._boundary_rows if last else None)
            if not last_level:
                x = self._b.node("Concat", u1, u2, name=f"levels.{level}/merge", axis=1)
        return u1, u2 or None

    def up(self, lr: str, boundary: str | None, latent: str | None) -> str:
        """Y, B (channel values) and Z back to (N, 3, H, W); Z = 0 where `latent` is None."""
        u1, u2 = lr, self._rest(boundary, latent)
        x = ""
        for level in reversed(range(self._config.levels)):
            if x:
                u1, u2 = self._split(x, level)
            for k in reversed(range(self._config.blocks[level])):
                u1, u2 = self._inverse(level, k, u1, u2)
            x = self._haar_inverse(self._b.node("Concat", u1, u2, name=f"levels.{level}/merge", axis=1), level)
        return x

    @property
    def _boundary_rows(self) -> int:
        return 1 if self._config.bits else 0

    def _rest(self, boundary: str | None, latent: str | None) -> str:
        if latent is not None:
            parts = (latent,) if boundary is None else (boundary, latent)
            return str(self._b.node("Concat", *parts, name="rest", axis=1)) if boundary is not None else latent
        if boundary is None:
            return ""
        pads = self._b.constant("rest/pads", [0, 0, 0, 0, 0, self._config.latent_channels, 0, 0], np.int64)
        return str(self._b.node("Pad", boundary, pads, name="rest", mode="constant"))

    def _split(self, x: str, level: int) -> tuple[str, str]:
        sizes = self._b.constant(f"levels.{level}/sizes", [3, self._config.channels(level + 1) - 3], np.int64)
        u1, u2 = self._b.node("Split", x, sizes, name=f"levels.{level}/split", outputs=2, axis=1)
        return u1, u2

    def _forward(self, level: int, k: int, u1: str, u2: str, *, rows: int | None) -> tuple[str, str]:
        b, block = self._b, f"levels.{level}.{k}"
        shift = self._transform(f"{block}.phi", u2, level)
        if self._config.coupling == "scaled":
            u1 = b.node("Mul", u1, self._scale(f"{block}.phi", shift, sign=1), name=f"{block}/scaled1")
        u1 = b.node("Add", u1, shift, name=f"{block}/u1")
        if rows == 0:
            return u1, ""
        if rows is not None:
            u2 = self._first_channels(u2, rows, f"{block}/boundary")
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
        return str(self._b.node("Add", conv3, shortcut, name=f"{name}/sum"))

    def _leaky(self, x: str, name: str) -> str:
        return str(self._b.node("LeakyRelu", x, name=name, alpha=LEAKY_SLOPE))

    def _conv(self, name: str, x: str, inputs: int, outputs: int, *, rows: int | None = None) -> str:
        weight = self._b.weight(f"{name}.weight", (outputs, inputs, 3, 3), rows=rows)
        bias = self._b.weight(f"{name}.bias", (outputs,), rows=rows)
        return str(self._b.node("Conv", x, weight, bias, name=name, kernel_shape=[3, 3], pads=[1, 1, 1, 1]))

    def _scale(self, name: str, h: str, *, sign: int) -> str:
        """s(h) = exp(2*sigmoid(h) - 1) = exp(tanh(h/2)), or its reciprocal for sign -1."""
        half = self._b.constant("half", 0.5, np.float32)
        log = self._b.node("Tanh", self._b.node("Mul", h, half, name=f"{name}/half"), name=f"{name}/log_scale")
        if sign < 0:
            log = self._b.node("Neg", log, name=f"{name}/negated")
        return str(self._b.node("Exp", log, name=f"{name}/scale"))

    def _first_channels(self, x: str, count: int, name: str) -> str:
        first, last, axis = (
            self._b.constant(f"slice/{what}", [value], np.int64)
            for what, value in (("first", 0), (f"last{count}", count), ("axis", 1))
        )
        return str(self._b.node("Slice", x, first, last, axis, name=name))

    def _haar(self, x: str, level: int) -> str:
        b, name = self._b, f"levels.{level}/haar"
        # SpaceToDepth lays out all of a, all of b, all of c, all of d: the order the butterflies want.
        cells = b.node("SpaceToDepth", x, name=f"{name}/cells", blocksize=2)
        sums = self._butterflies(cells, f"{name}", quarter=True)
        return str(b.node("Concat", *sums, name=f"{name}/bands", axis=1))

    def _haar_inverse(self, x: str, level: int) -> str:
        b, name = self._b, f"levels.{level}/haar_inverse"
        cells = b.node("Concat", *self._butterflies(x, name, quarter=False), name=f"{name}/cells", axis=1)
        return str(b.node("DepthToSpace", cells, name=name, blocksize=2, mode="DCR"))

    def _butterflies(self, x: str, name: str, *, quarter: bool) -> list[str]:
        """The four signed sums ++++, +-+-, ++--, +--+ of the channel quarters: analysis and synthesis alike."""
        b = self._b
        if quarter:
            x = b.node("Mul", x, b.constant("quarter", 0.25, np.float32), name=f"{name}/quarter")
        p, q, r, s = b.node("Split", x, name=f"{name}/quarters", outputs=4, axis=1, num_outputs=4)
        even, odd = b.node("Add", p, q, name=f"{name}/p+q"), b.node("Sub", p, q, name=f"{name}/p-q")
        even2, odd2 = b.node("Add", r, s, name=f"{name}/r+s"), b.node("Sub", r, s, name=f"{name}/r-s")
        return [
            b.node("Add", even, even2, name=f"{name}/++++"),
            b.node("Add", odd, odd2, name=f"{name}/+-+-"),
            b.node("Sub", even, even2, name=f"{name}/++--"),
            b.node("Sub", odd, odd2, name=f"{name}/+--+"),
        ]
