"""From a trace to ONNX: only what the outputs need is written, down to the channels.

Slices and concatenations are not operators here but ways to look at others: a slice of the first channels of a
convolution is a convolution of fewer rows, and a slice of a concatenation one of its parts. So the down direction of
BDFlow forms no Z, and the inverse with Z = 0 reads no zeros, though the module is written with both.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from bdflow_rt.errors import ExportError
from bdflow_rt.export.graph import GraphBuilder
from bdflow_rt.models.trace import Symbol, Trace, Weight

TYPES = {"float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16, "uint8": TensorProto.UINT8}
_ELEMENTWISE = {
    "add": "Add", "sub": "Sub", "mul": "Mul", "div": "Div", "maximum": "Max", "minimum": "Min", "neg": "Neg",
    "exp": "Exp", "tanh": "Tanh", "leaky_relu": "LeakyRelu", "clamp": "Clip", "round": "Round", "cast": "Cast",
    "avg_pool2d": "AveragePool",
}  # fmt: skip
"""Operators that compute each channel from the same channels of what they read."""
_DENSE_CHANNELS = 12
"""Up to so many channels a Haar transform is a dense convolution, mostly of zeros.

From 48 on a grouped one is faster, in OpenVINO and in ONNX Runtime, and saves 16 C^2 weights in every graph.
"""
_SIGNS = np.array([[[1, 1], [1, 1]], [[1, -1], [1, -1]], [[1, 1], [-1, -1]], [[1, -1], [-1, 1]]], np.float64)
"""Of a b / c d in the bands A, H, V, D."""
_CELLS = {"kernel_shape": [2, 2], "strides": [2, 2]}


class _Part(NamedTuple):
    """Channels start..stop - 1 of a symbol."""

    symbol: Symbol
    start: int
    stop: int


def emit(trace: Trace, builder: GraphBuilder) -> dict[str, str]:
    """Write a trace's operators into a builder that has its inputs; returns the value of every output."""
    return _Emitter(trace, builder).run()


class _Emitter:
    def __init__(self, trace: Trace, builder: GraphBuilder) -> None:
        self._trace, self._b = trace, builder
        self._needed: dict[Symbol, set[tuple[int, int]]] = defaultdict(set)
        """Channels of each symbol that something reads."""
        self._written: dict[Symbol, dict[tuple[int, int], str]] = defaultdict(dict)
        """Channels of each symbol that are in the graph, by the name of their value."""
        self._joined: dict[tuple[_Part, ...], str] = {}

    def run(self) -> dict[str, str]:
        for symbol in self._trace.outputs.values():
            self._need(symbol, symbol.channels)
        for symbol in reversed(self._trace.symbols):
            if symbol in self._needed:
                for source in symbol.inputs:
                    if isinstance(source, Symbol):
                        self._need(source, self._channels_read(symbol, source))
        for symbol in self._trace.symbols:
            if symbol in self._needed and symbol.op != "zeros":
                self._write(symbol)
        return {name: self._present(symbol) for name, symbol in self._trace.outputs.items()}

    def _need(self, symbol: Symbol, channels: int | None) -> None:
        for part in _parts(symbol, 0, channels or 0):
            self._needed[part.symbol].add((part.start, part.stop))

    def _rows(self, symbol: Symbol) -> int:
        """The first channels that hold everything that is read."""
        return max(stop for _, stop in self._needed[symbol])

    def _channels_read(self, symbol: Symbol, source: Symbol) -> int | None:
        if symbol.op in _ELEMENTWISE and symbol.channels == source.channels:
            return self._rows(symbol)
        return source.channels

    def _write(self, symbol: Symbol) -> None:
        b, name = self._b, symbol.scope + "/" * bool(symbol.scope) + symbol.op
        rows, everything = self._rows(symbol), (0, symbol.channels or 0)
        with b.wide(symbol.is_wide):
            if symbol.op == "input":
                self._written[symbol][everything] = symbol.attributes["name"]
            elif symbol.op in ("haar_forward", "haar_inverse"):
                self._write_haar(symbol, name)
            elif symbol.op == "conv2d":
                self._written[symbol][0, rows] = self._convolution(symbol, rows)
            elif symbol.op in _ELEMENTWISE:
                if (value := self._elementwise(symbol, name, rows)) is not None:
                    self._written[symbol][0, rows] = value
            else:
                self._written[symbol][everything] = self._reshaped(symbol, name, self._present(symbol.inputs[0]))

    def _convolution(self, symbol: Symbol, rows: int) -> str:
        x, *parameters = symbol.inputs
        side, pad, stride = parameters[0].shape[-1], symbol.attributes["padding"], symbol.attributes["stride"]
        options = {"kernel_shape": [side] * 2, "pads": [pad] * 4} | ({"strides": [stride] * 2} if stride > 1 else {})
        part = rows if rows < (symbol.channels or 0) else None
        names = [self._b.weight(parameter.name, parameter.shape, rows=part) for parameter in parameters]
        name = parameters[0].name.removesuffix(".weight")
        return self._b.node("Conv", self._present(x), *names, name=name, **options)

    def _elementwise(self, symbol: Symbol, name: str, rows: int) -> str | None:
        """None is zero."""
        b, operands = self._b, [self._operand(source, rows, symbol) for source in symbol.inputs]
        if None in operands:
            rest = [operand for operand in operands if operand is not None]
            if symbol.op == "sub" and operands[0] is None and rest:
                return b.node("Neg", *rest, name=name)
            if symbol.op in ("add", "sub") and rest:
                return rest[0]
            if symbol.op in ("add", "sub", "mul", "neg", "leaky_relu"):
                return None
            raise ExportError(f"{name} of Z = 0 has no graph; compute with it only in sums and products.")
        options: dict[str, Any] = {}
        if symbol.op == "leaky_relu":
            options = {"alpha": symbol.attributes["slope"]}
        elif symbol.op == "cast":
            options = {"to": TYPES[symbol.attributes["to"]]}
        elif symbol.op == "avg_pool2d":
            options = {"kernel_shape": [symbol.attributes["side"]] * 2, "strides": [symbol.attributes["side"]] * 2}
        return b.node(_ELEMENTWISE[symbol.op], *operands, name=name, **options)

    def _reshaped(self, symbol: Symbol, name: str, x: str) -> str:
        if symbol.op == "permute":
            return self._b.node("Transpose", x, name=name, perm=list(symbol.attributes["order"]))
        if symbol.op == "mean":
            return self._b.node("ReduceMean", x, name=name, keepdims=0)
        axis = self._b.constant("axis", [1], np.int64)
        return self._b.node({"squeeze": "Squeeze", "unsqueeze": "Unsqueeze"}[symbol.op], x, axis, name=name)

    def _operand(self, source: Symbol | Weight | float, rows: int, reader: Symbol) -> str | None:
        if isinstance(source, Symbol):
            return self._value(source, rows if source.channels == reader.channels else source.channels)
        if isinstance(source, Weight):
            return self._b.weight(source.name, source.shape)
        return self._b.constant(f"{source:g}", source, np.float32)

    def _present(self, symbol: Symbol) -> str:
        """The value of all of a symbol's channels."""
        value = self._value(symbol, symbol.channels)
        if value is None:
            raise ExportError(f"Z = 0 itself is read in {symbol.scope!r}; compute with it only in sums and products.")
        return value

    def _value(self, symbol: Symbol, channels: int | None) -> str | None:
        """The value of a symbol's first channels; None where all of them are zero."""
        parts = tuple(_parts(symbol, 0, channels or 0))
        values = [self._part(part) for part in parts]
        if len(values) == 1 or all(value is None for value in values):
            return values[0]
        if parts not in self._joined:
            self._joined[parts] = self._join(parts, values, symbol)
        return self._joined[parts]

    def _join(self, parts: tuple[_Part, ...], values: list[str | None], symbol: Symbol) -> str:
        b, name = self._b, f"{symbol.scope}/cat".lstrip("/")
        present = [value for value in values if value is not None]
        with b.wide(symbol.is_wide):
            joined = b.node("Concat", *present, name=name, axis=1) if len(present) > 1 else present[0]
            if len(present) == len(values):
                return joined
            # Zeros beside others as rows of a convolution: a Pad would make TensorRT compute shapes.
            lengths = [(part.stop - part.start, value is not None) for part, value in zip(parts, values, strict=True)]
            rows = np.concatenate([np.full(length, is_there) for length, is_there in lengths])
            weight = np.eye(len(rows))[:, rows].reshape(len(rows), -1, 1, 1)
            with b.wide(False):
                return b.node("Conv", joined, b.constant(f"{name}/zeros", weight, np.float32), name=f"{name}/padded",
                              kernel_shape=[1, 1])  # fmt: skip

    def _part(self, part: _Part) -> str | None:
        symbol, start, stop = part
        written = self._written.get(symbol)
        if not written:
            return None
        if (start, stop) in written:
            return written[start, stop]
        (first, _), value = next((key, value) for key, value in written.items() if key[0] <= start < stop <= key[1])
        # No Slice or Split: TensorRT would compute their sizes at run time.
        which = self._b.constant(f"{start - first}..{stop - first - 1}", range(start - first, stop - first), np.int64)
        with self._b.wide(False):
            written[start, stop] = self._b.node("Gather", value, which, name=f"{symbol.scope}/part".lstrip("/"), axis=1)
        return written[start, stop]

    def _write_haar(self, symbol: Symbol, name: str) -> None:
        """A convolution of stride 2 with weights of +-1/4, or its transpose with +-1.

        It takes float32 sums in every precision and no shape arithmetic. A dense one has all bands in their order; a
        grouped one, for many channels, has those of each channel together.
        """
        b, is_forward = self._b, symbol.op == "haar_forward"
        (source,), count = symbol.inputs, symbol.channels or 0
        x, written = self._present(source), self._written[symbol]
        channels = count // 4 if is_forward else count
        is_dense, bands = channels <= _DENSE_CHANNELS, ""
        with b.wide(False):
            if is_forward and not is_dense:
                weight = b.constant(f"{name}/weight", _grouped_weights(channels) / 4, np.float32)
                bands = b.node("Conv", x, weight, name=f"{name}/bands", group=channels, **_CELLS)
            for index, (start, stop) in enumerate(_disjoint(self._needed[symbol]), 1):
                part, which = f"{name}/u{index}", np.arange(start, stop)
                if is_dense:
                    weight = _dense_weights(channels)
                    weight = weight[start:stop] / 4 if is_forward else weight[:, start:stop]
                    op = "Conv" if is_forward else "ConvTranspose"
                    value = b.node(op, x, b.constant(f"{part}/weight", weight, np.float32), name=part, **_CELLS)
                elif is_forward:
                    order = np.arange(count).reshape(channels, 4).T.ravel()[which]
                    value = b.node("Gather", bands, b.constant(f"{part}/order", order, np.int64), name=part, axis=1)
                else:
                    order = np.arange(4 * channels).reshape(4, channels).T[which].ravel()
                    gathered = b.node("Gather", x, b.constant(f"{part}/order", order, np.int64), name=f"{part}/bands",
                                      axis=1)  # fmt: skip
                    weight = b.constant(f"{part}/weight", _grouped_weights(len(which)), np.float32)
                    value = b.node("ConvTranspose", gathered, weight, name=part, group=len(which), **_CELLS)
                written[start, stop] = value


def _parts(symbol: Symbol, start: int, stop: int) -> Iterator[_Part]:
    """Channels of a symbol as those of symbols that are neither slices nor concatenations."""
    if symbol.op == "slice":
        first = symbol.attributes["start"]
        yield from _parts(symbol.inputs[0], first + start, first + stop)
    elif symbol.op == "cat":
        at = 0
        for source in symbol.inputs:
            low, high = max(start - at, 0), min(stop - at, source.channels)
            if low < high:
                yield from _parts(source, low, high)
            at += source.channels
    else:
        yield _Part(symbol, start, stop)


def _disjoint(ranges: set[tuple[int, int]]) -> list[tuple[int, int]]:
    """The ranges themselves where no two overlap, or one that holds all."""
    ordered = sorted(ranges)
    if any(left[1] > right[0] for left, right in itertools.pairwise(ordered)):
        return [(ordered[0][0], max(stop for _, stop in ordered))]
    return ordered


def _dense_weights(channels: int) -> NDArray[np.float64]:
    """(4C, C, 2, 2): the signs of every channel, band-major."""
    return np.einsum("bij,oc->bocij", _SIGNS, np.eye(channels)).reshape(4 * channels, channels, 2, 2)


def _grouped_weights(channels: int) -> NDArray[np.float64]:
    """(4C, 1, 2, 2): the signs of every channel, channel-major."""
    return np.tile(_SIGNS[:, None], (channels, 1, 1, 1))
