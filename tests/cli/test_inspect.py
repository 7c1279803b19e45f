"""`bdflow inspect`: counts that other code computes too, real networks of TensorRT-RTX, engines only from the cache."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import bdflow_rt
from bdflow_rt.engines.backends import BACKENDS
from bdflow_rt.engines.cache import EngineCache
from bdflow_rt.options import Backend
from bdflow_rt.zoo import find_model
from tests.cli.build import bdflow, failed, succeeded
from tests.engines import standin
from tests.engines.stand import Stand
from tests.engines.standin_gpu import StandInDevice
from tests.engines.test_select import HIDE
from tests.support_models import make_model, tiny_config
from tests.support_plans import needs_rtx, real_plan

SIZE = ("--profile", "64x96")
RTX: Backend = "tensorrt-rtx"
needs_no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="this is about machines without a CUDA device")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> EngineCache:
    """A cache with one real engine."""
    monkeypatch.setenv("BDFLOW_CACHE", str(tmp_path / "cache"))
    key, plan = real_plan()
    cache = EngineCache(log=lambda text: None)
    cache.get_or_build(key, lambda: plan)
    return cache


@pytest.mark.parametrize("kind", ["core", "public"])
@pytest.mark.parametrize("precision", ["fp16", "fp32"])
def test_work_of_the_learned_convolutions_is_the_models(zoo: Path, kind: str, precision: str) -> None:
    options = ("--kind", kind, "--precision", precision)
    report = succeeded("inspect", "bdflow-x4", *SIZE, *options, "--json").json
    config = find_model("bdflow-x4").config
    down, up = report["graphs"]
    assert (down["direction"], up["direction"]) == ("downscale", "upscale")
    assert up["learned_macs"] == config.macs(96, 64)
    # Of the last block's rho and eta, the down direction computes one channel.
    assert 0.5 * up["learned_macs"] < down["learned_macs"] < up["learned_macs"]
    for graph in (down, up):
        assert graph["learned_in_fp16"] == (graph["learned_convolutions"] if precision == "fp16" else 0)
        assert graph["learned_macs"] <= graph["macs"]
        work = [one["macs"] for one in graph["top"]]
        assert work == sorted(work, reverse=True)
        assert graph["largest_bytes"] <= graph["activation_bytes"]


@pytest.mark.parametrize("precision", ["fp16", "fp32"])
def test_a_model_stored_in_int8_is_shown_as_engines_have_it(tmp_path: Path, precision: str) -> None:
    cards = [make_model(tmp_path, tiny_config(2), name=storage, storage=storage) for storage in ("float16", "int8")]
    options = (*SIZE, "--precision", precision, "--json")
    whole, small = (succeeded("inspect", str(card.folder), *options).json["graphs"] for card in cards)
    assert small == whole


def test_float16_halves_the_largest_value_of_a_model_that_ships() -> None:
    sizes = {}
    for precision in ("fp16", "fp32"):
        options = ("--precision", precision, "--direction", "upscale", "--json")
        (graph,) = succeeded("inspect", "bdflow-x2@1", *SIZE, *options).json["graphs"]
        sizes[precision] = graph["largest_bytes"]
    assert sizes["fp32"] == 2 * sizes["fp16"]


def test_sizes_grow_with_the_profile(zoo: Path) -> None:
    small, large = (
        succeeded("inspect", "plain", "--profile", size, "--direction", "downscale", "--json").json["graphs"][0]
        for size in ("64x64", "128x64")
    )
    assert large["macs"] == 2 * small["macs"]
    assert large["weights_bytes"] == small["weights_bytes"]


@needs_rtx
def test_the_network_is_counted_as_tensorrt_parses_it(zoo: Path) -> None:
    report = succeeded("inspect", "tiny-x2", *SIZE, "--json").json
    assert report["parser"].startswith("tensorrt-rtx ")
    for graph in report["graphs"]:
        network = graph["network"]
        assert sum(n for types in network["layers"].values() for n in types.values()) == network["count"]
        assert network["proof"]["learned_convolutions"] == graph["learned_convolutions"]
        assert network["proof"]["layers"] == network["layers"]
    text = succeeded("inspect", "tiny-x2", *SIZE, "--top", "2").out
    assert "100% in float16" in text
    assert len(re.findall(r"levels\.0\.\d\.\w+\.conv\d", text)) == 4


@needs_rtx
def test_a_float32_network_is_shown_without_a_proof(zoo: Path) -> None:
    report = succeeded("inspect", "tiny-x2", *SIZE, "--precision", "fp32", "--direction", "upscale", "--json").json
    (graph,) = report["graphs"]
    assert graph["network"]["proof"] is None
    assert set(graph["network"]["layers"]["CONVOLUTION"]) == {"FLOAT"}
    text = succeeded("inspect", "tiny-x2", *SIZE, "--precision", "fp32", "--direction", "upscale").out
    assert ("0% in float16" in text, "proven" in text) == (True, False)


def test_without_tensorrt_the_graph_alone_is_shown_and_that_is_said(zoo: Path) -> None:
    code = (
        "import sys\nfrom bdflow_rt.cli.main import main\n"
        f"sys.exit(main(['inspect', {str(zoo / 'plain@1')!r}, '--profile', '64x64']))\n"
    )
    hide = HIDE.format(hidden=["tensorrt", "tensorrt_rtx"])
    done = subprocess.run(
        [sys.executable, "-c", hide + code], cwd=Path(bdflow_rt.__file__).parent.parent, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "This is the ONNX graph alone" in done.stderr
    assert "nodes of the ONNX graph:" in done.stdout
    assert re.search(r"Conv +\d+ FLOAT16", done.stdout)


@needs_rtx
@needs_no_gpu
def test_an_engine_is_found_by_key_and_file_and_its_layers_need_a_gpu(cache: EngineCache) -> None:
    (entry,) = cache.list()
    for what in (entry.digest[:8], entry.digest, entry.path):
        report = succeeded("inspect", what, "--json").json
        assert (report["engine"]["key"], report["layers"]) == (entry.digest, None)
        assert report["engine"]["direction"] == "downscale"
        assert "CUDA" in report["note"]
    assert "not shown" in succeeded("inspect", entry.path).err


@needs_rtx
def test_engines_from_elsewhere_are_refused(cache: EngineCache, tmp_path: Path) -> None:
    (entry,) = cache.list()
    copy = tmp_path / entry.path.name
    copy.write_bytes(entry.path.read_bytes())
    for what in (copy, tmp_path / "missing.plan", "0123456789", "n" * 5000 + ".plan", "a\0b.plan"):
        failed(bdflow("inspect", what), 2, "none of the cache", "Engines are programs")


@needs_rtx
def test_an_engine_whose_file_is_gone_is_not_found_by_another_file_of_its_name(
    cache: EngineCache, tmp_path: Path
) -> None:
    (entry,) = cache.list()
    copy = tmp_path / entry.path.name
    entry.path.rename(copy)
    failed(bdflow("inspect", copy), 2, "none of the cache")


@needs_rtx
def test_a_damaged_engine_is_named(cache: EngineCache) -> None:
    (entry,) = cache.list()
    entry.path.write_bytes(entry.path.read_bytes()[:-1])
    failed(bdflow("inspect", entry.digest[:10]), 7, "damaged", "bdflow cache rm")


def test_a_stripped_engine_is_given_the_weights_of_its_model_where_that_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a stand-in machine: neither TensorRT nor a GPU runs here."""
    card = make_model(tmp_path / "zoo", tiny_config(2))
    device = StandInDevice()
    monkeypatch.setenv("BDFLOW_CACHE", str(tmp_path / "cache"))
    stand = Stand(device, standin.StandInLibrary(device, "10.13.0.35"), EngineCache(log=lambda text: None))
    monkeypatch.setattr("bdflow_rt.engines.gpu.CudaDevice", lambda: device)
    monkeypatch.setattr("bdflow_rt.engines.tensorrt.library.load_library", lambda flavour: stand.library)
    inspector = SimpleNamespace(get_engine_information=lambda format: '{"Layers": ["conv"]}')
    monkeypatch.setattr(standin.ICudaEngine, "create_engine_inspector", lambda self: inspector, raising=False)
    monkeypatch.setattr(stand.library, "LayerInformationFormat", SimpleNamespace(JSON=1), raising=False)
    key = stand.cached(card, "downscale", is_stripped=True).sidecar.key.digest
    monkeypatch.setenv("BDFLOW_ZOO", str(tmp_path / "zoo"))
    report = succeeded("inspect", key, "--json").json
    assert (report["note"], report["layers"]) == (None, {"Layers": ["conv"]})
    card.weights_path.write_bytes(card.weights_path.read_bytes()[:-1] + b"\1")
    damaged = succeeded("inspect", key, "--json").json
    monkeypatch.delenv("BDFLOW_ZOO")
    missing = succeeded("inspect", key, "--json").json
    assert (damaged["layers"], missing["layers"]) == (None, None)
    assert "SHA-256" in damaged["note"]
    assert "no model was given to take them from" in missing["note"]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("nothing",), 6, "There is no model"),
        (("plain", "--profile", "1081p"), 2, "1081p"),
        (("plain", "--top", "-1"), 2, "top is -1"),
    ],
)
def test_what_cannot_be_inspected_is_said_in_one_line(
    zoo: Path, arguments: tuple[str, ...], code: int, words: str
) -> None:
    failed(bdflow("inspect", *arguments), code, words)


@pytest.mark.skipif(not BACKENDS[RTX].is_installed, reason="tensorrt-rtx is not installed")
def test_the_engine_inspector_has_the_calls_that_a_gpu_would_run() -> None:
    """Names and arguments only: without a GPU no engine is loaded, and the calls themselves are not run here."""
    tensorrt_rtx = importlib.import_module("tensorrt_rtx")
    assert "EngineInspector" in (tensorrt_rtx.ICudaEngine.create_engine_inspector.__doc__ or "")
    signature = (tensorrt_rtx.EngineInspector.get_engine_information.__doc__ or "").splitlines()[0]
    assert re.search(r"\(self: [\w.]+, format: [\w.]*LayerInformationFormat\) -> str", signature)
    assert hasattr(tensorrt_rtx.EngineInspector, "execution_context")
    assert hasattr(tensorrt_rtx.IExecutionContext, "engine")
    assert "JSON" in tensorrt_rtx.LayerInformationFormat.__members__
