"""A core graph between the kernels' NumPy twins equals the public graph."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from bdflow_rt.engines.openvino import process_core
from bdflow_rt.export.calibration import with_weights
from bdflow_rt.export.onnx import read_graph
from bdflow_rt.kernels.egress import egress_reference
from bdflow_rt.kernels.ingest import ingest_reference
from bdflow_rt.zoo import Direction, ModelCard, find_model
from bdflow_rt.zoo.interface import GraphKind
from tests.support import photo, slow_but
from tests.support_models import DIRECTIONS, make_model, tiny_config

Arrays = dict[str, NDArray[Any]]
Run = Callable[[Arrays], Arrays]
MODELS = ["bdflow-x2", "bdflow-x4", "x2 with 0 bits", "x8", "x16 with 3 bits", "x32"]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], ModelCard]:
    @functools.cache
    def make(name: str) -> ModelCard:
        if name.startswith("bdflow"):
            return find_model(name)
        scale, _, bits = name.removeprefix("x").removesuffix(" bits").partition(" with ")
        return make_model(tmp_path_factory.mktemp("zoo"), tiny_config(int(scale), bits=int(bits or 1)))

    return make


@functools.lru_cache(maxsize=8)
def compiled(name: str, card: Callable[[str], ModelCard], direction: Direction, kind: GraphKind) -> Run:
    model = with_weights(read_graph(card(name), direction, kind=kind), card(name))
    core = process_core()
    request = core.compile_model(
        core.read_model(model.SerializeToString()), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    ).create_infer_request()

    def run(inputs: Arrays) -> Arrays:
        request.infer(inputs)
        return {port.any_name: request.get_tensor(port).data.copy() for port in request.model_outputs}

    return run


def packet_inputs(card: ModelCard, found: Arrays, *, seed: int) -> Arrays:
    """Inputs of the up directions, from the outputs of the down direction."""
    n, h, w = found["lr"].shape[:3]
    latent = np.random.default_rng(seed).normal(0, 0.05, (n, card.interface.latent_channels, h, w))
    return {"latent": latent.astype(np.float32), **{name: found[name] for name in found if name != "mean"}}


@pytest.mark.parametrize("size", [(96, 80), (61, 53), (1, 17)])
@pytest.mark.parametrize("name", slow_but(["bdflow-x2", "x2 with 0 bits", "x16 with 3 bits"], MODELS))
def test_core_between_twins_equals_public_within_one_lsb(
    models: Callable[[str], ModelCard], name: str, size: tuple[int, int]
) -> None:
    card = models(name)
    scale = card.interface.scale
    frames = np.stack([photo(*size, seed) for seed in (1, 2)])
    padded = np.pad(frames, ((0, 0), (0, -size[0] % scale), (0, -size[1] % scale), (0, 0)), mode="edge")
    public = compiled(name, models, "downscale", "public")({"image": padded})
    core = compiled(name, models, "downscale", "core")({"planes": ingest_reference(frames, multiple=scale)})
    assert core.keys() == public.keys()
    for output, value in public.items():
        if output == "mean":
            assert abs(float(core[output]) - float(value)) < 1e-3
        else:
            difference = np.abs(core[output].astype(int) - value)
            assert difference.max() <= 1
            assert np.count_nonzero(difference) <= 0.03 * difference.size + 2
    inputs = packet_inputs(card, public, seed=5)
    for direction in ("upscale", "upscale_z"):
        given = {key: value for key, value in inputs.items() if key != "latent" or direction == "upscale_z"}
        image = compiled(name, models, direction, "public")(given)["image"][:, : size[0], : size[1]]
        planes = compiled(name, models, direction, "core")(given)["planes"]
        assert planes.dtype == np.float16
        restored = egress_reference(planes, height=size[0], width=size[1])
        difference = np.abs(restored.astype(int) - image)
        assert difference.max() <= 1
        # Planes in float16 move a value by up to 0.06 LSB.
        assert np.count_nonzero(difference) <= 0.08 * difference.size


def test_core_graphs_have_the_outputs_of_the_public_ones_and_float16_planes(
    models: Callable[[str], ModelCard],
) -> None:
    for direction in DIRECTIONS:
        public, core = (read_graph(models("x8"), direction, kind=kind).graph for kind in ("public", "core"))
        for before, after in ((public.input, core.input), (public.output, core.output)):
            renamed = [value.name.replace("image", "planes") for value in before]
            assert [value.name for value in after] == renamed
            for value in after:
                if value.name == "planes":
                    tensor = value.type.tensor_type
                    assert tensor.elem_type == 10  # FLOAT16
                    assert [d.dim_param or d.dim_value for d in tensor.shape.dim] == ["N", 12, "H/2", "W/2"]
