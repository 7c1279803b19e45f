"""How weights are put into stripped engines: into those of a stand-in, whose files hold zeros where the weights were.
No engine of TensorRT runs in these tests."""

from __future__ import annotations

import dataclasses
import gc
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from safetensors.numpy import load_file, save

from bdflow_rt.engines.cache import CachedEngine
from bdflow_rt.engines.tensorrt.engine import open_tensorrt
from bdflow_rt.engines.tensorrt.library import LoadedEngine, load_library
from bdflow_rt.errors import (
    CorruptModelError,
    EngineLoadError,
    EngineMismatchError,
    OutOfMemoryError,
    WeightsHashError,
)
from bdflow_rt.export.onnx import export_model
from bdflow_rt.options import Flavour
from bdflow_rt.zoo import Direction, ModelCard
from bdflow_rt.zoo.card import CARD_FILE
from tests.engines.stand import Stand, reference, same
from tests.engines.standin import ICudaEngine
from tests.engines.standin_gpu import ContractError
from tests.support import slow_but
from tests.support_models import graph_inputs, make_model, tiny_config
from tests.support_plans import needs_rtx

WEIGHT = "levels.0.0.phi.conv1.weight"
Edit = Callable[[dict[str, Any]], None]


def load(stand: Stand, cached: CachedEngine, card: ModelCard | None) -> LoadedEngine:
    with stand.device.active():
        return LoadedEngine(cached, device=stand.device, library=stand.library, card=card)


def bare(stand: Stand, card: ModelCard) -> tuple[Any, Any, ICudaEngine]:
    """A logger, a runtime and a stripped engine, by the library alone."""
    logger = stand.library.ILogger()
    logger.log = lambda severity, msg: None  # type: ignore[method-assign]
    runtime = stand.library.Runtime(logger)
    engine = runtime.deserialize_cuda_engine(stand.cached(card, "downscale", is_stripped=True).plan)
    assert engine is not None
    return logger, runtime, engine


@pytest.mark.parametrize("direction", ["downscale", "upscale", "upscale_z"])
@pytest.mark.parametrize("flavour", slow_but(["tensorrt-rtx"], ["tensorrt", "tensorrt-rtx"]))
def test_a_stripped_engine_gives_the_pixels_of_the_public_graph(
    stand: Stand, card: ModelCard, direction: Direction, flavour: Flavour
) -> None:
    engine, inputs = stand.engine(card, direction, flavour, is_stripped=True), graph_inputs(card, direction)
    same(engine.run(inputs), reference(card, direction, inputs))
    same(engine.clone().run(inputs), reference(card, direction, inputs))


def test_a_stripped_engine_is_opened_from_the_cache(
    stand: Stand, card: ModelCard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bdflow_rt.engines.tensorrt.engine.load_library", lambda flavour: stand.library)
    stand.cached(card, "upscale", is_stripped=True)
    inputs = graph_inputs(card, "upscale")
    device: Any = stand.device
    engine = open_tensorrt(card, "upscale", flavour="tensorrt", cache=stand.cache, device=device)
    same(engine.run(inputs), reference(card, "upscale", inputs))


@needs_rtx
@pytest.mark.parametrize(("dtype", "name"), [("<f2", "HALF"), ("<f4", "FLOAT")])
def test_the_real_library_sees_an_array_as_it_is(dtype: str, name: str) -> None:
    library: Any = load_library("tensorrt-rtx")
    values = np.arange(7).astype(dtype)
    weights = library.Weights(values)
    assert (weights.dtype, weights.size) == (library.DataType.__members__[name], 7)
    assert weights.numpy().ctypes.data == values.ctypes.data, "no copy: the array has to stay"


@pytest.mark.parametrize("direction", ["downscale", "upscale"])
def test_weights_stored_in_float32_and_anywhere_in_the_file_go_in_as_they_are(
    stand: Stand, tmp_path: Path, direction: Direction
) -> None:
    card = make_model(tmp_path, tiny_config(4), name="wide")
    state = {name: value.astype(np.float32) for name, value in load_file(card.weights_path).items()}
    weights = save(state)
    length = int.from_bytes(weights[:8], "little")
    # One byte more of header: no tensor begins where its type would have it.
    weights = (length + 1).to_bytes(8, "little") + weights[8 : 8 + length] + b" " + weights[8 + length :]
    card.weights_path.write_bytes(weights)
    card = dataclasses.replace(card, weights_sha256=hashlib.sha256(weights).hexdigest())
    (card.folder / CARD_FILE).write_text(card.to_json())
    card = export_model(card)
    inputs = graph_inputs(card, direction)
    same(stand.engine(card, direction, is_stripped=True).run(inputs), reference(card, direction, inputs))


@pytest.mark.parametrize("direction", ["downscale", "upscale"])
def test_int8_weights_go_in_as_the_float16_that_they_stand_for(
    stand: Stand, tmp_path: Path, direction: Direction, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = make_model(tmp_path, tiny_config(4), name="small", storage="int8")
    stored = load_file(card.weights_path)
    given: dict[str, Any] = {}
    put_in = ICudaEngine.refit
    monkeypatch.setattr(ICudaEngine, "refit", lambda self, values: (given.update(values), put_in(self, values)))
    inputs = graph_inputs(card, direction)
    same(stand.engine(card, direction, is_stripped=True).run(inputs), reference(card, direction, inputs))
    for name, values in given.items():
        tensor, _, rows = name.partition("[:")
        first = slice(int(rows.removesuffix("]"))) if rows else ...
        wanted = stored[tensor][first]
        if wanted.dtype == np.int8:
            wanted = wanted * stored[f"{tensor}.scale"][first].astype(np.float64).reshape(-1, 1, 1, 1)
            assert values.dtype == np.float16
        assert np.array_equal(values, wanted.reshape(-1)), name
    assert not [name for name in given if ".scale" in name]
    assert any(name.endswith("weight[:1]") for name in given) == (direction == "downscale")


def renamed(plan: dict[str, Any], name: str) -> None:
    """Call the weight by another name."""
    model = onnx.load(plan["onnx"])
    for values in (*(node.input for node in model.graph.node), plan["stripped"]):
        values[:] = [name if value == WEIGHT else value for value in values]
    next(tensor for tensor in model.graph.initializer if tensor.name == WEIGHT).name = name
    plan["onnx"] = plan["onnx"].replace("stripped", "renamed")
    onnx.save(model, plan["onnx"])


def resized(plan: dict[str, Any], dtype: type, rows: int) -> None:
    """Ask for five values of a bias that nobody reads, but in another type or number."""
    model = onnx.load(plan["onnx"])
    values: Any = np.zeros(rows, dtype)
    model.graph.initializer.append(onnx.numpy_helper.from_array(values, "levels.0.0.phi.conv1.bias[:5]"))
    plan["stripped"].append("levels.0.0.phi.conv1.bias[:5]")
    plan["onnx"] = plan["onnx"].replace("stripped", "resized")
    onnx.save(model, plan["onnx"])


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda plan: renamed(plan, "levels.9.weight"), "asks for the weights 'levels.9.weight': tiny@1 has none"),
        (lambda plan: renamed(plan, f"{WEIGHT}[:999]"), r"asks for .*\[:999\]': tiny@1 has none"),
        (lambda plan: renamed(plan, f"{WEIGHT}[:0]"), r"asks for .*\[:0\]': tiny@1 has none"),
        (lambda plan: renamed(plan, "quantizer.gain[:1]"), r"asks for .*gain\[:1\]': tiny@1 has none"),
        (lambda plan: resized(plan, np.float16, 6), r"wants 6 values of \S*HALF as .*tiny@1 has 5 values of \S*HALF"),
        (lambda plan: resized(plan, np.float32, 5), r"wants 5 values of \S*FLOAT as .*tiny@1 has 5 values of \S*HALF"),
        (lambda plan: plan["stripped"].clear(), "takes no weights: its plan was not built to be given any"),
    ],
    ids=["name", "too many rows", "no rows", "rows of a number", "size", "type", "none"],
)
def test_a_plan_that_wants_other_weights_than_the_model_has_is_refused(
    stand: Stand, card: ModelCard, edit: Edit, said: str
) -> None:
    cached = stand.cached(card, "downscale", is_stripped=True)
    plan = json.loads(cached.plan)
    edit(plan)
    other = dataclasses.replace(cached, plan=json.dumps(plan).encode())
    # Kept, the error would be in a circle with this frame, whose parts are freed in any order.
    with pytest.raises(EngineMismatchError, match=f"(?s){said}.*bdflow build tiny@1"):
        load(stand, other, card)


def test_weights_without_a_name_are_named_as_missing(stand: Stand, card: ModelCard) -> None:
    stand.library.has_unnamed_weights = True
    with pytest.raises(EngineMismatchError, match="misses the weights '': tiny@1 has given all it has"):
        load(stand, stand.cached(card, "downscale", is_stripped=True), card)


@pytest.mark.parametrize(
    ("call", "words", "error"),
    [
        ("set_named_weights", "weights are not finite", EngineLoadError),
        ("refit_cuda_engine", "cuBLAS is broken", EngineLoadError),
        ("refit_cuda_engine", "CUDA error: out of memory", OutOfMemoryError),
    ],
)
def test_weights_the_library_does_not_take_are_a_typed_error_with_its_words(
    stand: Stand, card: ModelCard, call: str, words: str, error: type[Exception]
) -> None:
    stand.library.refuse[call] = words
    with pytest.raises(error, match=words):
        load(stand, stand.cached(card, "downscale", is_stripped=True), card)


def test_weights_of_another_model_of_the_same_shapes_are_refused(stand: Stand, card: ModelCard, tmp_path: Path) -> None:
    other = make_model(tmp_path, tiny_config(4), name="other", seed=1)
    with pytest.raises(EngineMismatchError, match="this other@1 is another model"):
        load(stand, stand.cached(card, "downscale", is_stripped=True), other)


def test_damaged_or_missing_weights_never_reach_an_engine(stand: Stand, tmp_path: Path) -> None:
    card = make_model(tmp_path, tiny_config(4))
    cached = stand.cached(card, "downscale", is_stripped=True)
    data = bytearray(card.weights_path.read_bytes())
    data[-1] ^= 1
    card.weights_path.write_bytes(data)
    with pytest.raises(WeightsHashError):
        load(stand, cached, card)
    card.weights_path.unlink()
    with pytest.raises(CorruptModelError, match="cannot be read"):
        load(stand, cached, card)


def test_the_stand_in_makes_no_context_before_the_weights_are_in(stand: Stand, card: ModelCard) -> None:
    logger, runtime, engine = bare(stand, card)
    with pytest.raises(ContractError, match="not put in"):
        engine.create_execution_context(stand.library.ExecutionContextAllocationStrategy.USER_MANAGED)
    refitter = stand.library.Refitter(engine, logger)
    assert not refitter.refit_cuda_engine(), "weights are missing"
    assert len(refitter.get_missing_weights()) == len(engine.stored())
    del refitter, engine, runtime


def test_the_stand_in_notices_weights_that_were_freed_too_early(stand: Stand, card: ModelCard) -> None:
    logger, runtime, engine = bare(stand, card)
    refitter = stand.library.Refitter(engine, logger)
    for name in refitter.get_all_weights():
        size, dtype = (getattr(refitter.get_weights_prototype(name), field) for field in ("size", "dtype"))
        values = np.zeros(size, np.float16 if dtype.name == "HALF" else np.float32)
        assert refitter.set_named_weights(name, stand.library.Weights(values))
    del values
    gc.collect()
    with pytest.raises(ContractError, match="freed before they were put in"):
        refitter.refit_cuda_engine()
    del refitter, engine, runtime
