"""Loss and gradients of a training step, one operation after the other or as one CUDA graph.

A step of these networks is thousands of small kernels. Captured once and replayed, they cost the host one launch.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from bdflow_rt.errors import TrainingConfigError
from bdflow_rt.training.step import TrainStep

WARM_UPS = 3
"""Steps before the capture, in which libraries choose their algorithms and take their memory."""


class Computed(NamedTuple):
    """What a batch gave, on the network's device: who reads it waits for the device."""

    loss: Tensor
    parts: dict[str, Tensor]
    """Of the loss, by name."""
    norm: Tensor
    """Of all gradients, before they were clipped."""


class Gradients:
    """Sets the gradients of all parameters to those of one batch, clipped.

    Where one of them is not finite, all become 0: an update then goes on by its momentum alone, and the host need not
    look first.

    Args:
        step: a `TrainStep`, perhaps wrapped for several processes.
        clip: largest norm of all gradients.
    """

    def __init__(self, step: nn.Module, *, clip: float) -> None:
        self._step, self._clip = step, clip

    def __call__(self, crops: Tensor, progress: float, number: int) -> Computed:
        """Loss, parts and norm, without gradient.

        Args:
            crops: (N, 3, H, W) uint8, on the network's device.
            progress: 0..1, of the run.
            number: of the step.
        """
        self._step.zero_grad(set_to_none=True)
        loss, parts = self._step(crops, progress, number)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self._step.parameters(), self._clip)
        is_finite = norm.isfinite()
        for parameter in self._step.parameters():
            if parameter.grad is not None:
                parameter.grad = parameter.grad.where(is_finite, 0.0)
        return Computed(loss.detach(), parts, norm)


class GraphedGradients(Gradients):
    """The same from a CUDA graph for each phase of a run and shape of the crops, captured at their first batch.

    The graphs read parameters where they lie: update them in place. What they return, and the gradients, lie in memory
    that all of them share, and the next call writes over it.

    Args:
        step: a `TrainStep` on a CUDA device, not wrapped.
        clip: largest norm of all gradients.

    Raises:
        TrainingConfigError: the network is on another device.
    """

    def __init__(self, step: TrainStep, *, clip: float) -> None:
        super().__init__(step, clip=clip)
        self._config = step.config
        self._parameters = list(step.parameters())
        self._graphs: dict[tuple[bool, torch.Size], _Captured] = {}
        device = self._parameters[0].device
        if device.type != "cuda":
            raise TrainingConfigError(
                f"execution is 'graphed', which needs a GPU, but the device is {str(device)!r}. Pass --device cuda, or "
                'take execution = "eager".'
            )
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def __call__(self, crops: Tensor, progress: float, number: int) -> Computed:
        """As `Gradients`; of progress and number only the phase matters."""
        key = (self._config.baw_active(progress), crops.shape)
        if key not in self._graphs:
            self._graphs[key] = self._capture(crops, progress, number)
        captured = self._graphs[key]
        captured.crops.copy_(crops)
        captured.graph.replay()
        for parameter, gradient in zip(self._parameters, captured.gradients, strict=True):
            parameter.grad = gradient
        return captured.computed

    def _capture(self, crops: Tensor, progress: float, number: int) -> _Captured:
        crops = crops.clone(memory_format=torch.preserve_format)
        stream, pool = self._stream, next((other.graph.pool() for other in self._graphs.values()), None)
        stream.wait_stream(torch.cuda.current_stream(crops.device))
        with _chosen_algorithms():
            with torch.cuda.stream(stream):
                for _ in range(WARM_UPS):
                    super().__call__(crops, progress, number)
            torch.cuda.current_stream(crops.device).wait_stream(stream)
            self._step.zero_grad(set_to_none=True)
            graph = torch.cuda.CUDAGraph()
            # Other threads, such as the one that pins the batches, may go on calling CUDA meanwhile.
            with torch.cuda.graph(graph, pool=pool, stream=stream, capture_error_mode="thread_local"):
                computed = super().__call__(crops, progress, number)
        return _Captured(graph, crops, computed, [parameter.grad for parameter in self._parameters])


@contextmanager
def _chosen_algorithms() -> Iterator[None]:
    """cuDNN tries its algorithms: all steps have the same shapes, so that this pays at once."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = True
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


class _Captured(NamedTuple):
    graph: torch.cuda.CUDAGraph
    crops: Tensor
    computed: Computed
    gradients: list[Tensor | None]
