"""The graph builder: nodes of their own names, and references into the weights file."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from onnx import TensorProto

from bdflow_rt.errors import CorruptModelError
from bdflow_rt.export.graph import GraphBuilder
from bdflow_rt.zoo.weights import read_index
from tests.zoo.test_weights import SOUND, int8_file, safetensors


def test_missing_weight_is_named(tmp_path: Path) -> None:
    with pytest.raises(CorruptModelError, match=r"no 'levels\.0\.bias'"):
        GraphBuilder(safetensors(tmp_path, SOUND)).weight("levels.0.bias", (3,))


def test_weight_of_another_shape_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CorruptModelError, match=r"\(4, 3\).*needs \(3, 4\)"):
        GraphBuilder(safetensors(tmp_path, SOUND)).weight("w", (3, 4))


def test_first_rows_shorten_the_reference_and_copy_nothing(tmp_path: Path) -> None:
    path = safetensors(tmp_path, SOUND)
    builder = GraphBuilder(path)
    builder.weight("w", (4, 3))
    builder.output("out", builder.weight("w", (4, 3), rows=1), TensorProto.FLOAT, [1, 3])
    whole, first = builder.build("rows", {}).graph.initializer
    assert (list(first.dims), first.raw_data) == ([1, 3], b"")
    fields = {entry.key: entry.value for entry in first.external_data}
    assert fields == {"location": path.name, "offset": str(read_index(path)["w"].offset), "length": "6"}
    assert {entry.key: entry.value for entry in whole.external_data}["length"] == "24"


def test_first_rows_of_int8_take_as_many_scales(tmp_path: Path) -> None:
    path = int8_file(tmp_path)
    builder = GraphBuilder(path)
    builder.output("out", builder.weight("w", (4, 2, 3, 3), rows=3), TensorProto.FLOAT, [3, 2, 3, 3])
    model = builder.build("rows", {})
    rows, scales = model.graph.initializer
    assert (rows.name, rows.data_type, list(rows.dims)) == ("w[:3]", TensorProto.INT8, [3, 2, 3, 3])
    assert (scales.name, scales.data_type, list(scales.dims)) == ("w.scale[:3]", TensorProto.FLOAT16, [3])
    for tensor, name, length in ((rows, "w", "54"), (scales, "w.scale", "6")):
        fields = {entry.key: entry.value for entry in tensor.external_data}
        assert fields == {"location": path.name, "offset": str(read_index(path)[name].offset), "length": length}
    (tmp_path / "rows.onnx").write_bytes(model.SerializeToString())
    onnx.checker.check_model(str(tmp_path / "rows.onnx"), full_check=True)


def test_nodes_of_one_name_stay_apart(tmp_path: Path) -> None:
    builder = GraphBuilder(safetensors(tmp_path, SOUND))
    x = builder.input("x", TensorProto.FLOAT, ["N"])
    assert builder.node("Neg", x, name="same") != builder.node("Neg", x, name="same")
