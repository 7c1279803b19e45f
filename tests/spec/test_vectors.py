"""What spec/ promises: a vector opens to what is noted beside it, is still written so, or is refused with its error."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import pathlib
import re
from typing import Any

import jsonschema
import numpy as np
import onnx
import pytest
from PIL import Image

from bdflow_rt import Rescaler, decode_png, encode_png, errors
from bdflow_rt.containers import decode_header, encode_header
from bdflow_rt.packet import Packet, PacketHeader, StreamHeader
from bdflow_rt.runtime.latent import latent_rows
from bdflow_rt.zoo import ModelCard
from bdflow_rt.zoo.arch.bdflow import BDFlowConfig
from bdflow_rt.zoo.card import CARD_FILE
from bdflow_rt.zoo.registry import SHIPPED, ZOO_VARIABLE
from tests.containers.build import same_packet
from tests.spec.make_vectors import VECTORS, fields_as_json, picture_as_json
from tests.support import slow_but

SPEC = VECTORS.parent
INDEX: list[dict[str, Any]] = json.loads((VECTORS / "index.json").read_text())
SOUND = [entry for entry in INDEX if "error" not in entry]
MODEL_FOLDERS = sorted(
    path.parent for folder in (SHIPPED, VECTORS / "seeded") for path in folder.glob(f"*/{CARD_FILE}")
)


def read(entry: dict[str, Any]) -> PacketHeader | StreamHeader | Packet:
    """A vector, with pixels and profile compared."""
    data = (VECTORS / entry["file"]).read_bytes()
    if entry["kind"] == "header":
        return decode_header(data)
    packet = decode_png(data)
    packet.check_unedited()
    return packet


def named(entry: dict[str, Any]) -> str:
    return str(entry["file"])


def test_every_vector_is_listed_and_every_listed_file_is_there() -> None:
    listed = {entry[key] for entry in INDEX for key in ("file", "original", "restored") if key in entry}
    there = {str(path.relative_to(VECTORS)) for path in VECTORS.rglob("*") if path.is_file()}
    assert listed == {name for name in there if not name.startswith(("seeded/", "videos/", "README", "index"))}


@pytest.mark.parametrize("entry", SOUND, ids=named)
def test_a_vector_opens_to_what_is_noted(entry: dict[str, Any]) -> None:
    found = read(entry)
    expected = {
        key: value for key, value in entry.items() if key not in ("file", "kind", "original", "restored", "tolerance")
    }
    assert (picture_as_json(found) if isinstance(found, Packet) else {"header": fields_as_json(found)}) == expected


@pytest.mark.parametrize("entry", [entry for entry in INDEX if "error" in entry], ids=named)
def test_a_hostile_vector_is_refused_with_its_error(entry: dict[str, Any]) -> None:
    with pytest.raises(errors.BdflowError) as caught:
        read(entry)
    assert type(caught.value).__name__ == entry["error"], caught.value


@pytest.mark.parametrize("entry", SOUND, ids=named)
def test_a_vector_is_still_written_as_it_was(entry: dict[str, Any]) -> None:
    """Bytes of deflate and WebP may change with their libraries; the header may not."""
    data = (VECTORS / entry["file"]).read_bytes()
    found = read(entry)
    if isinstance(found, Packet):
        assert encode_header(found.header) in data
        assert same_packet(decode_png(encode_png(found)), found)
    elif not entry["file"].endswith(("skip.bin", "64-kib.bin")):
        assert encode_header(found) == data


RESTORED = [entry for entry in SOUND if "restored" in entry]
QUICK = [entry for entry in RESTORED if re.search("seeded|x2-fast@|x4@", entry["header"]["model"])]


@pytest.mark.parametrize("entry", slow_but(QUICK, RESTORED), ids=named)
def test_a_model_makes_and_restores_its_vector(entry: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ZOO_VARIABLE, str(VECTORS / "seeded"))
    packet = read(entry)
    assert isinstance(packet, Packet)
    original, restored = (np.asarray(Image.open(VECTORS / entry[key])) for key in ("original", "restored"))
    with Rescaler.for_packet(packet) as rescaler:
        assert rescaler.card.id == packet.header.model
        made = rescaler.downscale(original, z=packet.header.z)
        pairs = [(made.lr, packet.lr), (rescaler.upscale(packet), restored)]
    if packet.boundary is not None and made.boundary is not None:
        pairs.append((made.boundary, packet.boundary))
    assert dataclasses.replace(made.header, lr_crc32=0, profile_crc32=None) == dataclasses.replace(
        packet.header, lr_crc32=0, profile_crc32=None
    )
    for found, expected in pairs:
        assert found.shape == expected.shape
        assert np.abs(found.astype(int) - expected).max() <= entry["tolerance"]


def test_there_are_vectors_of_every_model_that_ships_and_of_all_numbers_of_bits() -> None:
    models = {entry["header"]["model"] for entry in SOUND if "restored" in entry}
    assert models == {folder.name for folder in MODEL_FOLDERS}
    assert {entry["header"]["bits"] for entry in SOUND if entry["kind"] == "picture"} == set(range(9))


@pytest.mark.parametrize("folder", MODEL_FOLDERS, ids=lambda folder: folder.name)
def test_cards_follow_the_schema(folder: pathlib.Path) -> None:
    schema = json.loads((SPEC / "card.schema.json").read_text())
    card = json.loads((folder / CARD_FILE).read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    check = jsonschema.Draft202012Validator(schema)
    check.validate(card)
    rows = [{"name": "a", "licence": "b", "commercial": "no"}]
    changes: list[dict[str, Any]] = [
        {"format": 1}, {"more": 1}, {"arch": "X"}, {"config": {}}, {"status": "released", "training_data": rows},
    ]  # fmt: skip
    for change in changes:
        assert not check.is_valid({**card, **change})


def test_the_page_s_identity_is_that_of_the_code(tmp_path: pathlib.Path) -> None:
    text, identity = (part.strip() for part in (SPEC / "card.md").read_text().split("```")[1:3])
    expected = hashlib.sha256(f"{text}\n".encode()).hexdigest()
    card = ModelCard(tmp_path, "a", 1, BDFlowConfig(), "0" * 64)
    assert card.identity == expected
    assert expected in identity


@pytest.mark.parametrize("folder", MODEL_FOLDERS, ids=lambda folder: folder.name)
def test_graphs_take_and_give_what_the_page_says(folder: pathlib.Path) -> None:
    page = (SPEC / "card.md").read_text()
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if line.startswith("| `")
    ]
    tensors = {
        row[0].strip("`"): (row[1], row[2].strip("()").replace(",", " ").split()) for row in rows if len(row) == 4
    }
    graphs = [row for row in rows if row[0].endswith(".onnx`") and len(row) == 3]
    assert [row[0] for row in graphs] == ["`downscale.onnx`", "`upscale.onnx`", "`upscale_z.onnx`"]
    interface = ModelCard.read(folder).interface
    for name, takes, gives in graphs:
        graph = onnx.load(folder / name.strip("`"), load_external_data=False)
        assert [entry.version for entry in graph.opset_import] == [20]
        for expected, values in ((takes, graph.graph.input), (gives, graph.graph.output)):
            names = [name for name in re.findall(r"\w+", expected) if interface.bits or name != "boundary"]
            assert [value.name for value in values] == names
            for value in values:
                dtype, shape = tensors[value.name]
                kind = value.type.tensor_type
                assert onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type) == np.dtype(dtype)
                named = [axis.dim_param or str(axis.dim_value) for axis in kind.shape.dim]
                assert named == [str(interface.latent_channels) if axis == "C" else axis for axis in shape]


def test_the_page_s_values_of_z_are_those_of_the_code() -> None:
    page = (SPEC / "latent.md").read_text()
    latent = latent_rows(range(2), columns=range(3), width=3, channels=8, temperature=0.5, seed=1)
    for value in (*latent[:3, 0, 0], latent[7, 1, 2]):
        assert f"{value:.7f}" in page
