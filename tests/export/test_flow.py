"""The public graphs compute what the training-time network computes, in OpenVINO and in ONNX Runtime."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from bdflow_rt.engines.engine import Engine
from bdflow_rt.engines.openvino import OpenVINOEngine
from bdflow_rt.engines.torch.engine import TorchEngine
from bdflow_rt.errors import NonFiniteOutputError
from bdflow_rt.quiet import import_quietly
from bdflow_rt.zoo import Direction, ModelCard
from tests.support import slow
from tests.support_models import DIRECTIONS, assert_close_pixels, graph_inputs, make_model, tiny_config, with_weights

onnxruntime = import_quietly("onnxruntime")

Arrays = dict[str, NDArray[Any]]
ModelMaker = Callable[[int, str, int], ModelCard]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> ModelMaker:
    @functools.cache
    def make(scale: int, coupling: str, bits: int) -> ModelCard:
        config = tiny_config(scale, blocks=2 if scale == 4 else 1, coupling=coupling, bits=bits)
        return make_model(tmp_path_factory.mktemp("zoo"), config, seed=scale + bits)

    return make


def onnx_runtime(card: ModelCard, direction: Direction, inputs: Arrays) -> Arrays:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(card.check_graph(direction)), options, ["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs), strict=True))


QUICK = [(2, "scaled", 0), (2, "additive", 3), (4, "scaled", 1), (16, "additive", 1)]
"""Scales, couplings and bits that are tried every time; 16 is the first with rectangular pictures of few pixels."""
NETWORKS = list(itertools.product([2, 4, 8, 16, 32], ["scaled", "additive"], [0, 1, 3]))


@pytest.mark.parametrize(
    ("scale", "coupling", "bits"), [network if network in QUICK else slow(*network) for network in NETWORKS]
)
def test_both_runtimes_equal_torch_within_one_lsb(models: ModelMaker, scale: int, coupling: str, bits: int) -> None:
    card = models(scale, coupling, bits)
    size = (104, 88) if scale < 16 else (5 * scale, 3 * scale)
    for direction in DIRECTIONS:
        inputs = graph_inputs(card, direction, size=size)
        wanted = TorchEngine(card, direction).run(inputs)
        others = [OpenVINOEngine(card, direction, threads=1).run(inputs), onnx_runtime(card, direction, inputs)]
        for found in others:
            assert set(found) - {"mean"} == set(wanted)
            for name, value in wanted.items():
                assert found[name].dtype == np.uint8
                if name == "boundary":
                    assert np.mean(found[name] != value) < 1e-3
                    assert value.max() <= card.interface.max_level
                else:
                    assert_close_pixels(found[name], value)


@pytest.mark.parametrize("coupling", ["scaled", "additive"])
def test_the_network_of_these_tests_is_no_plain_haar_pyramid(models: ModelMaker, coupling: str) -> None:
    # Or equality would say nothing about the convolutions.
    card = models(4, coupling, 1)
    image = graph_inputs(card, "downscale")["image"]
    haar = image.reshape(1, 24, 4, 20, 4, 3).mean(axis=(2, 4))
    lr = TorchEngine(card, "downscale").run({"image": image})["lr"]
    assert np.abs(lr - haar).mean() > 2


@pytest.mark.parametrize("bits", [0, 1])
def test_zero_latent_equals_no_latent(models: ModelMaker, bits: int) -> None:
    card = models(4, "scaled", bits)
    inputs = graph_inputs(card, "upscale_z")
    folded = OpenVINOEngine(card, "upscale").run({key: inputs[key] for key in inputs if key != "latent"})
    given = OpenVINOEngine(card, "upscale_z").run({**inputs, "latent": np.zeros_like(inputs["latent"])})
    assert_close_pixels(given["image"], folded["image"])
    sampled = OpenVINOEngine(card, "upscale_z").run(inputs)
    assert np.abs(sampled["image"].astype(int) - folded["image"]).max() > 4


def test_batches_equal_single_pictures(models: ModelMaker) -> None:
    card = models(4, "scaled", 1)
    one, other = (graph_inputs(card, "downscale", seed=seed)["image"] for seed in (1, 2))
    engine = OpenVINOEngine(card, "downscale")
    both = engine.run({"image": np.concatenate((one, other))})
    for index, image in enumerate((one, other)):
        assert_close_pixels(both["lr"][index : index + 1], engine.run({"image": image})["lr"])


def test_mean_is_that_of_the_unrounded_output(models: ModelMaker) -> None:
    card = models(4, "scaled", 0)
    for direction in DIRECTIONS:
        found = onnx_runtime(card, direction, graph_inputs(card, direction))
        pixels = found["lr" if direction == "downscale" else "image"]
        inside = pixels[(pixels > 0) & (pixels < 255)]
        assert np.isfinite(found["mean"])
        assert abs(float(found["mean"]) - inside.mean() / 255) < 0.1


WEIGHTS = {"phi.conv3.bias": "nan", "rho.conv1.weight": "inf", "eta.shortcut.weight": "-inf"}
"""A weight of each transform, and what is tried of it every time."""


@pytest.mark.parametrize(
    ("weight", "value"),
    [
        (weight, value) if value == quick else slow(weight, value)
        for weight, quick in WEIGHTS.items()
        for value in ("nan", "inf", "-inf")
    ],
)
@pytest.mark.parametrize("backend", [OpenVINOEngine, TorchEngine])
def test_non_finite_weights_raise_and_give_no_picture(
    tmp_path: Path, backend: Callable[[ModelCard, Direction], Engine], weight: str, value: str
) -> None:
    config = tiny_config(2, blocks=2)
    sound = make_model(tmp_path, config)
    inputs = {direction: graph_inputs(sound, direction) for direction in DIRECTIONS}
    broken = with_weights(sound, {f"levels.0.0.{weight}": float(value)})
    for direction in DIRECTIONS:
        with pytest.raises(NonFiniteOutputError, match="tiny@1"):
            backend(broken, direction).run(inputs[direction])
