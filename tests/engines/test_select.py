"""Which backend runs, why, and what is said where it cannot; missing packages are really missing, in a process."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from bdflow_rt.engines.backends import BackendInfo
from bdflow_rt.engines.select import (
    AUTO_LOSS_DB,
    NAMED_LOSS_DB,
    Selection,
    choose_precision,
    explain,
    open_engine,
    select,
)
from bdflow_rt.errors import ArgumentError, BackendUnavailableError
from bdflow_rt.options import Backend, Precision, PrecisionChoice
from bdflow_rt.rescaler import Rescaler
from bdflow_rt.zoo import ModelCard
from tests.support import ROOT
from tests.support_models import HAS_BF16, make_model, tiny_config

HIDE = """
import importlib.machinery, sys
class Hiding(importlib.machinery.PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in {hidden!r} else super().find_spec(name, path, target)
sys.meta_path[:] = [Hiding if finder is importlib.machinery.PathFinder else finder for finder in sys.meta_path]
"""
needs_no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="this is about machines without a CUDA device")


@pytest.fixture(scope="module")
def card(tmp_path_factory: pytest.TempPathFactory) -> ModelCard:
    return make_model(tmp_path_factory.mktemp("zoo"), tiny_config(2))


def without(hidden: list[str], code: str) -> subprocess.CompletedProcess[str]:
    """Run code where the hidden packages cannot be found."""
    return subprocess.run(
        [sys.executable, "-c", HIDE.format(hidden=hidden) + code], cwd=ROOT, capture_output=True, text=True, check=False
    )


SAY = """
from bdflow_rt.engines.select import select
from bdflow_rt.errors import BdflowError
try:
    chosen = select({arguments})
    print(chosen.backend, chosen.device, chosen.reason, sep="|")
except BdflowError as error:
    print(type(error).__name__, error, sep="|")
"""


@pytest.mark.parametrize(
    ("hidden", "arguments", "said"),
    [
        (["torch"], "", "openvino|cpu|"),
        (["openvino"], "", "torch|cpu|openvino, which is faster, is not installed (pip install openvino)"),
        (["openvino", "torch"], "", "BackendUnavailableError|No backend is installed. Install one: pip install"),
        (["openvino"], "'openvino'", "BackendUnavailableError|The openvino backend is not installed: pip install"),
        (["torch"], "'torch'", "BackendUnavailableError|The torch backend is not installed: pip install "),
        (["torch"], "device='cuda'", "BackendUnavailableError|The torch backend is not installed"),
        (
            ["tensorrt"],
            "'tensorrt'",
            "BackendUnavailableError|The tensorrt backend is not installed: pip install ",
        ),
        (["tensorrt_rtx"], "'tensorrt-rtx'", "BackendUnavailableError|The tensorrt-rtx backend is not installed"),
    ],
)
def test_missing_packages(hidden: list[str], arguments: str, said: str) -> None:
    done = without(hidden, SAY.format(arguments=arguments))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(said)


@pytest.mark.parametrize("backend", ["openvino", "torch"])
def test_broken_installation_is_a_typed_error_with_its_reason(tmp_path: Path, card: ModelCard, backend: str) -> None:
    (tmp_path / f"{backend}.py").write_text("raise ImportError('libtbb.so.12 is gone')")
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "from pathlib import Path\n"
        "from bdflow_rt.engines.select import open_engine, select\n"
        "from bdflow_rt.errors import BackendUnavailableError\n"
        "from bdflow_rt.zoo import ModelCard\n"
        f"card = ModelCard.read(Path({str(card.folder)!r}))\n"
        "try:\n"
        f"    open_engine(select({backend!r}), card, 'upscale', precision='fp32', threads=None)\n"
        "except BackendUnavailableError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert f"The {backend} backend is installed, but does not load (libtbb.so.12 is gone)" in done.stdout, done.stderr


def test_a_torch_free_process_rescales(card: ModelCard) -> None:
    code = (
        "import sys, numpy\nfrom bdflow_rt import Rescaler\n"
        f"rescaler = Rescaler.from_pretrained({str(card.folder)!r})\n"
        "image = rescaler.upscale(rescaler.downscale(numpy.full((5, 7, 3), 99, numpy.uint8)))\n"
        "print(image.shape, rescaler.backend, 'torch' in sys.modules)\n"
    )
    done = without(["torch"], code)
    assert done.stdout == "(5, 7, 3) openvino False\n", done.stderr


@pytest.mark.parametrize(
    ("backend", "device", "wanted"),
    [
        ("auto", None, ("openvino", "cpu")),
        ("auto", "cpu", ("openvino", "cpu")),
        ("auto", "cuda", ("torch", "cuda")),
        ("auto", "cuda:1", ("torch", "cuda:1")),
        ("openvino", None, ("openvino", "cpu")),
        ("torch", None, ("torch", "cpu")),
        ("torch", "cuda:0", ("torch", "cuda:0")),
    ],
)
def test_every_branch_says_why(backend: str, device: str | None, wanted: tuple[str, str]) -> None:
    chosen = select(backend, device)
    assert (chosen.backend, chosen.device) == wanted
    assert len(chosen.reason.split()) >= 2


@pytest.mark.parametrize(
    ("backend", "device", "said"),
    [
        ("onnx", None, "backend is 'onnx'; it must be one of auto, openvino, torch, tensorrt, tensorrt-rtx"),
        ("tensorrt", "cpu", "runs on a GPU; use backend='openvino' for device='cpu'"),
        ("tensorrt-rtx", "cpu", "runs on a GPU; use backend='openvino'"),
        ("", None, "backend is ''"),
        ("openvino", "cuda", "use backend='torch'"),
        ("torch", "gpu", "device is 'gpu'; it must be 'cpu', 'cuda' or 'cuda:N'"),
        ("torch", "cuda:", "device is 'cuda:'"),
        ("torch", "cuda:x", "device is 'cuda:x'"),
        ("auto", "cuda:-1", "device is 'cuda:-1'"),
    ],
)
def test_unknown_backends_and_devices_are_refused(backend: str, device: str | None, said: str) -> None:
    with pytest.raises(ArgumentError, match=said):
        select(backend, device)


@needs_no_gpu
@pytest.mark.parametrize("device", ["cuda", "cuda:0", "cuda:7"])
def test_cuda_without_a_gpu(card: ModelCard, device: str) -> None:
    with pytest.raises(BackendUnavailableError, match=f"'{device}'.*no CUDA device.*bdflow doctor"):
        open_engine(select("torch", device), card, "upscale", precision="fp32", threads=None)


def test_explain_is_json_and_agrees_with_select() -> None:
    told = json.loads(json.dumps(explain()))
    chosen = select()
    assert (told["backend"], told["device"], told["reason"]) == (chosen.backend, chosen.device, chosen.reason)
    assert told["backends"].keys() == {"openvino", "torch", "tensorrt", "tensorrt-rtx"}
    for name in ("openvino", "torch"):
        assert told["backends"][name]["available"]


def test_explain_names_what_to_install() -> None:
    done = without(
        ["openvino", "torch", "tensorrt", "tensorrt_rtx"],
        "from bdflow_rt.engines.select import explain; import json; print(json.dumps(explain()))",
    )
    told = json.loads(done.stdout)
    assert told["backend"] is None
    assert [entry["install"].startswith("pip install") for entry in told["backends"].values()] == [True] * 4


@pytest.mark.parametrize(
    ("loss_db", "allowed"), [(None, False), (0.31, False), (NAMED_LOSS_DB, True), (0.2, True), (-0.01, True)]
)
def test_bf16_by_name_needs_a_measured_loss_within_the_limit(
    card: ModelCard, loss_db: float | None, allowed: bool
) -> None:
    measured = dataclasses.replace(card, precisions={} if loss_db is None else {"bf16": loss_db})
    if allowed:
        with Rescaler(measured, backend="openvino", precision="bf16") as rescaler:
            assert (rescaler.precision, f"{loss_db:.3f} dB" in rescaler.precision_reason) == ("bf16", True)
    else:
        with pytest.raises(ArgumentError, match=r"tiny@1.*Use precision='fp32'"):
            Rescaler(measured, backend="openvino", precision="bf16")


def test_bf16_is_openvinos_alone(card: ModelCard) -> None:
    with pytest.raises(ArgumentError, match=r"which computes in fp32\. .*OpenVINO on the CPU in bf16 or fp32"):
        Rescaler(dataclasses.replace(card, precisions={"bf16": 0.0}), backend="torch", precision="bf16")


def test_unknown_precision_is_refused(card: ModelCard) -> None:
    with pytest.raises(ArgumentError, match="precision is 'int8'; it must be one of auto, fp32, bf16, fp16"):
        Rescaler(card, precision="int8")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("selection", "precision"),
    [
        (Selection("openvino", "cpu", ""), "fp16"),
        (Selection("torch", "cpu", ""), "fp16"),
        (Selection("tensorrt", "cuda", ""), "fp32"),
        (Selection("tensorrt-rtx", "cuda", ""), "bf16"),
    ],
)
def test_precisions_a_backend_does_not_compute_in_are_refused(
    card: ModelCard, selection: Selection, precision: Precision
) -> None:
    with pytest.raises(ArgumentError, match=f"precision='{precision}' does not go with"):
        choose_precision(selection, card, precision)
    for sound in (Selection("torch", "cuda:1", ""), Selection("tensorrt", "cuda", "")):
        assert choose_precision(sound, card, "fp16") == ("fp16", "asked for; what fp16 costs was not measured")


@pytest.mark.parametrize("backend", ["tensorrt", "tensorrt-rtx"])
@pytest.mark.parametrize("precision", [None, "auto", "fp16"])
def test_a_model_that_float16_ruins_is_sent_to_a_backend_that_has_float32(
    card: ModelCard, backend: Backend, precision: PrecisionChoice | None
) -> None:
    ruined = dataclasses.replace(card, precisions={"fp16": NAMED_LOSS_DB + 0.01})
    with pytest.raises(ArgumentError, match=r"0.310 dB\. Use backend='openvino' or backend='torch'") as caught:
        choose_precision(Selection(backend, "cuda", ""), ruined, precision)
    assert "precision='fp32'" not in str(caught.value)
    assert choose_precision(Selection("torch", "cuda", ""), ruined, precision if precision != "fp16" else None) == (
        "fp32",
        f"{'the default' if precision != 'auto' else 'no faster one here costs at most 0.05 dB'}; float32 is exact",
    )


@pytest.mark.parametrize(
    ("backend", "device", "expected"),
    [
        ("openvino", "cpu", "fp32"), ("torch", "cpu", "fp32"), ("torch", "cuda", "fp32"),
        ("tensorrt", "cuda", "fp16"), ("tensorrt-rtx", "cuda", "fp16"),
    ],
)  # fmt: skip
def test_the_default_is_float32_where_the_backend_computes_in_it(
    card: ModelCard, backend: Backend, device: str, expected: Precision
) -> None:
    measured = dataclasses.replace(card, precisions={"fp16": 0.01, "bf16": 0.01})
    assert choose_precision(Selection(backend, device, ""), measured, None)[0] == expected


def test_a_rescaler_of_tensorrt_needs_no_precision(card: ModelCard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BackendInfo, "is_installed", property(lambda info: True))
    with Rescaler(card, backend="tensorrt") as rescaler:
        assert (rescaler.backend, rescaler.precision) == ("tensorrt", "fp16")
        assert rescaler.precision_reason.startswith("the only one of tensorrt; ")


@pytest.mark.parametrize(
    ("selection", "precisions", "expected"),
    [
        (Selection("torch", "cpu", ""), {"bf16": 0.0}, "fp32"),
        (Selection("torch", "cuda", ""), {"fp16": AUTO_LOSS_DB}, "fp16"),
        (Selection("torch", "cuda", ""), {"fp16": 0.051}, "fp32"),
        (Selection("torch", "cuda", ""), {}, "fp32"),
        (Selection("tensorrt", "cuda", ""), {}, "fp16"),
        (Selection("openvino", "cpu", ""), {"bf16": AUTO_LOSS_DB}, "bf16" if HAS_BF16 else "fp32"),
        (Selection("openvino", "cpu", ""), {"bf16": 0.051}, "fp32"),
    ],
)
def test_auto_is_the_fastest_precision_that_costs_next_to_nothing(
    card: ModelCard, selection: Selection, precisions: dict[str, float], expected: Precision
) -> None:
    assert choose_precision(selection, dataclasses.replace(card, precisions=precisions), "auto")[0] == expected
