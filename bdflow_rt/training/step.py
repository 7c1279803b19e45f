"""One training step as a module, so that DDP and torch.compile can wrap it whole."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bdflow_rt.models.bdflow import BDFlow
from bdflow_rt.training.bicubic import bicubic_downscale
from bdflow_rt.training.boundary import boundary_aware_weight, boundary_target
from bdflow_rt.training.config import TrainConfig
from bdflow_rt.training.losses import total_loss


class TrainStep(nn.Module):
    """Crops in, loss out: both directions with quantisation between them.

    Args:
        model: the network that is trained.
        config: of the run.
        lpips: the perceptual loss's network, on the model's device; needed where its weight is not 0.
    """

    def __init__(self, model: BDFlow, config: TrainConfig, *, lpips: nn.Module | None = None) -> None:
        super().__init__()
        self.model = model
        self.config = config
        self._lpips = [lpips]  # in a list, so that its frozen weights are not registered and trained

    def forward(self, crops: Tensor, progress: float) -> tuple[Tensor, dict[str, Tensor]]:
        """(N, 3, H, W) uint8 and the run's progress 0..1 to the loss and its parts."""
        weights, model = self.config.loss, self.model
        hr = crops.to(torch.float32) / 255
        lr_reference = bicubic_downscale(hr, model.config.scale).clamp(0, 1)
        baw = None
        if self.config.baw_active(progress):
            baw = boundary_aware_weight(crops, model.config.boundary, base=weights.reconstruction)
        with torch.autocast(hr.device.type, torch.bfloat16, enabled=self.config.precision == "bf16"):
            output = model(hr)
            lr, boundary = model.quantize(output)
            restored = model.inverse(lr, boundary)
        target = value = None
        if model.quantizer is not None and output.boundary is not None and weights.boundary:
            value = model.quantizer.position(output.boundary) / model.config.max_level
            target = boundary_target(crops, lr.detach(), model.config)
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
