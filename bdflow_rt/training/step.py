"""One training step as a module, so that DDP can wrap it whole."""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Callable

import torch
from torch import Tensor, nn

from bdflow_rt.errors import TrainingConfigError
from bdflow_rt.models.network import Network, NetworkOutput
from bdflow_rt.training.bicubic import bicubic_downscale
from bdflow_rt.training.boundary import boundary_aware_weight, boundary_target
from bdflow_rt.training.codec import LossyLr
from bdflow_rt.training.config import TrainConfig
from bdflow_rt.training.losses import total_loss


class TrainStep(nn.Module):
    """Crops in, loss out: both directions with quantisation between them.

    Args:
        model: the network that is trained.
        config: of the run.
        lpips: the perceptual loss's network, on the model's device; needed where its weight is not 0.

    Raises:
        TrainingConfigError: it is to be compiled, but there is no C++ compiler.
        BackendError: edges are to weigh more, which needs CuPy where the network is on a GPU.
    """

    def __init__(self, model: Network, config: TrainConfig, *, lpips: nn.Module | None = None) -> None:
        super().__init__()
        self.model = model
        self.config = config
        self._lpips = [lpips]  # in a list, so that its frozen weights are not registered and trained
        self._codec: LossyLr | None = None
        if config.codec == "jpeg":
            self._codec = LossyLr(
                config.codec_gradient,
                lowest=config.codec_lowest_quality,
                highest=config.codec_highest_quality,
                seed=config.seed,
                workers=config.workers,
            )
        self._down: Callable[..., NetworkOutput] = model.forward
        self._up: Callable[..., Tensor] = model.inverse
        if config.execution == "compiled":
            _check_compiler()
            self._down = torch.compile(self._down, dynamic=False)
            self._up = torch.compile(self._up, dynamic=False)
        if config.baw_active(1.0):  # what it needs is missed here, not after a third of the run
            picture = torch.zeros(1, 3, 8, 8, dtype=torch.uint8, device=next(model.parameters()).device)
            boundary_aware_weight(picture, model.config.mask())

    def forward(self, crops: Tensor, progress: float, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Crops to the loss and its parts.

        Args:
            crops: (N, 3, H, W) uint8.
            progress: 0..1, of the run.
            step: of the run; seeds Z and the codec.
        """
        weights, model = self.config.loss, self.model
        hr = crops.to(torch.float32) / 255
        lr_reference = bicubic_downscale(hr, model.interface.scale).clamp(0, 1)
        baw = None
        if self.config.baw_active(progress):
            baw = boundary_aware_weight(crops, model.config.mask(), base=weights.reconstruction)
        with torch.autocast(hr.device.type, torch.bfloat16, enabled=self.config.precision == "bf16"):
            output = self._down(hr)
            lr, boundary = model.quantize(output, hr)
            received = lr if self._codec is None else self._codec(lr, step)
            latent = None
            if self.config.temperature and output.latent is not None:
                latent = self._sample_latent(output.latent, step)
            restored = self._up(received, boundary, latent)
        target = value = None
        if model.quantizer is not None and output.boundary is not None and weights.boundary:
            target = boundary_target(crops, lr.detach(), model.config)
            value = model.quantizer.position(output.boundary) / model.quantizer.max_level
        if output.latent is None:
            weights = dataclasses.replace(weights, latent=0.0)
        return total_loss(
            weights,
            hr=hr,
            restored=restored,
            lr=output.lr,
            lr_reference=lr_reference,
            boundary_value=value,
            boundary_target=target,
            latent=output.latent,
            baw=baw,
            lpips=self._lpips[0],
        )

    def close(self) -> None:
        """End the codec's worker processes, if there are any."""
        if self._codec is not None:
            self._codec.close()

    def _sample_latent(self, like: Tensor, step: int) -> Tensor:
        """Z for the way back: normal, and the same again when a run is resumed, on whichever device."""
        generator = torch.Generator().manual_seed(step + (self.config.seed << 32))
        drawn = torch.randn(like.shape, generator=generator) * self.config.temperature
        return drawn.to(like.device)


def _check_compiler() -> None:
    """torch.compile would only miss it at the first step, in a hundred lines."""
    compilers = [os.environ["CXX"]] if os.environ.get("CXX") else ["g++", "c++", "clang++"]
    if not any(map(shutil.which, compilers)):
        raise TrainingConfigError(
            f"execution is 'compiled', which needs a C++ compiler, but there is no {' or '.join(compilers)}. Install "
            'g++, name another in CXX, or take execution = "eager".'
        )
