"""How TensorRT's library and its engines are loaded, and what is refused: by a stand-in, but where a test says that the
real library is called."""

from __future__ import annotations

import dataclasses
import hashlib
import sys
from pathlib import Path
from typing import Any, cast

import pytest

from bdflow_rt.engines.cache import CachedEngine
from bdflow_rt.engines.cache_entry import Sidecar
from bdflow_rt.engines.select import open_engine, select
from bdflow_rt.engines.tensorrt.engine import TensorRTEngine, open_tensorrt
from bdflow_rt.engines.tensorrt.library import LoadedEngine, check_version, load_library
from bdflow_rt.errors import (
    BackendUnavailableError,
    BackendVersionError,
    CudaUnavailableError,
    EngineLoadError,
    EngineMismatchError,
    EngineMissingError,
)
from bdflow_rt.interop import has_cuda
from bdflow_rt.options import Flavour
from bdflow_rt.zoo import ModelCard
from bdflow_rt.zoo.arch.bdflow import BDFlowConfig
from tests.engines.stand import Stand, reference, same
from tests.engines.standin import standin_plan
from tests.engines.standin_gpu import StandInDevice
from tests.engines.standin_types import EngineValidity
from tests.support_models import graph_inputs
from tests.support_plans import needs_rtx, real_plan

needs_no_gpu = pytest.mark.skipif(has_cuda(), reason="this is about machines without a GPU")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"gpu": "NVIDIA GeForce RTX 5090"}, "GPU 'NVIDIA GeForce RTX 5090'"),
        ({"compute_capability": "12.0"}, "compute capability 12.0"),
        ({"compute_capability": "8.0,8.6"}, "compute capability 8.0,8.6"),
        ({"compute_capability": "9.0+"}, "compute capability 9.0+"),
        ({"flavour_version": "10.9.0"}, "version 10.9.0; 1.7.1.116 is installed"),
        ({"builder_flags": ("strip=True",)}, "no model was given"),
    ],
)
def test_an_engine_for_another_machine_is_refused_with_the_command_that_builds_one(
    stand: Stand, card: ModelCard, changes: dict[str, Any], said: str
) -> None:
    cached = stand.cached(card, "downscale", **changes)
    with pytest.raises(EngineMismatchError) as caught:
        LoadedEngine(cached, device=stand.device, library=stand.library)
    assert said in str(caught.value)
    assert "bdflow build tiny@1 --flavour tensorrt --profile tiny" in str(caught.value)


@pytest.mark.parametrize("capability", ["any", "8.9", "8.0,8.9", "8.0+", "8.9+"])
def test_an_engine_for_this_gpu_among_others_is_taken(stand: Stand, card: ModelCard, capability: str) -> None:
    cached = stand.cached(card, "downscale", gpu="any", compute_capability=capability)
    with stand.device.active():
        assert LoadedEngine(cached, device=stand.device, library=stand.library).outputs.keys() >= {"lr"}


def test_an_engine_of_another_direction_is_refused(stand: Stand, card: ModelCard) -> None:
    with stand.device.active():
        loaded = LoadedEngine(stand.cached(card, "upscale"), device=stand.device, library=stand.library)
    with pytest.raises(EngineMismatchError, match="the core graph of downscale"):
        TensorRTEngine(card, "downscale", loaded)


def test_a_public_engine_is_refused(stand: Stand, card: ModelCard) -> None:
    cached = stand.cached(card, "downscale")
    plan = standin_plan(card.graph_path("downscale"), {"image": ((1, 8, 8, 3),) * 3})
    with stand.device.active():
        loaded = LoadedEngine(CachedEngine(None, plan, cached.sidecar, ""), device=stand.device, library=stand.library)
    with pytest.raises(EngineMismatchError, match="has the tensors image uint8"):
        TensorRTEngine(card, "downscale", loaded)


def test_bytes_the_library_refuses_are_a_typed_error_with_its_words(stand: Stand, card: ModelCard) -> None:
    cached = stand.cached(card, "downscale")
    with pytest.raises(EngineLoadError, match=r"kEXPECTED_MAGIC_TAG failed.*bdflow build"):
        LoadedEngine(CachedEngine(None, b"\xff", cached.sidecar, ""), device=stand.device, library=stand.library)


def test_an_rtx_engine_its_library_calls_invalid_is_refused_with_the_reasons(stand: Stand, card: ModelCard) -> None:
    cached = stand.cached(card, "downscale", "tensorrt-rtx")
    stand.library.validity = EngineValidity.INVALID, 2
    with pytest.raises(EngineMismatchError, match=r"UNSUPPORTED_CC.*Hopper"):
        LoadedEngine(cached, device=stand.device, library=stand.library)


def test_what_rtx_compiles_is_kept_beside_the_engine_and_given_back(stand: Stand, card: ModelCard) -> None:
    engine = stand.engine(card, "downscale", "tensorrt-rtx")
    engine.run(graph_inputs(card, "downscale"))
    engine.close()
    assert stand.library.runtime_blobs == []
    (kept,) = stand.cache.folder.glob("*.runtime")
    again = stand.engine(card, "downscale", "tensorrt-rtx")
    (given,) = stand.library.runtime_blobs
    assert kept.read_bytes() == hashlib.sha256(given).digest() + given
    again.close()
    whole = kept.read_bytes()
    kept.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    stand.engine(card, "downscale", "tensorrt-rtx").close()
    assert stand.library.runtime_blobs == [given], "damaged data is not given to the library"


def test_an_engine_is_opened_from_the_cache(stand: Stand, card: ModelCard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bdflow_rt.engines.tensorrt.engine.load_library", lambda flavour: stand.library)
    opened = {"flavour": "tensorrt", "cache": stand.cache, "device": stand.device}
    with pytest.raises(EngineMissingError, match=r"none is cached\. Build it: bdflow build tiny@1 --flavour tensorrt"):
        open_tensorrt(card, "downscale", **opened)  # type: ignore[arg-type]
    stand.cached(card, "downscale", gpu="Old GPU", profile="4k: 1x64x64 to 1x2160x3840, best 1x2160x3840")
    with pytest.raises(EngineMissingError, match="nearest cached one is for gpu 'Old GPU', not 'Stand-in GPU'"):
        open_tensorrt(card, "downscale", **opened)  # type: ignore[arg-type]
    stand.cached(card, "downscale")
    inputs = graph_inputs(card, "downscale")
    same(open_tensorrt(card, "downscale", **opened).run(inputs), reference(card, "downscale", inputs))  # type: ignore[arg-type]


@pytest.mark.parametrize("is_stripped", [False, True])
def test_an_engine_of_the_same_weights_in_another_network_is_not_taken(
    stand: Stand, card: ModelCard, monkeypatch: pytest.MonkeyPatch, is_stripped: bool
) -> None:
    monkeypatch.setattr("bdflow_rt.engines.tensorrt.engine.load_library", lambda flavour: stand.library)
    cached = stand.cached(card, "downscale", is_stripped=is_stripped)
    additive = dataclasses.replace(
        card, config=dataclasses.replace(cast(BDFlowConfig, card.config), coupling="additive")
    )
    assert (additive.id, additive.weights_sha256) == (card.id, card.weights_sha256)
    device: Any = stand.device
    with pytest.raises(EngineMissingError, match=f"nearest cached one is for identity '{card.identity}'"):
        open_tensorrt(additive, "downscale", flavour="tensorrt", cache=stand.cache, device=device)
    if is_stripped:
        with pytest.raises(EngineMismatchError, match=f"this {card.id} is another model"), stand.device.active():
            LoadedEngine(cached, device=device, library=stand.library, card=additive)


@needs_no_gpu
@needs_rtx
def test_without_a_gpu_the_backend_says_so(card: ModelCard) -> None:
    with pytest.raises(CudaUnavailableError):
        open_engine(select("tensorrt-rtx"), card, "downscale", precision="fp32", threads=None)


def test_type_stubs_are_not_an_installation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tensorrt").mkdir()
    (tmp_path / "tensorrt" / "__init__.pyi").write_text("class Runtime: ...")
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    with pytest.raises(BackendUnavailableError, match=r"not installed: pip install .*\[tensorrt\]"):
        load_library("tensorrt")


@pytest.mark.parametrize(
    ("flavour", "version", "fine"),
    [
        ("tensorrt", "10.13.0.35", True),
        ("tensorrt", "11.4.0.106", True),
        ("tensorrt", "10.12.9", False),
        ("tensorrt", "8.6.1", False),
        ("tensorrt", "unknown", False),
        ("tensorrt-rtx", "1.2.0.54", True),
        ("tensorrt-rtx", "1.1.1", False),
    ],
)
def test_versions_that_are_too_old_are_refused(flavour: Flavour, version: str, fine: bool) -> None:
    if fine:
        check_version(flavour, version)
        return
    with pytest.raises(BackendVersionError, match=f"{version} is installed"):
        check_version(flavour, version)


@needs_rtx
@needs_no_gpu
@pytest.mark.parametrize("damage", [False, True])
def test_the_real_library_without_a_gpu_gives_a_typed_error(damage: bool) -> None:
    """The one test here in which TensorRT-RTX itself is called, as far as it goes without a GPU."""
    key, plan = real_plan()
    plan = b"x" * 100 if damage else plan
    cached = CachedEngine(None, plan, Sidecar.of(key, plan, build_seconds=0), "")
    with pytest.raises(EngineMismatchError, match="MALFORMED_ENGINE" if damage else "CUDA_ERROR|cannot run"):
        LoadedEngine(cached, device=StandInDevice(), library=load_library("tensorrt-rtx"))
