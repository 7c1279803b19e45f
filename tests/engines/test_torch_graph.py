"""The half-precision work that CUDA graphs capture, run operator by operator on the CPU; graphs are in tests/gpu."""

from __future__ import annotations

import pathlib

import numpy as np
import pytest
import torch

from bdflow_rt.engines.torch.engine import TorchEngine
from bdflow_rt.engines.torch.graph import GraphedWire, changed, first_difference
from bdflow_rt.models.io import load_model
from bdflow_rt.models.layers.haar import haar_forward, haar_inverse
from bdflow_rt.zoo import find_model
from tests.support import photo
from tests.support_models import make_model, tiny_config


@pytest.mark.parametrize("name", ["bdflow-x2@1", "bdflow-x4@1"])
def test_half_precision_gives_the_references_pixels_but_for_one_level(name: str) -> None:
    card = find_model(name)
    image = photo(64, 96, seed=4)[None]
    reference = TorchEngine(card, "downscale").run({"image": image})
    found = GraphedWire(load_model(card), "downscale", use_kernels=False).compute({"image": torch.tensor(image)})
    lr = found["lr"].numpy().astype(int)
    assert np.abs(lr - reference["lr"]).max() <= 1
    assert (found["boundary"].numpy() != reference["boundary"]).mean() < 0.01
    restored = TorchEngine(card, "upscale").run(reference)["image"].astype(int)
    tensors = {key: torch.tensor(value) for key, value in reference.items()}
    half = GraphedWire(load_model(card), "upscale", use_kernels=False).compute(tensors)["image"].numpy()
    difference = np.abs(restored - half)
    assert difference.max() <= 2
    assert (difference > 0).mean() < 0.15


@pytest.mark.slow
def test_compiled_networks_give_the_same_pixels_but_for_one_level(tmp_path: pathlib.Path) -> None:
    card = make_model(tmp_path, tiny_config(2))
    inputs = {"image": torch.tensor(photo(32, 48, seed=4)[None])}
    for direction in ("downscale", "upscale"):
        plain, compiled = (
            GraphedWire(load_model(card), direction, use_kernels=False, compiled=compiled).compute(inputs)
            for compiled in (False, True)
        )
        assert first_difference(compiled, plain) is None
        inputs = {name: plain[name] for name in ("lr", "boundary") if name in plain}


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


def test_the_picture_for_the_trial_is_another_one_whatever_the_picture() -> None:
    ramp = torch.arange(256, dtype=torch.uint8)[None, :, None, None].expand(1, 256, 8, 3)  # its own negative, mirrored
    inputs = {"lr": ramp, "boundary": torch.zeros(1, 256, 8, dtype=torch.uint8), "latent": torch.zeros(1, 2, 256, 8)}
    for name, value in changed(inputs).items():
        assert value.dtype == inputs[name].dtype
        assert (value != inputs[name]).all(), name


def test_a_graph_may_round_otherwise_and_nothing_more() -> None:
    image = torch.tensor([0, 7, 255], dtype=torch.uint8)
    wanted = {"image": image, "mean": torch.tensor(0.5)}
    assert (
        first_difference({"image": torch.tensor([1, 6, 254], dtype=torch.uint8), "mean": wanted["mean"]}, wanted)
        is None
    )
    assert first_difference({"image": torch.zeros_like(image), "mean": wanted["mean"]}, wanted) == "image"
    assert first_difference({"image": image, "mean": torch.tensor(0.0)}, wanted) == "mean"
    assert first_difference({"image": image, "mean": torch.tensor(float("nan"))}, wanted) == "mean"


@pytest.mark.parametrize("value", ["nan", "inf"])
def test_what_is_not_finite_is_left_to_the_check_that_names_it(value: str) -> None:
    results = {"image": torch.zeros(3, dtype=torch.uint8), "mean": torch.tensor(float(value))}
    assert first_difference({name: one.clone() for name, one in results.items()}, results) is None
