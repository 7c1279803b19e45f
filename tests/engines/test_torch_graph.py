"""The half-precision work that CUDA graphs capture, run operator by operator on the CPU; graphs are in tests/gpu."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bdflow_rt.engines.torch import TorchEngine
from bdflow_rt.engines.torch_graph import GraphedFlow
from bdflow_rt.models.haar import haar_forward, haar_inverse
from bdflow_rt.models.io import load_model
from bdflow_rt.zoo import find_model
from tests.support import photo


@pytest.mark.parametrize("name", ["bdflow-x2@1", "bdflow-x4@1"])
def test_half_precision_gives_the_references_pixels_but_for_one_level(name: str) -> None:
    card = find_model(name)
    image = photo(64, 96, seed=4)[None]
    reference = TorchEngine(card, "downscale").run({"image": image})
    found = GraphedFlow(load_model(card), "downscale", use_kernels=False).compute({"image": torch.tensor(image)})
    lr = found["lr"].numpy().astype(int)
    assert np.abs(lr - reference["lr"]).max() <= 1
    assert (found["boundary"].numpy() != reference["boundary"]).mean() < 0.01
    restored = TorchEngine(card, "upscale").run(reference)["image"].astype(int)
    tensors = {key: torch.tensor(value) for key, value in reference.items()}
    half = GraphedFlow(load_model(card), "upscale", use_kernels=False).compute(tensors)["image"].numpy()
    difference = np.abs(restored - half)
    assert difference.max() <= 2
    assert (difference > 0).mean() < 0.15


def test_planes_in_and_out_are_the_model_without_its_first_transform() -> None:
    model = load_model(find_model("bdflow-x4@1"))
    x = torch.rand(2, 3, 16, 24, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        whole, parts = model(x), model.down(haar_forward(x))
        for one, other in zip(whole, parts, strict=True):
            assert one is not None
            assert other is not None
            assert torch.equal(one, other)
        restored = model.inverse(whole.lr, whole.boundary, whole.latent)
        assert torch.equal(haar_inverse(model.up(whole.lr, whole.boundary, whole.latent)), restored)
        assert (restored - x).abs().max() < 1e-4
