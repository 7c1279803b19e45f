"""Tiny models with random weights, saved and exported as real ones are."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save
from torch import nn

from bdflow_rt.engines.openvino import process_core
from bdflow_rt.engines.torch.engine import TorchEngine
from bdflow_rt.export.onnx import export_model
from bdflow_rt.models.io import Storage, save_model
from bdflow_rt.models.layers.coupling import Transform
from bdflow_rt.models.network import Network, build_network
from bdflow_rt.zoo import Direction, ModelCard
from bdflow_rt.zoo.arch.bdflow import BDFlowConfig
from bdflow_rt.zoo.architecture import Architecture
from bdflow_rt.zoo.card import CARD_FILE
from tests.support import photo

Arrays = dict[str, NDArray[Any]]
HAS_BF16 = "BF16" in process_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
"""Whether OpenVINO can compute in bfloat16 on this processor."""
DIRECTIONS: tuple[Direction, ...] = ("downscale", "upscale", "upscale_z")
LAST_STD = 0.015
"""Spread of the convolutions that start at zero: every weight matters, and outputs stay near [0, 1]."""


class CoreWithoutBf16:
    """OpenVINO as it is on a processor without bfloat16: it takes the hint, says nothing, and computes in float32.

    Over the process's one Core: another that comes and goes takes the thread's signal stack along, see `process_core`.
    """

    def __init__(self) -> None:
        self._core = process_core()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._core, name)

    def compile_model(self, model: Any, device_name: Any = None, config: Any = None) -> Any:
        """As the real one, with the hint replaced."""
        return self._core.compile_model(model, device_name, {**config, "INFERENCE_PRECISION_HINT": "f32"})


def tiny_config(scale: int = 4, *, blocks: int = 1, hidden: int = 8, **changes: Any) -> BDFlowConfig:
    """A network of a few thousand parameters."""
    levels = scale.bit_length() - 1
    return BDFlowConfig(scale=scale, blocks=(blocks,) * levels, hidden=(hidden,) * levels, **changes)


def random_model(config: Architecture, *, seed: int = 0) -> Network:
    """A network whose convolutions, the zero-started ones too, are random and small."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build_network(config)
        for module in model.modules():
            if isinstance(module, Transform):
                for conv in (module.conv3, module.shortcut):
                    for parameter in conv.parameters():
                        nn.init.normal_(parameter, std=LAST_STD)
    return model.eval()


def make_model(
    folder: Path,
    config: Architecture,
    *,
    name: str = "tiny",
    version: int = 1,
    seed: int = 0,
    storage: Storage = "float16",
) -> ModelCard:
    """A model folder NAME@VERSION inside `folder`, with weights, card and graphs; in int8, to the last kernel.

    One of our own architecture is made once in a test process, and copied from then on.
    """
    target = folder / f"{name}@{version}"
    if not isinstance(config, BDFlowConfig) or target.exists():
        return _save(target, config, name, version, seed, storage)
    target.mkdir(parents=True)
    for file, data in _files(config, name, version, seed, storage).items():
        (target / file).write_bytes(data)
    return ModelCard.read(target)


@functools.cache
def _files(config: Architecture, name: str, version: int, seed: int, storage: Storage) -> dict[str, bytes]:
    """The files of a model folder by name."""
    with tempfile.TemporaryDirectory() as folder:
        made = _save(Path(folder) / f"{name}@{version}", config, name, version, seed, storage)
        return {path.name: path.read_bytes() for path in made.folder.iterdir()}


def _save(target: Path, config: Architecture, name: str, version: int, seed: int, storage: Storage) -> ModelCard:
    model = random_model(config, seed=seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bdflow_rt.models.io.LEAST_AVERAGED", 1)
        return export_model(save_model(model, target, name=name, version=version, details={}, storage=storage))


def with_weights(card: ModelCard, changes: dict[str, float]) -> ModelCard:
    """The model with the first value of some weights replaced, also by what `save_model` refuses; exported anew."""
    state = load_file(card.weights_path)
    for name, value in changes.items():
        state[name].view(-1)[0] = value
    return with_state(card, state)


def with_state(card: ModelCard, state: dict[str, torch.Tensor]) -> ModelCard:
    """The model with other weights, in whatever types they have; exported anew."""
    weights = save(state)
    card.weights_path.write_bytes(weights)
    card = dataclasses.replace(card, weights_sha256=hashlib.sha256(weights).hexdigest())
    (card.folder / CARD_FILE).write_text(card.to_json())
    return export_model(card)


def graph_inputs(card: ModelCard, direction: Direction, *, size: tuple[int, int] = (96, 80), seed: int = 3) -> Arrays:
    """Inputs of a direction's public graph: a picture, or what the network makes of one in float32."""
    image = {"image": photo(*size, seed)[None]}
    if direction == "downscale":
        return image
    inputs: Arrays = TorchEngine(card, "downscale").run(image)
    if direction == "upscale_z":
        n, h, w = inputs["lr"].shape[:3]
        shape = (n, card.interface.latent_channels, h, w)
        inputs["latent"] = np.random.default_rng(seed).normal(0, 0.05, shape).astype(np.float32)
    return inputs


def assert_close_pixels(found: Any, wanted: Any, *, share: float = 1e-3) -> None:
    """At most 1 LSB anywhere, and that for less than `share` of the values."""
    assert found.shape == wanted.shape
    difference = np.abs(found.astype(int) - wanted)
    assert difference.max() <= 1
    assert np.count_nonzero(difference) < max(share * difference.size, 2)
