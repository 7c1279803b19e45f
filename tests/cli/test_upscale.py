"""`bdflow upscale`: the file that downscale wrote is all that is needed."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from bdflow_rt.containers import read_packet
from bdflow_rt.packet import ZPolicy
from bdflow_rt.rescaler import Rescaler
from tests.cli.build import bdflow, contents, failed, finished, pixels_of, start, succeeded
from tests.containers.build import encoded
from tests.support import photo

UInt8Array = npt.NDArray[np.uint8]


@pytest.fixture
def small(zoo: Path, source: Path, tmp_path: Path) -> Path:
    """What downscale made of the photograph, which is gone by now."""
    succeeded("downscale", source, "-o", tmp_path / "lr.png")
    shutil.rmtree(source.parent)
    return tmp_path / "lr.png"


def restored_by_the_api(small: Path, **options: object) -> UInt8Array:
    packet = read_packet(small)
    with Rescaler.for_packet(packet) as rescaler:
        pixels = rescaler.upscale(packet, **options)  # type: ignore[arg-type]
    assert isinstance(pixels, np.ndarray)
    return pixels


def test_nothing_but_the_file_is_needed(small: Path, zoo: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    shutil.move(small, elsewhere / "renamed")
    done = finished(start("upscale", "renamed", "-o", "out.png", cwd=elsewhere, zoo=zoo))
    assert done.code == 0, done
    assert (done.out, len(done.err.splitlines())) == ("", 1)
    assert np.array_equal(pixels_of(elsewhere / "out.png"), restored_by_the_api(elsewhere / "renamed"))
    assert sorted(contents(elsewhere)) == ["out.png", "renamed"]


def test_json_is_alone_on_stdout_and_tells_what_was_done(small: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.png"
    done = succeeded("upscale", small, "-o", output, "--json")
    result = done.json
    assert done.err == ""
    assert result.pop("seconds") >= 0
    assert result == {
        "input": str(small),
        "output": str(output),
        "model": "bdflow-x4@99",
        "backend": "openvino",
        "precision": "fp32",
        "hr_size": [65, 63],
        "input_bytes": small.stat().st_size,
        "output_bytes": output.stat().st_size,
    }


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif", ".bmp", ".ppm"])
def test_every_lossless_format_holds_the_same_pixels(small: Path, tmp_path: Path, suffix: str) -> None:
    succeeded("upscale", small, "-o", tmp_path / f"out{suffix}", "-q")
    assert np.array_equal(pixels_of(tmp_path / f"out{suffix}"), restored_by_the_api(small))


def test_a_jpeg_holds_nearly_the_same_pixels(small: Path, tmp_path: Path) -> None:
    succeeded("upscale", small, "-o", tmp_path / "out.JPG")
    difference = pixels_of(tmp_path / "out.JPG").astype(int) - restored_by_the_api(small)
    assert np.abs(difference).mean() < 8


def test_the_model_is_found_by_the_hash_in_the_file(zoo: Path, source: Path, hr: UInt8Array, tmp_path: Path) -> None:
    for model in ("tiny-x2", "plain"):
        succeeded("downscale", source, "-o", tmp_path / "lr.png", "-m", model, "--overwrite")
        result = succeeded("upscale", tmp_path / "lr.png", "-o", tmp_path / "out.png", "--overwrite", "--json").json
        assert result["model"] == f"{model}@1"
        with Rescaler.from_pretrained(model) as rescaler:
            expected = rescaler.upscale(rescaler.downscale(hr))
        assert np.array_equal(pixels_of(tmp_path / "out.png"), expected)


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (5, 3), (127, 1), (31, 37)])
def test_the_picture_comes_back_at_exactly_its_size(zoo: Path, tmp_path: Path, size: tuple[int, int]) -> None:
    Image.fromarray(photo(*size, 3)).save(tmp_path / "hr.png")
    succeeded("downscale", tmp_path / "hr.png", "-o", tmp_path / "lr.png")
    succeeded("upscale", tmp_path / "lr.png", "-o", tmp_path / "out.png")
    assert pixels_of(tmp_path / "out.png").shape == (*size, 3)


@pytest.mark.parametrize("mode", ["1", "L"])
def test_grey_comes_back_as_grey(zoo: Path, hr: UInt8Array, tmp_path: Path, mode: str) -> None:
    (tmp_path / "hr.png").write_bytes(encoded(Image.fromarray(hr).convert(mode), "PNG"))
    succeeded("downscale", tmp_path / "hr.png", "-o", tmp_path / "lr.png")
    succeeded("upscale", tmp_path / "lr.png", "-o", tmp_path / "out.png")
    with Image.open(tmp_path / "out.png") as image:
        assert (image.mode, image.size) == ("L", (65, 63))
    colours = restored_by_the_api(tmp_path / "lr.png").astype(int)
    assert np.abs(pixels_of(tmp_path / "out.png") - colours.mean(axis=2)).max() <= 0.5


def test_a_turned_photograph_comes_back_upright_and_is_not_turned_again(
    zoo: Path, hr: UInt8Array, tmp_path: Path
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "hr.jpg").write_bytes(encoded(Image.fromarray(hr), "JPEG", exif=exif))
    succeeded("downscale", tmp_path / "hr.jpg", "-o", tmp_path / "lr.png")
    succeeded("upscale", tmp_path / "lr.png", "-o", tmp_path / "out.jpg")
    with Image.open(tmp_path / "out.jpg") as image:
        assert image.size == (63, 65)
        assert image.getexif().get(0x0112, 1) == 1


def test_the_colour_profile_comes_back(zoo: Path, hr: UInt8Array, tmp_path: Path, profile: bytes) -> None:
    (tmp_path / "hr.png").write_bytes(encoded(Image.fromarray(hr), "PNG", icc_profile=profile))
    succeeded("downscale", tmp_path / "hr.png", "-o", tmp_path / "lr.png")
    succeeded("upscale", tmp_path / "lr.png", "-o", tmp_path / "out.webp")
    with Image.open(tmp_path / "out.webp") as image:
        assert image.info["icc_profile"] == profile
    done = bdflow("upscale", tmp_path / "lr.png", "-o", tmp_path / "out.bmp", "-q")
    assert (done.code, len(done.err.splitlines())) == (0, 1)
    assert done.err.startswith("bdflow: warning: ")
    assert "colour profile" in done.err


def test_sampling_follows_temperature_and_seed(small: Path, tmp_path: Path) -> None:
    pictures = {}
    for options in (("0.4",), ("0.4", "--seed", "0"), ("0.4", "--seed", "18446744073709551615"), ("0",)):
        succeeded("upscale", small, "-o", tmp_path / "out.png", "--overwrite", "--temperature", *options)
        pictures[options] = pixels_of(tmp_path / "out.png")
    plain, default, other, zero = restored_by_the_api(small), *list(pictures.values())[1:]
    assert np.array_equal(pictures[("0.4",)], default)
    assert np.array_equal(default, restored_by_the_api(small, z=ZPolicy(temperature=0.4, seed=0)))
    assert not np.array_equal(default, other)
    assert not np.array_equal(default, plain)
    assert np.array_equal(zero, plain)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--temperature", "-1"], ["temperature is -1"]),
        (["--temperature", "nan"], ["temperature is nan"]),
        (["--temperature", "inf"], ["temperature is inf"]),
        (["--temperature", "0.4", "--seed", "-1"], ["seed is -1"]),
        (["--temperature", "0.4", "--seed", "18446744073709551616"], ["seed is 18446744073709551616"]),
        (["--seed", "7"], ["--seed is 7", "--temperature"]),
        (["--threads", "0"], ["threads is 0"]),
        (["--memory-limit", "nan"], ["--memory-limit is nan"]),
        (["--backend", "tensorflow"], ["'tensorflow'"]),
    ],
    ids=" ".join,
)
def test_impossible_options_are_refused_before_anything_is_written(
    small: Path, tmp_path: Path, options: list[str], words: list[str]
) -> None:
    before = contents(tmp_path)
    failed(bdflow("upscale", small, "-o", tmp_path / "out.png", *options), 2, *words)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("limit", ["0", "-3", "4611686014132420610"])
def test_a_pixel_limit_that_no_picture_has_is_a_usage_error(small: Path, tmp_path: Path, limit: str) -> None:
    failed(bdflow("upscale", small, "-o", tmp_path / "out.png", "--max-pixels", limit), 2, f"--max-pixels is {limit}")


def test_max_pixels_is_the_largest_picture_restored(small: Path, tmp_path: Path) -> None:
    failed(bdflow("upscale", small, "-o", tmp_path / "out.png", "--max-pixels", "4094"), 3, "65 x 63", "4094")
    for limit in ("4095", "4611686014132420609"):
        succeeded("upscale", small, "-o", tmp_path / "out.png", "--overwrite", "--max-pixels", limit)


@pytest.mark.parametrize(("name", "words"), [("out", ["no suffix"]), ("out.gif", ["'.gif'", ".webp"])])
def test_a_name_that_means_no_format_is_refused(small: Path, tmp_path: Path, name: str, words: list[str]) -> None:
    before = contents(tmp_path)
    failed(bdflow("upscale", small, "-o", tmp_path / name), 2, name, *words)
    assert contents(tmp_path) == before
