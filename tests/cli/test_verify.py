"""`bdflow verify`: backends that agree pass, one that computes something else is named, none is left out silently."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import itertools
from pathlib import Path
from typing import get_args

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from bdflow_rt.engines.backends import BackendInfo
from bdflow_rt.engines.select import choose_precision, select
from bdflow_rt.errors import ArgumentError
from bdflow_rt.evaluate.verify import COMPARED, MIDDLE_SIDE, REFERENCE, SIZES
from bdflow_rt.options import Backend
from bdflow_rt.picture import sample_picture
from bdflow_rt.zoo import ModelCard, find_model
from bdflow_rt.zoo.card import CARD_FILE
from bdflow_rt.zoo.interface import Direction
from tests.cli.build import Done, bdflow, failed, succeeded
from tests.support_models import make_model, tiny_config

needs_no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="this is about machines without a CUDA device")


def planted(folder: Path, direction: Direction, content: bytes | None = None, *, white: float = 255.0) -> ModelCard:
    """A model whose graph of one direction gives another value for white, or is no graph; its card agrees."""
    card = make_model(folder, tiny_config(2, bits=1))
    path = card.graph_path(direction)
    if content is None:
        graph = onnx.load(path, load_external_data=False)
        (last,) = (node for node in graph.graph.node if node.name in ("lr/mul", "mul"))
        last.input[1] = "white"
        graph.graph.initializer.append(numpy_helper.from_array(np.array(white, np.float32), "white"))
        content = graph.SerializeToString()
    path.write_bytes(content)
    card = dataclasses.replace(
        card, graphs_sha256={**card.graphs_sha256, direction: hashlib.sha256(content).hexdigest()}
    )
    (card.folder / CARD_FILE).write_text(card.to_json())
    return card


def unverified(done: Done, *words: str) -> None:
    """Check that the report was printed, and then one line with what is wrong."""
    assert done.code == 7, done
    assert done.out
    assert done.err.startswith("bdflow: error: ")
    assert len(done.err.splitlines()) == 1
    assert [word for word in words if word not in done.err] == []


def test_openvino_agrees_with_torch_in_both_directions(zoo: Path) -> None:
    report = succeeded("verify", "tiny-x2", "--json").json
    backends = {one["name"]: one for one in report["backends"]}
    assert list(backends) == [str(runner) for runner in COMPARED]
    assert report["reference"] == "torch fp32 on cpu"
    openvino = backends["openvino fp32 on cpu"]
    assert (openvino["verdict"], openvino["reason"], openvino["errors"]) == ("passed", None, [])
    assert len(openvino["pictures"]) == len(SIZES)
    for picture in openvino["pictures"]:
        assert set(picture["downscale"]) == {"lr", "boundary"}
        for found in (*picture["downscale"].values(), *picture["upscale"].values()):
            assert found["largest"] <= 1
            assert found["differing"] <= 0.01 * found["values"]
        assert abs(picture["loss_db"]) < 0.01


def test_everything_that_a_rescaler_can_be_asked_for_is_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    """But bfloat16, and the reference itself; found by asking, so that a new pair is noticed."""
    monkeypatch.setattr(BackendInfo, "is_installed", property(lambda info: True))
    allowed = set()
    for backend, device in itertools.product(get_args(Backend), ("cpu", "cuda")):
        for precision in ("fp32", "fp16"):
            with contextlib.suppress(ArgumentError):
                choose_precision(select(backend, device), find_model("bdflow-x4"), precision)
                allowed.add((backend, device, precision))
    compared = {(one.backend, one.device, one.precision) for one in (*COMPARED, REFERENCE)}
    assert compared == allowed


@needs_no_gpu
def test_backends_that_cannot_run_are_listed_with_the_reason(zoo: Path) -> None:
    done = succeeded("verify", "plain")
    for runner in list(COMPARED)[1:]:
        (line,) = (line for line in done.out.splitlines() if line.startswith(f"{runner}: not run: "))
        assert len(line.split()) > 8


@needs_no_gpu
@pytest.mark.parametrize("name", ["tensorrt-rtx", "torch"])
def test_a_backend_asked_for_by_name_that_cannot_run_fails(zoo: Path, name: str) -> None:
    done = bdflow("verify", "plain", "--backend", name)
    unverified(done, f"{name} fp16 on cuda did not run")
    assert (".." in done.err, "that passed" in done.err) == (False, False)


@pytest.mark.parametrize(("direction", "output"), [("downscale", "lr"), ("upscale", "image")])
def test_a_graph_that_computes_something_else_fails_and_is_named(
    tmp_path: Path, direction: Direction, output: str
) -> None:
    card = planted(tmp_path, direction, white=250)
    unverified(bdflow("verify", card.folder, "--backend", "openvino"), "tiny@1 is not verified", f"{output} differs by")


def test_a_graph_that_is_off_by_one_level_in_many_places_fails(tmp_path: Path) -> None:
    card = planted(tmp_path, "upscale", white=255.9)
    done = bdflow("verify", card.folder, "--backend", "openvino", "--json")
    (openvino,) = done.json["backends"]
    assert {one["upscale"]["image"]["largest"] for one in openvino["pictures"]} == {1}
    unverified(done, "of image differs, and 1.00% is allowed")


def test_a_graph_that_a_backend_cannot_read_fails_in_its_words(tmp_path: Path) -> None:
    card = planted(tmp_path, "upscale", b"no graph")
    unverified(bdflow("verify", card.folder, "--backend", "openvino"), "openvino fp32 on cpu: OpenVINO cannot read")


def test_altered_weights_are_the_models_fault(tmp_path: Path) -> None:
    card = make_model(tmp_path, tiny_config(2))
    card.weights_path.write_bytes(card.weights_path.read_bytes()[:-1] + b"\1")
    failed(bdflow("verify", card.folder), 6, "SHA-256")


def test_files_are_used_as_pictures_padded_or_cut_to_their_middle(zoo: Path, source: Path, tmp_path: Path) -> None:
    from PIL import Image

    large = tmp_path / "large.png"
    Image.fromarray(sample_picture(50, MIDDLE_SIDE + 90, seed=4)).save(large)
    report = succeeded("verify", "plain", source, large, "--backend", "openvino", "--json", "-q").json
    assert report["pictures"] == {str(source): [64, 68], str(large): [52, MIDDLE_SIDE]}


def test_a_picture_that_does_not_exist_is_named(zoo: Path) -> None:
    failed(bdflow("verify", "plain", "nothing.png"), 3, "nothing.png")


def test_a_picture_of_one_pixel_is_enough(zoo: Path, tmp_path: Path) -> None:
    from PIL import Image

    Image.new("RGB", (1, 1), (9, 200, 77)).save(tmp_path / "dot.png")
    succeeded("verify", "tiny-x2", tmp_path / "dot.png", "--backend", "openvino")


def test_sample_pictures_are_the_same_every_time_and_use_the_whole_range() -> None:
    one, two = (sample_picture(97, 61, seed=3) for _ in range(2))
    assert np.array_equal(one, two)
    assert one.min() < 40
    assert one.max() > 215
    assert not np.array_equal(one, sample_picture(97, 61, seed=4))
