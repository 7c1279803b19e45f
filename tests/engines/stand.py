"""A machine with a stand-in GPU and a stand-in TensorRT, and what its pixels are compared with."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from bdflow_rt.engines.cache import CachedEngine, EngineCache
from bdflow_rt.engines.cache_entry import EngineKey
from bdflow_rt.engines.openvino import OpenVINOEngine
from bdflow_rt.engines.tensorrt.engine import TensorRTEngine
from bdflow_rt.engines.tensorrt.library import LoadedEngine
from bdflow_rt.export.dequantize import dequantize, learned_weights
from bdflow_rt.export.onnx import read_graph
from bdflow_rt.options import Flavour
from bdflow_rt.zoo import Direction, ModelCard
from tests.engines.standin import StandInLibrary, standin_plan
from tests.engines.standin_gpu import StandInDevice
from tests.support_models import Arrays, assert_close_pixels

VERSIONS: dict[Flavour, str] = {"tensorrt": "10.13.0.35", "tensorrt-rtx": "1.7.1.116"}


@dataclass
class Stand:
    """A stand-in machine."""

    device: StandInDevice
    library: StandInLibrary
    cache: EngineCache

    def cached(
        self,
        card: ModelCard,
        direction: Direction,
        flavour: Flavour = "tensorrt",
        *,
        is_stripped: bool = False,
        **changes: Any,
    ) -> CachedEngine:
        """An engine of the cache; a stripped one has zeros where weights were."""
        model, profile = dequantize(read_graph(card, direction, kind="core"), card), profile_of(card, direction)
        stripped = learned_weights(model, card) if is_stripped else []
        for tensor in (tensor for tensor in model.graph.initializer if tensor.name in stripped):
            zeros = np.zeros(tensor.dims, onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type))
            tensor.CopyFrom(numpy_helper.from_array(zeros, tensor.name))
        graph = card.folder / f"core_{direction}{'_stripped' * is_stripped}.onnx"
        onnx.save(model, str(graph))
        plan = standin_plan(graph, profile, stripped=stripped)
        fields: dict[str, Any] = {
            "model": card.id, "graph_sha256": "0" * 64, "identity": card.identity, "direction": direction,
            "kind": "core", "flavour": flavour, "flavour_version": self.library.__version__, "gpu": self.device.name,
            "compute_capability": "8.9", "profile": "tiny: 1x8x8 to 3x128x128, best 1x96x80", "precision": "fp16",
            "builder_flags": ("strip=True",) if is_stripped else (),
        }  # fmt: skip
        return self.cache.get_or_build(EngineKey(**fields | changes), lambda: plan)

    def engine(
        self, card: ModelCard, direction: Direction, flavour: Flavour = "tensorrt", *, is_stripped: bool = False
    ) -> TensorRTEngine:
        """One that is ready to run."""
        self.library.__version__ = VERSIONS[flavour]
        cached = self.cached(card, direction, flavour, is_stripped=is_stripped)
        with self.device.active():
            loaded = LoadedEngine(cached, device=self.device, library=self.library, card=card, cache=self.cache)
        return TensorRTEngine(card, direction, loaded)


def profile_of(card: ModelCard, direction: Direction) -> dict[str, tuple[tuple[int, ...], ...]]:
    """From one picture of 8x8 to three of 128x128."""
    sizes, scale = ((1, 8, 8), (1, 96, 80), (3, 128, 128)), card.interface.scale
    if direction == "downscale":
        return {"planes": tuple((n, 12, h // 2, w // 2) for n, h, w in sizes)}
    low = [(n, h // scale, w // scale) for n, h, w in sizes]
    found: dict[str, tuple[tuple[int, ...], ...]] = {"lr": tuple((*size, 3) for size in low), "boundary": tuple(low)}
    if direction == "upscale_z":
        found["latent"] = tuple((n, card.interface.latent_channels, h, w) for n, h, w in low)
    return found


def reference(card: ModelCard, direction: Direction, inputs: Arrays) -> Arrays:
    return _reference(card.folder, card.identity, direction).run(inputs)


@functools.lru_cache(maxsize=4)
def _reference(folder: Path, identity: str, direction: Direction) -> OpenVINOEngine:
    """The engine of a model, compiled once for all tests that ask for it in a row."""
    return OpenVINOEngine(ModelCard.read(folder), direction)


def same(found: Any, wanted: Arrays) -> None:
    assert found.keys() == wanted.keys()
    for name in wanted:
        # Float16 planes round a picture of 8 bits once more than the public graph does: by 1 LSB at most.
        assert_close_pixels(found[name], wanted[name], share=0.15)
