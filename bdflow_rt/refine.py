"""Refinement: the LR pixels follow the gradient of what comes back from them, and the network stays as it is.

Quality that is paid for once, when a picture is made small: the packet is an ordinary one and restores as fast as any.

Source: the LR half of Xu et al., "Downscaled Representation Matters" (ICCV 2023, arXiv:2211.10643). What the paper
leaves to the reader, Adam's settings and the pull towards bicubic, was chosen on photographs that are in no test set.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bdflow_rt.engines.engine import check_finite, run_error
from bdflow_rt.engines.torch import exact_convolutions
from bdflow_rt.metrics.bicubic import bicubic_downscale
from bdflow_rt.models.io import load_model
from bdflow_rt.tiles import Span, hr_window, tile_size, windows
from bdflow_rt.zoo import ModelCard

LR_WEIGHT = 1 / 8
"""Times the scale: weight of the LR's mean square distance to bicubic beside the restored picture's errors in RGB and
luma. With it the LR of x2 and x4 stays about as near to bicubic as the network's own."""
STEP_SIZE = 0.75 / 255
"""Of Adam, in the units of the LR, where white is 1; it falls to 0 along a cosine."""
BETAS = (0.7, 0.99)
"""Of Adam. Rounding to 8 bits makes every gradient noisy, and a longer memory than this carries the noise along."""
LUMA = (0.299, 0.587, 0.114)

UInt8Array = NDArray[np.uint8]
Latent = Callable[[Span, Span], NDArray[np.float32]]
"""Z of a window of the LR picture, (Z, rows, columns)."""


class Refiner:
    """Refines LR pictures with one model, in PyTorch.

    Args:
        card: of the model.
        device: "cpu", "cuda" or "cuda:N".
        bf16: run the convolutions in bfloat16.
        memory_limit_mib: working memory of the network. Larger pictures are cut into tiles of the same gradient.

    Raises:
        CorruptModelError, WeightsHashError: the weights are missing, altered, or do not fit the card.
        OutOfMemoryError, BackendError: the device has no room for the weights, or fails.
    """

    def __init__(self, card: ModelCard, *, device: str, bf16: bool, memory_limit_mib: float) -> None:
        self._card = card
        self._device = torch.device(device)
        self._bf16 = bf16
        self._memory_limit_mib = memory_limit_mib
        model = load_model(card).requires_grad_(False)
        model.checkpoint_gradients = True
        with self._failures("loading"):
            self._model = model.to(self._device)
            self._model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            self._luma = torch.tensor(LUMA, device=self._device).view(1, 3, 1, 1)

    def refine(
        self,
        pixels: UInt8Array,
        lr: UInt8Array,
        boundary: UInt8Array | None,
        *,
        steps: int,
        latent: Latent | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> UInt8Array:
        """Look for better LR pixels than the network's own, `steps` times, and give the best of all that were tried.

        What is made small is the sum of three mean squares: of the restored picture's error, of its luma's error, and
        the LR's distance to bicubic, weighted. The rounding to 8 bits is part of it; the boundary levels stay.

        Args:
            pixels: (H, W, 3) uint8, the HR picture.
            lr: (h, w, 3) uint8, where to start: what the network made of it.
            boundary: (h, w) uint8 levels; None for a model without.
            steps: of gradient descent; each runs the way back and its gradient.
            latent: Z where it is not 0.
            progress: called with the number of tiles done and in all.

        Returns:
            (h, w, 3) uint8, no worse than `lr` by that sum.

        Raises:
            OutOfMemoryError, BackendError, NonFiniteOutputError: the network failed.
        """
        scale = self._card.config.scale
        reference = _to_values(bicubic_downscale(pixels, scale=scale))
        values = _to_values(lr).requires_grad_()
        optimizer = torch.optim.Adam([values], lr=STEP_SIZE, betas=BETAS)
        best, least = lr, math.inf
        plan = self._plan(lr.shape[:2])
        for step in range(steps + 1):
            current = _to_pixels(values)
            loss, gradient = self._guide(values, reference, current)
            for tile, (rows, columns) in enumerate(plan, 1):
                inputs = current[_area(rows, columns)], None if boundary is None else boundary[_area(rows, columns)]
                z = None if latent is None else latent(rows, columns)
                loss += self._window(pixels, rows, columns, inputs, z, gradient if step < steps else None)
                if progress is not None:
                    progress(step * len(plan) + tile, (steps + 1) * len(plan))
            check_finite(loss, backend="torch", model=self._card.id)
            if loss < least:
                best, least = current, loss
            for group in optimizer.param_groups:
                group["lr"] = STEP_SIZE * (1 + math.cos(math.pi * step / max(steps, 1))) / 2
            values.grad = gradient
            optimizer.step()
        return best

    def _plan(self, size: tuple[int, ...]) -> list[tuple[Span, Span]]:
        config = self._card.config
        height, width = size[:2]
        tile = tile_size(height, width, config, memory_limit_mib=self._memory_limit_mib, backend="gradient")
        return list(windows(height, width, tile, config.halo))

    def _guide(self, values: Tensor, reference: Tensor, current: UInt8Array) -> tuple[float, Tensor]:
        """The loss of the LR's distance to bicubic, summed over its pixels, and its gradient, (h, w, 3)."""
        scale = self._card.config.scale
        weight = LR_WEIGHT * scale * scale**2 / 3  # the other losses are sums over HR pixels
        loss = weight * float((_to_values(current) - reference).square().sum(dtype=torch.float64))
        return loss, 2 * weight * (values.detach() - reference)

    def _window(
        self,
        pixels: UInt8Array,
        rows: Span,
        columns: Span,
        inputs: tuple[UInt8Array, UInt8Array | None],
        latent: NDArray[np.float32] | None,
        gradient: Tensor | None,
    ) -> float:
        """The losses of what a window restores where it is kept, summed; their gradient is added at the window."""
        scale, model = self._card.config.scale, self._model
        top, left = (span.keep_start - span.start for span in (rows, columns))
        kept = (
            slice(top * scale, min((rows.keep_stop - rows.start) * scale, pixels.shape[0] - rows.start * scale)),
            slice(
                left * scale, min((columns.keep_stop - columns.start) * scale, pixels.shape[1] - columns.start * scale)
            ),
        )
        with self._failures("refining"), exact_convolutions(), torch.set_grad_enabled(gradient is not None):
            lr = self._to_planes(inputs[0]).requires_grad_(gradient is not None)
            truth = self._to_planes(hr_window(pixels, rows, columns, scale)[kept])
            boundary = None
            if inputs[1] is not None and model.quantizer is not None:
                boundary = model.quantizer.value(
                    torch.from_numpy(inputs[1].copy()).to(self._device)[None, None].float()
                )
            z = None if latent is None else torch.from_numpy(latent).to(self._device)[None]
            with torch.autocast(self._device.type, torch.bfloat16) if self._bf16 else nullcontext():
                restored = model.inverse(lr, boundary, z)
            error = restored[:, :, kept[0], kept[1]].clamp(0, 1) - truth
            loss = error.square().sum() / 3 + (error * self._luma).sum(dim=1).square().sum()
            if gradient is not None:
                (found,) = torch.autograd.grad(loss, lr)
                gradient[_area(rows, columns)] += found[0].permute(1, 2, 0).cpu()
            return float(loss.detach())

    def _to_planes(self, pixels: UInt8Array) -> Tensor:
        """(H, W, 3) uint8 to (1, 3, H, W) in [0, 1]."""
        return torch.from_numpy(pixels.copy()).to(self._device).permute(2, 0, 1)[None].float() / 255

    @contextmanager
    def _failures(self, doing: str) -> Iterator[None]:
        try:
            yield
        except (RuntimeError, MemoryError) as error:
            raise run_error(error, backend="torch", what=f"{doing} of {self._card.id}") from None


def _area(rows: Span, columns: Span) -> tuple[slice, slice]:
    return slice(rows.start, rows.stop), slice(columns.start, columns.stop)


def _to_values(pixels: UInt8Array) -> Tensor:
    return torch.from_numpy(pixels.astype(np.float32) / 255)


def _to_pixels(values: Tensor) -> UInt8Array:
    return (values.detach().clamp(0, 1) * 255).round().to(torch.uint8).numpy()
