"""The torch engine: what it checks before it reads."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

from bdflow_rt.engines.torch.engine import TorchEngine
from bdflow_rt.engines.torch.settings import own_settings, process_settings
from bdflow_rt.errors import BackendError, CorruptModelError, OutOfMemoryError, WeightsHashError
from tests.support import ROOT
from tests.support_models import graph_inputs, make_model, tiny_config

CUDNN: Any = torch.backends.cudnn
CPU = torch.device("cpu")


def test_altered_weights_are_refused_before_they_are_read(tmp_path: Path) -> None:
    card = make_model(tmp_path, tiny_config(2))
    content = bytearray(card.weights_path.read_bytes())
    content[-1] ^= 1
    card.weights_path.write_bytes(content)
    with pytest.raises(WeightsHashError):
        TorchEngine(card, "upscale")


def test_weights_of_another_configuration_are_refused(tmp_path: Path) -> None:
    card = make_model(tmp_path, tiny_config(2))
    with pytest.raises(CorruptModelError, match="do not fit its configuration"):
        TorchEngine(dataclasses.replace(card, config=tiny_config(2, hidden=16)), "upscale")


@pytest.mark.parametrize(
    ("raised", "wanted"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), OutOfMemoryError),
        (MemoryError(), OutOfMemoryError),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), OutOfMemoryError),
        (RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"), OutOfMemoryError),
        (RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"), BackendError),
    ],
)
def test_failures_in_the_network_are_told_apart(tmp_path: Path, raised: Exception, wanted: type[Exception]) -> None:
    card = make_model(tmp_path, tiny_config(2))
    inputs = graph_inputs(card, "downscale")
    engine = TorchEngine(card, "downscale")

    def fail(*_: object) -> None:
        raise raised

    assert engine._wire is not None
    engine._wire.register_forward_pre_hook(fail)
    with pytest.raises(BackendError) as caught:
        engine.run(inputs)
    assert type(caught.value) is wanted


def test_float32_is_computed_without_tf32_and_the_users_setting_comes_back(tmp_path: Path) -> None:
    card = make_model(tmp_path, tiny_config(2))
    convolutions = CUDNN.conv
    before, seen = convolutions.fp32_precision, set[str]()
    assert before == "tf32", "or this shows nothing"
    for direction in ("downscale", "upscale"):
        inputs = graph_inputs(card, direction)
        engine = TorchEngine(card, direction)
        assert engine._wire is not None
        for module in engine._wire.modules():
            module.register_forward_pre_hook(lambda *_: seen.add(convolutions.fp32_precision))
        engine.run(inputs)
        assert convolutions.fp32_precision == before
    assert seen == {"ieee"}


def test_tf32_stays_forbidden_until_the_last_call_has_left() -> None:
    convolutions = CUDNN.conv
    before = convolutions.fp32_precision
    with contextlib.ExitStack() as first, contextlib.ExitStack() as second:
        first.enter_context(process_settings(None))
        second.enter_context(process_settings(None))
        first.close()
        assert convolutions.fp32_precision == "ieee"
    assert convolutions.fp32_precision == before
    with pytest.raises(KeyError), process_settings(None):
        raise KeyError
    assert convolutions.fp32_precision == before


RUN_IN = """
import contextlib, sys
import numpy as np, torch
from pathlib import Path
from bdflow_rt.rescaler import Rescaler
from bdflow_rt.zoo import ModelCard
image = np.random.default_rng(0).integers(0, 256, (24, 28, 3), np.uint8)
card = ModelCard.read(Path(sys.argv[1]))
def packets(**options):
    with Rescaler(card, backend="torch", **options) as rescaler:
        for refine in (0, 2):
            made = rescaler.downscale(image, refine=refine)
            yield from (made.lr, made.boundary, rescaler.upscale(made))
def state():
    modes = torch.is_autocast_enabled("cpu"), torch.is_inference_mode_enabled()
    return *modes, torch.get_default_dtype(), torch.get_default_device(), torch.get_num_threads()
@contextlib.contextmanager
def default_dtype():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)
expected, plain = list(packets()), state()
for name, context in {
    "autocast": torch.autocast("cpu"),
    "default dtype": default_dtype(),
    "default device": torch.device("meta"),
    "no gradients": torch.inference_mode(),
}.items():
    with context:
        before = state()
        assert before != plain, name
        for one, other in zip(expected, packets(threads=3), strict=True):
            assert np.array_equal(one, other), (name, np.abs(one.astype(int) - other).max())
        assert state() == before, name
    assert state() == plain, name
"""


def test_the_callers_state_reaches_no_pixel_and_is_left_as_it_was(tmp_path: Path) -> None:
    card = make_model(tmp_path, tiny_config(4))
    command = [sys.executable, "-c", RUN_IN, str(card.folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("grad", [False, True])
def test_the_callers_modes_are_back_afterwards_also_after_an_error(grad: bool) -> None:
    with contextlib.suppress(KeyError), own_settings(CPU, threads=None, grad=grad):
        assert (torch.is_grad_enabled(), torch.is_inference_mode_enabled()) == (False, not grad)
        raise KeyError
    assert (torch.is_grad_enabled(), torch.is_inference_mode_enabled()) == (True, False)


def test_threads_are_the_hosts_again_in_each_of_its_own_whoever_leaves_last() -> None:
    before = torch.get_num_threads()
    entered, leave = threading.Event(), threading.Event()

    def other() -> None:
        with process_settings(before + 2):
            entered.set()
            leave.wait()

    for outlasts in (False, True):
        entered.clear()
        leave.clear()
        second = threading.Thread(target=other)
        with process_settings(before + 1):
            second.start()
            entered.wait()
            assert torch.get_num_threads() == before + 1
            if not outlasts:
                leave.set()
                second.join()
        leave.set()
        second.join()
        assert torch.get_num_threads() == before
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(torch.get_num_threads).result() == before


SETTINGS = """
import json, os, sys
import torch
from torch.backends import cudnn
from bdflow_rt.engines.torch.settings import own_settings

def settings():
    places = (torch.backends, cudnn, cudnn.conv, cudnn.rnn, torch.backends.cuda.matmul)
    return [place.fp32_precision for place in places]

for first, then, wanted in json.loads(sys.argv[1]):
    if os.fork():
        _, status = os.wait()
        assert status == 0, (first, then)
        continue
    exec(first)
    before = settings()
    with own_settings(torch.device("cpu"), threads=None):
        assert cudnn.conv.fp32_precision != "tf32"
    assert settings() == before, (first, settings(), before)
    exec(then)
    assert cudnn.conv.fp32_precision == wanted, (first, then, cudnn.conv.fp32_precision)
    os._exit(0)  # the end of an interpreter that has loaded PyTorch takes a second
"""
"""One process for each case: PyTorch's settings are the process's, and cannot all be unset once they were set."""
CASES = [
    ("pass", "pass", "tf32"),
    ("pass", "cudnn.fp32_precision = 'ieee'", "ieee"),
    ("pass", "torch.backends.fp32_precision = 'ieee'", "ieee"),
    ("cudnn.allow_tf32 = True", "pass", "tf32"),
    ("cudnn.allow_tf32 = False", "pass", "none"),
    ("cudnn.conv.fp32_precision = 'tf32'", "pass", "tf32"),
    ("cudnn.conv.fp32_precision = 'ieee'", "pass", "ieee"),
    ("cudnn.fp32_precision = 'tf32'", "pass", "tf32"),
    ("torch.backends.fp32_precision = 'tf32'", "torch.backends.fp32_precision = 'ieee'", "ieee"),
    ("torch.set_float32_matmul_precision('high')", "cudnn.allow_tf32 = False", "none"),
]
"""What the user set before, what after, and the convolutions' precision then."""


def test_every_way_to_set_the_precision_means_afterwards_what_it_meant_before() -> None:
    done = subprocess.run([sys.executable, "-c", SETTINGS, json.dumps(CASES)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
