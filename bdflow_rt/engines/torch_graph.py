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
from bdflow_rt.models.bdflow import BDFlow, FlowOutput
from bdflow_rt.models.haar import haar_forward, haar_inverse
from bdflow_rt.models.quantize import bound_lr
from bdflow_rt.zoo.card import Direction

_GRAPHS = 4
"""Shapes whose graphs are kept."""
_WARM_UP = 3
"""Runs before a capture, in which cuDNN chooses its algorithms and kernels are compiled."""
_ROUNDING = 1e-3
"""Of a mean, relative; outputs of 8 bits may be one level apart."""
_capturing = threading.Lock()
"""PyTorch allows one capture at a time in a process."""


class GraphedFlow:
    """Runs a direction as CUDA graphs, captured at the first call with each shape.

    Inputs and outputs are those of the public graph, as tensors, and the scalar `mean` of the unrounded values.

    Args:
        model: on the GPU; is made float16, channels last. Haar sums and the convolutions' are float32 all the same.
        direction: which one.
        use_kernels: take the way in and out by the fused kernels; None: where CuPy is there.
        compiled: compile the network with torch.compile, which needs Triton and takes a minute per shape.

    Not thread-safe.
    """

    def __init__(
        self, model: BDFlow, direction: Direction, *, use_kernels: bool | None = None, compiled: bool = False
    ) -> None:
        self._model = model.half().eval()
        self._model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._down: Callable[..., FlowOutput] = model.down
        self._up: Callable[..., Tensor] = model.up
        if compiled:
            self._down = torch.compile(self._down, dynamic=False)
            self._up = torch.compile(self._up, dynamic=False)
        self._direction = direction
        self._device = next(model.parameters()).device
        self._use_kernels = has_cuda() if use_kernels is None else use_kernels
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
        return self._downscale(inputs["image"]) if self._direction == "downscale" else self._upscale(inputs)

    def _downscale(self, image: Tensor) -> dict[str, Tensor]:
        planes = ingest(image) if self._use_kernels else haar_forward(to_planes(image)).half()
        output = self._down(planes.contiguous(memory_format=torch.channels_last))
        results = {"lr": to_pixels(bound_lr(output.lr.float(), planes[:, :3].float()))}
        checked = output.lr.mean(dtype=torch.float32)
        if output.boundary is not None and self._model.quantizer is not None:
            results["boundary"] = self._model.quantizer.levels(output.boundary.float())[:, 0].to(torch.uint8)
            checked = checked + output.boundary.mean(dtype=torch.float32)
        return {**results, "mean": checked}

    def _upscale(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        boundary = None
        if "boundary" in inputs and self._model.quantizer is not None:
            boundary = self._model.quantizer.value(inputs["boundary"][:, None].float()).half()
        latent = inputs["latent"].half() if "latent" in inputs else None
        lr = to_planes(inputs["lr"]).half().contiguous(memory_format=torch.channels_last)
        planes = self._up(lr, boundary, latent)
        image = egress(planes) if self._use_kernels else to_pixels(haar_inverse(planes.float()))
        return {"image": image, "mean": planes.mean(dtype=torch.float32)}


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


def to_planes(pixels: Tensor) -> Tensor:
    """(N, H, W, 3) uint8 as (N, 3, H, W) float32 in [0, 1]."""
    return pixels.permute(0, 3, 1, 2).float() / 255


def to_pixels(planes: Tensor) -> Tensor:
    """(N, 3, H, W) floating point, clamped to [0, 1], as (N, H, W, 3) uint8."""
    return (planes.float().clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()
