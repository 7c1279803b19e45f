"""What a network computes, operator by operator: its module is run on symbols in the place of tensors.

A symbol records what is done to it, so the module itself is the one definition of the graph. PyTorch hands its own
functions over by the protocol `__torch_function__`; one that is not in `_FUNCTIONS` has no graph.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook

from bdflow_rt.errors import ExportError
from bdflow_rt.models.layers.haar import haar_forward, haar_inverse
from bdflow_rt.models.wire import Wire

_DTYPES = {"uint8": torch.uint8, "float16": torch.float16, "float32": torch.float32}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}


class Weight(NamedTuple):
    """A parameter, by its name in the network's state."""

    name: str
    shape: tuple[int, ...]


class Symbol:
    """A value of the graph: an operator, what it reads, and what is known of the result.

    Attributes:
        op: of `export.emit`.
        inputs: symbols, weights and numbers.
        attributes: of the operator.
        channels: of a result (N, C, h, w); None for any other.
        dtype: as a tensor's.
        scope: name of the module that computes it.
        is_wide: whether it stays float32 in every precision.
    """

    def __init__(
        self,
        trace: Trace,
        op: str,
        *inputs: Any,
        channels: int | None,
        dtype: torch.dtype = torch.float32,
        **attributes: Any,
    ) -> None:
        self.trace, self.op, self.attributes = trace, op, attributes
        self.inputs: tuple[Any, ...] = tuple(
            trace.weight(value) if isinstance(value, Tensor) else value for value in inputs
        )
        self.channels, self.dtype = channels, dtype
        self.scope, self.is_wide = trace.scope
        trace.symbols.append(self)

    @classmethod
    def __torch_function__(
        cls, function: Callable[..., Any], types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        rule = _FUNCTIONS.get(function)
        if rule is None:
            known = ", ".join(sorted({function.__name__ for function in _FUNCTIONS}))
            raise ExportError(
                f"{getattr(function, '__name__', function)!s} has no graph. Use one of {known}, or add it to "
                "models/trace.py and export/emit.py."
            )
        return rule(*args, **(kwargs or {}))

    def then(self, op: str, *others: Any, **attributes: Any) -> Symbol:
        """An operator on this and others, with a result like this unless `attributes` says otherwise."""
        return Symbol(self.trace, op, self, *others, **{"channels": self.channels, "dtype": self.dtype, **attributes})

    @property
    def shape(self) -> tuple[Any, ...]:
        """As a tensor's, (N, C, h, w), but that C alone is a number."""
        return "N", self.channels, "h", "w"

    def to(self, dtype: torch.dtype) -> Symbol:
        """As a tensor's."""
        return self if dtype == self.dtype else self.then("cast", dtype=dtype, to=_NAMES[dtype])

    def float(self) -> Symbol:
        """As a tensor's."""
        return self.to(torch.float32)

    def contiguous(self) -> Symbol:
        """As a tensor's."""
        return self

    def permute(self, *order: int) -> Symbol:
        """As a tensor's: between (N, C, h, w) and (N, h, w, C) of 3 channels."""
        return self.then("permute", channels=3 if order == (0, 3, 1, 2) else None, order=order)

    def clamp(self, least: int, most: int) -> Symbol:
        """As a tensor's."""
        return self.then("clamp", least, most)

    def round(self) -> Symbol:
        """As a tensor's."""
        return self.then("round")

    def mean(self) -> Symbol:
        """As a tensor's, over everything."""
        return self.then("mean", channels=None)

    def new_zeros(self, n: Any, channels: int, h: Any, w: Any) -> Symbol:
        """As a tensor's, of another number of channels."""
        return Symbol(self.trace, "zeros", channels=channels)

    def __getitem__(self, index: Any) -> Symbol:
        """Channels as a slice; `[:, 0]` of one channel drops the axis, `[:, None]` adds it."""
        everything, which = index
        if everything == slice(None) and which is None:
            return self.then("unsqueeze", channels=1)
        if everything == slice(None) and which == 0 and self.channels == 1:
            return self.then("squeeze", channels=None)
        if everything != slice(None) or not isinstance(which, slice) or which.step is not None or not self.channels:
            raise ExportError(f"The index {index!r} has no graph; channels can be sliced, as in x[:, 3:].")
        start, stop, _ = which.indices(self.channels)
        return self.then("slice", channels=stop - start, start=start)

    def __neg__(self) -> Symbol:
        return self.then("neg")

    def __add__(self, other: Any) -> Symbol:
        return _binary("add", self, other)

    def __radd__(self, other: Any) -> Symbol:
        return _binary("add", other, self)

    def __sub__(self, other: Any) -> Symbol:
        return _binary("sub", self, other)

    def __rsub__(self, other: Any) -> Symbol:
        return _binary("sub", other, self)

    def __mul__(self, other: Any) -> Symbol:
        return _binary("mul", self, other)

    def __rmul__(self, other: Any) -> Symbol:
        return _binary("mul", other, self)

    def __truediv__(self, other: Any) -> Symbol:
        return _binary("div", self, other)


class Trace:
    """One run of a module on symbols.

    Attributes:
        symbols: in the order of computation.
        outputs: by name.
    """

    def __init__(self, wire: Wire) -> None:
        network, interface = wire.network, wire.network.interface
        self.symbols: list[Symbol] = []
        self._parameters = {id(parameter): name for name, parameter in network.named_parameters()}
        self._names = {id(module): name.removeprefix("network").lstrip(".") for name, module in wire.named_modules()}
        wide = network.float32_modules("down" if wire.direction == "downscale" else "up")
        self._wide = {id(module) for module in wire.modules() if getattr(module, "float32", False) or module in wide}
        self._inside: list[nn.Module] = []
        inputs = {}
        for name, spec in interface.inputs(wire.direction, kind=wire.kind).items():
            channels = spec.dims[1] if isinstance(spec.dims[1], int) else None
            inputs[name] = Symbol(self, "input", channels=channels, dtype=_DTYPES[spec.dtype], name=name)
        with torch.no_grad(), self._following():
            self.outputs: dict[str, Symbol] = wire(inputs)

    @property
    def scope(self) -> tuple[str, bool]:
        """Name of the module that is computing, and whether it does so in float32 in every precision."""
        if not self._inside:
            return "", True
        module = self._inside[-1]
        return self._names.get(id(module), ""), id(module) in self._wide

    def weight(self, parameter: Tensor) -> Weight:
        """A parameter of the network as an input of symbols."""
        return Weight(self._parameters[id(parameter)], tuple(parameter.shape))

    @contextmanager
    def _following(self) -> Iterator[None]:
        """Know which module is computing."""
        entered = register_module_forward_pre_hook(lambda module, _: self._inside.append(module))
        left = register_module_forward_hook(lambda *_: self._inside.__delitem__(-1))
        try:
            yield
        finally:
            entered.remove()
            left.remove()


def _binary(op: str, left: Any, right: Any) -> Symbol:
    """Element by element; a number or a parameter without dimensions goes with any shape."""
    symbols = [side for side in (left, right) if isinstance(side, Symbol)]
    channels = max((one.channels or 0 for one in symbols), default=0) or None
    operands = (side if isinstance(side, (Symbol, Tensor)) else side + 0.0 for side in (left, right))
    return Symbol(symbols[0].trace, op, *operands, channels=channels)


def _conv2d(
    x: Symbol, weight: Tensor, bias: Any = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1
) -> Symbol:
    sides = [set(value) if isinstance(value, tuple) else {value} for value in (stride, padding, dilation)]
    if any(len(side) > 1 for side in sides) or sides[2] != {1} or groups != 1:
        raise ExportError("A convolution has a graph if it is square, without groups and dilation.")
    return x.then(
        "conv2d", weight, *([] if bias is None else [bias]), channels=weight.shape[0], stride=sides[0].pop(),
        padding=sides[1].pop(),
    )  # fmt: skip


def _cat(parts: Any, dim: int = 0) -> Symbol:
    if dim != 1:
        raise ExportError(f"torch.cat along {dim} has no graph; channels, dim=1, can be put together.")
    first = parts[0]
    return Symbol(first.trace, "cat", *parts, channels=sum(part.channels for part in parts))


def _unary(op: str) -> Callable[..., Symbol]:
    return lambda x: x.then(op)


_FUNCTIONS: dict[Callable[..., Any], Callable[..., Symbol]] = {
    functional.avg_pool2d: lambda x, side: x.then("avg_pool2d", side=side),
    functional.leaky_relu: lambda x, negative_slope=0.01, inplace=False: x.then("leaky_relu", slope=negative_slope),
    haar_forward: lambda x: x.then("haar_forward", channels=4 * x.channels),
    haar_inverse: lambda x: x.then("haar_inverse", channels=x.channels // 4),
    torch.cat: _cat,
    torch.conv2d: _conv2d,
    torch.exp: _unary("exp"),
    torch.maximum: lambda x, y: _binary("maximum", x, y),
    torch.minimum: lambda x, y: _binary("minimum", x, y),
    torch.tanh: _unary("tanh"),
}
