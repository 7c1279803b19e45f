"""One direction of a model in half precision on a GPU: ingest, core and egress in one CUDA graph per shape."""

from __future__ import annotations

import functools
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from bdflow_rt.errors import BackendError
from bdflow_rt.interop import has_cuda
from bdflow_rt.kernels import egress, ingest
from bdflow_rt.models.network import Network
from bdflow_rt.models.wire import Wire
from bdflow_rt.zoo.interface import Direction

_GRAPHS = 4
"""Shapes whose graphs are kept."""
_WARM_UP = 3
"""Runs before a capture, in which cuDNN chooses its algorithms and kernels are compiled."""
_ROUNDING = 1e-3
"""Of a mean, relative; outputs of 8 bits may be one level apart."""
_capturing = threading.Lock()
"""PyTorch allows one capture at a time in a process."""


class GraphedWire:
    """Runs a direction as CUDA graphs, captured at the first call with each shape.

    Inputs and outputs are those of the public graph, as tensors, and the scalar `mean` of the unrounded values.

    Args:
        network: on the GPU; is made float16, channels last. Haar sums and the convolutions' are float32 all the same.
        direction: which one.
        use_kernels: run the core form between the fused kernels; None: where CuPy is there and planes are Haar's.
        compiled: compile the network with torch.compile, which needs Triton and takes a minute per shape.

    Not thread-safe.
    """

    def __init__(
        self, network: Network, direction: Direction, *, use_kernels: bool | None = None, compiled: bool = False
    ) -> None:
        network.half().eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        has_kernels = network.interface.core_input == "haar" and has_cuda()
        self._use_kernels = has_kernels if use_kernels is None else use_kernels
        self._wire = Wire(network, direction, kind="core" if self._use_kernels else "public")
        if compiled:
            self._wire.down = torch.compile(self._wire.down, dynamic=False)
            self._wire.up = torch.compile(self._wire.up, dynamic=False)
        self._device = next(network.parameters()).device
        self._captured: OrderedDict[tuple[tuple[int, ...], ...], _Captured] = OrderedDict()

    @torch.no_grad()  # torch.compile takes this, and not the tensors of inference mode
    def run(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Run once on torch's current stream; nothing waits for the host.

        Args:
            inputs: tensors by name, on the GPU or in the host's memory.

        Returns:
            The graph's own outputs, which the next run overwrites.

        Raises:
            BackendError: a graph gives something else than the work it was captured from.
        """
        key = tuple(tuple(value.shape) for value in inputs.values())
        with torch.cuda.device(self._device):
            captured = self._captured.pop(key, None)
            if captured is None:
                while len(self._captured) >= _GRAPHS:
                    self._captured.popitem(last=False)
                # Only one graph runs at a time, so all of them use the same memory for the values in between.
                pool = next((other.pool for other in self._captured.values()), None)
                captured = _Captured(self.compute, inputs, stream=self._side, pool=pool)
            self._captured[key] = captured
            return captured.run(inputs)

    @functools.cached_property
    def _side(self) -> torch.cuda.Stream:
        """Where graphs are captured, which cannot be on the default stream."""
        return torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]

    def release(self) -> None:
        """Let every graph and its memory go."""
        self._captured.clear()

    @torch.no_grad()
    def compute(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The work itself, operator by operator: what a graph captures, and what it is compared with."""
        if not self._use_kernels:
            return self._wire(inputs)
        if self._wire.direction == "downscale":
            planes = ingest(inputs["image"]).contiguous(memory_format=torch.channels_last)
            return self._wire({"planes": planes})
        outputs = self._wire(inputs)
        return {"image": egress(outputs.pop("planes")), **outputs}


class _Captured:
    """A graph with its own inputs and outputs.

    Args:
        compute: the work.
        inputs: of the shapes to capture it for.
        stream: a side stream of the current device.
        pool: of another graph, to share its memory; None for memory of its own.
    """

    def __init__(
        self,
        compute: Callable[[Mapping[str, Tensor]], dict[str, Tensor]],
        inputs: Mapping[str, Tensor],
        *,
        stream: torch.cuda.Stream,
        pool: Any,
    ) -> None:
        self._inputs = {name: value.to(stream.device, copy=True) for name, value in inputs.items()}
        self._graph = torch.cuda.CUDAGraph()
        pictures = [{name: value.clone() for name, value in self._inputs.items()}, changed(self._inputs)]
        with _capturing:
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                for _ in range(_WARM_UP - 1):
                    compute(self._inputs)
                expected = [compute(picture) for picture in pictures]
                # Other threads may go on allocating meanwhile.
                with torch.cuda.graph(self._graph, pool=pool, stream=stream, capture_error_mode="thread_local"):
                    self._outputs = compute(self._inputs)
            torch.cuda.current_stream().wait_stream(stream)
        for picture, wanted in zip(pictures, expected, strict=True):
            self._check(picture, wanted)

    @property
    def pool(self) -> Any:
        return self._graph.pool()

    def run(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        for name, value in inputs.items():
            self._inputs[name].copy_(value, non_blocking=True)
        self._graph.replay()
        return self._outputs

    def _check(self, picture: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
        """A graph that is empty, or reads elsewhere, would give what is left in its outputs."""
        for value in self._outputs.values():
            value.zero_()
        if name := first_difference(self.run(picture), wanted):
            raise BackendError(
                f"A CUDA graph does not give the {name} of the work it was captured from, on {torch.__version__}. "
                "Please report this; precision='fp32' runs without graphs."
            )


def changed(inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Inputs of which no element is as before."""
    return {name: value.bitwise_not() if value.dtype == torch.uint8 else value + 1 for name, value in inputs.items()}


def first_difference(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> str | None:
    """Name of the first output that is another one, rounding and values that are not finite aside."""
    for name, value in found.items():
        if value.dtype == torch.uint8:
            is_same = (value.to(torch.int16) - wanted[name]).abs().max() <= 1
        else:
            is_same = torch.isclose(value, wanted[name], rtol=_ROUNDING, atol=_ROUNDING, equal_nan=True).all()
        if not is_same:
            return name
    return None
