"""The half-precision CUDA graphs of the torch backend against its float32 reference."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.support import photo

torch = pytest.importorskip("torch")

SHAPES = [(64, 96), (120, 68), (64, 96), (512, 512)]


@pytest.fixture(params=["downscale", "upscale"])
def pair(request: Any) -> Any:
    """The reference and the graphs of one direction of the shipped x4."""
    from bdflow_rt.engines.torch import TorchEngine
    from bdflow_rt.zoo import find_model

    card = find_model("bdflow-x4@1")
    down = TorchEngine(card, "downscale", device="cuda")
    engines = [
        TorchEngine(card, request.param, device="cuda"),
        TorchEngine(card, request.param, device="cuda", precision="fp16"),
    ]
    yield (down, *engines)
    for engine in (down, *engines):
        engine.close()


def test_graphs_give_the_references_pixels_for_changing_shapes_and_pictures(pair: Any) -> None:
    down, reference, half = pair
    for seed, (height, width) in enumerate(SHAPES):
        inputs: dict[str, Any] = {"image": np.stack([photo(height, width, seed), photo(height, width, seed + 9)])}
        if half.direction == "upscale":
            inputs = down.run(inputs)
        expected, found = reference.run(inputs), half.run(inputs)
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            difference = np.abs(found[name].astype(int) - value)
            assert difference.max() <= (2 if name == "image" else 1), name
            assert (difference > 0).mean() < 0.15, name


def test_without_kernels_the_graphs_give_the_same(pair: Any) -> None:
    from bdflow_rt.engines.torch_graph import GraphedFlow
    from bdflow_rt.models.io import load_model
    from bdflow_rt.zoo import find_model

    _, _, half = pair
    model = load_model(find_model("bdflow-x4@1")).cuda()
    shape = (1, 96, 64, 3) if half.direction == "downscale" else (1, 24, 16, 3)
    inputs = {"image" if half.direction == "downscale" else "lr": torch.randint(0, 256, shape, dtype=torch.uint8)}
    if half.direction == "upscale":
        inputs["boundary"] = torch.randint(0, 2, shape[:3], dtype=torch.uint8)
    ways = [GraphedFlow(model, half.direction, use_kernels=use).run(inputs) for use in (True, False)]
    for name, value in ways[0].items():
        if name != "mean":
            assert (value.int() - ways[1][name].int()).abs().max() <= 1, name
