"""`bdflow info`: what a packet file says about itself."""

from __future__ import annotations

import os
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from bdflow_rt.containers.chunks import SIGNATURE
from bdflow_rt.zoo import find_model
from tests.cli.build import succeeded
from tests.containers.build import encoded, fields_of, join, split, with_fields, with_header


@pytest.fixture
def small(zoo: Path, source: Path, tmp_path: Path) -> Path:
    """What downscale made of the photograph."""
    succeeded("downscale", source, "-o", tmp_path / "lr.png")
    return tmp_path / "lr.png"


def test_json_holds_the_whole_header(small: Path, zoo: Path) -> None:
    done = succeeded("info", small, "--json")
    assert done.err == ""
    assert done.json == {
        "file": str(small),
        "file_bytes": small.stat().st_size,
        "model": "bdflow-x4@99",
        "identity": find_model("bdflow-x4").identity[:16],
        "model_available": True,
        "scale": 4,
        "hr_size": [65, 63],
        "lr_size": [17, 16],
        "bits": 1,
        "edited": False,
        "z": {"temperature": 0.0, "seed": 0},
        "colour": {"model": "rgb", "primaries": 2, "transfer": 2, "matrix": 2, "full_range": True},
        "icc_profile_bytes": 0,
    }


def test_text_tells_people_the_same(small: Path) -> None:
    done = succeeded("info", small)
    assert done.err == ""
    for fact in (str(small), "17 x 16", "65 x 63", "bdflow-x4@99", "which is here", "1 bit per pixel"):
        assert fact in done.out
    assert "edited" not in done.out


def test_grey_and_profile_are_reported(zoo: Path, hr: npt.NDArray[np.uint8], tmp_path: Path, profile: bytes) -> None:
    (tmp_path / "grey.png").write_bytes(encoded(Image.fromarray(hr).convert("L"), "PNG"))
    (tmp_path / "rgb.png").write_bytes(encoded(Image.fromarray(hr), "PNG", icc_profile=profile))
    found = {}
    for name in ("grey", "rgb"):
        succeeded("downscale", tmp_path / f"{name}.png", "-o", tmp_path / "lr.png", "--overwrite")
        found[name] = succeeded("info", tmp_path / "lr.png", "--json").json
    assert [found[name]["colour"]["model"] for name in ("grey", "rgb")] == ["grey", "rgb"]
    assert [found[name]["icc_profile_bytes"] for name in ("grey", "rgb")] == [0, len(profile)]


def test_a_file_whose_model_is_not_here_is_described_all_the_same(
    small: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("BDFLOW_ZOO", str(tmp_path))
    assert succeeded("info", small, "--json").json["model_available"] is False
    assert "which is not here" in succeeded("info", small).out


def test_an_edited_file_is_described_and_said_to_be_edited(small: Path) -> None:
    from bdflow_rt.containers import read_packet

    header = read_packet(small).header
    small.write_bytes(with_header(small.read_bytes(), with_fields(header, {**fields_of(header), 3: bytes(4)})))
    assert succeeded("info", small, "--json").json["edited"] is True
    assert "edited" in succeeded("info", small).out


@pytest.mark.parametrize("name", ["a b.png", "line\nend.png", "\x1b[2Jclear.png"])
def test_the_name_of_the_file_gives_no_commands_to_the_terminal(small: Path, name: str) -> None:
    odd = small.rename(small.with_name(name))
    assert succeeded("info", odd, "--json").json["file"] == str(odd)
    assert "\x1b" not in succeeded("info", odd).out


def test_beyond_the_limit_of_pixels_the_header_alone_is_read(small: Path) -> None:
    within = succeeded("info", small, "--max-pixels", "4095", "--json").json
    beyond = succeeded("info", small, "--max-pixels", "4094", "--json").json
    assert (within["edited"], beyond["edited"]) == (False, None)
    assert beyond == {**within, "edited": None}
    assert "larger than --max-pixels" in succeeded("info", small, "--max-pixels", "4094").out


def test_info_reads_a_packet_of_a_gigabyte_whole(small: Path) -> None:
    first, *others = split(small.read_bytes())
    size = 1_300_000_000
    with small.open("wb") as file:  # sparse: a private chunk of zeros before all else
        file.write(join([first]) + struct.pack(">I4s", size, b"prVt"))
        file.seek(size + 4, os.SEEK_CUR)
        file.write(join(others).removeprefix(SIGNATURE))
    tracemalloc.start()
    found = succeeded("info", small, "--json").json
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20e6
    assert (found["hr_size"], found["edited"], found["file_bytes"]) == ([65, 63], None, small.stat().st_size)


def test_info_of_one_bit_says_1_bits(small: Path) -> None:
    assert "boundary map of 1 bit per pixel" in succeeded("info", small).out
