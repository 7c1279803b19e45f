"""Refinement: the LR pixels follow the gradient of what comes back from them, and the network stays as it is.

Quality that is paid for once, in the downscale direction: the packet is an ordinary one and restores as fast as any.

Source: the LR half of Xu et al., "Downscaled Representation Matters" (ICCV 2023, arXiv:2211.10643). Adam's settings and
the pull towards bicubic are ours, chosen on crops of eight photographs of BSDS500, none of them in a test set.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bdflow_rt.engines.engine import check_finite, run_error
from bdflow_rt.engines.torch.settings import own_settings, torch_device
from bdflow_rt.fork import torch_threads
from bdflow_rt.metrics.bicubic import bicubic_downscale, cell_means
from bdflow_rt.metrics.psnr import LUMA
from bdflow_rt.models.io import load_model
from bdflow_rt.models.wire import Wire
from bdflow_rt.picture import UInt8Array
from bdflow_rt.runtime.plan import Span, Window
from bdflow_rt.zoo import ModelCard

LR_WEIGHT = 1 / 8
"""Times the scale: weight of the LR's mean square distance to bicubic beside the restored picture's errors in RGB and
luma. With it the LR stays about as near to bicubic as the network's own."""
STEP_SIZE = 0.75 / 255
"""Of Adam, in the units of the LR, where white is 1; it falls to 0 along a cosine."""
BETAS = (0.7, 0.99)
"""Of Adam. Rounding to 8 bits makes every gradient noisy, and a longer memory than this carries the noise along."""

Latent = Callable[[Span, Span], NDArray[np.float32]]
"""Z of a window of the LR picture, (Z, rows, columns)."""


@dataclass(frozen=True)
class Target:
    """What shall come back from the LR picture, and what comes back with it.

    Args:
        pixels: (H, W, 3) uint8, the HR picture.
        boundary: (h, w) uint8 levels, which stay as they are; None for a model without.
        grey: restore the mean of the channels, as for a grey picture.
        latent: Z where it is not 0.
    """

    pixels: UInt8Array
    boundary: UInt8Array | None
    grey: bool = False
    latent: Latent | None = None


class Refiner:
    """Refines LR pictures with one model, in PyTorch.

    Args:
        card: of the model.
        device: "cpu", "cuda" or "cuda:N".
        bf16: run the convolutions in bfloat16.
        threads: CPU threads; None leaves PyTorch's setting.

    Raises:
        CorruptModelError, WeightsHashError: the weights are missing, altered, or do not fit the card.
        OutOfMemoryError, BackendError: the device has no room for the weights, or fails.
    """

    def __init__(self, card: ModelCard, *, device: str, bf16: bool, threads: int | None) -> None:
        self._card = card
        self._device = torch_device(device)
        self._bf16 = bf16
        self._threads = torch_threads(threads)
        with self._failures("loading"), torch.inference_mode(False):
            self._network = load_model(card).requires_grad_(False).to(self._device)
            self._network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            self._network.checkpoint_gradients = True
            self._wire = Wire(self._network, "upscale")
            self._luma = torch.tensor(LUMA, dtype=torch.float32, device=self._device).view(1, 3, 1, 1)

    def refine(
        self,
        target: Target,
        lr: UInt8Array,
        *,
        steps: int,
        plan: Sequence[Window],
        progress: Callable[[int, int], None] | None = None,
    ) -> UInt8Array:
        """Look for better LR pixels than the network's own, `steps` times, and give the best of all that were tried.

        The objective is the sum of three mean squares: of the restored picture's error, of its luma's error, and
        the LR's distance to bicubic, weighted. The rounding to 8 bits is part of it. Like the network's own, the LR
        pixels stay within the model's bound around the mean of their HR pixels.

        Args:
            target: what shall come back.
            lr: (h, w, 3) uint8, where to start: what the network made of it.
            steps: of gradient descent; each runs the upscale direction and its gradient.
            plan: windows of the LR picture, with a halo of `plan.halo_of(interface, "gradient")`.
            progress: called with the number of tiles done and in all.

        Returns:
            (h, w, 3) uint8, no worse than `lr` by that sum.

        Raises:
            OutOfMemoryError, BackendError, NonFiniteOutputError: the network failed.
        """
        with own_settings(self._device, threads=self._threads, grad=True):
            with self._failures("refining"):
                reference = _to_values(bicubic_downscale(target.pixels, scale=self._card.interface.scale))
                values = _to_values(lr)
                darkest, brightest = self._bounds(target.pixels)
            optimizer = torch.optim.Adam([values], lr=STEP_SIZE, betas=BETAS)
            best, least = lr, math.inf
            for step in range(steps + 1):
                with self._failures("refining"):
                    current = _to_pixels(values)
                    loss, gradient = self._guide(values, reference, current, target.pixels.shape)
                for tile, window in enumerate(plan, 1):
                    with self._failures("refining"):
                        loss += self._window(target, window, current, gradient if step < steps else None)
                    if progress is not None:
                        progress(step * len(plan) + tile, (steps + 1) * len(plan))
                check_finite(loss, backend="torch", model=self._card.id)
                if loss < least:
                    best, least = current, loss
                if step < steps:
                    optimizer.param_groups[0]["lr"] = STEP_SIZE * (1 + math.cos(math.pi * step / steps)) / 2
                    values.grad = gradient
                    with self._failures("refining"):
                        optimizer.step()
                        torch.clamp(values, darkest, brightest, out=values)
            return best

    def _guide(
        self, values: Tensor, reference: Tensor, current: UInt8Array, hr_shape: tuple[int, ...]
    ) -> tuple[float, Tensor]:
        """The loss of the LR's distance to bicubic, and its gradient, (h, w, 3), at the LR before it is rounded."""
        # The other losses are sums over HR pixels.
        per_lr_pixel = math.prod(hr_shape[:2]) / math.prod(values.shape[:2])
        weight = LR_WEIGHT * self._card.interface.scale * per_lr_pixel / 3
        loss = weight * float((_to_values(current) - reference).square().sum(dtype=torch.float64))
        return loss, 2 * weight * (values - reference)

    def _window(self, target: Target, window: Window, lr: UInt8Array, gradient: Tensor | None) -> float:
        """The losses of what a window restores where it is kept, summed; their gradient is added at the window."""
        scale, quantizer = self._card.interface.scale, self._network.quantizer
        truth = self._to_planes(
            target.pixels[tuple(slice(span.keep_start * scale, span.keep_stop * scale) for span in window)]
        )
        top, left = ((span.keep_start - span.start) * scale for span in window)
        kept = (..., slice(top, top + truth.shape[2]), slice(left, left + truth.shape[3]))
        with torch.set_grad_enabled(gradient is not None):
            planes = self._to_planes(lr[_area(*window)]).requires_grad_(gradient is not None)
            boundary = z = None
            if target.boundary is not None and quantizer is not None:
                levels = _to_tensor(target.boundary[_area(*window)]).to(self._device)
                boundary = self._wire.boundary(levels[None], quantizer)
            if target.latent is not None:
                z = torch.from_numpy(target.latent(*window)).to(self._device)[None]
            with torch.autocast(self._device.type, torch.bfloat16, enabled=self._bf16):
                restored = self._network.inverse(planes, boundary, z)
            # Before it is clamped, which would hide an infinity.
            check_finite(float(restored.detach().mean()), backend="torch", model=self._card.id)
            restored = restored.mean(dim=1, keepdim=True) if target.grey else restored
            error = restored[kept].clamp(0, 1) - truth
            loss = error.square().sum() / 3 + (error * self._luma).sum(dim=1).square().sum()
            if gradient is not None:
                (found,) = torch.autograd.grad(loss, planes)
                check_finite(float(found.sum()), backend="torch", model=self._card.id)
                gradient[_area(*window)] += found[0].permute(1, 2, 0).cpu()
            return float(loss.detach())

    def _to_planes(self, pixels: UInt8Array) -> Tensor:
        """(H, W, 3) uint8 to (1, 3, H, W) in [0, 1]."""
        return self._wire.lr(_to_tensor(pixels)[None].to(self._device))

    def _bounds(self, pixels: UInt8Array) -> tuple[Tensor, Tensor]:
        """The least and the largest LR values that are stored, (h, w, 3)."""
        bound = self._card.interface.lr_bound or 255
        mean = torch.from_numpy(cell_means(pixels, scale=self._card.interface.scale))
        return (mean - bound) / 255, (mean + bound) / 255

    @contextmanager
    def _failures(self, doing: str) -> Iterator[None]:
        try:
            yield
        except (RuntimeError, MemoryError) as error:
            raise run_error(error, backend="torch", what=f"{doing} {self._card.id}") from None


def _area(rows: Span, columns: Span) -> tuple[slice, slice]:
    return slice(rows.start, rows.stop), slice(columns.start, columns.stop)


def _to_tensor(levels: UInt8Array) -> Tensor:
    """A tensor of its own from any array: torch takes no negative strides, and warns of arrays that are read-only."""
    return torch.from_numpy(np.array(levels, order="C"))


def _to_values(pixels: UInt8Array) -> Tensor:
    return torch.from_numpy(pixels.astype(np.float32, order="C") / 255)


def _to_pixels(values: Tensor) -> UInt8Array:
    return (values.clamp(0, 1) * 255).round().to(torch.uint8).numpy()
