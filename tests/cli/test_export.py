"""`bdflow export`: the graphs of a model, with its weights beside them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from bdflow_rt.packet import Packet
from bdflow_rt.quiet import import_quietly
from bdflow_rt.rescaler import Rescaler
from bdflow_rt.zoo import find_model
from tests.cli.build import bdflow, contents, failed, succeeded
from tests.support_models import DIRECTIONS

onnxruntime = import_quietly("onnxruntime")

NAMES = [f"{direction}{kind}" for kind in ("", ".core") for direction in DIRECTIONS]
FILES = sorted(["model.json", "weights.safetensors", *(f"{name}.onnx" for name in NAMES)])


def test_a_model_found_by_name_is_copied_and_not_written_into(zoo: Path, tmp_path: Path) -> None:
    before = contents(zoo)
    done = succeeded("export", "bdflow-x4", "-o", tmp_path / "made", "--json")
    assert done.err == ""
    assert done.json == {
        "model": "bdflow-x4@99",
        "folder": str(tmp_path / "made"),
        "graphs": {name: str(tmp_path / "made" / f"{name}.onnx") for name in NAMES},
    }
    assert contents(zoo) == before
    assert sorted(contents(tmp_path / "made")) == FILES


def test_without_an_output_a_name_goes_to_a_folder_of_its_name_here(
    zoo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = succeeded("export", "plain")
    assert sorted(contents(tmp_path / "plain@1")) == FILES
    assert [line.split()[1] for line in done.err.splitlines()] == [f"plain@1/{name}.onnx" for name in NAMES]


def test_without_an_output_a_folder_gets_its_graphs_inside(zoo: Path, source: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(zoo / "plain@1", tmp_path / "mine"))
    card = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps({**card, "graphs_sha256": {}}))
    for path in folder.glob("*.onnx"):
        path.unlink()
    failed(bdflow("downscale", source, "-o", tmp_path / "lr.png", "-m", folder), 6, f"bdflow export {folder}")
    succeeded("export", folder)
    succeeded("downscale", source, "-o", tmp_path / "lr.png", "-m", folder)
    assert contents(folder) == contents(zoo / "plain@1")


def test_what_was_exported_is_a_model_to_work_with(
    zoo: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    succeeded("export", "bdflow-x4", "-o", tmp_path / "models" / "copy")
    succeeded("downscale", source, "-o", tmp_path / "one.png")
    monkeypatch.setenv("BDFLOW_ZOO", str(tmp_path / "models"))
    succeeded("downscale", source, "-o", tmp_path / "other.png", "-m", "bdflow-x4@99")
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "other.png").read_bytes()


def test_the_graphs_run_in_another_runtime(zoo: Path, tmp_path: Path, hr: npt.NDArray[np.uint8]) -> None:
    succeeded("export", "bdflow-x4", "-o", tmp_path / "made")
    session = onnxruntime.InferenceSession(tmp_path / "made" / "downscale.onnx", providers=["CPUExecutionProvider"])
    image = hr[:60, :64]
    (lr,) = session.run(["lr"], {"image": image[None]})
    with Rescaler.from_pretrained("bdflow-x4") as rescaler:
        packet = rescaler.downscale(image)
    assert isinstance(packet, Packet)
    assert np.abs(lr[0].astype(int) - packet.lr).max() <= 1


@pytest.mark.parametrize("place", ["file", "file/inside", "/proc/folder", "/dev/full"])
def test_a_folder_that_cannot_be_made_is_named(zoo: Path, tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_bytes(b"old")
    before = contents(tmp_path)
    failed(bdflow("export", "bdflow-x4", "-o", tmp_path / place), 4, place, "choose another")
    assert contents(tmp_path) == before


def test_weights_that_are_a_link_are_refused_where_the_graphs_would_be_beside_it(zoo: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(zoo / "plain@1", tmp_path / "mine"))
    (folder / "weights.safetensors").unlink()
    (folder / "weights.safetensors").symlink_to(zoo / "plain@1" / "weights.safetensors")
    before = contents(folder)
    failed(bdflow("export", folder), 6, "symbolic link")
    assert contents(folder) == before
    succeeded("export", folder, "-o", tmp_path / "copy")


def test_another_model_in_the_folder_is_left_alone(zoo: Path, tmp_path: Path) -> None:
    succeeded("export", "plain", "-o", tmp_path / "made")
    before = contents(tmp_path)
    failed(bdflow("export", "bdflow-x4", "-o", tmp_path / "made"), 4, "holds plain@1", "Choose another folder")
    assert contents(tmp_path) == before


@pytest.mark.parametrize("name", ["nothing", "bdflow-x4@98", "n" * 5000, "a\0b", "~nobody-of-this-name/x"])
def test_an_unknown_model_is_named(zoo: Path, tmp_path: Path, name: str) -> None:
    failed(bdflow("export", name, "-o", tmp_path / "made"), 6, "There is no model", "bdflow-x4@99")
    assert not (tmp_path / "made").exists()


def test_for_vsmlrt_one_file_is_written_and_what_its_clips_must_be_is_said(zoo: Path, tmp_path: Path) -> None:
    done = succeeded("export", "tiny-x2", "--vsmlrt", "-o", tmp_path / "up.onnx")
    assert list(contents(tmp_path)) == ["up.onnx"]
    assert f"wrote {tmp_path / 'up.onnx'} ({(tmp_path / 'up.onnx').stat().st_size:,} bytes)" in done.err
    assert 'std.Expr(boundary, "x 3 /", vs.GRAYS)' in done.err  # it has 2 bits
    halo = find_model("tiny-x2").interface.halo
    assert f"overlap={halo}\n" in done.err
    session = onnxruntime.InferenceSession(tmp_path / "up.onnx", providers=["CPUExecutionProvider"])
    (output,) = session.run(None, {"input": np.zeros((1, 4, 9, 7), np.float32)})
    assert output.shape == (1, 3, 18, 14)


def test_for_vsmlrt_a_model_without_a_boundary_map_has_one_clip(
    zoo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = succeeded("export", "plain", "--vsmlrt")
    assert list(contents(tmp_path)) == ["plain@1.vsmlrt.onnx"]
    assert "no boundary map" in done.err
    assert "Expr" not in done.err


def test_for_vsmlrt_json_says_what_the_clips_must_be(zoo: Path, tmp_path: Path) -> None:
    done = succeeded("export", "tiny-x2", "--vsmlrt", "--json", "-o", tmp_path / "up.onnx")
    assert done.err == ""
    assert done.json == {
        "model": "tiny-x2@1",
        "output": str(tmp_path / "up.onnx"),
        "output_bytes": (tmp_path / "up.onnx").stat().st_size,
        "scale": 2,
        "max_level": 3,
        "halo": find_model("tiny-x2").interface.halo,
    }


def test_for_vsmlrt_an_earlier_graph_is_replaced_and_nothing_else(zoo: Path, tmp_path: Path) -> None:
    succeeded("export", "plain", "--vsmlrt", "-o", tmp_path / "up.onnx")
    succeeded("export", "tiny-x2", "--vsmlrt", "-o", tmp_path / "up.onnx")
    assert find_model("tiny-x2").weights_sha256.encode() in (tmp_path / "up.onnx").read_bytes()
    (tmp_path / "notes.txt").write_text("mine")
    shutil.copy(zoo / "plain@1" / "upscale.onnx", tmp_path / "public.onnx")
    (tmp_path / "folder").mkdir()
    before = contents(tmp_path)
    for name in ("notes.txt", "public.onnx"):
        failed(bdflow("export", "plain", "--vsmlrt", "-o", tmp_path / name), 4, name, "choose another name")
    failed(bdflow("export", "plain", "--vsmlrt", "-o", tmp_path / "folder"), 4, "is a folder")
    failed(bdflow("export", "plain", "--vsmlrt", "-o", tmp_path / "none" / "up.onnx"), 4, "Create the folder")
    failed(bdflow("export", "plain", "--vsmlrt", "--json", "-o", "/dev/stdout"), 2, "--json", "standard output")
    assert contents(tmp_path) == before
