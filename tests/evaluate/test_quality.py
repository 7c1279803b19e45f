"""The quality benchmark: its numbers are those of the metrics on the files it wrote."""

from __future__ import annotations

import json
import math
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from bdflow_rt.cli.main import main
from bdflow_rt.containers import read_packet, read_picture
from bdflow_rt.errors import ArgumentError, CorruptModelError, MissingFileError, ShapeError
from bdflow_rt.evaluate.codecs import parse_through, through
from bdflow_rt.evaluate.pictures import list_pictures
from bdflow_rt.evaluate.quality import Judges, PictureQuality, evaluate, measure
from bdflow_rt.install import install_extra
from bdflow_rt.metrics import Niqe, bicubic_downscale, bicubic_resize, piqe, psnr, psnr_y, ssim, ssim_y
from bdflow_rt.metrics.lpips import Lpips
from bdflow_rt.rescaler import Rescaler
from tests.support import data_dir, needs_data, photo

SIZES = [(63, 65), (37, 61), (41, 40)]
DATA = data_dir()
NONE = Judges(lpips=None, niqe=None, missing={})
BLIND = ("lr_niqe", "bicubic_lr_niqe", "lr_piqe", "bicubic_lr_piqe")


@pytest.fixture(autouse=True)
def no_parameters(monkeypatch: pytest.MonkeyPatch) -> None:
    """LPIPS and NIQE are only there where a test asks for the data."""
    monkeypatch.delenv("BDFLOW_DATA", raising=False)


@pytest.fixture
def parameters(monkeypatch: pytest.MonkeyPatch) -> None:
    """The data, by way of BDFLOW_DATA."""
    monkeypatch.setenv("BDFLOW_DATA", str(DATA))


@pytest.fixture
def rescaler(zoo: Path) -> Iterator[Rescaler]:
    """The default model."""
    with Rescaler.from_pretrained() as made:
        yield made


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    """Three pictures of odd, prime and even sizes."""
    for index, size in enumerate(SIZES):
        Image.fromarray(photo(*size, index)).save(tmp_path / f"{index}.png")
    return list_pictures(tmp_path)


def test_every_number_is_that_of_the_metric_on_the_files(
    rescaler: Rescaler, pictures: list[Path], tmp_path: Path
) -> None:
    found = measure(rescaler, pictures[0], tmp_path, refine=0, judges=NONE)
    hr, packet = read_picture(pictures[0]).pixels, read_packet(tmp_path / "lr.png")
    restored = read_picture(tmp_path / "restored.png").pixels
    reference = bicubic_downscale(hr, scale=4)
    bicubic = bicubic_resize(reference, scale=4)[:63, :65]
    assert found == PictureQuality(
        name="0.png",
        width=65,
        height=63,
        psnr_y=psnr_y(restored, hr, border=4),
        ssim_y=ssim_y(restored, hr, border=0),
        psnr_rgb=psnr(restored, hr, border=4),
        ssim_rgb=ssim(restored, hr),
        lpips=None,
        border_psnr_rgb=found.border_psnr_rgb,  # tests/cli/test_eval.py has them
        border_max_difference=found.border_max_difference,
        bicubic_psnr_y=psnr_y(bicubic, hr, border=4),
        bicubic_ssim_y=ssim_y(bicubic, hr, border=0),
        lr_psnr=psnr(packet.lr, reference),
        lr_psnr_y=psnr_y(packet.lr, reference, border=0),
        lr_ssim=ssim(packet.lr, reference),
        lr_ssim_y=ssim_y(packet.lr, reference, border=0),
        lr_max_difference=int(np.abs(packet.lr.astype(int) - reference).max()),
        lr_niqe=None,
        bicubic_lr_niqe=None,
        lr_piqe=None,
        bicubic_lr_piqe=None,
        file_bytes=(tmp_path / "lr.png").stat().st_size,
        chunk_bytes=(tmp_path / "lr.png").read_bytes().index(b"IDAT") - _end_of_chunk_head(tmp_path / "lr.png"),
        chunk_limit_bytes=math.ceil(17 * 16 / 8) + 256,
    )


def _end_of_chunk_head(path: Path) -> int:
    # What stands between the chunk's data and the type of the next chunk: its CRC and that chunk's length.
    return path.read_bytes().index(b"bdFL") + 4 + 8


@pytest.mark.parametrize("model", ["bdflow-x4", "tiny-x2", "plain"])
def test_the_chunk_stays_within_its_limit(zoo: Path, tmp_path: Path, model: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (101, 203, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    with Rescaler.from_pretrained(model) as rescaler:
        found = measure(rescaler, tmp_path / "noise.png", tmp_path, refine=0, judges=NONE)
        interface = rescaler.card.interface
    lr_pixels = math.ceil(101 / interface.scale) * math.ceil(203 / interface.scale)
    assert found.chunk_limit_bytes == math.ceil(lr_pixels * interface.bits / 8) + 256
    assert 0 < found.chunk_bytes <= found.chunk_limit_bytes


def test_means_are_over_the_pictures_and_everything_is_json(rescaler: Rescaler, pictures: list[Path]) -> None:
    result = evaluate(rescaler, pictures)
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    assert [one["name"] for one in result["pictures"]] == ["0.png", "1.png", "2.png"]
    assert result["weights_sha256"] == rescaler.card.weights_sha256
    for column in ("psnr_y", "ssim_rgb", "bicubic_ssim_y", "lr_psnr", "lr_psnr_y", "file_bytes", "chunk_bytes"):
        assert result["means"][column] == pytest.approx(np.mean([one[column] for one in result["pictures"]]))
    assert result["means"]["lr_max_difference"] == max(one["lr_max_difference"] for one in result["pictures"])


@needs_data
def test_perceptual_scores_are_those_of_the_files(rescaler: Rescaler, parameters: None, tmp_path: Path) -> None:
    Image.fromarray(photo(771, 769, 1)).save(tmp_path / "large.png")
    found = measure(rescaler, tmp_path / "large.png", tmp_path, refine=0, judges=Judges.found())
    hr, packet = read_picture(tmp_path / "large.png").pixels, read_packet(tmp_path / "lr.png")
    restored = read_picture(tmp_path / "restored.png").pixels
    reference = bicubic_downscale(hr, scale=4)
    assert packet.lr.shape == (193, 193, 3)
    a, b = (torch.tensor(one).permute(2, 0, 1)[None] / 255 for one in (restored, hr))
    assert found.lpips == pytest.approx(Lpips()(a, b).item(), rel=1e-5)
    assert (found.lpips or 0) > 0
    niqe = Niqe()
    assert (found.lr_niqe, found.bicubic_lr_niqe) == (niqe(packet.lr), niqe(reference))
    assert (found.lr_piqe, found.bicubic_lr_piqe) == (piqe(packet.lr), piqe(reference))
    assert found.lr_niqe != found.bicubic_lr_niqe
    assert found.lr_piqe != found.bicubic_lr_piqe


def reasons(result: dict[str, Any]) -> dict[tuple[str, ...], tuple[int, str]]:
    return {tuple(one["columns"]): (one["pictures"], one["reason"]) for one in result["left_out"]}


@needs_data
def test_a_mean_is_over_the_pictures_that_have_a_value(rescaler: Rescaler, parameters: None, tmp_path: Path) -> None:
    for name, size in (("a", (771, 769)), ("b", (768, 763)), ("c", (30, 44))):
        Image.fromarray(photo(*size, 1)).save(tmp_path / f"{name}.png")
    result = evaluate(rescaler, list_pictures(tmp_path))
    large, narrow, small = result["pictures"]
    assert result["means"]["lpips"] == pytest.approx((large["lpips"] + narrow["lpips"]) / 2)
    assert small["lpips"] is small["lr_ssim"] is small["lr_ssim_y"] is None
    for column in BLIND:
        assert narrow[column] is small[column] is None
        assert result["means"][column] == large[column]
    assert reasons(result) == {
        ("lpips",): (1, "The picture is smaller than 31 x 31 pixels."),
        ("lr_ssim", "lr_ssim_y"): (1, "The LR picture is smaller than 11 x 11 pixels."),
        BLIND: (2, "The LR picture is smaller than 192 x 192 pixels."),
    }


@needs_data
def test_nothing_is_left_out_where_all_can_be_measured(rescaler: Rescaler, parameters: None, tmp_path: Path) -> None:
    Image.fromarray(photo(768, 768, 1)).save(tmp_path / "large.png")
    result = evaluate(rescaler, [tmp_path / "large.png"])
    assert result["left_out"] == []
    assert None not in result["pictures"][0].values()
    assert None not in result["means"].values()


@needs_data
def test_an_lr_picture_without_texture_has_no_niqe(rescaler: Rescaler, parameters: None, tmp_path: Path) -> None:
    Image.new("RGB", (768, 768), (9, 99, 199)).save(tmp_path / "flat.png")
    result = evaluate(rescaler, [tmp_path / "flat.png"])
    assert result["pictures"][0]["bicubic_lr_niqe"] is result["means"]["bicubic_lr_niqe"] is None
    assert result["pictures"][0]["bicubic_lr_piqe"] == 100
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    count, reason = reasons(result)["lr_niqe", "bicubic_lr_niqe"]
    assert count == 1
    assert "texture" in reason


def test_metrics_without_their_parameters_are_left_out_and_say_so(
    rescaler: Rescaler, pictures: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for data, words in ((None, "BDFLOW_DATA"), (tmp_path, str(tmp_path))):
        if data is not None:
            monkeypatch.setenv("BDFLOW_DATA", str(data))
        result = evaluate(rescaler, pictures)
        assert result["means"]["lpips"] is result["means"]["lr_niqe"] is None
        found = reasons(result)
        for columns, name in ((("lpips",), "lpips_alex_v0.1.npz"), (BLIND[:2], "niqe_pris_params.npz")):
            count, reason = found[columns]
            assert count == 3
            assert words in reason
            assert name in reason
        assert found[BLIND[2:]][0] == 3


def test_lpips_is_left_out_where_torch_is_not_installed(
    rescaler: Rescaler, pictures: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "bdflow_rt.metrics.lpips", raising=False)
    monkeypatch.setitem(sys.modules, "torch", None)
    result = evaluate(rescaler, pictures)
    assert result["means"]["lpips"] is None
    assert install_extra("train") in reasons(result)["lpips",][1]


@pytest.mark.parametrize("name", ["lpips_alex_v0.1.npz", "niqe_pris_params.npz"])
def test_damaged_parameters_raise_instead_of_being_left_out(
    rescaler: Rescaler, pictures: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (tmp_path / "metrics").mkdir()
    (tmp_path / "metrics" / name).write_bytes(b"damaged")
    monkeypatch.setenv("BDFLOW_DATA", str(tmp_path))
    with pytest.raises(CorruptModelError, match=name):
        evaluate(rescaler, pictures)


def test_the_tracker_sees_every_picture(rescaler: Rescaler, pictures: list[Path]) -> None:
    seen: list[Path] = []

    def track(items: object) -> Iterator[Path]:
        for item in items:  # type: ignore[attr-defined]
            seen.append(item)
            yield item

    evaluate(rescaler, pictures, track=track)
    assert seen == pictures


def test_a_perfect_score_is_null(rescaler: Rescaler, tmp_path: Path) -> None:
    Image.new("L", (40, 43), 77).save(tmp_path / "flat.png")
    result = evaluate(rescaler, [tmp_path / "flat.png"])
    assert result["pictures"][0]["bicubic_psnr_y"] is None
    assert result["means"]["bicubic_psnr_y"] is None
    assert result["pictures"][0]["psnr_y"] > 0


def test_the_smallest_picture_that_can_be_measured(rescaler: Rescaler, tmp_path: Path) -> None:
    Image.fromarray(photo(11, 11, 1)).save(tmp_path / "a.png")
    assert measure(rescaler, tmp_path / "a.png", tmp_path, refine=0, judges=NONE).width == 11
    Image.fromarray(photo(11, 10, 1)).save(tmp_path / "a.png")
    with pytest.raises(ShapeError, match="10 x 11"):
        measure(rescaler, tmp_path / "a.png", tmp_path, refine=0, judges=NONE)


def test_only_pictures_are_listed_in_the_order_of_their_names(tmp_path: Path) -> None:
    for name in ("b.PNG", "a.jpeg", "c.txt", "d.webp", ".hidden"):
        (tmp_path / name).touch()
    assert [path.name for path in list_pictures(tmp_path)] == ["a.jpeg", "b.PNG", "d.webp"]
    with pytest.raises(MissingFileError, match="no pictures"):
        list_pictures(Path(__file__).parent)


def test_through_a_codec_the_lr_is_its_file_s_and_bytes_are_those_of_that_file_and_the_chunk(
    rescaler: Rescaler, pictures: list[Path], tmp_path: Path
) -> None:
    codec = parse_through("jpeg:60")
    found = measure(rescaler, pictures[0], tmp_path, refine=0, judges=NONE, codec=codec)
    hr = read_picture(pictures[0]).pixels
    packet = rescaler.downscale(hr)
    lossy, size = through(packet, *codec)
    restored = rescaler.upscale(lossy, force=True)
    assert found.psnr_y == pytest.approx(psnr_y(restored, hr, border=rescaler.card.interface.scale))
    assert found.lr_psnr == pytest.approx(psnr(lossy.lr, bicubic_downscale(hr, scale=rescaler.card.interface.scale)))
    assert found.file_bytes == size + found.chunk_bytes
    lossless = measure(rescaler, pictures[0], tmp_path, refine=0, judges=NONE)
    assert found.chunk_bytes == lossless.chunk_bytes
    assert found.psnr_y < lossless.psnr_y


@pytest.mark.parametrize("text", ["jpeg", "jpeg:", "jpeg:0", "jpeg:101", "webp:75", "jpeg:7.5", "jpeg:-5", ""])
def test_a_codec_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ArgumentError, match="jpeg:Q or jpeg_444:Q"):
        parse_through(text)


def test_a_list_of_held_out_originals_is_measured_like_a_folder(
    pictures: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], zoo: Path
) -> None:
    packs = tmp_path / "packs"
    packs.mkdir()
    with tarfile.open(packs / "a.tar", "w") as tar:
        for path in pictures:
            tar.add(path, path.name)
    entry = {"source": "s", "orig": "0", "files": [path.name for path in pictures[:2]], "packs": ["a.tar"]}
    (packs / "structure-split.json").write_text(json.dumps([entry]))
    assert main(["eval", str(packs / "structure-split.json"), "--json", "--quiet"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["folder"] == "structure-split"
    assert [one["name"] for one in result["pictures"]] == ["0.png", "1.png"]


@pytest.mark.usefixtures("zoo")
def test_the_command_measures_through_a_codec(pictures: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    words = ["eval", str(pictures[0].parent), "--quiet", "--through", "jpeg_444:50"]
    assert main([*words, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["folder"], result["through"]) == (pictures[0].parent.name, "jpeg_444:50")
    assert main(words) == 0
    assert "LR through jpeg_444:50" in capsys.readouterr().out
    assert main([*words[:-1], "jpeg:0"]) == 2
    assert "jpeg:0" in capsys.readouterr().err
