"""`bdflow downscale`: a picture file becomes a packet file."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from bdflow_rt.containers import read_packet
from bdflow_rt.packet import Packet
from bdflow_rt.rescaler import Rescaler
from tests.cli.build import bdflow, contents, failed, finished, pixels_of, start, succeeded
from tests.containers.build import encoded, same_packet
from tests.support import photo

UInt8Array = npt.NDArray[np.uint8]


def packet_of(pixels: UInt8Array, model: str | Path = "bdflow-x4") -> Packet:
    """What the API makes of the same pixels."""
    with Rescaler.from_pretrained(model) as rescaler:
        packet = rescaler.downscale(pixels)
    assert isinstance(packet, Packet)
    return packet


def test_the_file_is_the_packet_of_the_api_and_a_picture_for_every_viewer(
    zoo: Path, source: Path, hr: UInt8Array, tmp_path: Path
) -> None:
    done = succeeded("downscale", source, "-o", tmp_path / "lr.png")
    packet = read_packet(tmp_path / "lr.png")
    assert same_packet(packet, packet_of(hr))
    assert np.array_equal(pixels_of(tmp_path / "lr.png"), packet.lr)
    assert done.out == ""
    assert "65 x 63 -> 17 x 16" in done.err
    assert len(done.err.splitlines()) == 1


def test_json_is_alone_on_stdout_and_tells_what_was_done(zoo: Path, source: Path, tmp_path: Path) -> None:
    output = tmp_path / "lr.png"
    done = succeeded("downscale", source, "-o", output, "--json")
    result = done.json
    assert done.err == ""
    assert result.pop("seconds") >= 0
    assert result == {
        "input": str(source),
        "output": str(output),
        "model": "bdflow-x4@99",
        "backend": "openvino",
        "precision": "fp32",
        "hr_size": [65, 63],
        "lr_size": [17, 16],
        "refine": 0,
        "input_bytes": source.stat().st_size,
        "output_bytes": output.stat().st_size,
        "left_behind": [],
    }


def test_refined_is_what_the_api_refines(zoo: Path, source: Path, hr: UInt8Array, tmp_path: Path) -> None:
    done = succeeded("downscale", source, "-o", tmp_path / "lr.png", "--refine", "2", "--threads", "1", "--json")
    with Rescaler.from_pretrained("bdflow-x4", threads=1) as rescaler:
        wanted, plain = (rescaler.downscale(hr, refine=steps) for steps in (2, 0))
    packet = read_packet(tmp_path / "lr.png")
    assert done.json["refine"] == 2
    assert same_packet(packet, wanted)
    assert not np.array_equal(packet.lr, plain.lr)


@pytest.mark.parametrize("steps", ["-1", "1.5", "many"])
def test_steps_that_are_no_number_of_steps_leave_no_file(zoo: Path, source: Path, tmp_path: Path, steps: str) -> None:
    done = bdflow("downscale", source, "-o", tmp_path / "lr.png", "--refine", steps)
    assert (done.code, done.out) == (2, "")
    assert steps in done.err
    assert not (tmp_path / "lr.png").exists()


def test_quiet_says_nothing(zoo: Path, source: Path, tmp_path: Path) -> None:
    done = succeeded("downscale", source, "-o", tmp_path / "lr.png", "-q")
    assert (done.out, done.err) == ("", "")


@pytest.mark.parametrize(("model", "scale", "bits"), [("tiny-x2", 2, 2), ("plain@1", 4, 0), ("bdflow-x4@99", 4, 1)])
def test_the_model_is_taken_by_name_or_by_folder(
    zoo: Path, source: Path, tmp_path: Path, model: str, scale: int, bits: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    succeeded("downscale", source, "-o", tmp_path / "named.png", "-m", model)
    header = read_packet(tmp_path / "named.png").header
    assert (header.scale, header.bits) == (scale, bits)
    folder = zoo / model if "@" in model else zoo / f"{model}@1"
    monkeypatch.delenv("BDFLOW_ZOO")
    succeeded("downscale", source, "-o", tmp_path / "folder.png", "-m", folder)
    assert (tmp_path / "folder.png").read_bytes() == (tmp_path / "named.png").read_bytes()


def test_both_backends_write_nearly_the_same_picture(zoo: Path, source: Path, tmp_path: Path) -> None:
    for backend in ("openvino", "torch"):
        succeeded("downscale", source, "-o", tmp_path / f"{backend}.png", "--backend", backend, "--threads", "1")
    one, other = (read_packet(tmp_path / f"{backend}.png").lr for backend in ("openvino", "torch"))
    assert np.abs(one.astype(int) - other).max() <= 1


def test_tiles_change_next_to_nothing(zoo: Path, tmp_path: Path) -> None:
    Image.fromarray(photo(307, 311, 5)).save(tmp_path / "hr.png")
    succeeded("downscale", tmp_path / "hr.png", "-o", tmp_path / "whole.png", "--memory-limit", "inf")
    succeeded("downscale", tmp_path / "hr.png", "-o", tmp_path / "tiled.png", "--memory-limit", "1.5")
    one, other = (read_packet(tmp_path / f"{name}.png").lr for name in ("whole", "tiled"))
    assert np.abs(one.astype(int) - other).max() <= 1


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (5, 3), (127, 1), (31, 37)])
def test_pictures_of_any_size_are_taken(zoo: Path, tmp_path: Path, size: tuple[int, int]) -> None:
    Image.fromarray(photo(*size, 3)).save(tmp_path / "hr.png")
    result = succeeded("downscale", tmp_path / "hr.png", "-o", tmp_path / "lr.png", "--json").json
    assert result["hr_size"] == [size[1], size[0]]
    assert result["lr_size"] == [-(-size[1] // 4), -(-size[0] // 4)]


class TestPicturesThatAreNotPlainRgb:
    """What is accepted gives what the user sees in a viewer."""

    def packet(self, folder: Path, data: bytes, *options: str) -> Packet:
        (folder / "hr").write_bytes(data)
        succeeded("downscale", folder / "hr", "-o", folder / "lr.png", *options)
        return read_packet(folder / "lr.png")

    @pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP", "PPM", "WEBP"])
    def test_lossless_formats_give_the_same_packet(self, zoo: Path, hr: UInt8Array, tmp_path: Path, kind: str) -> None:
        data = encoded(Image.fromarray(hr), kind, **({"lossless": True} if kind == "WEBP" else {}))
        assert same_packet(self.packet(tmp_path, data), packet_of(hr))

    def test_a_jpeg_gives_the_packet_of_its_pixels(self, zoo: Path, hr: UInt8Array, tmp_path: Path) -> None:
        data = encoded(Image.fromarray(hr), "JPEG", quality=90)
        found = self.packet(tmp_path, data)
        assert same_packet(found, packet_of(pixels_of(tmp_path / "hr")))

    @pytest.mark.parametrize("kind", ["PNG", "GIF"])
    def test_a_palette_picture_gives_the_packet_of_its_colours(
        self, zoo: Path, hr: UInt8Array, tmp_path: Path, kind: str
    ) -> None:
        palette = Image.fromarray(hr).quantize(17)
        found = self.packet(tmp_path, encoded(palette, kind))
        assert same_packet(found, packet_of(np.asarray(palette.convert("RGB"))))

    @pytest.mark.parametrize("mode", ["1", "L"])
    def test_grey_and_one_bit_pictures_give_the_packet_of_three_equal_channels(
        self, zoo: Path, hr: UInt8Array, tmp_path: Path, mode: str
    ) -> None:
        grey = Image.fromarray(hr).convert(mode)
        assert same_packet(self.packet(tmp_path, encoded(grey, "PNG")), packet_of(np.asarray(grey.convert("L"))))

    def test_an_opaque_alpha_channel_changes_nothing(self, zoo: Path, hr: UInt8Array, tmp_path: Path) -> None:
        data = encoded(Image.fromarray(hr).convert("RGBA"), "PNG")
        assert same_packet(self.packet(tmp_path, data), packet_of(hr))

    def test_a_transparent_picture_is_flattened_over_the_background(
        self, zoo: Path, hr: UInt8Array, tmp_path: Path
    ) -> None:
        alpha = np.where(np.arange(65) < 30, 0, 255).astype(np.uint8) * np.ones((63, 1), np.uint8)
        found = self.packet(
            tmp_path, encoded(Image.fromarray(np.dstack([hr, alpha])), "PNG"), "--background", "#102030"
        )
        assert same_packet(found, packet_of(np.where(alpha[..., None] == 0, np.array([16, 32, 48], np.uint8), hr)))

    @pytest.mark.parametrize(("orientation", "turned"), [(3, 2), (6, -1), (8, 1)])
    def test_exif_orientation_is_applied(
        self, zoo: Path, hr: UInt8Array, tmp_path: Path, orientation: int, turned: int
    ) -> None:
        exif = Image.Exif()
        exif[0x0112] = orientation
        found = self.packet(tmp_path, encoded(Image.fromarray(hr), "PNG", exif=exif))
        assert same_packet(found, packet_of(np.rot90(hr, turned).copy()))
        with Image.open(tmp_path / "lr.png") as small:
            assert small.getexif().get(0x0112, 1) == 1

    def test_a_colour_profile_goes_along_and_the_pixels_are_left_alone(
        self, zoo: Path, hr: UInt8Array, tmp_path: Path, profile: bytes
    ) -> None:
        found = self.packet(tmp_path, encoded(Image.fromarray(hr), "PNG", icc_profile=profile))
        assert np.array_equal(found.lr, packet_of(hr).lr)
        with Image.open(tmp_path / "lr.png") as small:
            assert small.info["icc_profile"] == profile


@pytest.mark.parametrize("name", ["a b.png", "-dash.png", "ünïcödé ☃.PNG", "line\nend.png", "\x1b[31mred.png", ".png"])
def test_odd_names_are_written_and_shown_in_one_line(
    zoo: Path, source: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = succeeded("downscale", source, f"--output={name}")
    assert (tmp_path / name).stat().st_size > 0
    assert len(done.err.splitlines()) == 1
    assert done.err[:-1].isprintable()


def test_a_name_that_is_no_text_is_written_in_a_real_process(zoo: Path, source: Path, tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.png")
    done = finished(start("downscale", source, "-o", name, cwd=tmp_path, zoo=zoo))
    assert done.code == 0, done
    assert read_packet(tmp_path / name).header.scale == 4
    assert "caf\\udce9.png" in done.err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--threads", "0"], ["threads is 0", "1 to 1024"]),
        (["--threads", "-1"], ["threads is -1"]),
        (["--threads", "1000000000"], ["threads is 1000000000", "1 to 1024"]),
        (["--threads", "100000", "--backend", "torch"], ["threads is 100000"]),
        (["--memory-limit", "0"], ["--memory-limit is 0", "above 0"]),
        (["--memory-limit", "-5"], ["--memory-limit is -5"]),
        (["--memory-limit", "nan"], ["--memory-limit is nan"]),
        (["--backend", "tensorflow"], ["'tensorflow'", "openvino"]),
        (["--device", "gpu"], ["'gpu'", "cuda:N"]),
        (["--device", "cuda:x", "--backend", "torch"], ["'cuda:x'"]),
        (["--device", "cuda", "--backend", "openvino"], ["openvino", "CPU"]),
        (["--precision", "bf16"], ["bf16", "fp32"]),
        (["--max-pixels", "0"], ["--max-pixels is 0"]),
        (["--max-pixels", str(10**20)], [f"--max-pixels is {10**20}", "from 1 to"]),
        (["--background", "notacolour"], ["'notacolour'", "white"]),
        (["--background", "rgb(300, 0, 0)"], ["rgb(300, 0, 0)"]),
        (["--background", "#ff000080"], ["#ff000080", "opaque"]),
    ],
    ids=" ".join,
)
def test_impossible_options_are_refused_before_anything_is_written(
    zoo: Path, source: Path, tmp_path: Path, options: list[str], words: list[str]
) -> None:
    before = contents(tmp_path)
    failed(bdflow("downscale", source, "-o", tmp_path / "lr.png", *options), 2, *words)
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    "options", [["--threads", "two"], ["--max-pixels", "x"], ["--precision", "int8"]], ids=" ".join
)
def test_options_that_do_not_parse_are_usage_errors(
    zoo: Path, source: Path, tmp_path: Path, options: list[str]
) -> None:
    done = bdflow("downscale", source, "-o", tmp_path / "lr.png", *options)
    assert (done.code, done.out) == (2, "")
    assert options[0] in done.err.splitlines()[0]
    assert not (tmp_path / "lr.png").exists()


@pytest.mark.parametrize("limit", ["1e308", "1e12", "inf"])
def test_a_limit_beyond_all_memory_is_no_limit(zoo: Path, source: Path, tmp_path: Path, limit: str) -> None:
    succeeded("downscale", source, "-o", tmp_path / "lr.png", "--memory-limit", limit)


def test_a_limit_below_the_smallest_tile_says_what_is_needed(zoo: Path, tmp_path: Path) -> None:
    Image.fromarray(photo(211, 223, 5)).save(tmp_path / "hr.png")
    done = bdflow("downscale", tmp_path / "hr.png", "-o", tmp_path / "lr.png", "--memory-limit", "0.01")
    failed(done, 7, "--memory-limit is 0.01", "MiB; raise the limit")


def test_a_cuda_device_that_is_not_there_is_named(zoo: Path, source: Path, tmp_path: Path) -> None:
    done = bdflow("downscale", source, "-o", tmp_path / "lr.png", "--backend", "torch", "--device", "cuda:97")
    failed(done, 7, "cuda:97", "bdflow doctor")


def test_max_pixels_is_the_largest_picture_taken(zoo: Path, source: Path, tmp_path: Path) -> None:
    failed(bdflow("downscale", source, "-o", tmp_path / "lr.png", "--max-pixels", "4094"), 3, "4095", "at most 4094")
    succeeded("downscale", source, "-o", tmp_path / "lr.png", "--max-pixels", "4095")
