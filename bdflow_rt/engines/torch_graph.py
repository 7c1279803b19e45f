"""One direction of a model in half precision on a GPU: ingest, core and egress in one CUDA graph per shape."""

from __future__ import annotations

import functools
from collections import OrderedDict
from collections.abc import Mapping

import torch
from torch import Tensor

from bdflow_rt.errors import BackendError
from bdflow_rt.interop import has_cuda
from bdflow_rt.kernels import egress, ingest
from bdflow_rt.models.bdflow import BDFlow
from bdflow_rt.models.haar import haar_forward, haar_inverse
from bdflow_rt.zoo.card import Direction

_GRAPHS = 4
"""Shapes whose graphs are kept; each holds its own activations."""
_WARM_UP = 3
"""Runs before a capture, in which cuDNN chooses its algorithms and kernels are compiled."""


class GraphedFlow:
    """Runs a direction as CUDA graphs, captured at the first call with each shape.

    Inputs and outputs are those of the public graph, as tensors, and the scalar `mean` of the unrounded values.

    Args:
        model: on the GPU; is made float16, channels last. Haar sums and the convolutions' are float32 all the same.
        direction: which one.
        use_kernels: take the way in and out by the fused kernels; None: where CuPy is there.

    Not thread-safe.
    """

    def __init__(self, model: BDFlow, direction: Direction, *, use_kernels: bool | None = None) -> None:
        self._model = model.half().eval()
        self._model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._direction = direction
        self._use_kernels = has_cuda() if use_kernels is None else use_kernels
        self._captured: OrderedDict[tuple[tuple[int, ...], ...], _Captured] = OrderedDict()

    @torch.inference_mode()
    def run(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Run once on torch's current stream; nothing waits for the host.

        Args:
            inputs: tensors by name, on the GPU or in the host's memory.

        Returns:
            The graph's own outputs, which the next run with this shape overwrites.

        Raises:
            BackendError: a graph gave the same result for another input.
        """
        key = tuple(tuple(value.shape) for value in inputs.values())
        captured = self._captured.pop(key, None)
        if captured is None:
            while len(self._captured) >= _GRAPHS:
                self._captured.popitem(last=False)
            captured = _Captured(functools.partial(self.compute), inputs, next(self._model.parameters()).device)
        self._captured[key] = captured
        return captured.run(inputs)

    def release(self) -> None:
        """Let every graph and its memory go."""
        self._captured.clear()

    @torch.inference_mode()
    def compute(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The work itself, operator by operator: what a graph captures, and what it is compared with."""
        return self._downscale(inputs["image"]) if self._direction == "downscale" else self._upscale(inputs)

    def _downscale(self, image: Tensor) -> dict[str, Tensor]:
        planes = ingest(image) if self._use_kernels else haar_forward(_to_planes(image)).half()
        output = self._model.down(planes.contiguous(memory_format=torch.channels_last))
        results = {"lr": _to_pixels(output.lr)}
        checked = output.lr.float().mean()
        if output.boundary is not None and self._model.quantizer is not None:
            results["boundary"] = self._model.quantizer.levels(output.boundary.float())[:, 0].to(torch.uint8)
            checked = checked + output.boundary.float().mean()
        return {**results, "mean": checked}

    def _upscale(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        boundary = None
        if "boundary" in inputs and self._model.quantizer is not None:
            boundary = self._model.quantizer.value(inputs["boundary"][:, None].float()).half()
        latent = inputs["latent"].half() if "latent" in inputs else None
        lr = _to_planes(inputs["lr"]).half().contiguous(memory_format=torch.channels_last)
        planes = self._model.up(lr, boundary, latent)
        image = egress(planes) if self._use_kernels else _to_pixels(haar_inverse(planes.float()))
        return {"image": image, "mean": planes.float().mean()}


class _Captured:
    """A graph with its own inputs and outputs."""

    def __init__(
        self, compute: functools.partial[dict[str, Tensor]], inputs: Mapping[str, Tensor], device: torch.device
    ) -> None:
        self._inputs = {name: value.to(device, copy=True) for name, value in inputs.items()}
        stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(stream):
            for _ in range(_WARM_UP):
                expected = compute(self._inputs)
        torch.cuda.current_stream(device).wait_stream(stream)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph, stream=stream):
            self._outputs = compute(self._inputs)
        self._check_alive(expected, inputs)

    def run(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        for name, value in inputs.items():
            self._inputs[name].copy_(value, non_blocking=True)
        self._graph.replay()
        return self._outputs

    def _check_alive(self, expected: dict[str, Tensor], inputs: Mapping[str, Tensor]) -> None:
        """An empty graph, or one that reads elsewhere, would give what is left in its outputs."""
        for value in self._outputs.values():
            value.zero_()
        self.run(inputs)
        for name, value in self._outputs.items():
            if not torch.equal(value, expected[name]):
                raise BackendError(
                    f"A CUDA graph does not give the {name} of the work it was captured from, on {torch.__version__}. "
                    "Please report this; precision='fp32' runs without graphs."
                )
        changed = {
            name: value.flip(1).bitwise_xor(255) if value.dtype == torch.uint8 else -value
            for name, value in self._inputs.items()
        }
        before = self._outputs["mean"].clone()
        self.run(changed)
        if torch.equal(self._outputs["mean"], before):
            raise BackendError("A CUDA graph gives the same result for another input. Please report this.")


def _to_planes(pixels: Tensor) -> Tensor:
    return pixels.permute(0, 3, 1, 2).float() / 255


def _to_pixels(planes: Tensor) -> Tensor:
    return (planes.float().clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()
