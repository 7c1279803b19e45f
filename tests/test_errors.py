"""What libraries say goes into our messages cut to a readable length, with its beginning and its end."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from bdflow_rt.engines.engine import run_error
from bdflow_rt.engines.openvino import OpenVINOEngine
from bdflow_rt.errors import BackendError, OutOfMemoryError, shorten
from tests.support_models import make_model, tiny_config

LONG = (
    "Exception from core.cpp:95:\n" + "While validating ONNX node 'DequantizeLinear':\n" * 500 + "types do not match\n"
)


@pytest.mark.parametrize("length", [0, 1, 440, 441, 25_566])
def test_a_message_is_one_line_of_bounded_length_and_short_ones_stay(length: int) -> None:
    text = ("a word\n" * length)[:length].strip()
    short = shorten(text)
    assert len(short) <= 450
    assert "\n" not in short
    assert short == (" ".join(text.split()) if 0 < length <= 440 else short)


def test_both_ends_of_a_long_message_stay() -> None:
    assert shorten(LONG).startswith("Exception from core.cpp:95: While validating")
    assert shorten(LONG).endswith("types do not match")


def test_an_error_that_says_nothing_is_named() -> None:
    assert shorten(ValueError()) == "ValueError"
    assert shorten("  ") == "no reason is given"


def test_a_failed_run_is_told_in_one_short_line_and_memory_is_recognised_in_the_middle() -> None:
    failed = run_error(RuntimeError(LONG), backend="openvino", what="downscale of a@1")
    assert type(failed) is BackendError
    assert len(str(failed)) < 600
    middle = f"{LONG[:5000]} bad_alloc {LONG[5000:]}"
    assert type(run_error(RuntimeError(middle), backend="openvino", what="it")) is OutOfMemoryError


def test_a_graph_that_openvino_refuses_at_length_gives_a_short_error(tmp_path: Path) -> None:
    card = make_model(tmp_path, tiny_config(4), name="tiny")
    path = card.graph_path("downscale")
    path.write_bytes(path.read_bytes().replace(b"LeakyRelu", b"LeakyFoo!"))
    card.graphs_sha256["downscale"] = hashlib.sha256(path.read_bytes()).hexdigest()
    with pytest.raises(BackendError, match="LeakyFoo!") as raised:
        OpenVINOEngine(card, "downscale")
    assert len(str(raised.value)) < 900
