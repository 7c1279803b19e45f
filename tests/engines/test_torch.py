"""The torch engine: what it checks before it reads."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from bdflow_rt.engines.torch import TorchEngine
from bdflow_rt.errors import BackendError, CorruptModelError, OutOfMemoryError, WeightsHashError
from tests.support_models import graph_inputs, make_model, tiny_config


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

    assert engine._model is not None
    engine._model.register_forward_pre_hook(fail)
    with pytest.raises(BackendError) as caught:
        engine.run(inputs)
    assert type(caught.value) is wanted
